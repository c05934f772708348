//! What the table holds of a code: a fingerprint, and what the code is to its dongle, in one word of 64 bits.
//!
//! ```text
//! 63                          12 11       7 6     4 3    2 1         0
//! +-----------------------------+----------+-------+------+---------+--------+
//! | fingerprint                 | distance | phase | turn | renewed | passed |
//! +-----------------------------+----------+-------+------+---------+--------+
//! ```
//!
//! The line that a code is looked for in follows from other bits of its hash than the fingerprint, so that 52 bits of
//! fingerprint and some 25 of the line are compared, in a book of 30 million dongles. A random code meets three entries
//! and is taken for one of them once in 2^50 times, 1e15: a million new strangers' codes a second, day and night, would
//! in forty years once put a car for one slot on one terminal's list, and nothing could be charged to it, since no proof
//! follows. All 128 bits would take each look-up a line of memory more, and nobody guesses where repeating what a car
//! sends does the same.

use super::moment::Turn;
use crate::engine::code::Code;
use crate::engine::time::Slot;

/// Of the line and not of the entry: something with this quarter of the fingerprints went on to another line.
const PASSED: u64 = 1;
const RENEWED: u64 = 1 << 1;
const TURN_SHIFT: u32 = 2;
const PHASE_SHIFT: u32 = 4;
const DISTANCE_SHIFT: u32 = 7;
const FINGERPRINT_SHIFT: u32 = 12;
const FINGERPRINT: u64 = u64::MAX << FINGERPRINT_SHIFT;

/// How often a code that finds its line full may go on. A code in ten does, and each further line is full once in three
/// times: of 9e7 codes half a one would find 15 more full, and 1e-8 finds 31.
pub(super) const DISTANCE_MAX: u32 = 31;

/// A slot of a dongle's clock modulo 8: who knows about where the clock is knows the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase(u8);

impl Phase {
    pub fn of(slot: Slot) -> Phase {
        Phase((slot.0 & 7) as u8)
    }

    /// The slot with this phase from three before the middle one to four after it.
    pub fn near(self, middle: Slot) -> Slot {
        let first = middle.0.wrapping_sub(3);
        let slot = first.wrapping_add(u64::from(self.0).wrapping_sub(first) & 7);
        // There is none before the first.
        Slot(if slot > middle.0.wrapping_add(4) { slot.wrapping_add(8) } else { slot })
    }
}

/// A code's hash: for its line, and for its fingerprint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash {
    pub(super) line: u32,
    pub(super) fingerprint: Fingerprint,
}

/// The upper 52 bits of a word, never all of them zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fingerprint(u64);

impl Hash {
    /// All 16 bytes count for both, though most are random already: fixed codes of one maker often share a half.
    #[inline]
    pub(super) fn of(code: &Code) -> Hash {
        // Odd constants of the golden ratio and of xxHash64; a product's upper bits depend on every input bit.
        const A: u64 = 0x9E37_79B9_7F4A_7C15;
        const B: u64 = 0xC2B2_AE3D_27D4_EB4F;
        const C: u64 = 0x1656_67B1_9E37_79F9;
        let (halves, _) = code.0.as_chunks::<8>();
        let [low, high] = [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])];
        let line = (low ^ high.wrapping_mul(A).rotate_left(32)).wrapping_mul(B);
        let print = (high ^ low.wrapping_mul(C).rotate_left(32)).wrapping_mul(A);
        Hash { line: ((line ^ line >> 29) >> 32) as u32, fingerprint: Fingerprint::of(print ^ print >> 29) }
    }
}

impl Fingerprint {
    #[inline]
    fn of(bits: u64) -> Fingerprint {
        Fingerprint((bits & FINGERPRINT).max(1 << FINGERPRINT_SHIFT))
    }

    /// The place of a line that keeps the filter's bit of such as this.
    #[inline]
    pub(super) fn quarter(self) -> usize {
        (self.0 >> FINGERPRINT_SHIFT & 3) as usize
    }

    /// 32 bits of it, for the way that it takes from its line on.
    pub(super) fn stride(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A word of a line: an entry, or none, and a bit of the line's filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) fn of(fingerprint: Fingerprint, phase: Phase, turn: Option<Turn>) -> Word {
        let turn = turn.map_or(RENEWED, |turn| u64::from(turn.0) << TURN_SHIFT);
        Word(fingerprint.0 | u64::from(phase.0) << PHASE_SHIFT | turn)
    }

    #[inline]
    pub(super) fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.0 & FINGERPRINT)
    }

    #[inline]
    pub(super) fn phase(self) -> Phase {
        Phase((self.0 >> PHASE_SHIFT & 7) as u8)
    }

    /// The chain's slot in which it is the middle code of its dongle; `None` when each roll renews it.
    #[inline]
    pub(super) fn turn(self) -> Option<Turn> {
        (self.0 & RENEWED == 0).then_some(Turn((self.0 >> TURN_SHIFT & 3) as u8))
    }

    /// How many lines it went on.
    #[inline]
    pub(super) fn distance(self) -> u32 {
        (self.0 >> DISTANCE_SHIFT & u64::from(DISTANCE_MAX)) as u32
    }

    #[inline]
    pub(super) fn at_distance(self, distance: u32) -> Word {
        Word(self.0 & !(u64::from(DISTANCE_MAX) << DISTANCE_SHIFT) | u64::from(distance) << DISTANCE_SHIFT)
    }

    /// No entry is here.
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 & FINGERPRINT == 0
    }

    #[inline]
    pub(super) fn has_passed(self) -> bool {
        self.0 & PASSED != 0
    }

    #[inline]
    pub(super) fn passed(self) -> Word {
        Word(self.0 | PASSED)
    }

    /// Another entry, or none, in the place of this one: the filter's bit stays.
    #[inline]
    pub(super) fn replaced(self, by: Word) -> Word {
        Word(by.0 & !PASSED | self.0 & PASSED)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fixed_codes_with_a_common_half_neither_pile_up_nor_look_alike() {
        for half in [0, 8] {
            let (mut lines, mut prints) = (std::collections::HashMap::<u32, u32>::new(), HashSet::new());
            for device in 0..5_000_u64 {
                let mut code = [0xaa; 16];
                code[half..half + 8].copy_from_slice(&device.to_be_bytes());
                let hash = Hash::of(&Code(code));
                *lines.entry(hash.line >> 22).or_default() += 1;
                prints.insert(hash.fingerprint.0);
            }
            let most = lines.values().max().copied().unwrap();
            assert!(most < 25, "{most} of 5,000 codes in one of 1,024 lines");
            assert_eq!(prints.len(), 5_000);
        }
    }

    proptest! {
        #[test]
        fn a_word_says_what_was_put_into_it(bits: u64, slot: u64, turn in prop::option::of(0..4_u8), distance in 0..=DISTANCE_MAX) {
            let (fingerprint, phase, turn) = (Fingerprint::of(bits), Phase::of(Slot(slot)), turn.map(Turn));
            let word = Word::of(fingerprint, phase, turn).at_distance(distance);
            prop_assert_eq!((word.fingerprint(), word.phase(), word.turn()), (fingerprint, phase, turn));
            prop_assert_eq!((word.distance(), word.is_empty(), word.has_passed()), (distance, false, false));
            let bare = word.passed().replaced(Word(0));
            prop_assert_eq!((bare.is_empty(), bare.has_passed()), (true, true));
            prop_assert_eq!(bare.replaced(word), word.passed());
        }

        #[test]
        fn a_phase_tells_the_slot_from_three_before_the_middle_to_four_after(middle in 0..1_u64 << 40, off in -3..=4_i64) {
            let slot = Slot(middle.saturating_add_signed(off));
            prop_assert_eq!(Phase::of(slot).near(Slot(middle)), slot);
        }
    }
}
