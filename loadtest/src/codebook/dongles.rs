//! Dongles with code keys that follow from a seed, made faster than a book is built from them.

use forecourt::engine::{
    clock::ClockOffset,
    code::{Code, Secret},
    codebook::{Dongle, Roster, RosterBuilder},
    id::DeviceId,
    time::Slot,
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Synthetic {
    pub(super) seed: u64,
    pub(super) count: usize,
}

impl Synthetic {
    pub(super) fn device(index: usize) -> DeviceId {
        DeviceId(index as u64 + 1)
    }

    pub(super) fn dongle(&self, index: usize) -> Dongle {
        let secret = Secret::Hmac { code_key: self.key(index) };
        Dongle { device: Synthetic::device(index), secret, offset: ClockOffset::default() }
    }

    pub(super) fn roster(&self) -> Roster {
        let mut roster = RosterBuilder::new(self.count);
        (0..self.count).for_each(|index| roster.push(&self.dongle(index)));
        roster.finish()
    }

    pub(super) fn code(&self, index: usize, slot: Slot) -> Code {
        Secret::Hmac { code_key: self.key(index) }.code(slot)
    }

    /// The `nth` of some dongles that lie evenly among all.
    pub(super) fn spread(&self, nth: usize, of: usize) -> usize {
        nth * (self.count / of)
    }

    /// Whether it is one of those.
    pub(super) fn goes(&self, index: usize, of: usize) -> bool {
        let each = self.count / of;
        index.is_multiple_of(each) && index / each < of
    }

    fn key(&self, index: usize) -> [u8; 32] {
        let mut state = self.seed ^ (index as u64).wrapping_mul(0xD134_2543_DE82_EF95);
        let words: [[u8; 8]; 4] = std::array::from_fn(|_| mixed(&mut state).to_le_bytes());
        words.as_flattened().try_into().expect("four words are 32 bytes")
    }
}

/// `SplitMix64`: for figures, not for secrets.
pub(super) fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}
