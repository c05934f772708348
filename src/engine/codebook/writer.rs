//! The one who writes a table.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::backlog::Backlog;
use super::moment::{Moment, Turn};
use super::renewal::{Fresh, codes_of, without};
use super::roster::Roster;
use super::table::{Entry, Table};
use super::{CODES_EACH, DeviceId};

/// Parts of the backlog that one step puts in: some 0.2 ms.
const PARTS_PER_STEP: usize = 8;

pub(super) struct Writer {
    pub(super) table: Arc<Table>,
    /// Rows of dongles that have the code of another one, or found no room, and so have no code at all.
    pub(super) left_out: BTreeSet<usize>,
    /// What is to be put in next, of one step at most.
    noted: Vec<Entry>,
    /// What a roll puts in as it comes to it.
    backlog: Option<Backlog>,
}

impl Writer {
    pub(super) fn of(table: Table) -> Writer {
        Writer { table: Arc::new(table), left_out: BTreeSet::new(), noted: Vec::new(), backlog: None }
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.backlog.as_ref().map_or(0, Backlog::bytes)
    }

    /// From here on what keeps step with the chain may wait.
    pub(super) fn begin_roll(&mut self) {
        self.backlog = Some(Backlog::of(&self.table));
    }

    /// Takes out of some lines of the table what is over.
    pub(super) fn expire(&mut self, lines: Range<usize>, turn: Turn) {
        // All at once, in the first step that computes, it would take milliseconds.
        self.backlog.iter_mut().for_each(|backlog| backlog.touch(&lines));
        self.table.expire(lines, turn);
    }

    /// Puts the codes of a row in where they are not yet, and tells whether that could be done: if not, it is left out.
    pub(super) fn add(&mut self, roster: &Roster, moment: &Moment, row: usize, codes: &[Fresh]) -> bool {
        self.left_out.remove(&row);
        let is_in = codes.iter().all(|fresh| self.table.put(&self.entry(roster, fresh)));
        if !is_in {
            self.leave_out(roster, moment, &[row]);
        }
        is_in
    }

    fn entry(&self, roster: &Roster, fresh: &Fresh) -> Entry {
        self.table.entry(&fresh.code, fresh.slot, fresh.turn, roster.device(fresh.row), fresh.row)
    }

    /// Takes codes that are to be put in. Those of dongles that keep step with the chain wait for others that go to the same
    /// part of the table: in a roll they are on the air no sooner than in the next slot. The rest waits for [`settle`].
    ///
    /// [`settle`]: Writer::settle
    pub(super) fn note(&mut self, roster: &Roster, moment: &Moment, codes: &[Fresh]) {
        for fresh in codes {
            if self.is_left_out(fresh.row) {
                continue;
            }
            let entry = self.entry(roster, fresh);
            let waiting = self.backlog.as_mut().filter(|_| fresh.turn.is_some());
            let Some(backlog) = waiting else {
                self.noted.push(entry);
                continue;
            };
            if let Some(full) = backlog.push(entry) {
                self.put_part(roster, moment, full);
            }
        }
    }

    #[inline]
    pub(super) fn is_left_out(&self, row: usize) -> bool {
        !self.left_out.is_empty() && self.left_out.contains(&row)
    }

    /// Puts in what was noted.
    pub(super) fn settle(&mut self, roster: &Roster, moment: &Moment) {
        let mut refused = Vec::new();
        self.table.put_all(&self.noted, |row| refused.push(row));
        self.noted.clear();
        self.leave_out(roster, moment, &refused);
    }

    /// Goes on with what waits. `false` when that is over.
    pub(super) fn put_waiting(&mut self, roster: &Roster, moment: &Moment) -> bool {
        for _ in 0..PARTS_PER_STEP {
            let Some(part) = self.backlog.as_ref().and_then(Backlog::last_part) else {
                self.backlog = None;
                return false;
            };
            self.put_part(roster, moment, part);
            self.backlog.iter_mut().for_each(Backlog::drop_last);
        }
        true
    }

    fn put_part(&mut self, roster: &Roster, moment: &Moment, part: usize) {
        let Some(backlog) = &mut self.backlog else { return };
        let mut refused = Vec::new();
        self.table.put_all(backlog.of_part(part), |row| refused.push(row));
        backlog.empty(part);
        self.leave_out(roster, moment, &refused);
    }

    /// Of two dongles with one code the one that has it keeps it, and the other is left out whole.
    fn leave_out(&mut self, roster: &Roster, moment: &Moment, rows: &[usize]) {
        for &row in rows {
            if self.left_out.insert(row) {
                let codes: Vec<Fresh> = codes_of(roster, row, moment).collect();
                self.withdraw(&codes);
                self.remove(roster.device(row), &codes);
            }
        }
    }

    /// Lets codes not come in that wait to: they are changed, or their dongle is.
    pub(super) fn withdraw(&mut self, codes: &[Fresh]) {
        let Some(backlog) = &mut self.backlog else { return };
        for fresh in codes {
            backlog.withdraw(fresh.row, self.table.home(&fresh.code));
        }
    }

    /// Takes codes of a dongle out, those that are there.
    pub(super) fn remove(&self, device: DeviceId, codes: &[Fresh]) {
        for fresh in codes {
            self.table.remove(&fresh.code, device);
        }
    }

    /// Takes out what a row had at the moment before and has no more. The codes of most go with their turn.
    #[inline]
    pub(super) fn retire(&self, roster: &Roster, row: usize, before: &Moment, moment: &Moment) {
        if roster.kind(row).is_some_and(|kind| !kind.has_chain_slots()) {
            let [had, has] = [before, moment].map(|moment| codes_of(roster, row, moment).collect::<Vec<_>>());
            self.remove(roster.device(row), &without(&had, &has));
        }
    }

    /// Dongles that there is room for.
    pub(super) fn dongles_max(&self) -> usize {
        self.table.codes_max() / CODES_EACH
    }
}
