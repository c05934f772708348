//! Codes that a roll has computed and that wait to be put in, by the part of the table that they go to.
//!
//! The codes of neighbouring rows fall on all of the table. Put in as they come, each makes the core walk the page tables,
//! for as long as the line itself takes; the codes of one part go in together, and its page tables are in the core's caches
//! from the second on. With 30 million dongles that saves some 15 of the 60 ns that a code takes to be put in, and costs a
//! million, whose page tables the caches have anyway, 6.
//!
//! It has room for 24 KB for each 2 MB of table, 0.9 bytes a dongle, and is there while a roll is.

use std::ops::Range;

use zerocopy::FromZeros;

use super::column::Column;
use super::table::{Entry, Table};

/// 2 MB: what one entry of the upper page table covers.
const LINES_EACH: usize = 1 << 15;

const ENTRIES_EACH: usize = 1 << 10;

pub(super) struct Backlog {
    entries: Column<Entry>,
    /// How many each part has, of those that are not over.
    lens: Vec<usize>,
}

impl Backlog {
    pub(super) fn of(table: &Table) -> Backlog {
        let parts = table.lines().div_ceil(LINES_EACH);
        Backlog { entries: Column::zeroed(parts * ENTRIES_EACH), lens: vec![0; parts] }
    }

    pub(super) fn bytes(&self) -> usize {
        self.lens.len() * ENTRIES_EACH * size_of::<Entry>()
    }

    /// Has the memory of the parts that begin in some lines, while nothing waits yet.
    pub(super) fn touch(&mut self, lines: &Range<usize>) {
        for part in lines.start.div_ceil(LINES_EACH)..lines.end.div_ceil(LINES_EACH) {
            debug_assert_eq!(self.lens[part], 0, "nothing waits");
            self.entries[part * ENTRIES_EACH..][..ENTRIES_EACH].fill(Entry::new_zeroed());
        }
    }

    /// Tells the part when it is full now: it has to be emptied before the next comes.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) -> Option<usize> {
        let part = entry.home() / LINES_EACH;
        let len = &mut self.lens[part];
        debug_assert!(*len < ENTRIES_EACH, "a full part is emptied");
        self.entries[part * ENTRIES_EACH + *len] = entry;
        *len += 1;
        (*len == ENTRIES_EACH).then_some(part)
    }

    /// What waits for a part, in the order in which it came.
    pub(super) fn of_part(&self, part: usize) -> &[Entry] {
        &self.entries[part * ENTRIES_EACH..][..self.lens[part]]
    }

    pub(super) fn empty(&mut self, part: usize) {
        self.lens[part] = 0;
    }

    /// A part that is left. After it nothing is pushed any more.
    pub(super) fn last_part(&self) -> Option<usize> {
        self.lens.len().checked_sub(1)
    }

    /// That part is over.
    pub(super) fn drop_last(&mut self) {
        self.lens.pop();
    }

    /// Takes out what waits of a row, where a code with this home waits.
    pub(super) fn withdraw(&mut self, row: usize, home: usize) {
        let part = home / LINES_EACH;
        let Some(len) = self.lens.get_mut(part) else { return };
        let waiting = &mut self.entries[part * ENTRIES_EACH..][..*len];
        let mut kept = 0;
        for nth in 0..waiting.len() {
            if waiting[nth].row() != row {
                waiting[kept] = waiting[nth];
                kept += 1;
            }
        }
        *len = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::code::Code;
    use crate::engine::id::DeviceId;
    use crate::engine::time::Slot;

    fn entry(table: &Table, row: usize) -> Entry {
        let code = Code((row as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_C2B2_AE3D_27D4_EB4F).to_le_bytes());
        table.entry(&code, Slot(0), None, DeviceId(row as u64), row)
    }

    fn rows(backlog: &Backlog, part: usize) -> Vec<usize> {
        backlog.of_part(part).iter().map(Entry::row).collect()
    }

    #[test]
    fn what_waits_is_with_its_part_of_the_table_in_order_and_goes_with_its_row() {
        let table = Table::of(0, 1);
        let mut backlog = Backlog::of(&table);
        let entries: Vec<Entry> = (0..300).map(|row| entry(&table, row)).collect();
        assert!(entries.iter().all(|entry| backlog.push(*entry).is_none()));
        let parts = backlog.last_part().unwrap() + 1;
        assert_eq!(parts, table.lines().div_ceil(LINES_EACH));
        for part in 0..parts {
            let of_part = entries.iter().filter(|entry| entry.home() / LINES_EACH == part);
            assert_eq!(rows(&backlog, part), of_part.map(Entry::row).collect::<Vec<_>>());
        }
        for entry in entries.iter().step_by(2) {
            backlog.withdraw(entry.row(), entry.home());
        }
        let mut left: Vec<usize> = (0..parts).flat_map(|part| rows(&backlog, part)).collect();
        left.sort_unstable();
        assert_eq!(left, (1..300).step_by(2).collect::<Vec<_>>());
        backlog.drop_last();
        backlog.withdraw(1, table.lines() - 1);
        assert_eq!(backlog.last_part(), parts.checked_sub(2));
    }

    #[test]
    fn a_part_says_when_it_is_full() {
        let table = Table::empty(1);
        let mut backlog = Backlog::of(&table);
        let full: Vec<Option<usize>> = (0..ENTRIES_EACH).map(|row| backlog.push(entry(&table, row))).collect();
        assert!(full[..ENTRIES_EACH - 1].iter().all(Option::is_none));
        assert_eq!((full[ENTRIES_EACH - 1], rows(&backlog, 0).len()), (Some(0), ENTRIES_EACH));
        backlog.empty(0);
        assert_eq!((backlog.push(entry(&table, 7)), rows(&backlog, 0)), (None, vec![7]));
    }
}
