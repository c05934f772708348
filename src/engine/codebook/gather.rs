//! How a roster comes to be: dongles in the order of the store, one by one or some thousand at a time.

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroize;

use super::column::Column;
use super::dongle::{Dongle, Kind, Member, key_of};
use super::index::OWNERS_MAX;
use super::roster::{BLOCK_MAX, Keys, Members, Roster};
use crate::engine::clock::ClockOffset;
use crate::engine::id::DeviceId;

/// Takes dongles in the order of the store.
pub struct RosterBuilder {
    pub(super) members: Column<Member>,
    kinds: Option<Column<u8>>,
    pub(super) len: usize,
    blocks: Vec<Keys>,
    /// The block that is being filled.
    open: Keys,
}

impl RosterBuilder {
    /// `room` is how many dongles there are at most.
    pub fn new(room: usize) -> RosterBuilder {
        assert!(room <= OWNERS_MAX, "a codebook numbers its dongles in 30 bits");
        RosterBuilder { members: Column::zeroed(room), kinds: None, len: 0, blocks: Vec::new(), open: Keys::default() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, dongle: &Dongle) {
        let mut key = key_of(&dongle.secret);
        self.push_members(std::iter::once((Member::new(dongle.device, dongle.offset), Kind::of(&dongle.secret))));
        self.copy_keys(std::slice::from_ref(&key));
        key.zeroize();
    }

    /// Dongles whose keys are together already: at most [`BLOCK_MAX`].
    pub fn push_all(&mut self, dongles: &[(DeviceId, ClockOffset, Kind)], keys: &[[u8; 32]]) {
        self.close_block();
        self.push_members(dongles.iter().map(|&(device, offset, kind)| (Member::new(device, offset), kind)));
        self.push_block(Keys::of(keys));
    }

    /// Whose members are there already.
    pub(super) fn copy_keys(&mut self, mut keys: &[[u8; 32]]) {
        while !keys.is_empty() {
            if self.open.keys.is_empty() {
                self.open.keys = Column::zeroed(BLOCK_MAX);
            }
            let (now, rest) = keys.split_at(keys.len().min(BLOCK_MAX - self.open.len));
            self.open.keys[self.open.len..self.open.len + now.len()].copy_from_slice(now);
            self.open.len += now.len();
            if self.open.len == BLOCK_MAX {
                self.close_block();
            }
            keys = rest;
        }
    }

    fn push_members(&mut self, members: impl Iterator<Item = (Member, Kind)>) {
        let room = self.members.len();
        let column: &mut [Member] = &mut self.members;
        for (member, kind) in members {
            column[self.len] = member;
            if kind != Kind::HMAC && self.kinds.is_none() {
                self.kinds = Some(Column::zeroed(room));
            }
            if let Some(kinds) = &mut self.kinds {
                kinds[self.len] = kind.0;
            }
            self.len += 1;
        }
    }

    /// Copies some of an earlier roster's, whose keys follow.
    pub(super) fn copy_members(&mut self, members: &Members, range: Range<usize>) {
        let len = self.len + range.len();
        self.members[self.len..len].copy_from_slice(&members.all()[range.clone()]);
        if let Some(kinds) = &members.kinds {
            let room = self.members.len();
            self.kinds.get_or_insert_with(|| Column::zeroed(room))[self.len..len].copy_from_slice(&kinds[range]);
        }
        self.len = len;
    }

    pub(super) fn push_block(&mut self, block: Keys) {
        if block.len > 0 {
            self.blocks.push(block);
        }
    }

    /// A block that is not full takes no more than its keys need.
    pub(super) fn close_block(&mut self) {
        let open = std::mem::take(&mut self.open);
        let block = if open.len == open.keys.len() { open } else { Keys::of(open.all()) };
        self.push_block(block);
    }

    pub fn finish(mut self) -> Roster {
        self.close_block();
        let members = if self.members.len() - self.len > BLOCK_MAX {
            Column::copied(&self.members[..self.len])
        } else {
            self.members
        };
        let mut starts = Vec::with_capacity(self.blocks.len());
        let mut start = 0;
        for block in &self.blocks {
            starts.push(start);
            start += block.len as u32;
        }
        let members = Members { column: Arc::new(members), kinds: self.kinds.map(Arc::new), len: self.len };
        Roster { members, blocks: self.blocks, starts }
    }
}
