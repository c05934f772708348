//! Keeps the dongles and makes the books: what changed goes into the next book at once, and into the bulk of it with
//! the next roll.
//!
//! A roll is done in steps, and whoever drives it deals with what comes in between them: changes of that time lie
//! over the edition of before, and stay to lie over the one in the making.

use std::sync::Arc;

use super::dongle::{Changes, Clocks, Dongle, Kind, Member, place};
use super::edition::Edition;
use super::merge::Merge;
use super::overlay::Overlay;
use super::roll::Roll;
use super::roster::Roster;
use super::share::Share;
use super::{Codebook, DeviceId, Hit, SlotLength, UnixMs};
use crate::engine::clock::ClockOffset;

/// Changes that lie over an edition. Each new book builds them anew, at three codes and about 0.3 us each: 5 ms.
pub(super) const CHANGES_MAX: usize = 16_384;

/// Learned clocks that wait for a roll, about 30 bytes each: 8 MB.
pub(super) const LEARNED_MAX: usize = 262_144;

/// What a hearing taught of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    pub offset: ClockOffset,
    /// The dongle's codes around now are other ones than the book has: the next book should not wait for the roll.
    pub is_moved: bool,
}

/// A roll that is under way: first the dongles, then their codes.
enum Rolling {
    Merge { merge: Merge, now: UnixMs },
    Roll(Roll),
}

pub struct Keeper {
    chain: SlotLength,
    roster: Roster,
    edition: Arc<Edition>,
    /// The latest of each dongle since the roster was.
    changes: Changes,
    rolling: Option<Rolling>,
    /// Changes that the present edition has not, and the roll that is under way will have.
    taken: Changes,
    /// Clocks that are still within the book.
    learned: Clocks,
    /// The edition is not of this roster, nor of one that it came from.
    is_replaced: bool,
    generation: u64,
}

impl Keeper {
    /// Knows these dongles, and has no codes of them before the first roll.
    pub fn new(chain: SlotLength, roster: Roster) -> Keeper {
        Keeper {
            chain,
            roster,
            edition: Edition::empty(chain, UnixMs(0)),
            changes: Changes::new(),
            rolling: None,
            taken: Changes::new(),
            learned: Clocks::new(),
            is_replaced: true,
            generation: 0,
        }
    }

    /// Takes these dongles for all that there are. The books are of the dongles before until the next roll, which is due.
    pub fn replace(&mut self, roster: Roster) {
        *self = Keeper {
            generation: self.generation,
            edition: Arc::clone(&self.edition),
            ..Keeper::new(self.chain, roster)
        };
    }

    /// How many dongles there were at the last roll.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.roster.is_empty()
    }

    /// Roster and present edition, and what a roll has made of the next one.
    pub fn bytes(&self) -> usize {
        let rolling = match &self.rolling {
            Some(Rolling::Roll(roll)) => roll.bytes(),
            Some(Rolling::Merge { .. }) | None => 0,
        };
        self.roster.bytes() + self.edition.codes_bytes() + rolling
    }

    /// `None` as well while its key is on its way to the next roster.
    fn dongle(&self, device: DeviceId) -> Option<Dongle> {
        if let Some(change) = self.changes.get(&place(device)) {
            return change.clone();
        }
        if self.is_merging() {
            return None;
        }
        Some(self.rostered(self.roster.members.find(device)?))
    }

    /// The dongles of a roll are being put together: who can wait with what was heard should.
    pub fn is_merging(&self) -> bool {
        matches!(self.rolling, Some(Rolling::Merge { .. }))
    }

    fn rostered(&self, owner: usize) -> Dongle {
        let dongle = self.roster.dongle(owner);
        let offset = self.learned.get(&place(dongle.device)).copied().unwrap_or(dongle.offset);
        Dongle { offset, ..dongle }
    }

    /// Up to `count` dongles with ids after `after`, as they are now and in the order of the store.
    pub fn dongles_after(&mut self, after: Option<DeviceId>, count: usize) -> Vec<Dongle> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.finish_merge();
        let after = after.map(place);
        let members = self.roster.members.all();
        let start = members.partition_point(|member| Some(member.place()) <= after);
        let mut known = (start..members.len()).map(|owner| (members[owner].place(), owner)).peekable();
        let mut changes = self.changes.range((after.map_or(Unbounded, Excluded), Unbounded)).peekable();
        let mut dongles = Vec::with_capacity(count);
        while dongles.len() < count {
            let next_known = known.peek().map(|(place, _)| *place);
            match changes.next_if(|(place, _)| next_known.is_none_or(|known| **place <= known)) {
                Some((place, change)) => {
                    known.next_if(|(known, _)| known == place);
                    dongles.extend(change.clone());
                }
                None => match known.next() {
                    Some((_, owner)) => dongles.push(self.rostered(owner)),
                    None => break,
                },
            }
        }
        dongles
    }

    /// Takes over what became of a dongle. `false` when it is what is known of it.
    pub fn change(&mut self, device: DeviceId, now: Option<Dongle>) -> bool {
        if !self.is_merging() && self.dongle(device) == now {
            return false;
        }
        self.learned.remove(&place(device));
        self.changes.insert(place(device), now);
        true
    }

    /// Learns from a verified hearing, when there is something to learn. A fixed code says nothing of a clock.
    /// Has the dongles of a roll together first: what is believed of the clock is on its way to them.
    pub fn learn(&mut self, hit: Hit, at: UnixMs) -> Option<Learned> {
        self.finish_merge();
        let changed = self.changes.get(&place(hit.device));
        let (kind, known) = if let Some(change) = changed {
            change.as_ref().map(|dongle| (Kind::of(&dongle.secret), dongle.offset))?
        } else {
            let owner = self.roster.members.find(hit.device)?;
            let offset = self.learned.get(&place(hit.device)).copied();
            (self.roster.members.kind(owner), offset.unwrap_or(self.roster.members.all()[owner].offset()))
        };
        if kind.is_single() {
            return None;
        }
        let offset = known.learned(kind.slot_ms(self.chain), hit.slot, at).filter(|offset| *offset != known)?;
        let is_moved = self.put_clock(hit.device, kind, known, offset);
        Some(Learned { offset, is_moved })
    }

    /// `kind` and `known` are the dongle's.
    fn put_clock(&mut self, device: DeviceId, kind: Kind, known: ClockOffset, offset: ClockOffset) -> bool {
        if let Some(Some(dongle)) = self.changes.get_mut(&place(device)) {
            dongle.offset = offset;
            return self.is_other_slot(kind, known, offset);
        }
        let rolled = self.roster.members.find(device).map_or(known, |owner| self.roster.members.all()[owner].offset());
        if !self.is_other_slot(kind, rolled, offset) {
            self.learned.insert(place(device), offset);
            return false;
        }
        if let Some(dongle) = self.dongle(device) {
            self.learned.remove(&place(device));
            self.changes.insert(place(device), Some(Dongle { offset, ..dongle }));
        }
        true
    }

    /// Whether the dongle's three codes would be other ones: the next that it shows may not be in the book.
    fn is_other_slot(&self, kind: Kind, from: ClockOffset, to: ClockOffset) -> bool {
        let slot = |offset| self.edition.moment.middle_slot(Member::new(DeviceId(0), offset), kind).0;
        slot(from) != slot(to)
    }

    /// So much changed that a roll should take it in.
    pub fn is_crowded(&self) -> bool {
        self.is_replaced || self.changes.len() > CHANGES_MAX || self.learned.len() > LEARNED_MAX
    }

    pub fn is_rolling(&self) -> bool {
        self.rolling.is_some()
    }

    /// Begins to make the edition for the slot of `now`. A roll that was under way is given up.
    pub fn begin_roll(&mut self, now: UnixMs) {
        self.finish_merge();
        let (changes, learned) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.learned));
        if changes.is_empty() && learned.is_empty() {
            self.begin_codes(now, Vec::new());
            return;
        }
        let merge = Merge::new(&self.roster, changes.clone(), learned);
        self.rolling = Some(Rolling::Merge { merge, now });
        self.taken.extend(changes);
    }

    /// Has the dongles of the roll together, when one is under way and has not.
    fn finish_merge(&mut self) {
        match self.rolling.take() {
            Some(Rolling::Merge { merge, now }) => self.roll_merged(merge, now),
            other => self.rolling = other,
        }
    }

    fn roll_merged(&mut self, merge: Merge, now: UnixMs) {
        let (roster, fresh) = merge.finish(&mut self.roster);
        self.roster = roster;
        self.begin_codes(now, fresh);
    }

    fn begin_codes(&mut self, now: UnixMs, mut fresh: Vec<u32>) {
        // What a roll that was given up was to take in, the edition does not know either.
        let members = &self.roster.members;
        let taken = self.taken.keys().filter_map(|place| members.find(DeviceId(place.cast_unsigned())));
        fresh.extend(taken.map(|owner| owner as u32));
        fresh.sort_unstable();
        fresh.dedup();
        let before = (!self.is_replaced).then(|| Arc::clone(&self.edition));
        self.rolling = Some(Rolling::Roll(Roll::new(self.chain, now, &self.roster, before, fresh)));
    }

    /// Splits the dear part of a roll for that many threads. Without it the steps do it all.
    pub fn shares(&mut self, count: usize) -> Vec<Share<'_>> {
        self.finish_merge();
        match &mut self.rolling {
            Some(Rolling::Roll(roll)) => roll.shares(&self.roster, count),
            Some(Rolling::Merge { .. }) | None => Vec::new(),
        }
    }

    /// Goes on with the roll for some milliseconds. `false` when none is under way any more: the next book has it.
    pub fn step(&mut self) -> bool {
        match self.rolling.take() {
            Some(Rolling::Merge { mut merge, now }) => {
                if merge.step(&mut self.roster) {
                    self.rolling = Some(Rolling::Merge { merge, now });
                } else {
                    self.roll_merged(merge, now);
                }
                true
            }
            Some(Rolling::Roll(mut roll)) => {
                if roll.step(&self.roster) {
                    self.rolling = Some(Rolling::Roll(roll));
                    return true;
                }
                self.edition = roll.finish(&self.roster);
                self.taken.clear();
                self.is_replaced = false;
                false
            }
            None => false,
        }
    }

    /// The book as of now, with the next generation.
    pub fn book(&mut self) -> Codebook {
        self.generation += 1;
        let overlay = Overlay::new(&self.edition, [&self.taken, &self.changes].into_iter());
        Codebook { edition: Arc::clone(&self.edition), overlay, generation: self.generation }
    }
}
