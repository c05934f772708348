//! The dongles that a codebook is made of: their ids, schemes, keys and clocks, which no reader sees.

use std::ops::Range;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::column::Column;
use super::dongle::{Dongle, Kind, key_of};
use super::members::Members;
use crate::engine::clock::ClockOffset;
use crate::engine::id::DeviceId;

/// Of a row that is nobody's: no kind of dongle has this byte.
const NOBODY: u8 = 0;

/// Keys are wiped when their dongle goes, and all of them at the end.
pub struct Roster {
    pub(super) members: Members,
    /// One more than the byte of the kind, so that fresh memory is nobody's.
    kinds: Column<u8>,
    keys: Column<[u8; 32]>,
    offsets: Column<i32>,
    live: usize,
}

impl Roster {
    fn with_room(dongles: usize) -> Roster {
        let members = Members::with_room(dongles);
        let room = members.room();
        let (kinds, keys, offsets) = (Column::zeroed(room), Column::zeroed(room), Column::zeroed(room));
        Roster { members, kinds, keys, offsets, live: 0 }
    }

    /// How many dongles there are.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.members.bytes() + self.members.len() * (1 + 32 + 4)
    }

    pub(super) fn room(&self) -> usize {
        self.members.room() - self.members.len()
    }

    /// All rows that are or were somebody's.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.members.len()
    }

    #[inline]
    pub(super) fn device(&self, row: usize) -> DeviceId {
        self.members.device(row)
    }

    /// `None` when the dongle is gone.
    #[inline]
    pub(super) fn kind(&self, row: usize) -> Option<Kind> {
        let byte = self.kinds[row];
        (byte != NOBODY).then(|| Kind::from_byte(byte - 1).expect("only kinds are written"))
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
        let secret = self.kind(row)?.secret(self.key(row));
        Some(Dongle { device: self.device(row), secret, offset: self.offset(row) })
    }

    /// Up to `count` dongles with ids after `after`, in the order of the store.
    pub(super) fn dongles_after(&self, after: Option<DeviceId>, count: usize) -> Vec<Dongle> {
        self.members.after(after).filter_map(|row| self.dongle(row)).take(count).collect()
    }

    /// Writes down a dongle, and answers its row.
    pub(super) fn put(&mut self, dongle: &Dongle) -> usize {
        let mut key = key_of(&dongle.secret);
        let row = self.put_key(dongle.device, Kind::of(&dongle.secret), dongle.offset, &key);
        key.zeroize();
        row
    }

    fn put_key(&mut self, device: DeviceId, kind: Kind, offset: ClockOffset, key: &[u8; 32]) -> usize {
        let row = self.members.find(device).unwrap_or_else(|| self.members.add(device));
        self.live += usize::from(self.kinds[row] == NOBODY);
        self.kinds[row] = kind.byte() + 1;
        self.keys[row] = *key;
        self.offsets[row] = offset.0;
        row
    }

    pub(super) fn forget(&mut self, row: usize) {
        self.kinds[row] = NOBODY;
        self.keys[row].zeroize();
        self.live -= 1;
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        let used = self.members.len();
        self.keys[..used].as_flattened_mut().zeroize();
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
        RosterBuilder { roster: Roster::with_room(room) }
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
