//! Keeps the dongles and writes their codes: what changes is in the table at once.
//!
//! A roll is done in steps, and whoever drives it deals with what comes in between them. It goes through the table and
//! takes out what is over, then through the dongles and computes the code that each has in the slot after the middle, and
//! puts them in by parts of the table. Those that were left out are tried again at the end, when whoever has their codes
//! has them all.
//! Readers look up meanwhile, and find what is on the air: the codes of two slots stay, of the one that began and of the
//! one before.
//!
//! Where the table cannot be brought up to date so (the first one; one that is too small or too large; a clock that was
//! set; dongles that were all read anew), a roll makes another with all codes of everybody. Readers have the old one until
//! it is whole, and a dongle that is changed meanwhile is changed in both.

use std::ops::Range;
use std::sync::Arc;

use super::dongle::{Dongle, Kind};
use super::moment::Moment;
use super::renewal::{CHUNK, Fresh, Had, Renewal, Schemes, Share, Wanted, chunks, codes_of, without};
use super::roster::Roster;
use super::table::Table;
use super::writer::Writer;
use super::{CODES_EACH, Codebook, DeviceId, Hit, Reading, Slot, SlotLength, UnixMs};
use crate::engine::clock::ClockOffset;

/// Dongles of one step: some 0.2 ms, and as much again when many parts of the table are due at once.
const STEP: usize = 1024;

/// Lines of the table that one step clears, or gets from the system: 256 KB, in some 0.2 ms.
const LINES_PER_STEP: usize = 1 << 12;

/// Dongles that were left out, of one step.
const LEFT_OUT_PER_STEP: usize = 64;

/// Slots between the codes of two moments in one table, so that a [`Phase`] says which it is.
///
/// [`Phase`]: super::Phase
const APART_MAX: u64 = 2;

/// What a hearing taught of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    pub offset: ClockOffset,
    /// The dongle has other codes around now than it had: who could not find them should ask again.
    pub is_moved: bool,
}

/// A roll that is under way, and what it has not come to: first lines, then rows, then what waits for its part of the table,
/// then rows that were left out.
struct Rolling {
    /// Of another table, if one is made.
    next: Option<Writer>,
    /// The moment before.
    last: Moment,
    /// Lines that are to be rid of what is over; of another table, to be had from the system: the first codes fall on all of
    /// it.
    lines: Range<usize>,
    /// Rows whose codes are to be computed, and the schemes that are left of them.
    rows: Range<usize>,
    schemes: Schemes,
    left_out: Vec<usize>,
}

impl Rolling {
    /// What is over goes out of the table before what has its number comes in.
    fn is_clearing(&self) -> bool {
        !self.makes_another() && !self.lines.is_empty()
    }

    /// Readers have the table of before meanwhile.
    fn makes_another(&self) -> bool {
        self.next.is_some()
    }
}

/// What readers have while there is no table of the present dongles.
struct Before {
    book: Codebook,
    /// Those that the book knows, and the moments that it was made for.
    known: Option<(Roster, Vec<Moment>)>,
}

pub struct Keeper {
    chain: SlotLength,
    moment: Moment,
    roster: Roster,
    writer: Writer,
    renewal: Renewal,
    /// Kept for its memory.
    fresh: Vec<Fresh>,
    rolling: Option<Rolling>,
    before: Option<Before>,
    generation: u64,
}

impl Keeper {
    /// Knows these dongles, and has no codes of them before the first roll.
    pub fn new(chain: SlotLength, roster: Roster) -> Keeper {
        let moment = Moment::of(chain, UnixMs(0));
        Keeper {
            chain,
            moment,
            writer: Writer::of(Table::empty(1)),
            roster,
            renewal: Renewal::default(),
            fresh: Vec::new(),
            rolling: None,
            before: Some(Before { book: Codebook::empty(), known: None }),
            generation: 0,
        }
    }

    /// Takes these dongles for all that there are. The books are of the dongles before until the next roll, which is due.
    pub fn replace(&mut self, roster: Roster) {
        let (book, moments) = (self.book(), self.moments());
        let last = std::mem::replace(self, Keeper::new(self.chain, roster));
        // Readers go on with the book of before: what is found there is of its moment.
        self.moment = *moments.last().expect("there is one at least");
        self.writer = Writer::of(Table::empty(last.writer.table.edition()));
        self.generation = last.generation;
        self.before = last.before.or(Some(Before { book, known: Some((last.roster, moments)) }));
    }

    /// How many dongles there are.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.roster.is_empty()
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.writer.table
    }

    /// Dongles that have the code of another one, and are not in the table.
    pub fn left_out(&self) -> usize {
        self.writer.left_out.len()
    }

    /// Newcomers that there is room for. Whoever has more [`replace`]s them all.
    ///
    /// [`replace`]: Keeper::replace
    pub fn room(&self) -> usize {
        let most = self.writers().map(Writer::dongles_max).min();
        most.map_or(usize::MAX, |most| most.saturating_sub(self.len())).min(self.roster.room())
    }

    /// Keys, clocks and table, and what a roll has made of the next one.
    pub fn bytes(&self) -> usize {
        self.roster.bytes() + self.writers().map(Writer::bytes).sum::<usize>()
    }

    /// Of the tables that the present dongles are in, or will be.
    fn writers(&self) -> impl Iterator<Item = &Writer> {
        let present = self.before.is_none().then_some(&self.writer);
        present.into_iter().chain(self.rolling.as_ref().and_then(|rolling| rolling.next.as_ref()))
    }

    /// The moments whose codes are in those.
    fn moments(&self) -> Vec<Moment> {
        std::iter::once(self.moment).chain(self.rolling.as_ref().map(|rolling| rolling.last)).collect()
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
        let outdated = row.map_or_else(Vec::new, |row| self.withdraw(row));
        let is_same = known.zip(now.as_ref()).is_some_and(|(known, now)| known.secret == now.secret);
        if !is_same {
            self.writers().for_each(|writer| writer.remove(device, &outdated));
            self.before.iter().for_each(|before| before.forget(device));
        }
        match (now, row) {
            (Some(dongle), _) => {
                let row = self.roster.put(&dongle);
                self.renew(row, &outdated);
            }
            (None, Some(row)) => {
                self.roster.forget(row);
                self.writer.left_out.remove(&row);
                if let Some(next) = self.rolling.as_mut().and_then(|rolling| rolling.next.as_mut()) {
                    next.left_out.remove(&row);
                }
            }
            (None, None) => unreachable!("nobody is what is known of nobody"),
        }
        true
    }

    /// What a hit says of the dongle's clock; `None` when there is no such dongle, its code says nothing of a clock, or
    /// the table is not the present one any more. A hit may be told up to two rolls after it was found.
    pub fn reading(&self, hit: Hit) -> Option<Reading> {
        let row = self.roster.members.find(hit.device)?;
        let kind = self.roster.kind(row).filter(|kind| !kind.is_single())?;
        let is_present = hit.edition == self.writer.table.edition();
        let slot = match &self.rolling {
            Some(rolling) if rolling.makes_another() => self.middle_slot(row, kind, &rolling.last),
            Some(_) if self.middles_apart(row, kind) > APART_MAX => return None,
            _ => self.middle_slot(row, kind, &self.moment),
        };
        is_present.then(|| Reading { device: hit.device, slot: hit.phase.near(slot) })
    }

    fn middle_slot(&self, row: usize, kind: Kind, moment: &Moment) -> Slot {
        moment.middle_slot(kind, self.roster.offset(row))
    }

    /// Slots of the dongle's clock from the moment before to that of the roll.
    fn middles_apart(&self, row: usize, kind: Kind) -> u64 {
        let now = self.middle_slot(row, kind, &self.moment);
        self.rolling.as_ref().map_or(0, |rolling| self.middle_slot(row, kind, &rolling.last).0.abs_diff(now.0))
    }

    /// Learns from a verified reading, when there is something to learn.
    pub fn learn(&mut self, reading: Reading, at: UnixMs) -> Option<Learned> {
        let row = self.roster.members.find(reading.device)?;
        let kind = self.roster.kind(row).filter(|kind| !kind.is_single())?;
        let known = self.roster.offset(row);
        let offset = known.learned(kind.slot_ms(self.chain), reading.slot, at).filter(|offset| *offset != known)?;
        let differs = |moment: &Moment| moment.middle_slot(kind, known) != moment.middle_slot(kind, offset);
        let is_moved = self.moments().iter().any(differs);
        let outdated = if is_moved { self.withdraw(row) } else { Vec::new() };
        self.roster.set_offset(row, offset);
        if is_moved {
            self.renew(row, &outdated);
        }
        Some(Learned { offset, is_moved })
    }

    /// The codes that a row has before it is changed: those of them that wait to be put in wait no more.
    fn withdraw(&mut self, row: usize) -> Vec<Fresh> {
        let codes = codes_at(&self.roster, row, &self.moments());
        let next = self.rolling.as_mut().and_then(|rolling| rolling.next.as_mut());
        std::iter::once(&mut self.writer).chain(next).for_each(|writer| writer.withdraw(&codes));
        codes
    }

    /// Gives a dongle the codes that it should have now, and takes those of `outdated` away that it should not: in this
    /// order, so that what stays is found at any moment.
    fn renew(&mut self, row: usize, outdated: &[Fresh]) {
        let moment = self.moment;
        let mut codes: Vec<Fresh> = codes_of(&self.roster, row, &moment).collect();
        let outdated = without(outdated, &codes);
        if self.rolling.as_ref().is_some_and(Rolling::is_clearing) {
            // The roll has yet to come to the row.
            codes.retain(|fresh| fresh.turn != Some(moment.changing_turn()));
        }
        let device = self.roster.device(row);
        let mut has_them = true;
        // Where the clock was set, the old table goes on with the codes of its own moment alone.
        let goes_on_alone = self.rolling.as_ref().is_some_and(Rolling::makes_another)
            && self.roster.kind(row).is_some_and(|kind| self.middles_apart(row, kind) > APART_MAX);
        if self.before.is_none() && !goes_on_alone {
            has_them = self.writer.add(&self.roster, &moment, row, &codes);
            self.writer.remove(device, &outdated);
        }
        if let Some(next) = self.rolling.as_mut().and_then(|rolling| rolling.next.as_mut()) {
            // Whoever has its code is perhaps not in the next table yet.
            if has_them {
                next.add(&self.roster, &moment, row, &codes);
            } else {
                next.left_out.insert(row);
            }
            next.remove(device, &outdated);
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
        self.begin_roll_with_room(now, self.roster.len());
    }

    /// The same with a table for so many dongles.
    pub(super) fn begin_roll_with_room(&mut self, now: UnixMs, dongles: usize) {
        while self.step() {}
        let last = std::mem::replace(&mut self.moment, Moment::of(self.chain, now));
        let (table, codes) = (&self.writer.table, dongles * CODES_EACH);
        let goes_on = self.before.is_none() && self.moment.follows(&last) && table.fits(codes);
        let mut next = (!goes_on).then(|| Writer::of(Table::of(codes, table.edition().wrapping_add(1))));
        let writer = next.as_mut().unwrap_or(&mut self.writer);
        writer.begin_roll();
        let (lines, left_out) = (0..writer.table.lines(), writer.left_out.iter().copied().collect());
        let rows = self.roster.all();
        self.rolling = Some(Rolling { next, last, lines, rows, schemes: Schemes::All, left_out });
    }

    /// The roll has not come to computing codes yet.
    pub fn is_preparing(&self) -> bool {
        self.rolling.as_ref().is_some_and(|rolling| !rolling.lines.is_empty())
    }

    /// Splits the dear part of making a table for that many threads, and gives what takes their codes. Without it the steps
    /// do it all. `None` when none is made.
    pub fn shares(&mut self, count: usize) -> Option<(Vec<Share<'_>>, Sink<'_>)> {
        let (roster, moment) = (&self.roster, self.moment);
        let Rolling { next: Some(writer), rows, schemes, .. } = self.rolling.as_mut()? else { return None };
        *schemes = Schemes::Others;
        let wanted = Wanted { schemes: Schemes::Hmac, moment, had: None };
        let each = rows.len().div_ceil(count.max(1)).max(1);
        let share = |start: usize| Share { roster, wanted, rows: start..rows.end.min(start + each) };
        Some((rows.clone().step_by(each).map(share).collect(), Sink { roster, moment, writer }))
    }

    /// Goes on with the roll for some tenths of a millisecond. `false` when none is under way any more: the next book has it.
    pub fn step(&mut self) -> bool {
        let Some(rolling) = &mut self.rolling else { return false };
        if !rolling.lines.is_empty() {
            let lines = take_first(&mut rolling.lines, LINES_PER_STEP);
            match &rolling.next {
                Some(next) => next.table.touch(lines),
                None => self.writer.expire(lines, self.moment.changing_turn()),
            }
            // Whoever came meanwhile has a row as well.
            rolling.rows = self.roster.all();
        } else if !rolling.rows.is_empty() {
            self.compute();
        } else if !rolling.next.as_mut().unwrap_or(&mut self.writer).put_waiting(&self.roster, &self.moment) {
            self.try_again();
        }
        self.rolling.is_some()
    }

    fn compute(&mut self) {
        let (roster, moment) = (&self.roster, self.moment);
        let Some(Rolling { next, last, rows, schemes, .. }) = &mut self.rolling else { return };
        let is_had = next.is_none();
        let (schemes, writer) = (*schemes, next.as_mut().unwrap_or(&mut self.writer));
        let step = take_first(rows, STEP);
        for rows in chunks(step.clone(), CHUNK) {
            let had = is_had.then_some(Had { moment: *last, left_out: &writer.left_out });
            self.renewal.compute(roster, &Wanted { schemes, moment, had }, rows, &mut self.fresh);
            writer.note(roster, &moment, &self.fresh);
            self.fresh.clear();
        }
        writer.settle(roster, &moment);
        if is_had {
            step.for_each(|row| writer.retire(roster, row, last, &moment));
        }
    }

    /// Those that were left out, after all others.
    fn try_again(&mut self) {
        let Some(left_out) = self.rolling.as_mut().map(|rolling| &mut rolling.left_out) else { return };
        let rows = left_out.split_off(left_out.len().saturating_sub(LEFT_OUT_PER_STEP));
        if rows.is_empty() {
            return self.end_roll();
        }
        for row in rows {
            if self.writer.is_left_out(row) {
                let codes: Vec<Fresh> = codes_of(&self.roster, row, &self.moment).collect();
                self.writer.add(&self.roster, &self.moment, row, &codes);
            }
        }
    }

    fn end_roll(&mut self) {
        if let Some(next) = self.rolling.take().and_then(|rolling| rolling.next) {
            (self.writer, self.before) = (next, None);
        }
    }

    /// The book as of now, with the next generation.
    pub fn book(&mut self) -> Codebook {
        self.generation += 1;
        let generation = self.generation;
        if let Some(before) = &self.before {
            return Codebook { generation, ..before.book.clone() };
        }
        let left_out = self.left_out();
        Codebook { table: Arc::clone(&self.writer.table), generation, len: self.roster.len() - left_out, left_out }
    }
}

fn take_first(range: &mut Range<usize>, count: usize) -> Range<usize> {
    let first = range.start..range.end.min(range.start + count);
    range.start = first.end;
    first
}

/// The codes of a row at any of these moments, each once.
fn codes_at(roster: &Roster, row: usize, moments: &[Moment]) -> Vec<Fresh> {
    let mut codes = Vec::new();
    for moment in moments {
        let of_it: Vec<Fresh> = codes_of(roster, row, moment).collect();
        codes.extend(without(&of_it, &codes));
    }
    codes
}

impl Before {
    /// The old table stays as it is but for this one.
    fn forget(&self, device: DeviceId) {
        let Some((roster, moments)) = &self.known else { return };
        if let Some(row) = roster.members.find(device) {
            for fresh in codes_at(roster, row, moments) {
                self.book.table.remove(&fresh.code, device);
            }
        }
    }
}

/// Takes what the shares of a roll come to.
pub struct Sink<'a> {
    roster: &'a Roster,
    moment: Moment,
    writer: &'a mut Writer,
}

impl Sink<'_> {
    pub fn take(&mut self, codes: &[Fresh]) {
        self.writer.note(self.roster, &self.moment, codes);
    }
}
