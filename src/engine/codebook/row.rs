//! A dongle's row: one line of memory with its codes, its id, and which codes are valid.
//!
//! A code lies at the place of its slot modulo 3, so that a roll writes the one that grew old and nothing else. One
//! thread writes, any number read, and nobody waits: before the writer changes a code it takes the code's bit out of the
//! facts, and puts it back with the code's slot when it is done. A reader looks at the facts before and after it looks
//! at the code, and believes what it read when both say that this place has the same slot. So it never takes a half
//! written code for a whole one, nor a code of one slot for one of another, and a code that stays is found at every
//! moment of a change to its neighbours.
//!
//! A row belongs to one dongle for as long as the table lives: a reader that is late cannot meet another one in it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use memmap2::MmapMut;
use self_cell::{MutBorrow, self_cell};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use super::dongle::Kind;
use super::{Hit, column};
use crate::engine::code::Code;
use crate::engine::id::DeviceId;
use crate::engine::time::Slot;

/// A dongle's codes: of its slots -1, 0 and +1.
pub(super) const CODES_EACH: usize = 3;

/// `repr(C)` in this order fills the 64 bytes of a cache line exactly.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Row {
    codes: [[AtomicU64; 2]; CODES_EACH],
    device: AtomicU64,
    facts: AtomicU64,
}

const _: () = assert!(size_of::<Row>() == 64, "a row is one cache line");

type SharedRows<'a> = &'a [Row];

self_cell!(
    /// The rows of all dongles that there are, and room for more.
    pub(super) struct Rows {
        owner: MutBorrow<MmapMut>,

        #[covariant]
        dependent: SharedRows,
    }
);

impl Rows {
    pub(super) fn zeroed(room: usize) -> Rows {
        Rows::new(MutBorrow::new(column::zeroed::<Row>(room)), |map| column::shared(map))
    }

    #[inline]
    pub(super) fn all(&self) -> &[Row] {
        self.borrow_dependent()
    }
}

impl Row {
    #[inline]
    pub(super) fn device(&self) -> DeviceId {
        DeviceId(self.device.load(Relaxed))
    }

    #[inline]
    pub(super) fn facts(&self) -> Facts {
        Facts(self.facts.load(Acquire))
    }

    /// Whose the code is, if it is the valid one at this place.
    #[inline]
    pub(super) fn read(&self, place: usize, code: &Code) -> Option<Hit> {
        let before = self.facts();
        let place = place % CODES_EACH;
        let [low, high] = words(code);
        let is_same = self.codes[place][0].load(Relaxed) == low && self.codes[place][1].load(Relaxed) == high;
        let device = self.device();
        fence(Acquire);
        let after = Facts(self.facts.load(Relaxed));
        let slot = before.slot(place);
        let is_valid = before.has(place) && after.has(place) && after.slot(place) == slot;
        (is_same && is_valid).then_some(Hit { device, slot })
    }

    /// For the one who writes.
    pub(super) fn code(&self, place: usize) -> Code {
        let words = [0, 1].map(|half| self.codes[place][half].load(Relaxed).to_le_bytes());
        Code(words.as_flattened().try_into().expect("two words are 16 bytes"))
    }

    /// Gives the row to a dongle that has no codes yet.
    pub(super) fn give(&self, device: DeviceId, kind: Kind) {
        self.device.store(device.0, Relaxed);
        self.facts.store(Facts::of(kind, Slot(0)).0, Release);
    }

    /// Takes away codes, or the whole row.
    pub(super) fn narrow(&self, facts: Facts) {
        self.facts.store(facts.0, Release);
    }

    /// Goes on to these facts: `code_of` tells the codes that are not there already.
    #[inline]
    pub(super) fn renew(&self, facts: Facts, code_of: impl Fn(Slot) -> Code) {
        let kept = self.facts().kept_for(facts);
        self.facts.store(kept.0, Relaxed);
        fence(Release);
        for place in facts.places().filter(|place| !kept.has(*place)) {
            let [low, high] = words(&code_of(facts.slot(place)));
            self.codes[place][0].store(low, Relaxed);
            self.codes[place][1].store(high, Relaxed);
        }
        self.facts.store(facts.0, Release);
    }
}

#[inline]
fn words(code: &Code) -> [u64; 2] {
    let (halves, _) = code.0.as_chunks::<8>();
    [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])]
}

/// What a row says beside its codes: the middle slot (32 bits), which places have a valid code (3), the kind (5), and
/// whether a dongle lives there (1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts(u64);

const HAS_SHIFT: u32 = 32;
const KIND_SHIFT: u32 = 35;
const LIVES: u64 = 1 << 40;

impl Facts {
    /// Nobody.
    pub(super) const NONE: Facts = Facts(0);

    /// Of a dongle that has no code yet. A second of slots of one second is a u32 until 2106.
    pub(super) fn of(kind: Kind, middle: Slot) -> Facts {
        let middle = u64::from(u32::try_from(middle.0).unwrap_or(u32::MAX));
        Facts(middle | u64::from(kind.byte()) << KIND_SHIFT | LIVES)
    }

    /// Of a dongle that has all the codes that it can have around this slot: a fixed one its only code, and none of
    /// slot -1 where there is none.
    pub(super) fn whole(kind: Kind, middle: Slot) -> Facts {
        let bare = Facts::of(kind, middle);
        let places = match bare.middle().0 {
            _ if kind.is_single() => 0b001,
            0 => 0b011,
            _ => 0b111,
        };
        Facts(bare.0 | places << HAS_SHIFT)
    }

    #[inline]
    pub(super) fn middle(self) -> Slot {
        Slot(self.0 & u64::from(u32::MAX))
    }

    pub(super) fn kind(self) -> Kind {
        Kind::from_byte((self.0 >> KIND_SHIFT & 31) as u8).expect("only kinds are written")
    }

    #[inline]
    pub(super) fn lives(self) -> bool {
        self.0 & LIVES != 0
    }

    #[inline]
    pub(super) fn has(self, place: usize) -> bool {
        self.0 >> (HAS_SHIFT + place as u32) & 1 == 1
    }

    #[inline]
    pub(super) fn is_bare(self) -> bool {
        self == self.bared()
    }

    /// Without any code.
    pub(super) fn bared(self) -> Facts {
        Facts(self.0 & !(7 << HAS_SHIFT))
    }

    /// What may stay of these when those come.
    #[inline]
    pub(super) fn kept_for(self, next: Facts) -> Facts {
        let stays = |place: &usize| next.has(*place) && next.slot(*place) == self.slot(*place);
        self.places().filter(|place| !stays(place)).fold(self, Facts::without)
    }

    fn without(self, place: usize) -> Facts {
        Facts(self.0 & !(1 << (HAS_SHIFT + place as u32)))
    }

    #[inline]
    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        (0..CODES_EACH).filter(move |place| self.has(*place))
    }

    /// The slot of the code at a place: of the three around the middle, the one that leaves this remainder. Without a
    /// branch: which of them it is, nobody can foresee, and a wrong guess would wait for the memory.
    #[inline]
    pub(super) fn slot(self, place: usize) -> Slot {
        let (middle, each) = (self.middle().0, CODES_EACH as u64);
        let beyond_first = (place as u64 + each + 1 - middle % each) % each;
        Slot((middle + beyond_first).wrapping_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn a_code_that_stays_is_read_in_the_middle_of_a_change_and_one_that_goes_or_comes_is_not() {
        let row = Row::new_zeroed();
        row.give(DeviceId(7), Kind::HMAC);
        let code_of = |slot: Slot| Code([slot.0 as u8; 16]);
        let (before, after) = (Facts::whole(Kind::HMAC, Slot(10)), Facts::whole(Kind::HMAC, Slot(11)));
        row.renew(before, code_of);
        let found = |slot: u64| (0..CODES_EACH).find_map(|place| row.read(place, &code_of(Slot(slot))));
        assert_eq!([8, 9, 10, 11, 12].map(|slot| found(slot).is_some()), [false, true, true, true, false]);
        row.renew(after, |slot| {
            assert_eq!([9, 10, 11, 12].map(|slot| found(slot).is_some()), [false, true, true, false]);
            code_of(slot)
        });
        assert_eq!([9, 10, 11, 12].map(|slot| found(slot).map(|hit| hit.slot.0)), [None, Some(10), Some(11), Some(12)]);
        row.narrow(Facts::NONE);
        assert_eq!(found(11), None);
    }

    proptest! {
        #[test]
        fn a_whole_row_has_the_slots_around_its_middle(middle in 0..u32::MAX, byte in 0..32_u8) {
            let Some(kind) = Kind::from_byte(byte) else { return Ok(()) };
            let middle = u64::from(if kind.is_single() { 0 } else { middle });
            let facts = Facts::whole(kind, Slot(middle));
            prop_assert_eq!((facts.kind(), facts.middle().0, facts.lives()), (kind, middle, true));
            let mut slots: Vec<u64> = facts.places().map(|place| facts.slot(place).0).collect();
            slots.sort_unstable();
            let last = if kind.is_single() { middle } else { middle + 1 };
            prop_assert_eq!(slots, (middle.saturating_sub(1)..=last).collect::<Vec<_>>());
        }
    }
}
