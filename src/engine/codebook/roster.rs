//! The dongles that a codebook is built from: ids, clocks and keys, in columns and in the order of the store.
//!
//! Columns and not a list of dongles: a book shares the ids and clocks (12 bytes) and never sees a key, and no key
//! takes more than its 32 bytes. Keys lie in blocks of some thousand dongles, so that a newcomer moves those of one
//! block and not a gigabyte; what a block leaves behind is wiped.

use std::ops::Range;
use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::column::Column;
use super::dongle::{Changes, Clocks, Dongle, Kind, Member, Place, key_of, place};
use super::gather::RosterBuilder;
use crate::engine::code::Secret;
use crate::engine::id::DeviceId;

/// Dongles of one block: 256 KiB of keys, copied in some tens of microseconds when one of them changes.
pub const BLOCK_MAX: usize = 8192;

/// The keys of some dongles, wiped when they are dropped.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) keys: Column<[u8; 32]>,
    pub(super) len: usize,
}

impl Keys {
    pub(super) fn of(keys: &[[u8; 32]]) -> Keys {
        Keys { keys: Column::copied(keys), len: keys.len() }
    }

    pub(super) fn all(&self) -> &[[u8; 32]] {
        &self.keys[..self.len]
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.keys.as_flattened_mut().zeroize();
    }
}

impl ZeroizeOnDrop for Keys {}

/// Ids, clocks and schemes: what a book shares with the roster it was built from.
#[derive(Clone, Default)]
pub(super) struct Members {
    pub(super) column: Arc<Column<Member>>,
    /// Without it all are HMAC dongles, as in a chain that has no others.
    pub(super) kinds: Option<Arc<Column<u8>>>,
    pub(super) len: usize,
}

impl Members {
    #[inline]
    pub(super) fn all(&self) -> &[Member] {
        &self.column[..self.len]
    }

    #[inline]
    pub(super) fn kind(&self, owner: usize) -> Kind {
        self.kinds.as_ref().map_or(Kind::HMAC, |kinds| Kind(kinds[owner]))
    }

    pub(super) fn has_one_kind(&self) -> bool {
        self.kinds.is_none()
    }

    pub(super) fn find(&self, device: DeviceId) -> Option<usize> {
        self.all().binary_search_by_key(&place(device), |member| member.place()).ok()
    }

    pub(super) fn bytes(&self) -> usize {
        self.column.bytes() + self.kinds.as_ref().map_or(0, |kinds| kinds.bytes())
    }
}

#[derive(Default)]
pub struct Roster {
    pub(super) members: Members,
    pub(super) blocks: Vec<Keys>,
    /// The number of the first dongle of each block.
    pub(super) starts: Vec<u32>,
}

impl Roster {
    pub fn len(&self) -> usize {
        self.members.len
    }

    pub fn is_empty(&self) -> bool {
        self.members.len == 0
    }

    pub fn bytes(&self) -> usize {
        self.members.bytes() + self.blocks.iter().map(|block| block.keys.bytes()).sum::<usize>()
    }

    /// The keys from `first` on, as far as its block goes.
    pub(super) fn keys_from(&self, first: usize) -> &[[u8; 32]] {
        let block = self.starts.partition_point(|start| *start as usize <= first) - 1;
        &self.blocks[block].all()[first - self.starts[block] as usize..]
    }

    pub(super) fn secret(&self, owner: usize) -> Secret {
        self.members.kind(owner).secret(&self.keys_from(owner)[0])
    }

    pub(super) fn dongle(&self, owner: usize) -> Dongle {
        let member = self.members.all()[owner];
        Dongle { device: member.device(), secret: self.secret(owner), offset: member.offset() }
    }

    /// The roster with the changes in it and with what was learned of clocks, and which dongles in it have a key that
    /// they did not have before, by number.
    pub(super) fn changed(self, changes: &Changes, learned: &Clocks) -> (Roster, Vec<u32>) {
        if changes.is_empty() && learned.is_empty() {
            return (self, Vec::new());
        }
        let came = changes.values().filter(|change| change.is_some()).count();
        let mut next = RosterBuilder::new(self.len() + came);
        let mut fresh = Vec::new();
        let mut changes = changes.iter().peekable();
        let last = self.blocks.len().saturating_sub(1);
        let Roster { members, blocks, starts } = self;
        for (nth, (block, start)) in blocks.into_iter().zip(starts).enumerate() {
            let old = OldBlock { members: &members, start: start as usize, block, learned };
            let upto = if nth == last { Place::MAX } else { old.last_place() };
            let mut here = Vec::new();
            while let Some((&place, change)) = changes.next_if(|(place, _)| **place <= upto) {
                here.push((place, change));
            }
            old.move_into(&mut next, &here, &mut fresh);
        }
        for dongle in changes.filter_map(|(_, change)| change.as_ref()) {
            fresh.push(next.len() as u32);
            next.push(dongle);
        }
        (next.finish(), fresh)
    }
}

struct OldBlock<'a> {
    members: &'a Members,
    start: usize,
    block: Keys,
    learned: &'a Clocks,
}

impl OldBlock<'_> {
    fn last_place(&self) -> Place {
        self.members.all()[self.start + self.block.len - 1].place()
    }

    /// Keys without a change are not moved.
    fn move_into(self, next: &mut RosterBuilder, changes: &[(Place, &Option<Dongle>)], fresh: &mut Vec<u32>) {
        if changes.is_empty() {
            self.copy_members(next, 0..self.block.len);
            next.push_block(self.block);
            return;
        }
        let mut done = 0;
        for &(place, change) in changes {
            let members = &self.members.all()[self.start..self.start + self.block.len];
            let at = members.partition_point(|member| member.place() < place);
            self.copy(next, done..at);
            let is_known = members.get(at).is_some_and(|member| member.place() == place);
            done = at + usize::from(is_known);
            let Some(dongle) = change else { continue };
            if !is_known || self.is_other_key(at, dongle) {
                fresh.push(next.len() as u32);
            }
            next.push(dongle);
        }
        self.copy(next, done..self.block.len);
        next.close_block();
    }

    fn copy(&self, next: &mut RosterBuilder, range: Range<usize>) {
        self.copy_members(next, range.clone());
        next.copy_keys(&self.block.all()[range]);
    }

    /// With what was learned of their clocks.
    fn copy_members(&self, next: &mut RosterBuilder, range: Range<usize>) {
        let len = range.len();
        next.copy_members(self.members, self.start + range.start..self.start + range.end);
        let members = &mut next.members[next.len - len..next.len];
        let Some((first, last)) = members.first().zip(members.last()) else { return };
        for (place, offset) in self.learned.range(first.place()..=last.place()) {
            if let Ok(at) = members.binary_search_by_key(place, |member| member.place()) {
                members[at] = Member::new(members[at].device(), *offset);
            }
        }
    }

    fn is_other_key(&self, at: usize, dongle: &Dongle) -> bool {
        let mut key = key_of(&dongle.secret);
        let is_other = self.members.kind(self.start + at) != Kind::of(&dongle.secret) || self.block.all()[at] != key;
        key.zeroize();
        is_other
    }
}
