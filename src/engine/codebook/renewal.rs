//! The codes that a roll brings in.
//!
//! A dongle that keeps step with the chain goes on by one slot with it: the table keeps two of its codes, and one is
//! computed. Any other (an EID, whose slots are of another length) has all of its codes computed, and so has everybody when
//! a table is made. What is in the table is the same either way.

use std::collections::BTreeSet;
use std::ops::Range;

use zeroize::Zeroizing;

use super::dongle::Kind;
use super::moment::{Moment, Turn};
use super::roster::Roster;
use crate::engine::code::{Code, hmac_codes};
use crate::engine::time::Slot;

/// Dongles that are computed together: so many lanes the widest vectors have.
pub(super) const CHUNK: usize = 16;

pub(super) fn chunks(all: Range<usize>, each: usize) -> impl Iterator<Item = Range<usize>> {
    all.clone().step_by(each).map(move |start| start..all.end.min(start + each))
}

/// A code of a row, and the slot of the dongle's clock that it is of.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    pub(super) row: usize,
    pub(super) slot: Slot,
    pub(super) turn: Option<Turn>,
    pub(super) code: Code,
}

/// Which dongles' codes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schemes {
    All,
    /// The dear ones.
    Hmac,
    Others,
}

/// What a roll wants of rows.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) schemes: Schemes,
    pub(super) moment: Moment,
    pub(super) had: Option<Had<'a>>,
}

/// The codes that the table has already.
#[derive(Clone, Copy)]
pub(super) struct Had<'a> {
    pub(super) moment: Moment,
    /// Rows that have none, and are not to have any before all others have theirs.
    pub(super) left_out: &'a BTreeSet<usize>,
}

impl Wanted<'_> {
    /// Whether the table has the codes already that this dongle keeps.
    #[inline]
    fn keeps_step(&self, roster: &Roster, row: usize, middle: Slot) -> bool {
        self.had.is_some_and(|had| had.moment.middle_slot(Kind::HMAC, roster.offset(row)).0 + 1 == middle.0)
    }

    #[inline]
    fn is_left_out(&self, row: usize) -> bool {
        self.had.is_some_and(|had| !had.left_out.is_empty() && had.left_out.contains(&row))
    }
}

/// The codes of a row at a moment.
pub(super) fn codes_of(roster: &Roster, row: usize, moment: &Moment) -> impl Iterator<Item = Fresh> {
    roster.kind(row).into_iter().flat_map(move |kind| {
        let (secret, middle) = (kind.secret(roster.key(row)), moment.middle_slot(kind, roster.offset(row)));
        let fresh = move |slot| Fresh { row, slot, turn: moment.turn(kind, middle, slot), code: secret.code(slot) };
        Moment::slots(kind, middle).map(Slot).map(fresh)
    })
}

/// The codes of `all` that are not among these.
pub(super) fn without(all: &[Fresh], these: &[Fresh]) -> Vec<Fresh> {
    all.iter().filter(|fresh| these.iter().all(|kept| kept.code != fresh.code)).copied().collect()
}

/// Computes codes. It is kept for its memory.
#[derive(Default)]
pub(super) struct Renewal {
    next: Batch<1>,
    all: Batch<3>,
}

impl Renewal {
    /// Appends the codes that are wanted of a chunk of rows at most.
    pub(super) fn compute(&mut self, roster: &Roster, wanted: &Wanted<'_>, rows: Range<usize>, fresh: &mut Vec<Fresh>) {
        for row in rows {
            if wanted.is_left_out(row) {
                continue;
            }
            match roster.kind(row) {
                Some(Kind::HMAC) if wanted.schemes != Schemes::Others => {
                    let middle = wanted.moment.middle_slot(Kind::HMAC, roster.offset(row));
                    if wanted.keeps_step(roster, row, middle) {
                        self.next.push(row, middle, middle.0 + 1, roster.key(row));
                    } else {
                        self.all.push(row, middle, middle.0.saturating_sub(1), roster.key(row));
                    }
                }
                Some(Kind::HMAC) | None => {}
                Some(_) if wanted.schemes == Schemes::Hmac => {}
                Some(_) => fresh.extend(codes_of(roster, row, &wanted.moment)),
            }
        }
        self.next.compute_all(&wanted.moment, fresh);
        self.all.compute_all(&wanted.moment, fresh);
    }
}

/// Rows of HMAC dongles that need `S` codes at most, from one slot on to the one after the middle.
#[derive(Default)]
struct Batch<const S: usize> {
    /// With the middle slot of each.
    rows: Vec<(usize, Slot)>,
    first: Vec<Slot>,
    keys: Zeroizing<Vec<[u8; 32]>>,
    codes: Vec<[Code; S]>,
}

impl<const S: usize> Batch<S> {
    fn push(&mut self, row: usize, middle: Slot, first: u64, key: &[u8; 32]) {
        if self.keys.capacity() == 0 {
            // From the start as large as it gets: what a vector leaves behind when it grows is not wiped.
            self.keys.reserve_exact(CHUNK);
        }
        self.rows.push((row, middle));
        self.first.push(Slot(first));
        self.keys.push(*key);
    }

    fn compute_all(&mut self, moment: &Moment, fresh: &mut Vec<Fresh>) {
        self.codes.resize(self.rows.len(), [Code([0; 16]); S]);
        hmac_codes(&self.keys, &self.first, &mut self.codes);
        for ((&(row, middle), first), codes) in self.rows.iter().zip(&self.first).zip(&self.codes) {
            for (slot, code) in (first.0..=middle.0 + 1).map(Slot).zip(codes) {
                fresh.push(Fresh { row, slot, turn: moment.turn(Kind::HMAC, middle, slot), code: *code });
            }
        }
        self.rows.clear();
        self.first.clear();
        self.keys.clear();
    }
}

/// Rows of HMAC dongles whose codes are to be computed, on any thread: no other share has them.
pub struct Share<'a> {
    pub(super) roster: &'a Roster,
    pub(super) wanted: Wanted<'a>,
    pub(super) rows: Range<usize>,
}

/// Chunks of a share whose codes are told together: some 0.2 MB of them.
const CHUNKS_TOLD: usize = 128;

impl Share<'_> {
    /// Tells the codes some thousands at a time.
    pub fn compute(self, mut tell: impl FnMut(Vec<Fresh>)) {
        let mut renewal = Renewal::default();
        let mut left = chunks(self.rows, CHUNK).peekable();
        while left.peek().is_some() {
            let mut fresh = Vec::with_capacity(3 * CHUNK * CHUNKS_TOLD);
            for rows in left.by_ref().take(CHUNKS_TOLD) {
                renewal.compute(self.roster, &self.wanted, rows, &mut fresh);
            }
            tell(fresh);
        }
    }
}
