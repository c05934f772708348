//! Some thousand dongles as sealed bytes: what a snapshot is made of, and a cache.
//!
//! ```text
//! header, in clear (84 bytes, little-endian):
//!   magic "FCSG" | version u16 | 0 u16 | revision u64 | first id u64 | last id u64 | dongles u32 | sealed bytes u32
//!   | nonce 12 | SHA-256 of all of the above and of the sealed bytes
//! sealed bytes: an rkyv archive of [`Columns`], under AES-256-GCM with the header up to the nonce authenticated
//! ```
//!
//! Ids ascend as signed numbers, which is the store's order. One message for thousands of dongles is opened at the speed
//! of the cipher, and its keys lie in clear nowhere but in memory that is wiped. The digest tells damage to who has no
//! key; who opens a segment has the cipher's tag for that. The version stands outside the archive: an archive of
//! another version is refused before it is looked at.

use rkyv::{rancor, util::AlignedVec};
use sha2::{Digest as _, Sha256};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::{Zeroize as _, Zeroizing};

use super::envelope::{Envelope, NONCE_BYTES, Unsealable, fresh_nonce};
use super::truth::Revision;
use crate::engine::clock::ClockOffset;
use crate::engine::codebook::{Dongle, Kind, RosterBuilder, key_of};
use crate::engine::id::DeviceId;

const MAGIC: [u8; 4] = *b"FCSG";
const VERSION: u16 = 1;

/// Dongles of one segment at most: some 370 KB, sealed in about a millisecond.
pub const SEGMENT_MAX: usize = 8192;

/// A dongle's 45 bytes in [`Columns`], and the archive's own.
const fn archive_bytes_max(dongles: usize) -> usize {
    dongles * (8 + 4 + 1 + 32) + 256
}

/// The clear part of a segment: which dongles it is of, and how far the truth was.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    magic: [u8; 4],
    version: U16,
    zero: U16,
    revision: U64,
    first: U64,
    last: U64,
    dongles: U32,
    sealed_bytes: U32,
    nonce: [u8; NONCE_BYTES],
    digest: [u8; 32],
}

pub const HEADER_BYTES: usize = size_of::<Header>();

const _: () = assert!(HEADER_BYTES == 84, "the format's documentation says so");

/// A segment that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    #[error("not a segment of version {VERSION}")]
    Foreign,
    #[error("a segment is cut or damaged")]
    Damaged,
    #[error("a segment does not open with this key-encryption key")]
    Unsealable,
}

impl From<Unsealable> for SegmentError {
    fn from(Unsealable: Unsealable) -> SegmentError {
        SegmentError::Unsealable
    }
}

impl Header {
    /// The header at the front of `bytes`, of which nothing is proven yet.
    pub fn read(bytes: &[u8]) -> Result<Header, SegmentError> {
        let (header, _) = Header::read_from_prefix(bytes).map_err(|_| SegmentError::Damaged)?;
        if header.magic != MAGIC || header.version.get() != VERSION {
            return Err(SegmentError::Foreign);
        }
        if header.dongles.get() == 0 || header.dongles.get() as usize > SEGMENT_MAX {
            return Err(SegmentError::Damaged);
        }
        Ok(header)
    }

    pub fn revision(&self) -> Revision {
        Revision(self.revision.get())
    }

    pub fn first(&self) -> DeviceId {
        DeviceId(self.first.get())
    }

    pub fn last(&self) -> DeviceId {
        DeviceId(self.last.get())
    }

    pub fn dongles(&self) -> usize {
        self.dongles.get() as usize
    }

    /// Of the whole segment.
    pub fn segment_bytes(&self) -> usize {
        HEADER_BYTES + self.sealed_bytes.get() as usize
    }

    fn authenticated(&self) -> &[u8] {
        &self.as_bytes()[..HEADER_BYTES - 32]
    }

    fn digest_of(&self, sealed: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.authenticated()).chain_update(sealed).finalize().into()
    }
}

/// Whether the bytes are one segment, and undamaged, as far as that can be told without the key.
pub fn is_whole(bytes: &[u8]) -> bool {
    let Ok(header) = Header::read(bytes) else { return false };
    bytes.len() == header.segment_bytes() && header.digest == header.digest_of(&bytes[HEADER_BYTES..])
}

/// One entry a dongle in each column; no `kinds` when all are HMAC dongles.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Columns {
    devices: Vec<u64>,
    offsets: Vec<i32>,
    kinds: Vec<u8>,
    keys: Vec<[u8; 32]>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

impl Columns {
    fn of(dongles: &[Dongle]) -> Columns {
        let kinds = dongles.iter().map(|dongle| Kind::of(&dongle.secret).byte());
        Columns {
            devices: dongles.iter().map(|dongle| dongle.device.0).collect(),
            offsets: dongles.iter().map(|dongle| dongle.offset.0).collect(),
            kinds: if kinds.clone().all(|kind| kind == 0) { Vec::new() } else { kinds.collect() },
            keys: dongles.iter().map(|dongle| key_of(&dongle.secret)).collect(),
        }
    }
}

/// Seals 1 to [`SEGMENT_MAX`] dongles in the order of the store, as they were at this revision of the truth.
pub fn seal(envelope: &Envelope, dongles: &[Dongle], revision: Revision) -> Vec<u8> {
    assert!((1..=SEGMENT_MAX).contains(&dongles.len()), "a segment has 1 to {SEGMENT_MAX} dongles");
    // With room for all from the start: what a buffer leaves behind when it grows is not wiped.
    let buffer = AlignedVec::<16>::with_capacity(archive_bytes_max(dongles.len()));
    let mut archive = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&Columns::of(dongles), buffer)
        .expect("columns of numbers archive into memory");
    let mut header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        zero: 0.into(),
        revision: revision.0.into(),
        first: dongles[0].device.0.into(),
        last: dongles[dongles.len() - 1].device.0.into(),
        dongles: (dongles.len() as u32).into(),
        sealed_bytes: ((archive.len() + 16) as u32).into(),
        nonce: fresh_nonce(),
        digest: [0; 32],
    };
    let tag = envelope.seal_segment(&header.nonce, header.authenticated(), &mut archive);
    let mut segment = Vec::with_capacity(header.segment_bytes());
    segment.extend_from_slice(header.as_bytes());
    segment.extend_from_slice(&archive);
    segment.extend_from_slice(&tag);
    header.digest = header.digest_of(&segment[HEADER_BYTES..]);
    segment[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    segment
}

/// The dongles of an opened segment, in the order of the store. The keys are wiped when it is dropped.
pub struct Segment {
    pub revision: Revision,
    pub dongles: Vec<(DeviceId, ClockOffset, Kind)>,
    pub keys: Zeroizing<Vec<[u8; 32]>>,
}

impl Segment {
    pub fn push_onto(&self, roster: &mut RosterBuilder) {
        roster.push_all(&self.dongles, &self.keys);
    }
}

/// Opens what [`seal`] gave. Whatever else the bytes are, the answer is an error and never a panic.
pub fn open(envelope: &Envelope, bytes: &[u8]) -> Result<Segment, SegmentError> {
    let header = Header::read(bytes)?;
    let sealed = bytes.get(HEADER_BYTES..header.segment_bytes()).ok_or(SegmentError::Damaged)?;
    let (sealed, tag) = sealed.split_last_chunk::<16>().ok_or(SegmentError::Damaged)?;
    let mut archive = Wiped(AlignedVec::with_capacity(sealed.len()));
    archive.0.extend_from_slice(sealed);
    envelope.open_segment(&header.nonce, header.authenticated(), &mut archive.0, tag)?;
    let columns = rkyv::access::<ArchivedColumns, rancor::Error>(&archive.0).map_err(|_| SegmentError::Damaged)?;
    let dongles = dongles(columns).ok_or(SegmentError::Damaged)?;
    let ends = dongles.first().zip(dongles.last()).map(|(first, last)| (first.0, last.0));
    let ascends = dongles.is_sorted_by(|one, next| one.0.0.cast_signed() < next.0.0.cast_signed());
    let fits = dongles.len() == header.dongles() && columns.keys.len() == dongles.len();
    if !fits || !ascends || ends != Some((header.first(), header.last())) {
        return Err(SegmentError::Damaged);
    }
    let keys = Zeroizing::new(columns.keys.to_vec());
    Ok(Segment { revision: header.revision(), dongles, keys })
}

fn dongles(columns: &ArchivedColumns) -> Option<Vec<(DeviceId, ClockOffset, Kind)>> {
    let ids = columns.devices.iter().zip(columns.offsets.iter());
    let ids = ids.map(|(device, offset)| (DeviceId(device.to_native()), ClockOffset(offset.to_native())));
    let count = columns.devices.len();
    let has_kinds = columns.kinds.len() == count;
    if columns.offsets.len() != count || !(has_kinds || columns.kinds.is_empty()) {
        return None;
    }
    if has_kinds {
        let kinds = columns.kinds.iter().map(|kind| Kind::from_byte(*kind));
        return ids.zip(kinds).map(|((device, offset), kind)| Some((device, offset, kind?))).collect();
    }
    Some(ids.map(|(device, offset)| (device, offset, Kind::HMAC)).collect())
}

/// A clear archive, wiped when it is dropped.
struct Wiped(AlignedVec<16>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::code::{Code, Secret};

    fn dongles() -> Vec<Dongle> {
        let secret = |device: u64| match device % 3 {
            0 => Secret::EddystoneEid { identity_key: [0x41; 16], exponent: 12 },
            1 => Secret::Fixed { code: Code([device as u8; 16]) },
            _ => Secret::Hmac { code_key: [0x42; 32] },
        };
        // The first is negative as the store sees it.
        let ids = [u64::MAX - 1, 1, 2, 3, 4];
        ids.map(|id| Dongle { device: DeviceId(id), secret: secret(id), offset: ClockOffset(-(id as i32)) }).into()
    }

    fn envelope() -> Envelope {
        Envelope::new(1, &[7; 32])
    }

    #[test]
    fn a_segment_opens_to_what_was_sealed_and_shows_no_key() {
        let (dongles, envelope) = (dongles(), envelope());
        let sealed = seal(&envelope, &dongles, Revision(9));
        let header = Header::read(&sealed).unwrap();
        assert_eq!(
            (header.revision(), header.first(), header.last()),
            (Revision(9), DeviceId(u64::MAX - 1), DeviceId(4))
        );
        assert!(is_whole(&sealed) && header.segment_bytes() == sealed.len());
        let opened = open(&envelope, &sealed).unwrap();
        let read = opened.dongles.iter().zip(opened.keys.iter());
        let read: Vec<_> =
            read.map(|(&(device, offset, kind), key)| Dongle { device, secret: kind.secret(key), offset }).collect();
        assert_eq!(read, dongles);
        for key in [[0x41; 8], [0x42; 8]] {
            assert!(!sealed.windows(8).any(|bytes| bytes == key));
        }
    }

    #[test]
    fn any_change_of_a_byte_and_any_cut_is_refused() {
        let envelope = envelope();
        let sealed = seal(&envelope, &dongles(), Revision(9));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let is_digest = (HEADER_BYTES - 32..HEADER_BYTES).contains(&at);
            assert!(!is_whole(&changed), "byte {at}");
            assert_eq!(open(&envelope, &changed).is_ok(), is_digest, "byte {at}");
            assert!(open(&envelope, &sealed[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_segment_of_another_key_does_not_open() {
        let sealed = seal(&envelope(), &dongles(), Revision(9));
        assert_eq!(open(&Envelope::new(1, &[8; 32]), &sealed).err(), Some(SegmentError::Unsealable));
    }

    #[test]
    fn a_segment_of_hmac_dongles_alone_takes_45_bytes_each_at_most() {
        let dongle =
            |device| Dongle { device: DeviceId(device), secret: Secret::from_root(&[1; 32]), offset: ClockOffset(0) };
        let dongles: Vec<Dongle> = (0..1000).map(dongle).collect();
        assert!(seal(&envelope(), &dongles, Revision(1)).len() <= 45 * 1000);
    }
}
