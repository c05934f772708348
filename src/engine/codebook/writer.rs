//! The one who writes an index over rows.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::index::{Entry, Index, Spot, hash};
use super::renewal::chunks;
use super::roster::Roster;
use super::row::CODES_EACH;
use super::table::Table;

pub(super) struct Writer {
    pub(super) table: Arc<Table>,
    /// Entries of the index, those too whose code is gone.
    entries: usize,
    /// Rows of dongles that have the code of another one, and so no code at all.
    left_out: BTreeSet<usize>,
    /// Codes that are being added.
    noted: Vec<(Spot, Entry)>,
}

impl Writer {
    /// An index that is going to have the codes of all dongles, and has none.
    pub(super) fn new(roster: &Roster) -> Writer {
        let table = Table { rows: Arc::clone(roster.rows()), index: Index::of(roster.len() * CODES_EACH) };
        Writer { table: Arc::new(table), entries: 0, left_out: BTreeSet::new(), noted: Vec::new() }
    }

    pub(super) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// Adds the codes of a chunk of rows at most, where they are not there already.
    pub(super) fn add(&mut self, roster: &Roster, rows: Range<usize>) {
        self.note(roster, rows);
        self.settle();
    }

    /// Notes codes that [`settle`] adds, and asks the memory for their lines: best before something else is done for a
    /// while.
    ///
    /// [`settle`]: Writer::settle
    pub(super) fn note(&mut self, roster: &Roster, rows: Range<usize>) {
        if self.entries + self.noted.len() + rows.len() * CODES_EACH > self.table.index.entries_max() {
            return self.make_anew(roster);
        }
        let table = &*self.table;
        for row in rows {
            let codes = &table.rows.all()[row];
            for place in codes.facts().places() {
                let spot = table.index.spot(hash(&codes.code(place)));
                table.index.fetch(spot);
                self.noted.push((spot, Entry::new(row, place)));
            }
            if !self.left_out.is_empty() {
                self.left_out.remove(&row);
            }
        }
    }

    /// Adds what was noted.
    pub(super) fn settle(&mut self) {
        let (table, mut noted) = (Arc::clone(&self.table), std::mem::take(&mut self.noted));
        for (spot, _) in &noted {
            table.index.fetch_on(*spot, table.rows.all());
        }
        for (spot, entry) in noted.drain(..) {
            if table.index.insert_unlike(spot, entry) {
                self.entries += 1;
            } else {
                self.insert(&table, spot, entry);
            }
        }
        self.noted = noted;
    }

    /// In place of an index that is full: a tenth of a second for each million dongles, when a tenth of them came or
    /// changed since the last roll. Readers have the old one until the next book, with all codes that are in it now.
    fn make_anew(&mut self, roster: &Roster) {
        let left_out = std::mem::take(&mut self.left_out);
        *self = Writer { left_out, ..Writer::new(roster) };
        chunks(roster.all()).for_each(|rows| self.add(roster, rows));
    }

    /// Of two dongles with one code the one that has it keeps it, and the other is left out whole: what went into the index
    /// of it leads to nothing.
    fn insert(&mut self, table: &Table, spot: Spot, entry: Entry) {
        let row = &table.rows.all()[entry.row()];
        if !row.facts().has(entry.place()) {
            return;
        }
        match table.holder(spot, &row.code(entry.place())) {
            Some(holder) if holder == entry => {}
            Some(_) => {
                row.narrow(row.facts().bared());
                self.left_out.insert(entry.row());
            }
            None => {
                table.index.insert(spot, entry);
                self.entries += 1;
            }
        }
    }

    /// The dongle is gone.
    pub(super) fn forget(&mut self, row: usize) {
        self.left_out.remove(&row);
    }
}
