//! The one who writes a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::Word;
use super::moment::Moment;
use super::renewal::{Fresh, codes_of, without};
use super::roster::Roster;
use super::table::{Put, Spot, Table};
use super::{CODES_EACH, DeviceId, Phase};

pub(super) struct Writer {
    pub(super) table: Arc<Table>,
    /// Rows of dongles that have the code of another one, and so no code at all.
    pub(super) left_out: BTreeSet<usize>,
    /// What is to be put in, where the memory was asked for the first line.
    noted: Vec<Noted>,
    /// The same, where it was asked for the second as well.
    ready: Vec<Noted>,
}

#[derive(Clone, Copy)]
struct Noted {
    spot: Spot,
    word: Word,
    device: DeviceId,
    row: usize,
}

impl Writer {
    pub(super) fn of(table: Table) -> Writer {
        Writer { table: Arc::new(table), left_out: BTreeSet::new(), noted: Vec::new(), ready: Vec::new() }
    }

    /// Puts the codes of a row in where they are not yet, and tells whether that could be done.
    pub(super) fn add(&mut self, roster: &Roster, moment: &Moment, codes: &[Fresh]) -> bool {
        self.note(roster, codes);
        self.settle(roster, moment);
        codes.iter().all(|fresh| !self.left_out.contains(&fresh.row))
    }

    /// Notes codes that are to be put in, and asks the memory for their lines: in a burst, see [`Table::find_all`]. All codes
    /// of a row come together.
    pub(super) fn note(&mut self, roster: &Roster, codes: &[Fresh]) {
        let first = self.noted.len();
        for &Fresh { row, slot, turn, code } in codes {
            let spot = self.table.spot(&code);
            let word = Word::of(spot.fingerprint(), Phase::of(slot), turn);
            self.noted.push(Noted { spot, word, device: roster.device(row), row });
            if !self.left_out.is_empty() {
                self.left_out.remove(&row);
            }
        }
        self.noted[first..].iter().for_each(|noted| self.table.fetch(noted.spot));
    }

    /// Goes a step on with what was noted: at the second it is in. Best with something else done for a while in between.
    pub(super) fn advance(&mut self, roster: &Roster, moment: &Moment) {
        let mut ready = std::mem::take(&mut self.ready);
        for Noted { spot, word, device, row } in ready.drain(..) {
            let is_out = !self.left_out.is_empty() && self.left_out.contains(&row);
            if !is_out && !matches!(self.table.put(spot, word, device), Put::New | Put::Known) {
                self.leave_out(roster, row, moment);
            }
        }
        self.ready = std::mem::replace(&mut self.noted, ready);
        self.ready.iter().for_each(|noted| self.table.fetch_on(noted.spot));
    }

    /// Puts in all that was noted.
    pub(super) fn settle(&mut self, roster: &Roster, moment: &Moment) {
        self.advance(roster, moment);
        self.advance(roster, moment);
    }

    /// Of two dongles with one code the one that has it keeps it, and the other is left out whole.
    fn leave_out(&mut self, roster: &Roster, row: usize, moment: &Moment) {
        self.remove(roster.device(row), &codes_of(roster, row, moment).collect::<Vec<_>>());
        self.left_out.insert(row);
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
