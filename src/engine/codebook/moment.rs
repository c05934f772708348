//! The moment that a book is made for.
//!
//! It is the middle of the chain's slot, whenever in the slot the book is made. So a dongle whose clock is up to half a
//! slot from what is believed of it is in the book at every moment of the slot, ahead or behind: at 150 ppm and 300 s
//! that is 11 days of silence at least, and 34 at most.

use std::ops::RangeInclusive;

use super::dongle::Kind;
use crate::engine::clock::ClockOffset;
use crate::engine::time::{Slot, SlotLength, UnixMs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    at: UnixMs,
    chain: SlotLength,
    slot: u64,
}

/// A slot of the chain modulo 3. The table has codes of three slots: a roll takes out those of the first, and those of the
/// one that comes in get its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(pub(super) u8);

impl Moment {
    pub(super) fn of(chain: SlotLength, now: UnixMs) -> Moment {
        let slot = chain.slot_at(now);
        Moment { at: chain.start_of(slot).plus(chain.ms() / 2), chain, slot: slot.0 }
    }

    /// The slot that the dongle's clock shows: nearly always the chain's or one of its neighbours, which saves the
    /// division. A fixed code has slot 0 for ever.
    #[inline]
    pub(super) fn middle_slot(&self, kind: Kind, offset: ClockOffset) -> Slot {
        if kind.is_single() {
            return Slot(0);
        }
        let (ms, into) = (self.chain.ms() as i64, self.chain.ms() as i64 / 2 + i64::from(offset.0) * 1000);
        if kind.has_chain_slots() && (-ms..2 * ms).contains(&into) && self.slot > 0 {
            return Slot(self.slot + u64::from(into >= ms) - u64::from(into < 0));
        }
        Slot(offset.dongle_time(self.at).0 / kind.slot_ms(self.chain))
    }

    /// The slots of which a dongle that is in this one has codes in the book.
    #[inline]
    pub(super) fn slots(kind: Kind, middle: Slot) -> RangeInclusive<u64> {
        if kind.is_single() { 0..=0 } else { middle.0.saturating_sub(1)..=middle.0 + 1 }
    }

    /// When a dongle that is in the middle slot now is in that one; `None` when it keeps no step with the chain.
    #[inline]
    pub(super) fn turn(&self, kind: Kind, middle: Slot, slot: Slot) -> Option<Turn> {
        let turn = self.slot + 3 + slot.0 - middle.0;
        (kind == Kind::HMAC).then_some(Turn((turn % 3) as u8))
    }

    /// That of the codes that come in at this moment, and of those that are over since.
    pub(super) fn changing_turn(&self) -> Turn {
        Turn(((self.slot + 1) % 3) as u8)
    }

    /// Whether it is that of the next slot.
    pub(super) fn follows(&self, before: &Moment) -> bool {
        self.slot == before.slot + 1
    }
}
