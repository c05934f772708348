//! Keeps the dongles and writes their codes: what changes is in the table at once.
//!
//! A roll is done in steps, and whoever drives it deals with what comes in between them. It writes the new codes into the
//! rows, where they take the place of those that grew old, and makes a new index over all, which readers get when it is
//! whole: the old one leads them to the codes that stay. A dongle that is changed meanwhile has the codes of the new slot
//! before the roll gets to it. Only dongles that take the place of all others get rows of their own as well.

use std::ops::Range;
use std::sync::Arc;

use super::dongle::Dongle;
use super::members::Members;
use super::moment::Moment;
use super::renewal::{Renewal, Share, chunks};
use super::roster::Roster;
use super::row::Facts;
use super::writer::Writer;
use super::{Codebook, DeviceId, Hit, SlotLength, UnixMs};
use crate::engine::clock::ClockOffset;

/// Dongles of one step: some 0.6 ms.
const STEP: usize = 4096;

/// What a hearing taught of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    pub offset: ClockOffset,
    /// The dongle has other codes around now than it had: who could not find them should ask again.
    pub is_moved: bool,
}

/// Lines of the next index that one step gets from the system: 4 MB, cleared in one to fifteen milliseconds.
const LINES_PER_STEP: usize = 1 << 16;

/// A roll that is under way.
struct Rolling {
    /// Of the next index.
    writer: Writer,
    /// Lines that are still to be had from the system. Left to the first rows, whose codes fall on all of them, that
    /// would take a second at 30 million dongles.
    fresh: Range<usize>,
    /// Rows that it has not come to.
    rows: Range<usize>,
}

/// What readers have while the table of the present dongles is not whole.
struct Before {
    book: Codebook,
    members: Members,
}

pub struct Keeper {
    chain: SlotLength,
    moment: Moment,
    roster: Roster,
    writer: Writer,
    renewal: Renewal,
    rolling: Option<Rolling>,
    before: Option<Before>,
    generation: u64,
}

impl Keeper {
    /// Knows these dongles, and has no codes of them before the first roll.
    pub fn new(chain: SlotLength, roster: Roster) -> Keeper {
        Keeper {
            chain,
            moment: Moment::of(chain, UnixMs(0)),
            writer: Writer::new(&roster),
            roster,
            renewal: Renewal::default(),
            rolling: None,
            before: Some(Before { book: Codebook::empty(), members: Members::none() }),
            generation: 0,
        }
    }

    /// Takes these dongles for all that there are. The books are of the dongles before until the next roll, which is due.
    pub fn replace(&mut self, roster: Roster) {
        let book = self.book();
        let generation = self.generation;
        let last = std::mem::replace(self, Keeper::new(self.chain, roster));
        let before = last.before.unwrap_or_else(|| Before { book, members: last.roster.into_members() });
        (self.before, self.generation) = (Some(before), generation);
    }

    /// How many dongles there are.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.roster.is_empty()
    }

    /// Dongles that have the code of another one, and are not in the table.
    pub fn left_out(&self) -> usize {
        self.writer.left_out()
    }

    /// Newcomers that there is room for. Whoever has more [`replace`]s them all.
    ///
    /// [`replace`]: Keeper::replace
    pub fn room(&self) -> usize {
        self.roster.room()
    }

    /// Keys, clocks and table, and what a roll has made of the next one.
    pub fn bytes(&self) -> usize {
        let rolling = self.rolling.as_ref().map_or(0, |rolling| rolling.writer.table.index.bytes());
        self.roster.bytes() + self.writer.table.index.bytes() + rolling
    }

    /// Up to `count` dongles with ids after `after`, in the order of the store.
    pub fn dongles_after(&self, after: Option<DeviceId>, count: usize) -> Vec<Dongle> {
        self.roster.dongles_after(after, count)
    }

    /// Takes over what became of a dongle: no look-up that begins later finds anything else. `false` when it is what is
    /// known of it.
    pub fn change(&mut self, device: DeviceId, now: Option<Dongle>) -> bool {
        let row = self.roster.members.find(device);
        let known = row.and_then(|row| self.roster.dongle(row));
        if known == now {
            return false;
        }
        match (now, row) {
            (Some(dongle), _) => {
                let is_other = known.is_some_and(|known| known.secret != dongle.secret);
                row.filter(|_| is_other).into_iter().for_each(|row| self.roster.bare(row));
                let row = self.roster.put(&dongle);
                self.renew(row);
            }
            (None, Some(row)) => {
                self.roster.forget(row);
                self.writer.forget(row);
                self.rolling.iter_mut().for_each(|rolling| rolling.writer.forget(row));
                self.before.iter().for_each(|before| before.forget(device));
            }
            (None, None) => unreachable!("nobody is what is known of nobody"),
        }
        true
    }

    /// Learns from a verified hearing, when there is something to learn. A fixed code says nothing of a clock.
    pub fn learn(&mut self, hit: Hit, at: UnixMs) -> Option<Learned> {
        let row = self.roster.members.find(hit.device)?;
        let facts = self.roster.row(row).facts();
        if !facts.lives() || facts.kind().is_single() {
            return None;
        }
        let (kind, known) = (facts.kind(), self.roster.offset(row));
        let offset = known.learned(kind.slot_ms(self.chain), hit.slot, at).filter(|offset| *offset != known)?;
        self.roster.set_offset(row, offset);
        let is_moved = self.moment.middle_slot(kind, known) != self.moment.middle_slot(kind, offset);
        if is_moved {
            self.renew(row);
        }
        Some(Learned { offset, is_moved })
    }

    /// Gives a dongle the codes that it should have now, in each index where the roll is not going to.
    fn renew(&mut self, row: usize) {
        self.renewal.renew(&self.roster, &self.moment, row..row + 1);
        if self.before.is_none() {
            self.writer.add(&self.roster, row..row + 1);
        }
        if let Some(rolling) = self.rolling.as_mut().filter(|rolling| !rolling.rows.contains(&row)) {
            rolling.writer.add(&self.roster, row..row + 1);
        }
    }

    /// A roll has to come, whether a slot is over or not.
    pub fn wants_roll(&self) -> bool {
        self.before.is_some()
    }

    pub fn is_rolling(&self) -> bool {
        self.rolling.is_some()
    }

    /// Begins to write the codes for the slot of `now`. A roll that was under way is ended before.
    pub fn begin_roll(&mut self, now: UnixMs) {
        while self.step() {}
        self.moment = Moment::of(self.chain, now);
        let writer = Writer::new(&self.roster);
        let fresh = 0..writer.table.index.lines();
        self.rolling = Some(Rolling { writer, fresh, rows: self.roster.all() });
    }

    /// Splits the dear part of a roll for that many threads. Without it the steps do it all.
    pub fn shares(&self, count: usize) -> Vec<Share<'_>> {
        let all = self.rolling.as_ref().map_or(0..0, |rolling| rolling.rows.clone());
        let each = all.len().div_ceil(count.max(1)).max(1);
        let (roster, moment) = (&self.roster, self.moment);
        all.clone()
            .step_by(each)
            .map(|start| Share { roster, moment, rows: start..all.end.min(start + each) })
            .collect()
    }

    /// Goes on with the roll for some milliseconds at most. `false` when none is under way any more: the next book has it.
    pub fn step(&mut self) -> bool {
        let Some(Rolling { mut writer, fresh, rows }) = self.rolling.take() else { return false };
        if !fresh.is_empty() {
            let next = fresh.end.min(fresh.start + LINES_PER_STEP);
            writer.table.index.touch(fresh.start..next);
            self.rolling = Some(Rolling { writer, fresh: next..fresh.end, rows });
            return true;
        }
        let next = rows.end.min(rows.start + STEP);
        // While the codes of a chunk are computed, the memory brings the lines for those of the one before.
        for chunk in chunks(rows.start..next) {
            self.renewal.renew(&self.roster, &self.moment, chunk.clone());
            writer.settle();
            writer.note(&self.roster, chunk);
        }
        writer.settle();
        if next < rows.end {
            self.rolling = Some(Rolling { writer, fresh, rows: next..rows.end });
            return true;
        }
        (self.writer, self.before) = (writer, None);
        false
    }

    /// The book as of now, with the next generation.
    pub fn book(&mut self) -> Codebook {
        self.generation += 1;
        let generation = self.generation;
        if let Some(before) = &self.before {
            return Codebook { generation, ..before.book.clone() };
        }
        let (table, left_out) = (Arc::clone(&self.writer.table), self.left_out());
        let bytes = self.roster.members.bytes() + table.index.bytes();
        Codebook { table, generation, len: self.roster.len() - left_out, left_out, bytes }
    }
}

impl Before {
    /// The old table's index goes on to lead to the row, where there is nothing.
    fn forget(&self, device: DeviceId) {
        if let Some(row) = self.members.find(device) {
            self.members.rows.all()[row].narrow(Facts::NONE);
        }
    }
}
