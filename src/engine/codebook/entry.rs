//! What the table holds of a code: a fingerprint, and what the code is to its dongle, in one word of 64 bits.
//!
//! ```text
//! 63                            11 10    8 7    6 5      0
//! +-------------------------------+-------+------+--------+
//! | fingerprint                   | phase | turn | passed |
//! +-------------------------------+-------+------+--------+
//! ```
//!
//! The lines that a code is looked for in follow from other bits of its hash than the fingerprint, but for which of four
//! beside each other comes first: so 53 bits of fingerprint and some 23 of the place are compared, in a book of 30 million
//! dongles. A random code meets three entries with the same such bits as its own, and is taken for one of them once in
//! 2^49 times, 7e14: a million new strangers' codes a second, day and night, would in twenty years once put a car for one
//! slot on one terminal's list, and nothing could be charged to it, since no proof follows. All 128 bits would take each
//! look-up a line of memory more, and nobody guesses where repeating what a car sends does the same.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::moment::Turn;
use crate::engine::code::Code;
use crate::engine::time::Slot;

/// Of the line and not of the entry: something with this eighth of the fingerprints went on to another line, the even one
/// in the lower half. A bit for each [`Turn`], so that a roll takes back the bits of what it takes out.
const PASSED: u64 = 0b111_111;
const PASSED_HALF: u64 = 0b111;
const TURN_SHIFT: u32 = 6;
const TURN: u64 = 0b11 << TURN_SHIFT;
/// In the place of a turn: each roll renews it.
const RENEWED: u64 = TURN;
const PHASE_SHIFT: u32 = 8;
const FINGERPRINT_SHIFT: u32 = 11;
const FINGERPRINT: u64 = u64::MAX << FINGERPRINT_SHIFT;

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

/// A code's hash: for the lines where it is looked for, and for its fingerprint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash {
    pub(super) lines: u32,
    pub(super) fingerprint: Fingerprint,
}

/// The upper 53 bits of a word, never all of them zero.
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
        let lines = (low ^ high.wrapping_mul(A).rotate_left(32)).wrapping_mul(B);
        let print = (high ^ low.wrapping_mul(C).rotate_left(32)).wrapping_mul(A);
        Hash { lines: ((lines ^ lines >> 29) >> 32) as u32, fingerprint: Fingerprint::of(print ^ print >> 29) }
    }
}

impl Fingerprint {
    #[inline]
    fn of(bits: u64) -> Fingerprint {
        Fingerprint((bits & FINGERPRINT).max(1 << FINGERPRINT_SHIFT))
    }

    /// The place of a line that keeps the marks of such as this, in one half of [`PASSED`].
    #[inline]
    pub(super) fn marked_place(self) -> usize {
        (self.0 >> (FINGERPRINT_SHIFT + 1) & 3) as usize
    }

    /// Which of the lines beside each other is its own, so that whoever finds it in another one knows where it belongs.
    #[inline]
    pub(super) fn own_line(self) -> usize {
        (self.0 >> (FINGERPRINT_SHIFT + 3) & 3) as usize
    }

    #[inline]
    fn half(self) -> u32 {
        (self.0 >> FINGERPRINT_SHIFT & 1) as u32 * PASSED_HALF.count_ones()
    }

    /// 32 bits of it, for the way that it takes from its line on.
    pub(super) fn stride(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A word of a line: an entry, or none, and marks of the line's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// `turn` is `None` when each roll renews it.
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

    /// No entry is here.
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 & FINGERPRINT == 0
    }

    /// Whether such a one went on.
    #[inline]
    pub(super) fn has_passed(self, fingerprint: Fingerprint) -> bool {
        self.0 >> fingerprint.half() & PASSED_HALF != 0
    }

    /// With the marks that an entry with the word `of` leaves where it went on: what each roll renews leaves those of all
    /// turns, of which a roll takes back one, and gives it anew.
    #[inline]
    pub(super) fn passed(self, of: Word) -> Word {
        let is_renewed = of.0 & TURN == RENEWED;
        let marks = if is_renewed { PASSED_HALF } else { 1 << (of.0 >> TURN_SHIFT & 3) };
        Word(self.0 | marks << of.fingerprint().half())
    }

    /// Another entry, or none, in the place of this one: the line's marks stay.
    #[inline]
    pub(super) fn replaced(self, by: Word) -> Word {
        Word(by.0 & !PASSED | self.0 & PASSED)
    }

    /// Without the entry, if it is of this turn, and without the turn's marks. Without a branch: which it is, nobody can
    /// foresee.
    #[inline]
    pub(super) fn without(self, turn: Turn) -> Word {
        let is_over = self.0 & TURN == u64::from(turn.0) << TURN_SHIFT;
        let kept = u64::from(is_over).wrapping_sub(1) | PASSED;
        Word(self.0 & kept & !(0b001_001 << turn.0))
    }
}

/// The marks that all of these have.
#[inline]
pub(super) fn common_marks<const N: usize>(words: [Word; N]) -> Word {
    Word(words.iter().fold(PASSED, |all, word| all & word.0))
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
                *lines.entry(hash.lines >> 22).or_default() += 1;
                prints.insert(hash.fingerprint.0);
            }
            let most = lines.values().max().copied().unwrap();
            assert!(most < 25, "{most} of 5,000 codes in one of 1,024 lines");
            assert_eq!(prints.len(), 5_000);
        }
    }

    proptest! {
        #[test]
        fn a_word_says_what_was_put_into_it(bits: u64, slot: u64, turn in prop::option::of(0..3_u8)) {
            let (fingerprint, phase) = (Fingerprint::of(bits), Phase::of(Slot(slot)));
            let word = Word::of(fingerprint, phase, turn.map(Turn));
            prop_assert_eq!((word.fingerprint(), word.phase()), (fingerprint, phase));
            prop_assert_eq!((word.is_empty(), word.has_passed(fingerprint)), (false, false));
            let bare = word.passed(word).replaced(Word(0));
            prop_assert_eq!((bare.is_empty(), bare.has_passed(fingerprint)), (true, true));
            prop_assert_eq!(bare.replaced(word), word.passed(word));
        }

        #[test]
        fn a_turn_takes_its_own_entries_and_marks_with_it(bits: u64, turn in prop::option::of(0..3_u8), over in 0..3_u8) {
            let fingerprint = Fingerprint::of(bits);
            let word = |turn: Option<u8>| Word::of(fingerprint, Phase::of(Slot(0)), turn.map(Turn));
            let left = word(turn).passed(word(turn)).without(Turn(over));
            let is_over = turn == Some(over);
            prop_assert_eq!((left.is_empty(), left.has_passed(fingerprint)), (is_over, !is_over));
            let marked = Word(0).passed(word(None)).without(Turn(over)).without(Turn((over + 1) % 3));
            prop_assert!(marked.has_passed(fingerprint) && !marked.without(Turn((over + 2) % 3)).has_passed(fingerprint));
        }

        #[test]
        fn a_phase_tells_the_slot_from_three_before_the_middle_to_four_after(middle in 0..1_u64 << 40, off in -3..=4_i64) {
            let slot = Slot(middle.saturating_add_signed(off));
            prop_assert_eq!(Phase::of(slot).near(Slot(middle)), slot);
        }
    }
}
