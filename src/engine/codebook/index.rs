//! Where each code is kept: an open-addressed table of 64-byte lines that holds no code itself.
//!
//! A line has twelve places, each with a tag of 8 bits and an entry of 32 (which code of which dongle). A look-up
//! reads the line of its code: a stranger's code ends there but once in some twenty-five times, and a dongle's goes
//! on to the code, all of whose bytes are compared. A full line sends its newcomers to the next and keeps a filter of
//! their tags, so that what was never sent on is not looked for there.
//!
//! The table is filled in two steps, so that no write waits for the memory: the entries are first dealt out to parts
//! by their hash, and then each part, which fits the cache, is filled by itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::column::Column;
use crate::engine::code::Code;

pub(super) const CODES_EACH: usize = 3;

const PLACES: usize = 12;

/// Places for each 17 entries: at 0.85 a line overflows once in five, and a dongle costs 18.8 bytes of lines.
const PLACES_PER_17: u64 = 20;

/// 256 KiB of lines: a quarter of a core's second-level cache, the rest being the entries that stream in.
const LINES_PER_PART: u64 = 4096;

/// Parts whose entries are given back at once: a sixteenth of them at 30 million dongles.
const PARTS_PER_GROUP: usize = 128;

/// No dongle, in a place whose code was taken out again.
const NOBODY: u32 = u32::MAX;

/// Which code of which dongle: the number of the dongle, and 0 to 2 for its slots -1, 0 and +1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

/// 30 bits of an entry, without the last, which would make [`NOBODY`].
pub(super) const OWNERS_MAX: usize = (1 << 30) - 1;

impl Entry {
    pub(super) fn new(owner: usize, which: usize) -> Entry {
        Entry((owner as u32) << 2 | which as u32)
    }

    pub(super) fn owner(self) -> usize {
        (self.0 >> 2) as usize
    }

    pub(super) fn which(self) -> usize {
        (self.0 & 3) as usize
    }

    #[inline]
    pub(super) fn code(self, codes: &[[Code; CODES_EACH]]) -> Option<&Code> {
        codes.get(self.owner())?.get(self.which())
    }
}

/// `repr(C)` in this order fills the 64 bytes of a cache line exactly.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Line {
    entries: [u32; PLACES],
    tags: [u8; PLACES],
    used: u8,
    unused: u8,
    /// A bit for each sixteenth of the tags that went on to the next line.
    passed: u16,
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

impl Line {
    /// The places whose tag it is, a bit each.
    #[inline]
    fn matches(&self, tag: u8) -> u32 {
        let mut places = 0;
        for (place, known) in self.tags.iter().enumerate() {
            places |= u32::from(*known == tag) << place;
        }
        places & ((1 << self.used) - 1)
    }

    #[inline]
    fn has_passed(&self, tag: u8) -> bool {
        self.passed >> (tag & 15) & 1 == 1
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

/// The line of a hash, and the tag: how far into the line's share of the hashes it is.
#[inline]
fn place(hash: u32, lines: usize) -> (usize, u8) {
    let scaled = u64::from(hash) * lines as u64;
    ((scaled >> 32) as usize, (scaled >> 24) as u8)
}

#[derive(Default)]
pub(super) struct Index {
    lines: Column<Line>,
}

/// What the line of a code says of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Glance {
    /// The only place with its tag.
    pub(super) candidate: Option<Entry>,
    /// The line alone does not tell.
    pub(super) is_open: bool,
}

impl Index {
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The entry of the code among `codes`.
    #[inline]
    pub(super) fn find(&self, hash: u32, code: &Code, codes: &[[Code; CODES_EACH]]) -> Option<Entry> {
        let lines: &[Line] = &self.lines;
        let (mut at, tag) = place(hash, lines.len());
        while let Some(line) = lines.get(at) {
            let mut places = line.matches(tag);
            while places != 0 {
                let entry = Entry(line.entries[places.trailing_zeros() as usize]);
                if entry.code(codes) == Some(code) {
                    return Some(entry);
                }
                places &= places - 1;
            }
            if !line.has_passed(tag) {
                return None;
            }
            at = next(at, lines.len());
        }
        None
    }

    /// Takes a dongle's codes out again.
    fn remove(&mut self, owner: usize, codes: &[[Code; CODES_EACH]]) {
        for code in &codes[owner] {
            let lines: &mut [Line] = &mut self.lines;
            let (mut at, tag) = place(hash(code), lines.len());
            loop {
                let line = &mut lines[at];
                for entry in &mut line.entries[..usize::from(line.used)] {
                    if Entry(*entry).owner() == owner {
                        *entry = NOBODY;
                    }
                }
                if !line.has_passed(tag) {
                    break;
                }
                at = next(at, lines.len());
            }
        }
    }
}

/// Looks at the line of a code and no further, so that many such reads are under way at once.
#[inline]
pub(super) fn glance(lines: &[Line], code: &Code) -> Glance {
    let (at, tag) = place(hash(code), lines.len());
    let Some(line) = lines.get(at) else { return Glance::default() };
    let places = line.matches(tag);
    if places.is_power_of_two() {
        let candidate = Some(Entry(line.entries[places.trailing_zeros() as usize]));
        return Glance { candidate, is_open: line.has_passed(tag) };
    }
    Glance { candidate: None, is_open: places != 0 || line.has_passed(tag) }
}

fn next(at: usize, lines: usize) -> usize {
    if at + 1 == lines { 0 } else { at + 1 }
}

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
        let mut same = line.matches(tag);
        while same != 0 {
            alike.push((entry, Entry(line.entries[same.trailing_zeros() as usize])));
            same &= same - 1;
        }
        let used = usize::from(line.used);
        if used < PLACES {
            line.entries[used] = entry.0;
            line.tags[used] = tag;
            line.used += 1;
            return;
        }
        line.passed |= 1 << (tag & 15);
        at = next(at, lines.len());
    }
}
