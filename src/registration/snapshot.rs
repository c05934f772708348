//! All dongles of the codebook on disk, so that a start does not read them one by one from the truth.
//!
//! `codebook.snapshot` is a header {magic, version, life and revision of the truth, dongles, segments, SHA-256 of the header so
//! far and of all segments' headers} and the [`segment`]s. It is written beside the old one, flushed and renamed, so
//! that a crash leaves one of the two whole. Between two segments the fleet may change and roll: a dongle that changed
//! after the snapshot's revision is asked for again at the start, whether the snapshot has it as it was or as it is.
//!
//! A snapshot is never the truth: a start takes it as what was true at its moment, if the truth was ever there, and asks for what changed since.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::envelope::Envelope;
use super::segment::{self, HEADER_BYTES, SEGMENT_MAX, Segment, SegmentError};
use super::truth::{Life, Moment, Revision};
use crate::engine::codebook::{Keeper, Roster, RosterBuilder};
use crate::engine::id::DeviceId;

/// The file of the snapshot in the data folder.
pub const CODEBOOK_FILE: &str = "codebook.snapshot";

const MAGIC: [u8; 4] = *b"FCCB";
const VERSION: u32 = 2;

/// Segments that each thread opens before they are put together: some 3 MB each.
const SEGMENTS_PER_TURN: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("there is none")]
    Missing,
    #[error(transparent)]
    File(io::Error),
    #[error("not a snapshot of version {VERSION}")]
    Foreign,
    #[error("cut or damaged")]
    Damaged,
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> SnapshotError {
        match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::Missing,
            io::ErrorKind::UnexpectedEof => SnapshotError::Damaged,
            _ => SnapshotError::File(error),
        }
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: U32,
    life: [u8; 8],
    revision: U64,
    dongles: U64,
    segments: U64,
    digest: [u8; 32],
}

impl Header {
    fn new(as_of: Moment, dongles: u64, segments: u64) -> Header {
        let (version, life, revision) = (VERSION.into(), as_of.life.0, as_of.revision.0.into());
        let (dongles, segments) = (dongles.into(), segments.into());
        Header { magic: MAGIC, version, life, revision, dongles, segments, digest: [0; 32] }
    }

    fn as_of(&self) -> Moment {
        Moment { life: Life(self.life), revision: Revision(self.revision.get()) }
    }

    /// `headers` is the digest of the segments' headers, one after the other.
    fn digest_over(&self, headers: &Sha256) -> [u8; 32] {
        let clear = &self.as_bytes()[..size_of::<Header>() - 32];
        Sha256::new().chain_update(clear).chain_update(headers.clone().finalize()).finalize().into()
    }
}

/// A snapshot that is being written, a segment at a time. What is dropped unfinished leaves the last one as it was.
pub struct Writer {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    as_of: Moment,
    after: Option<DeviceId>,
    headers: Sha256,
    dongles: u64,
    segments: u64,
}

impl Writer {
    /// `as_of`: every change of the truth up to it is in the keeper that is going to be written.
    pub fn begin(path: &Path, as_of: Moment) -> io::Result<Writer> {
        let beside = path.with_extension("writing");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(Header::new(as_of, 0, 0).as_bytes())?;
        let (after, headers) = (None, Sha256::new());
        Ok(Writer { path: path.into(), beside, file, as_of, after, headers, dongles: 0, segments: 0 })
    }

    /// Writes the next segment: about a millisecond, and what the disk takes. Answers it; `None` after the last.
    pub fn step(&mut self, keeper: &Keeper, envelope: &Envelope) -> io::Result<Option<Vec<u8>>> {
        let dongles = keeper.dongles_after(self.after, SEGMENT_MAX);
        let Some(last) = dongles.last() else { return Ok(None) };
        self.after = Some(last.device);
        let segment = segment::seal(envelope, &dongles, self.as_of.revision);
        self.file.write_all(&segment)?;
        self.headers.update(&segment[..HEADER_BYTES]);
        self.dongles += dongles.len() as u64;
        self.segments += 1;
        Ok(Some(segment))
    }

    /// Puts the snapshot in the last one's place. Waits for the disk. Answers its size.
    pub fn finish(self) -> io::Result<u64> {
        let mut header = Header::new(self.as_of, self.dongles, self.segments);
        header.digest = header.digest_over(&self.headers);
        self.file.write_all_at(header.as_bytes(), 0)?;
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        Ok(self.file.metadata()?.len())
    }
}

/// The dongles of a snapshot, opened on that many threads, and the truth's moment that they are of.
pub fn read(path: &Path, envelope: &Envelope, threads: usize) -> Result<(Roster, Moment), SnapshotError> {
    let file = File::open(path)?;
    let mut header = Header::new(Moment::default(), 0, 0);
    file.read_exact_at(header.as_mut_bytes(), 0)?;
    if header.magic != MAGIC || header.version.get() != VERSION {
        return Err(SnapshotError::Foreign);
    }
    let places = places(&file, &header)?;
    let mut roster = RosterBuilder::new(usize::try_from(header.dongles.get()).map_err(|_| SnapshotError::Damaged)?);
    for turn in places.chunks(threads.max(1) * SEGMENTS_PER_TURN) {
        for segment in open_all(&file, turn, envelope, threads)? {
            segment.push_onto(&mut roster);
        }
    }
    Ok((roster.finish(), header.as_of()))
}

/// Where the segments are. Their headers are proven here to be the snapshot's own, all of them and in order.
fn places(file: &File, header: &Header) -> Result<Vec<(u64, usize)>, SnapshotError> {
    let bytes = file.metadata()?.len();
    let (mut at, mut dongles, mut headers) = (size_of::<Header>() as u64, 0, Sha256::new());
    let (mut places, mut last) = (Vec::new(), None);
    while at < bytes {
        let mut clear = [0; HEADER_BYTES];
        file.read_exact_at(&mut clear, at)?;
        let segment = segment::Header::read(&clear)?;
        let ascends = last.is_none_or(|last: DeviceId| last.0.cast_signed() < segment.first().0.cast_signed());
        if !ascends || segment.revision().0 != header.revision.get() {
            return Err(SnapshotError::Damaged);
        }
        headers.update(clear);
        places.push((at, segment.segment_bytes()));
        (at, dongles, last) =
            (at + segment.segment_bytes() as u64, dongles + segment.dongles() as u64, Some(segment.last()));
    }
    let is_whole = at == bytes && dongles == header.dongles.get() && places.len() as u64 == header.segments.get();
    if !is_whole || header.digest != header.digest_over(&headers) {
        return Err(SnapshotError::Damaged);
    }
    Ok(places)
}

/// Reads and opens some segments, each thread a run of them.
fn open_all(
    file: &File,
    places: &[(u64, usize)],
    envelope: &Envelope,
    threads: usize,
) -> Result<Vec<Segment>, SnapshotError> {
    let open = |&(at, bytes): &(u64, usize)| -> Result<Segment, SnapshotError> {
        let mut segment = vec![0; bytes];
        file.read_exact_at(&mut segment, at)?;
        Ok(segment::open(envelope, &segment)?)
    };
    let each = places.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let parts = places.chunks(each).map(|part| scope.spawn(move || part.iter().map(open).collect()));
        let parts: Vec<_> = parts.collect();
        let opened = parts.into_iter().map(|part| part.join().expect("opening a segment never panics"));
        let opened: Result<Vec<Vec<Segment>>, SnapshotError> = opened.collect();
        Ok(opened?.into_iter().flatten().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::ClockOffset;
    use crate::engine::code::Secret;
    use crate::engine::codebook::Dongle;
    use crate::engine::time::SlotLength;

    const AS_OF: Moment = Moment { life: Life([3; 8]), revision: Revision(5) };

    fn keeper(dongles: u64) -> Keeper {
        let mut roster = RosterBuilder::new(dongles as usize);
        for device in 0..dongles {
            let secret = Secret::Hmac { code_key: [device.to_be_bytes(); 4].as_flattened().try_into().unwrap() };
            roster.push(&Dongle { device: DeviceId(device), secret, offset: ClockOffset(device as i32) });
        }
        Keeper::new(SlotLength::DEFAULT, roster.finish())
    }

    fn write(path: &Path, keeper: &Keeper, envelope: &Envelope) {
        let mut writer = Writer::begin(path, AS_OF).unwrap();
        while writer.step(keeper, envelope).unwrap().is_some() {}
        writer.finish().unwrap();
    }

    fn all(keeper: &Keeper) -> Vec<Dongle> {
        keeper.dongles_after(None, 100_000)
    }

    #[test]
    fn a_snapshot_reads_back_as_it_was_written_on_any_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let (path, envelope) = (folder.path().join(CODEBOOK_FILE), Envelope::new(1, &[7; 32]));
        for dongles in [0, 1, 3 * SEGMENT_MAX as u64 + 17] {
            let keeper = keeper(dongles);
            write(&path, &keeper, &envelope);
            for threads in [1, 3] {
                let (roster, as_of) = read(&path, &envelope, threads).unwrap();
                assert_eq!(as_of, AS_OF);
                assert!(all(&Keeper::new(SlotLength::DEFAULT, roster)) == all(&keeper));
            }
        }
    }

    #[test]
    fn a_missing_cut_damaged_or_foreign_snapshot_is_told_apart_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let (path, envelope) = (folder.path().join(CODEBOOK_FILE), Envelope::new(1, &[7; 32]));
        let read = || read(&path, &envelope, 1).map(drop);
        assert!(matches!(read(), Err(SnapshotError::Missing)));
        write(&path, &keeper(5), &envelope);
        let whole = fs::read(&path).unwrap();
        assert!(read().is_ok());
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read().is_err(), "cut to {at}");
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            fs::write(&path, changed).unwrap();
            assert!(read().is_err(), "byte {at}");
        }
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        assert!(matches!(read(), Err(SnapshotError::Damaged)));
        fs::write(&path, "something else altogether, of some length that a header would have as well").unwrap();
        assert!(matches!(read(), Err(SnapshotError::Foreign)));
    }

    #[test]
    fn segments_of_another_snapshot_do_not_pass_for_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let envelope = Envelope::new(1, &[7; 32]);
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        write(&one, &keeper(5), &envelope);
        write(&other, &keeper(5), &envelope);
        let header = size_of::<Header>();
        let mixed = [&fs::read(&one).unwrap()[..header], &fs::read(&other).unwrap()[header..]].concat();
        fs::write(&one, mixed).unwrap();
        assert!(matches!(read(&one, &envelope, 1), Err(SnapshotError::Damaged)));
    }
}
