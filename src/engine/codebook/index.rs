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

/// Look-ups of a batch that are under way at once: more than a core's dozens of outstanding reads, and their notes
/// still lie in its nearest cache.
pub(super) const GROUP: usize = 32;

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

    /// Looks at the lines of some codes. All of the lines are asked for before one of them is needed, and then
    /// whatever `touch` reads of the candidates, so that the memory answers many at once: independent reads in a loop are
    /// their own prefetch, as long as the loop does little else.
    #[inline]
    pub(super) fn glance(&self, asked: &[Code], glances: &mut [Glance; GROUP], touch: impl Fn(Entry) -> u8) {
        let lines: &[Line] = &self.lines;
        let mut places = [(0, 0); GROUP];
        let mut seen = 0;
        for (code, noted) in asked.iter().zip(&mut places) {
            let (at, tag) = place(hash(code), lines.len());
            seen ^= lines.get(at).map_or(0, |line| line.entries[0]);
            *noted = (at as u32, tag);
        }
        black_box(seen);
        let mut seen = 0;
        for ((at, tag), glance) in places[..asked.len()].iter().zip(glances) {
            let Some(line) = lines.get(*at as usize) else { continue };
            let mut matches = line.tags.matches(*tag);
            let is_open = matches.are_several() || line.tags.has_passed(*tag);
            let candidate = Entry(matches.next().map_or(NOBODY, |place| line.entries[place]));
            seen ^= touch(candidate);
            *glance = Glance { candidate, is_open };
        }
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
