//! Where each code is kept: an open-addressed table of 64-byte lines that holds no code itself.
//!
//! A line has twelve places, each with a tag of 8 bits and an entry of 32 (which code of which dongle). A look-up
//! reads the line of its code: a stranger's code ends there but once in some twenty-five times, and a dongle's goes
//! on to the code, all of whose bytes are compared. A full line sends its newcomers to the next and keeps a filter of
//! their tags, so that what was never sent on is not looked for there.
//!
//! [`Deal`] and [`Filling`] make it.
//!
//! [`Deal`]: super::fill::Deal
//! [`Filling`]: super::fill::Filling

use std::hint::black_box;

use super::column::Column;
use super::line::Line;
use crate::engine::code::Code;

pub(super) const CODES_EACH: usize = 3;

/// No dongle, in a place whose code was taken out again.
const NOBODY: u32 = u32::MAX;

/// Which code of which dongle: the number of the dongle, and 0 to 2 for its slots -1, 0 and +1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u32);

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

/// All 16 bytes of a code count, though most are random already: fixed codes of one maker often share a half.
#[inline]
pub(super) fn hash(code: &Code) -> u32 {
    let (halves, _) = code.0.as_chunks::<8>();
    let [low, high] = [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])];
    // Odd constants of the golden ratio and of xxHash64; the product's upper half depends on every input bit.
    let mixed = (low ^ high.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    ((mixed ^ mixed >> 29) >> 32) as u32
}

/// The line of a hash, and the tag: how far into the line's share of the hashes it is, in 255 steps from 1 on.
#[inline]
pub(super) fn place(hash: u32, lines: usize) -> (usize, u8) {
    let scaled = u64::from(hash) * lines as u64;
    ((scaled >> 32) as usize, ((scaled >> 24) as u8).max(1))
}

/// Look-ups of a batch that are on the same stage: more than a core's dozens of outstanding reads.
pub(super) const GROUP: usize = 64;

/// Where a code's entry would be: its line, and its tag there.
pub(super) type Spot = (u32, u8);

/// What the line of a code says of it.
#[derive(Clone, Copy)]
pub(super) struct Glance {
    /// The first place with its tag; nobody's, when there is none.
    pub(super) candidate: Entry,
    /// The candidate may not be all.
    pub(super) is_open: bool,
}

impl Default for Glance {
    fn default() -> Glance {
        Glance { candidate: Entry(NOBODY), is_open: false }
    }
}

#[derive(Default)]
pub(super) struct Index {
    pub(super) lines: Column<Line>,
}

impl Index {
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The entry of the code among `codes`.
    #[inline]
    pub(super) fn find(&self, hash: u32, code: &Code, codes: &[[Code; CODES_EACH]]) -> Option<Entry> {
        let lines: &[Line] = &self.lines;
        let (mut at, tag) = place(hash, lines.len());
        while let Some(line) = lines.get(at) {
            for place in line.tags.matches(tag) {
                let entry = Entry(line.entries[place]);
                if entry.code(codes) == Some(code) {
                    return Some(entry);
                }
            }
            if !line.tags.has_passed(tag) {
                return None;
            }
            at = next(at, lines.len());
        }
        None
    }

    /// Finds the spots of some codes, and asks the memory for their lines. Independent reads in a loop are their own
    /// prefetch, the more of them the less else the loop does: so the hashes have a loop of their own.
    #[inline]
    pub(super) fn ask(&self, asked: &[Code], spots: &mut [Spot; GROUP]) {
        let lines: &[Line] = &self.lines;
        for (code, spot) in asked.iter().zip(&mut *spots) {
            let (at, tag) = place(hash(code), lines.len());
            *spot = (at as u32, tag);
        }
        let seen = spots[..asked.len()].iter().fold(0, |seen, (at, _)| seen ^ lines[*at as usize].entries[0]);
        black_box(seen);
    }

    /// Looks at the lines of some codes, which were asked for before, and asks for what `touch` reads of the candidates.
    #[inline]
    pub(super) fn glance(&self, spots: &[Spot], glances: &mut [Glance; GROUP], touch: impl Fn(Entry) -> u8) {
        let lines: &[Line] = &self.lines;
        for ((at, tag), glance) in spots.iter().zip(&mut *glances) {
            let line = &lines[*at as usize];
            let mut matches = line.tags.matches(*tag);
            let is_open = matches.are_several() || line.tags.has_passed(*tag);
            let candidate = Entry(matches.next().map_or(NOBODY, |place| line.entries[place]));
            *glance = Glance { candidate, is_open };
        }
        // What is open goes on to the next line, which is asked for as well; what is not reads its own line once more.
        let seen = spots.iter().zip(&*glances).fold(0, |seen, ((at, _), glance)| {
            let on = *at as usize + usize::from(glance.is_open);
            seen ^ touch(glance.candidate) ^ lines.get(on).map_or(0, |line| line.entries[0] as u8)
        });
        black_box(seen);
    }

    /// Takes a dongle's codes out again.
    pub(super) fn remove(&mut self, owner: usize, codes: &[[Code; CODES_EACH]]) {
        for code in &codes[owner] {
            let lines: &mut [Line] = &mut self.lines;
            let (mut at, tag) = place(hash(code), lines.len());
            loop {
                let line = &mut lines[at];
                for place in line.tags.matches(tag) {
                    if Entry(line.entries[place]).owner() == owner {
                        line.entries[place] = NOBODY;
                    }
                }
                if !line.tags.has_passed(tag) {
                    break;
                }
                at = next(at, lines.len());
            }
        }
    }
}

pub(super) fn next(at: usize, lines: usize) -> usize {
    if at + 1 == lines { 0 } else { at + 1 }
}
