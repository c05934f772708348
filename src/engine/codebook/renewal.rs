//! The codes of some dongles: kept where they are still those of the slots around the moment, else computed.
//!
//! A dongle that went on by one slot keeps two of its codes and needs one; one that stayed (an EID lasts longer than a
//! slot) keeps all three; one whose clock turned out to be elsewhere, or that is new, needs what it has not. So a row is
//! the same whatever it came from.

use std::ops::Range;

use zeroize::Zeroizing;

use super::dongle::Kind;
use super::moment::Moment;
use super::roster::Roster;
use super::row::{CODES_EACH, Facts};
use crate::engine::code::{Code, hmac_codes};
use crate::engine::time::Slot;

/// Dongles that are computed together: the lanes are full, and all that is asked for of them (a row, a key and three lines
/// of the index each) fits the nearest cache.
const CHUNK: usize = 64;

pub(super) fn chunks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(CHUNK).map(move |start| start..rows.end.min(start + CHUNK))
}

/// Writes codes into rows.
#[derive(Default)]
pub(super) struct Renewal {
    one: Batch<1>,
    all: Batch<CODES_EACH>,
}

impl Renewal {
    /// Renews a chunk of rows at most.
    pub(super) fn renew(&mut self, roster: &Roster, moment: &Moment, rows: Range<usize>) {
        for row in rows {
            let facts = roster.row(row).facts();
            if !facts.lives() {
                continue;
            }
            let kind = facts.kind();
            let next = Facts::whole(kind, moment.middle_slot(kind, roster.offset(row)));
            if next == facts {
                continue;
            }
            let kept = facts.kept_for(next);
            let mut missing = next.places().filter(|place| !kept.has(*place));
            match (missing.next(), missing.next()) {
                (Some(place), None) if kind == Kind::HMAC => {
                    self.one.push(row, next, next.slot(place), roster.key(row));
                }
                _ if kind == Kind::HMAC => {
                    let first = Slot(next.middle().0.saturating_sub(1));
                    self.all.push(row, next, first, roster.key(row));
                }
                _ => {
                    let secret = kind.secret(roster.key(row));
                    roster.row(row).renew(next, |slot| secret.code(slot));
                }
            }
        }
        self.one.write_all(roster);
        self.all.write_all(roster);
    }
}

/// Rows of HMAC dongles that need `S` codes, from one slot on.
#[derive(Default)]
struct Batch<const S: usize> {
    rows: Vec<(usize, Facts)>,
    first: Vec<Slot>,
    keys: Zeroizing<Vec<[u8; 32]>>,
    codes: Vec<[Code; S]>,
}

impl<const S: usize> Batch<S> {
    fn push(&mut self, row: usize, next: Facts, first: Slot, key: &[u8; 32]) {
        if self.keys.capacity() == 0 {
            // From the start as large as it gets: what a vector leaves behind when it grows is not wiped.
            self.keys.reserve_exact(CHUNK);
        }
        self.rows.push((row, next));
        self.first.push(first);
        self.keys.push(*key);
    }

    fn write_all(&mut self, roster: &Roster) {
        self.codes.resize(self.rows.len(), [Code([0; 16]); S]);
        hmac_codes(&self.keys, &self.first, &mut self.codes);
        for ((&(row, next), first), codes) in self.rows.iter().zip(&self.first).zip(&self.codes) {
            roster.row(row).renew(next, |slot| codes[(slot.0 - first.0) as usize]);
        }
        self.rows.clear();
        self.first.clear();
        self.keys.clear();
    }
}

/// Rows to be renewed, on any thread: no other share has them.
pub struct Share<'a> {
    pub(super) roster: &'a Roster,
    pub(super) moment: Moment,
    pub(super) rows: Range<usize>,
}

impl Share<'_> {
    pub fn compute(self) {
        let mut renewal = Renewal::default();
        for rows in chunks(self.rows) {
            renewal.renew(self.roster, &self.moment, rows);
        }
    }
}
