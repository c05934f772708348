//! Which dongle has which row, and the order of the store.
//!
//! At the start rows are in that order and found by bisection; who comes later takes the next row, and a tree knows
//! where it is: 20 bytes for each such dongle. The row of one that goes is kept for it, since bisection needs its id: in
//! a year of a chain that loses a tenth of its dongles, 10 bytes for each of the others. A start puts all in order.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::column::Column;
use crate::engine::id::DeviceId;

/// The store's order: that of the ids as signed numbers.
pub(super) type Place = i64;

fn place(device: DeviceId) -> Place {
    device.0.cast_signed()
}

/// Rows for newcomers beside as many as there are dongles: addresses, and memory when they are used.
const SPARE: usize = 1 << 17;

/// Rows are numbered in 32 bits.
const ROWS_MAX: usize = u32::MAX as usize;

pub(super) struct Members {
    places: Column<Place>,
    len: usize,
    /// So many rows from the first on are in order.
    ordered: usize,
    others: BTreeMap<Place, u32>,
}

impl Members {
    /// Room for so many, and for as many again and some.
    pub(super) fn with_room(dongles: usize) -> Members {
        let room = dongles.saturating_mul(2).saturating_add(SPARE).min(ROWS_MAX);
        assert!(dongles <= room, "a codebook numbers its rows in 32 bits");
        Members { places: Column::zeroed(room), len: 0, ordered: 0, others: BTreeMap::new() }
    }

    /// Rows that are or were somebody's.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn room(&self) -> usize {
        self.places.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<Place>() + self.others.len() * 20
    }

    pub(super) fn find(&self, device: DeviceId) -> Option<usize> {
        let wanted = place(device);
        let other = || self.others.get(&wanted).map(|row| *row as usize);
        self.places[..self.ordered].binary_search(&wanted).ok().or_else(other)
    }

    #[inline]
    pub(super) fn device(&self, row: usize) -> DeviceId {
        DeviceId(self.places[row].cast_unsigned())
    }

    /// The row of one who has none yet.
    pub(super) fn add(&mut self, device: DeviceId) -> usize {
        assert!(self.len < self.room(), "whoever adds dongles asks for room");
        let (row, wanted) = (self.len, place(device));
        let last = self.ordered.checked_sub(1).map(|last| self.places[last]);
        if self.ordered == self.len && last < Some(wanted) {
            self.ordered += 1;
        } else {
            self.others.insert(wanted, row as u32);
        }
        self.places[row] = wanted;
        self.len += 1;
        row
    }

    /// The rows of the ids after `after`, in order, gone ones too.
    pub(super) fn after(&self, after: Option<DeviceId>) -> impl Iterator<Item = usize> {
        let places = &self.places[..self.ordered];
        let after = after.map(place);
        let start = places.partition_point(|place| Some(*place) <= after);
        let mut ordered = (start..places.len()).map(|row| (places[row], row)).peekable();
        let mut others = self.others.range((after.map_or(Unbounded, Excluded), Unbounded)).peekable();
        std::iter::from_fn(move || {
            let next = ordered.peek().map(|(place, _)| *place);
            match others.next_if(|(place, _)| next.is_none_or(|next| **place < next)) {
                Some((_, row)) => Some(*row as usize),
                None => ordered.next().map(|(_, row)| row),
            }
        })
    }
}
