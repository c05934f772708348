//! A dongle as the codebook needs it, and how little of it is kept.

use std::collections::BTreeMap;

use zerocopy::little_endian::{I32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::engine::clock::ClockOffset;
use crate::engine::code::{Code, Secret};
use crate::engine::id::DeviceId;
use crate::engine::time::SlotLength;

/// What the codebook needs of a dongle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dongle {
    pub device: DeviceId,
    pub secret: Secret,
    pub offset: ClockOffset,
}

/// The store's order: that of the ids as signed numbers.
pub(super) type Place = i64;

pub(super) fn place(device: DeviceId) -> Place {
    device.0.cast_signed()
}

/// What became of some dongles: what they are now, or `None` when no live binding holds them any more.
pub(super) type Changes = BTreeMap<Place, Option<Dongle>>;

/// Clocks that were learned.
pub(super) type Clocks = BTreeMap<Place, ClockOffset>;

/// Who a dongle is and what its clock shows. Packed, so that a look-up finds both in one line of memory.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Member {
    device: U64,
    offset: I32,
}

const _: () = assert!(size_of::<Member>() == 12, "each dongle has one");

impl Member {
    pub(super) fn new(device: DeviceId, offset: ClockOffset) -> Member {
        Member { device: U64::new(device.0), offset: I32::new(offset.0) }
    }

    #[inline]
    pub(super) fn device(self) -> DeviceId {
        DeviceId(self.device.get())
    }

    #[inline]
    pub(super) fn offset(self) -> ClockOffset {
        ClockOffset(self.offset.get())
    }

    pub(super) fn place(self) -> Place {
        place(self.device())
    }

    /// For who wants it brought into the cache.
    #[inline]
    pub(super) fn first_byte(&self) -> u8 {
        self.as_bytes()[0]
    }
}

/// A dongle's scheme in one byte: 0 is HMAC, 1 is fixed, and 16 + K an EID that rotates each 2^K seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub(super) u8);

impl Kind {
    pub const HMAC: Kind = Kind(0);
    const FIXED: Kind = Kind(1);
    const EID: u8 = 16;

    pub fn of(secret: &Secret) -> Kind {
        match secret {
            Secret::Hmac { .. } => Kind::HMAC,
            Secret::Fixed { .. } => Kind::FIXED,
            Secret::EddystoneEid { exponent, .. } => Kind(Kind::EID + exponent),
        }
    }

    /// `None` when no dongle has this one: a record of another version.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        let is_known = byte <= Kind::FIXED.0 || (Kind::EID..=Kind::EID + 15).contains(&byte);
        is_known.then_some(Kind(byte))
    }

    pub fn byte(self) -> u8 {
        self.0
    }

    #[inline]
    pub(super) fn is_single(self) -> bool {
        self == Kind::FIXED
    }

    /// The secret with this key, of which EID and fixed use the first half.
    pub fn secret(self, key: &[u8; 32]) -> Secret {
        let (halves, _) = key.as_chunks::<16>();
        match self.0 {
            0 => Secret::Hmac { code_key: *key },
            1 => Secret::Fixed { code: Code(halves[0]) },
            eid => Secret::EddystoneEid { identity_key: halves[0], exponent: eid - Kind::EID },
        }
    }

    #[inline]
    pub(super) fn has_chain_slots(self) -> bool {
        self.0 < Kind::EID
    }

    #[inline]
    pub(super) fn slot_ms(self, chain: SlotLength) -> u64 {
        if self.has_chain_slots() { chain.ms() } else { 1000 << (self.0 - Kind::EID) }
    }
}

/// The key of a secret in the 32 bytes that each has here.
pub fn key_of(secret: &Secret) -> [u8; 32] {
    let mut key = [0; 32];
    match secret {
        Secret::Hmac { code_key } => key = *code_key,
        Secret::EddystoneEid { identity_key, .. } => key[..16].copy_from_slice(identity_key),
        Secret::Fixed { code } => key[..16].copy_from_slice(&code.0),
    }
    key
}
