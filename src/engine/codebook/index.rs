//! Where each code is kept: an open-addressed table of 64-byte lines that holds no code itself.
//!
//! A line has twelve places, each with a tag of 8 bits and an entry of 32 (which code of which dongle). A look-up
//! reads the line of its code: a stranger's code ends there but once in some twenty times, and a dongle's goes on to the
//! row, where all bytes are compared. A full line sends its newcomers to the next and keeps a filter of their tags, so
//! that what was never sent on is not looked for there.
//!
//! One thread adds to it while others look up, and nothing is ever moved or taken out: an entry whose code is gone leads
//! to a row that has another one there, which is a miss. Each roll makes a new index, and so what such entries take, and
//! what they leave in the filters, lasts for a slot. To take a third of the entries out and put as many in with each roll
//! instead would cost no less, and lines that are filled so overflow until a miss reads four of them.

use std::ops::Range;

use prefetch_index::prefetch_index;

use super::line::{Line, Lines, PLACES};
use super::row::Row;
use crate::engine::code::Code;

/// Places for each 17 entries, when the index is made: at 0.85 a line overflows once in five, and a dongle costs 18.8
/// bytes of lines.
const PLACES_PER_17: usize = 20;

/// Entries for each 100 places at most. Lines overflow into lines that overflow beyond that.
const ENTRIES_PER_100: usize = 94;

/// Entries that the smallest index is made for.
const ENTRIES_MIN: usize = 3 * 1024;

/// Which code of which dongle: the number of its row, and the place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

/// 30 bits of an entry, without the last.
pub(super) const ROWS_MAX: usize = (1 << 30) - 1;

impl Entry {
    /// No row has this number.
    pub(super) const NONE: Entry = Entry(u32::MAX);

    #[inline]
    pub(super) fn new(row: usize, place: usize) -> Entry {
        Entry((row as u32) << 2 | place as u32)
    }

    #[inline]
    pub(super) fn row(self) -> usize {
        (self.0 >> 2) as usize
    }

    #[inline]
    pub(super) fn place(self) -> usize {
        (self.0 & 3) as usize
    }
}

/// All 16 bytes of a code count, though most are random already: fixed codes of one maker often share a half.
#[inline]
pub(super) fn hash(code: &Code) -> u32 {
    let (halves, _) = code.0.as_chunks::<8>();
    let [low, high] = [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])];
    // Odd constants of the golden ratio and of xxHash64; the product's upper half depends on every input bit.
    let mixed = (low ^ high.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    ((mixed ^ mixed >> 29) >> 32) as u32
}

/// Where a code's entry would be: its line, and its tag there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot {
    line: u32,
    tag: u8,
}

/// What a line says of a code.
#[derive(Clone, Copy)]
pub(super) struct Glance {
    /// The first place with its tag; nobody's, when there is none.
    pub(super) candidate: Entry,
    /// The candidate may not be all.
    pub(super) is_open: bool,
}

pub(super) struct Index {
    lines: Lines,
    /// Lines that there are: none in the index of nobody.
    count: usize,
}

impl Index {
    pub(super) fn empty() -> Index {
        Index { lines: Lines::zeroed(0), count: 0 }
    }

    /// For so many entries and some more.
    pub(super) fn of(entries: usize) -> Index {
        // One line more, so that there is always an empty place at which a probe ends.
        let count = (entries.max(ENTRIES_MIN) * PLACES_PER_17).div_ceil(17 * PLACES) + 1;
        Index { lines: Lines::zeroed(count), count }
    }

    pub(super) fn entries_max(&self) -> usize {
        self.count * PLACES * ENTRIES_PER_100 / 100
    }

    pub(super) fn lines(&self) -> usize {
        self.count
    }

    /// Has the memory of some lines.
    pub(super) fn touch(&self, lines: Range<usize>) {
        const LINES_PER_PAGE: usize = 4096 / 64;
        self.lines.all()[lines].iter().step_by(LINES_PER_PAGE).for_each(Line::touch);
    }

    pub(super) fn bytes(&self) -> usize {
        self.count * 64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The line, and the tag: how far into the line's share of the hashes it is, in 255 steps from 1 on.
    #[inline]
    pub(super) fn spot(&self, hash: u32) -> Spot {
        let scaled = u64::from(hash) * self.count as u64;
        Spot { line: (scaled >> 32) as u32, tag: ((scaled >> 24) as u8).max(1) }
    }

    /// Asks the memory for a line.
    #[inline]
    pub(super) fn fetch(&self, spot: Spot) {
        prefetch_index(self.lines.all(), spot.line as usize);
    }

    /// Asks the memory for what an insertion looks at beside the line: the next one, where this one is full, and the row of
    /// an entry that looks alike.
    #[inline]
    pub(super) fn fetch_on(&self, spot: Spot, rows: &[Row]) {
        let line = &self.lines.all()[spot.line as usize];
        let tags = line.tags();
        if tags.is_full() {
            self.fetch(self.next(spot));
        }
        if let Some(alike) = tags.matches(spot.tag).next() {
            prefetch_index(rows, Entry(line.entry(alike)).row());
        }
    }

    /// The same in the next line.
    #[inline]
    pub(super) fn next(&self, spot: Spot) -> Spot {
        let line = spot.line + 1;
        Spot { line: if line as usize == self.count { 0 } else { line }, ..spot }
    }

    /// What a line says, and whether that may not be all. Asks the memory for what is looked at then: the rows of one or two
    /// entries, and the next line.
    #[inline]
    pub(super) fn glance(&self, spot: Spot, rows: &[Row]) -> Glance {
        let line = &self.lines.all()[spot.line as usize];
        let tags = line.tags();
        let matches = tags.matches(spot.tag);
        let is_open = matches.are_several() | tags.has_passed(spot.tag);
        // Without a branch, as in a line: the entry is read, be it one's or not.
        let entry_at = |place: usize| Entry(line.entry(place.min(PLACES - 1)));
        let (first, second) = (matches.first(), matches.second());
        let candidate = if first < PLACES { entry_at(first) } else { Entry::NONE };
        // Nobody's row would be sought in the page tables: the first row stands in for it.
        let row = |place: usize| if place < PLACES { entry_at(place).row() } else { 0 };
        prefetch_index(rows, row(first));
        prefetch_index(rows, row(second));
        // What is open goes on to the next line; what is not asks for its own once more.
        prefetch_index(self.lines.all(), spot.line as usize + usize::from(is_open));
        Glance { candidate, is_open }
    }

    /// The first of a spot's entries that `matches` makes something of.
    #[inline]
    pub(super) fn find<T>(&self, spot: Spot, matches: impl Fn(Entry) -> Option<T>) -> Option<T> {
        let lines = self.lines.all();
        let mut at = spot;
        for _ in 0..self.count {
            let line = &lines[at.line as usize];
            let tags = line.tags();
            let found = tags.matches(spot.tag).find_map(|place| matches(Entry(line.entry(place))));
            if found.is_some() || !tags.has_passed(spot.tag) {
                return found;
            }
            at = self.next(at);
        }
        None
    }

    /// The line and those after it, each once.
    #[inline]
    fn probe(&self, spot: Spot) -> impl Iterator<Item = usize> + use<> {
        (spot.line as usize..self.count).chain(0..spot.line as usize)
    }

    /// Inserts what goes into its own line and is like nothing there, as nearly all do: `false` when it does not.
    #[inline]
    pub(super) fn insert_unlike(&self, spot: Spot, entry: Entry) -> bool {
        self.lines.all()[spot.line as usize].put_unlike(spot.tag, entry.0)
    }

    /// There is room for it: the one who inserts counts.
    pub(super) fn insert(&self, spot: Spot, entry: Entry) {
        let lines = self.lines.all();
        if lines[spot.line as usize].put(spot.tag, entry.0) {
            return;
        }
        let last = self.probe(spot).find(|at| lines[*at].put(spot.tag, entry.0)).expect("an index is never full");
        for at in self.probe(spot).take_while(|at| *at != last) {
            lines[at].pass(spot.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_codes_with_a_common_prefix_do_not_pile_up() {
        let mut lines = std::collections::HashMap::<u32, u32>::new();
        for device in 0..5_000_u64 {
            let mut code = [0xaa; 16];
            code[8..].copy_from_slice(&device.to_be_bytes());
            *lines.entry(hash(&Code(code)) >> 22).or_default() += 1;
        }
        let most = lines.values().max().copied().unwrap();
        assert!(most < 25, "{most} of 5,000 codes in one of 1,024 lines");
    }

    /// Of the `nth` entry that is ever made.
    fn spot_of(index: &Index, nth: u64) -> Spot {
        let halves = [nth.wrapping_mul(0xD134_2543_DE82_EF95).to_le_bytes(), nth.to_le_bytes()];
        index.spot(hash(&Code(halves.as_flattened().try_into().unwrap())))
    }

    #[test]
    fn a_full_index_finds_all_entries_and_a_miss_reads_little_more_than_a_line() {
        const ENTRIES: u32 = 100_000;
        let index = Index::of(ENTRIES as usize);
        (0..ENTRIES).for_each(|nth| index.insert(spot_of(&index, u64::from(nth)), Entry(nth)));
        let finds = |nth: u32| {
            index.find(spot_of(&index, u64::from(nth)), |entry| (entry == Entry(nth)).then_some(())).is_some()
        };
        assert!((0..ENTRIES).all(finds) && !(ENTRIES..2 * ENTRIES).any(finds));
        let lines = index.lines.all();
        let misses = (0..ENTRIES).map(|nth| spot_of(&index, u64::from(ENTRIES + nth)));
        let reads =
            misses.map(|spot| 1 + index.probe(spot).take_while(|at| lines[*at].tags().has_passed(spot.tag)).count());
        let mean = reads.sum::<usize>() as f64 / f64::from(ENTRIES);
        assert!(mean < 1.12, "{mean} lines a miss");
    }
}
