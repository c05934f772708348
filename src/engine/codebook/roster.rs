//! The dongles that a codebook is made of: their rows, and their keys and clocks, which no reader sees.

use std::ops::Range;
use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::column::Column;
use super::dongle::{Dongle, Kind, key_of};
use super::members::Members;
use super::row::{Facts, Row, Rows};
use crate::engine::clock::ClockOffset;
use crate::engine::id::DeviceId;

/// Keys are wiped when their dongle goes, and all of them at the end.
pub struct Roster {
    pub(super) members: Members,
    keys: Column<[u8; 32]>,
    offsets: Column<i32>,
    live: usize,
}

impl Roster {
    /// How many dongles there are.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.members.bytes() + self.members.len() * (32 + 4)
    }

    pub(super) fn room(&self) -> usize {
        self.members.room() - self.members.len()
    }

    /// Without the keys, which are wiped.
    pub(super) fn into_members(mut self) -> Members {
        self.wipe();
        std::mem::replace(&mut self.members, Members::none())
    }

    fn wipe(&mut self) {
        let used = self.members.len();
        self.keys[..used].as_flattened_mut().zeroize();
    }

    pub(super) fn rows(&self) -> &Arc<Rows> {
        &self.members.rows
    }

    #[inline]
    pub(super) fn row(&self, row: usize) -> &Row {
        &self.members.rows.all()[row]
    }

    /// All rows that are or were somebody's.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.members.len()
    }

    pub(super) fn key(&self, row: usize) -> &[u8; 32] {
        &self.keys[row]
    }

    #[inline]
    pub(super) fn offset(&self, row: usize) -> ClockOffset {
        ClockOffset(self.offsets[row])
    }

    pub(super) fn set_offset(&mut self, row: usize, offset: ClockOffset) {
        self.offsets[row] = offset.0;
    }

    /// The dongle of a row; `None` when it is gone.
    pub(super) fn dongle(&self, row: usize) -> Option<Dongle> {
        let (facts, device) = (self.row(row).facts(), self.row(row).device());
        let secret = || facts.kind().secret(self.key(row));
        facts.lives().then(|| Dongle { device, secret: secret(), offset: self.offset(row) })
    }

    /// Up to `count` dongles with ids after `after`, in the order of the store.
    pub(super) fn dongles_after(&self, after: Option<DeviceId>, count: usize) -> Vec<Dongle> {
        self.members.after(after).filter_map(|row| self.dongle(row)).take(count).collect()
    }

    /// Writes down a dongle, and answers its row. If it has codes in the table, they are of this secret.
    pub(super) fn put(&mut self, dongle: &Dongle) -> usize {
        let mut key = key_of(&dongle.secret);
        let row = self.put_key(dongle.device, Kind::of(&dongle.secret), dongle.offset, &key);
        key.zeroize();
        row
    }

    fn put_key(&mut self, device: DeviceId, kind: Kind, offset: ClockOffset, key: &[u8; 32]) -> usize {
        let row = self.members.find(device).unwrap_or_else(|| self.members.add(device));
        self.live += usize::from(!self.row(row).facts().lives());
        if self.row(row).facts().is_bare() {
            self.row(row).give(device, kind);
        }
        self.keys[row] = *key;
        self.offsets[row] = offset.0;
        row
    }

    /// Takes all codes of a dongle away: no look-up that begins later finds one.
    pub(super) fn bare(&self, row: usize) {
        self.row(row).narrow(self.row(row).facts().bared());
    }

    /// Forgets a dongle and its codes.
    pub(super) fn forget(&mut self, row: usize) {
        self.row(row).narrow(Facts::NONE);
        self.keys[row].zeroize();
        self.live -= 1;
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl ZeroizeOnDrop for Roster {}

/// Takes dongles, best in the order of the store.
pub struct RosterBuilder {
    roster: Roster,
}

impl RosterBuilder {
    /// `room` is how many dongles are expected: the roster has room for as many again, and some.
    pub fn new(room: usize) -> RosterBuilder {
        let members = Members::with_room(room);
        let (keys, offsets) = (Column::zeroed(members.room()), Column::zeroed(members.room()));
        RosterBuilder { roster: Roster { members, keys, offsets, live: 0 } }
    }

    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.roster.is_empty()
    }

    pub fn push(&mut self, dongle: &Dongle) {
        self.roster.put(dongle);
    }

    /// Dongles whose keys are together already.
    pub fn push_all(&mut self, dongles: &[(DeviceId, ClockOffset, Kind)], keys: &[[u8; 32]]) {
        for (&(device, offset, kind), key) in dongles.iter().zip(keys) {
            self.roster.put_key(device, kind, offset, key);
        }
    }

    pub fn finish(self) -> Roster {
        self.roster
    }
}
