//! The one who writes an index over rows.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::index::{Entry, Index, hash};
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
    /// Codes, by their hash, that are being added.
    noted: Vec<(u32, Entry)>,
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
        let codes: usize = rows.clone().map(|row| roster.row(row).facts().places().count()).sum();
        if self.entries + codes > self.table.index.entries_max() {
            self.make_anew(roster);
        } else {
            self.add_all(rows);
        }
    }

    /// In place of an index that is full: a tenth of a second for each million dongles, when a tenth of them came or
    /// changed since the last roll. Readers have the old one until the next book, with all codes that are in it now.
    fn make_anew(&mut self, roster: &Roster) {
        let left_out = std::mem::take(&mut self.left_out);
        *self = Writer { left_out, ..Writer::new(roster) };
        chunks(roster.all()).for_each(|rows| self.add_all(rows));
    }

    /// All lines are asked for before the first is changed.
    fn add_all(&mut self, rows: Range<usize>) {
        let (table, mut noted) = (Arc::clone(&self.table), std::mem::take(&mut self.noted));
        for row in rows {
            let codes = &table.rows.all()[row];
            noted.extend(codes.facts().places().map(|place| (hash(&codes.code(place)), Entry::new(row, place))));
            self.left_out.remove(&row);
        }
        for (hash, _) in &noted {
            table.index.fetch(table.index.spot(*hash));
        }
        for (hash, _) in &noted {
            table.index.fetch_on(table.index.spot(*hash));
        }
        noted.drain(..).for_each(|(hash, entry)| self.insert(&table, hash, entry));
        self.noted = noted;
    }

    /// Of two dongles with one code the one that has it keeps it, and the other is left out whole.
    fn insert(&mut self, table: &Table, hash: u32, entry: Entry) {
        let row = &table.rows.all()[entry.row()];
        let spot = table.index.spot(hash);
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
