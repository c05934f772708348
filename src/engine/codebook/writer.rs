//! The one who writes a table.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::entry::Word;
use super::moment::Moment;
use super::renewal::{Fresh, chunks, codes_of};
use super::roster::Roster;
use super::table::{Put, Spot, Table};
use super::{DeviceId, Phase};

/// Lines that are copied before what went elsewhere is put in: some twenty of their entries.
const LINES_TOGETHER: usize = 64;

pub(super) struct Writer {
    pub(super) table: Arc<Table>,
    /// Rows of dongles that have the code of another one, and so no code at all.
    pub(super) left_out: BTreeSet<usize>,
    /// What is being put in.
    noted: Vec<Noted>,
}

#[derive(Clone, Copy)]
struct Noted {
    spot: Spot,
    word: Word,
    device: DeviceId,
    /// `None` of what was copied.
    row: Option<usize>,
}

impl Writer {
    pub(super) fn of(table: Table) -> Writer {
        Writer { table: Arc::new(table), left_out: BTreeSet::new(), noted: Vec::new() }
    }

    /// Puts the codes of a row in where they are not yet, and tells whether that could be done.
    pub(super) fn add(&mut self, roster: &Roster, moment: &Moment, codes: &[Fresh]) -> bool {
        self.note(roster, codes);
        self.settle(roster, moment);
        codes.iter().all(|fresh| !self.left_out.contains(&fresh.row))
    }

    /// Notes codes that [`settle`] puts in, and asks the memory for their lines: best before something else is done for a
    /// while. All codes of a row come together.
    ///
    /// [`settle`]: Writer::settle
    pub(super) fn note(&mut self, roster: &Roster, codes: &[Fresh]) {
        for &Fresh { row, slot, turn, code } in codes {
            let spot = self.table.spot(&code);
            self.table.fetch(spot);
            let word = Word::of(spot.fingerprint(), Phase::of(slot), turn);
            self.noted.push(Noted { spot, word, device: roster.device(row), row: Some(row) });
            if !self.left_out.is_empty() {
                self.left_out.remove(&row);
            }
        }
    }

    /// Copies some lines of a table with as many, without what is too old for the moment and what it has anew. Nearly all of
    /// it stays in its line; the rest is noted, and put in when the memory has its lines.
    pub(super) fn copy(&mut self, roster: &Roster, moment: &Moment, from: &Table, lines: Range<usize>) {
        let last = moment.last_turn();
        let stays = |word: Word| word.turn().is_some_and(|turn| turn != last);
        for lines in chunks(lines, LINES_TOGETHER) {
            let (table, noted) = (&self.table, &mut self.noted);
            for line in lines {
                table.copy_line(from, line, stays, |spot, word, device| {
                    table.fetch(spot);
                    noted.push(Noted { spot, word, device, row: None });
                });
            }
            self.settle(roster, moment);
        }
    }

    /// Puts in what was noted.
    pub(super) fn settle(&mut self, roster: &Roster, moment: &Moment) {
        let mut noted = std::mem::take(&mut self.noted);
        for noted in &noted {
            self.table.fetch_on(noted.spot);
        }
        for Noted { spot, word, device, row } in noted.drain(..) {
            let is_out = !self.left_out.is_empty() && row.is_some_and(|row| self.left_out.contains(&row));
            if is_out || matches!(self.table.put(spot, word, device), Put::New | Put::Known) {
                continue;
            }
            if let Some(row) = row.or_else(|| roster.members.find(device)) {
                self.leave_out(roster, row, moment);
            }
        }
        self.noted = noted;
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

    /// Dongles that there is room for.
    pub(super) fn dongles_max(&self) -> usize {
        self.table.codes_max() / 3
    }
}
