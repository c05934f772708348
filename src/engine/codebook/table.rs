//! Rows and the index over them: what readers read.

use std::sync::Arc;

use super::Hit;
use super::index::{Entry, Glance, Index, Spot, hash};
use super::row::Rows;
use crate::engine::code::Code;

/// Look-ups of a batch that are on the same stage: more than a core's dozens of outstanding reads.
const GROUP: usize = 64;

pub(super) struct Table {
    pub(super) rows: Arc<Rows>,
    pub(super) index: Index,
}

impl Table {
    pub(super) fn empty() -> Table {
        Table { rows: Arc::new(Rows::zeroed(0)), index: Index::empty() }
    }

    #[inline]
    pub(super) fn find(&self, code: &Code) -> Option<Hit> {
        let rows = self.rows.all();
        let spot = self.index.spot(hash(code));
        self.index.find(spot, |entry| rows.get(entry.row())?.read(entry.place(), code))
    }

    /// The entry of a code that is valid, for the one who writes.
    #[inline]
    pub(super) fn holder(&self, spot: Spot, code: &Code) -> Option<Entry> {
        let rows = self.rows.all();
        self.index.find(spot, |entry| rows[entry.row()].read(entry.place(), code).map(|_| entry))
    }

    /// Tells of each code, in order, what was found. Groups of them go through four stages one behind the other, so that
    /// the memory is always asked for the lines of two groups and for the rows of others while one is compared.
    #[inline]
    pub(super) fn find_all(&self, asked: &[Code], mut tell: impl FnMut(usize, Option<Hit>)) {
        if self.index.is_empty() {
            return (0..asked.len()).for_each(|nth| tell(nth, None));
        }
        let mut spots = [[Spot::default(); GROUP]; 3];
        let mut glances = [[Glance { candidate: Entry::NONE, is_open: false }; GROUP]; 3];
        let group = |nth: usize| asked.get(nth * GROUP..asked.len().min((nth + 1) * GROUP)).unwrap_or_default();
        for stage in 0..asked.len().div_ceil(GROUP) + 3 {
            self.ask(group(stage), &mut spots[stage % 3]);
            if let Some(second) = stage.checked_sub(1) {
                self.glance(&spots[second % 3][..group(second).len()], &mut glances[second % 3]);
            }
            if let Some(third) = stage.checked_sub(2) {
                self.glance_on(&spots[third % 3][..group(third).len()], &mut glances[third % 3]);
            }
            if let Some(last) = stage.checked_sub(3) {
                for (nth, (code, glance)) in group(last).iter().zip(&glances[last % 3]).enumerate() {
                    tell(last * GROUP + nth, self.compare(code, *glance));
                }
            }
        }
    }

    #[inline]
    fn ask(&self, asked: &[Code], spots: &mut [Spot; GROUP]) {
        for (code, spot) in asked.iter().zip(spots) {
            *spot = self.index.spot(hash(code));
            self.index.fetch(*spot);
        }
    }

    #[inline]
    fn glance(&self, spots: &[Spot], glances: &mut [Glance; GROUP]) {
        let rows = self.rows.all();
        for (spot, glance) in spots.iter().zip(glances) {
            *glance = self.index.glance(*spot, rows);
        }
    }

    /// One code in six is in the line after its own.
    #[inline]
    fn glance_on(&self, spots: &[Spot], glances: &mut [Glance; GROUP]) {
        let rows = self.rows.all();
        for (spot, glance) in spots.iter().zip(glances) {
            if glance.is_open && glance.candidate == Entry::NONE {
                *glance = self.index.glance(self.index.next(*spot), rows);
            }
        }
    }

    #[inline]
    fn compare(&self, code: &Code, glance: Glance) -> Option<Hit> {
        let entry = glance.candidate;
        let hit = self.rows.all().get(entry.row()).and_then(|row| row.read(entry.place(), code));
        // Seldom: two codes of a line look alike, or this one is further off.
        if hit.is_none() && glance.is_open { self.find(code) } else { hit }
    }
}
