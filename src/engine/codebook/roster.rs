//! The dongles that a codebook is built from: ids, clocks and keys, in columns and in the order of the store.
//!
//! Columns and not a list of dongles: a book shares the ids and clocks (12 bytes) and never sees a key, and no key
//! takes more than its 32 bytes. Keys lie in blocks of some thousand dongles, so that a newcomer moves those of one
//! block and not a gigabyte; what a block leaves behind is wiped.

use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::column::Column;
use super::dongle::{Dongle, Kind, Member, place};
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
}
