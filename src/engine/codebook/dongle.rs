//! A dongle as the codebook needs it.

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
