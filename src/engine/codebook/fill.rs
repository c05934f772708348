//! Fills an index in two steps, so that no write waits for the memory: the entries are first dealt out to parts by
//! their hash, and then each part, which fits the cache, is filled by itself.

use super::column::Column;
use super::index::{CODES_EACH, Entry, Index, hash, next, place};
use super::line::{Line, PLACES};
use crate::engine::code::Code;

/// Places for each 17 entries: at 0.85 a line overflows once in five, and a dongle costs 18.8 bytes of lines.
const PLACES_PER_17: u64 = 20;

/// 256 KiB of lines: a quarter of a core's second-level cache, the rest being the entries that stream in.
const LINES_PER_PART: u64 = 4096;

/// Parts whose entries are given back at once: a sixty-fourth of them at 30 million dongles, which bounds a step too.
const PARTS_PER_GROUP: usize = 32;

/// Deals the entries out to the parts of the table.
pub(super) struct Deal {
    lines: usize,
    part_bits: u32,
    room: usize,
    groups: Vec<Column<u64>>,
    taken: Vec<u32>,
    /// Of parts that were full: hashes spread too evenly for it to happen, but for codes that somebody chose.
    spilt: Vec<u64>,
}

impl Deal {
    pub(super) fn new(entries: usize) -> Deal {
        // One line more, so that there is always an empty place at which a probe ends.
        let lines = (entries as u64 * PLACES_PER_17).div_ceil(17 * PLACES as u64) + 1;
        let part_bits = lines.div_ceil(LINES_PER_PART).next_power_of_two().trailing_zeros();
        let parts = 1_usize << part_bits;
        // A part's entries vary by the root of their number: a 64th and 64 more are over six times that.
        let mean = entries.div_ceil(parts);
        let room = if parts == 1 { entries } else { mean + mean / 64 + 1024 };
        let per_group = parts.min(PARTS_PER_GROUP) * room;
        let groups = (0..parts.div_ceil(PARTS_PER_GROUP)).map(|_| Column::zeroed(per_group)).collect();
        Deal { lines: lines as usize, part_bits, room, groups, taken: vec![0; parts], spilt: Vec::new() }
    }

    /// Deals out the codes of the dongles from `first` on; of `is_single` ones only the middle.
    pub(super) fn add(&mut self, first: usize, codes: &[[Code; CODES_EACH]], is_single: impl Fn(usize) -> bool) {
        let mut groups: Vec<&mut [u64]> = self.groups.iter_mut().map(|group| &mut **group).collect();
        for (owner, codes) in (first..).zip(codes) {
            let which = if is_single(owner) { 1..2 } else { 0..CODES_EACH };
            for which in which {
                let hash = hash(&codes[which]);
                let record = u64::from(hash) << 32 | u64::from(Entry::new(owner, which).0);
                let part = (u64::from(hash) >> (32 - self.part_bits)) as usize;
                let taken = &mut self.taken[part];
                if (*taken as usize) < self.room {
                    groups[part / PARTS_PER_GROUP][part % PARTS_PER_GROUP * self.room + *taken as usize] = record;
                    *taken += 1;
                } else {
                    self.spilt.push(record);
                }
            }
        }
    }

    pub(super) fn dealt(self) -> Filling {
        let index = Index { lines: Column::zeroed(self.lines) };
        Filling { deal: self, index, next_group: 0, alike: Vec::new(), left_out: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.groups.iter().map(Column::bytes).sum::<usize>() + self.taken.capacity() * 4 + self.spilt.capacity() * 8
    }
}

/// Fills the table, a group of parts at a time.
pub(super) struct Filling {
    deal: Deal,
    index: Index,
    next_group: usize,
    /// Two entries of one line with one tag: one in eight dongles, and hardly ever one code.
    alike: Vec<(Entry, Entry)>,
    left_out: Vec<u32>,
}

impl Filling {
    /// Fills a group. `false` when nothing is left to fill.
    pub(super) fn step(&mut self, codes: &[[Code; CODES_EACH]]) -> bool {
        let Some(group) = self.deal.groups.get_mut(self.next_group).map(std::mem::take) else {
            return self.fill_spilt(codes);
        };
        let parts = self.deal.taken.iter().skip(self.next_group * PARTS_PER_GROUP).take(PARTS_PER_GROUP);
        let lines: &mut [Line] = &mut self.index.lines;
        for (part, &taken) in parts.enumerate() {
            for &record in &group[part * self.deal.room..][..taken as usize] {
                insert(lines, record, &mut self.alike);
            }
        }
        self.next_group += 1;
        self.sort_out(codes);
        true
    }

    fn fill_spilt(&mut self, codes: &[[Code; CODES_EACH]]) -> bool {
        let spilt = std::mem::take(&mut self.deal.spilt);
        for &record in &spilt {
            insert(&mut self.index.lines, record, &mut self.alike);
        }
        self.sort_out(codes);
        !spilt.is_empty()
    }

    /// Of two dongles with one code the later one is left out.
    fn sort_out(&mut self, codes: &[[Code; CODES_EACH]]) {
        for (one, other) in self.alike.drain(..) {
            if one.owner() != other.owner() && one.code(codes) == other.code(codes) {
                self.left_out.push(one.owner().max(other.owner()) as u32);
            }
        }
    }

    /// The table, and the dongles that are not in it.
    pub(super) fn finish(mut self, codes: &[[Code; CODES_EACH]]) -> (Index, Vec<u32>) {
        while self.step(codes) {}
        self.left_out.sort_unstable();
        self.left_out.dedup();
        for &owner in &self.left_out {
            self.index.remove(owner as usize, codes);
        }
        (self.index, self.left_out)
    }

    pub(super) fn bytes(&self) -> usize {
        self.deal.bytes() + self.index.bytes()
    }
}

#[inline]
fn insert(lines: &mut [Line], record: u64, alike: &mut Vec<(Entry, Entry)>) {
    let entry = Entry(record as u32);
    let (mut at, tag) = place((record >> 32) as u32, lines.len());
    loop {
        let line = &mut lines[at];
        for same in line.tags.matches(tag) {
            alike.push((entry, Entry(line.entries[same])));
        }
        if let Some(place) = line.tags.room() {
            line.entries[place] = entry.0;
            line.tags.put(place, tag);
            return;
        }
        line.tags.pass(tag);
        at = next(at, lines.len());
    }
}
