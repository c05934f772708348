//! The dongles that a codebook is built from: ids, clocks and keys, in columns and in the order of the store.
//!
//! Columns and not a list of dongles: a book shares the ids and clocks (12 bytes) and never sees a key, and no key
//! takes more than its 32 bytes. Keys lie in blocks of some thousand dongles, so that a newcomer moves those of one
//! block and not a gigabyte; what a block leaves behind is wiped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zerocopy::little_endian::{I32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::column::Column;
use super::index::OWNERS_MAX;
use crate::engine::clock::ClockOffset;
use crate::engine::code::{Code, Secret};
use crate::engine::id::DeviceId;
use crate::engine::time::SlotLength;

/// Dongles of one block: 256 KiB of keys, copied in some tens of microseconds when one of them changes.
pub const BLOCK_MAX: usize = 8192;

/// What the codebook needs of a dongle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dongle {
    pub device: DeviceId,
    pub secret: Secret,
    pub offset: ClockOffset,
}

/// The store's order: that of the ids as signed numbers.
pub(super) type Place = i64;

pub(super) fn place(device: DeviceId) -> Place {
    device.0.cast_signed()
}

/// What became of some dongles: what they are now, or `None` when no live binding holds them any more.
pub(super) type Changes = BTreeMap<Place, Option<Dongle>>;

/// Who a dongle is and what its clock shows. Packed, so that a look-up finds both in one line of memory.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Member {
    device: U64,
    offset: I32,
}

const _: () = assert!(size_of::<Member>() == 12, "each dongle has one");

impl Member {
    pub(super) fn new(device: DeviceId, offset: ClockOffset) -> Member {
        Member { device: U64::new(device.0), offset: I32::new(offset.0) }
    }

    #[inline]
    pub(super) fn device(self) -> DeviceId {
        DeviceId(self.device.get())
    }

    #[inline]
    pub(super) fn offset(self) -> ClockOffset {
        ClockOffset(self.offset.get())
    }

    pub(super) fn place(self) -> Place {
        place(self.device())
    }
}

/// A dongle's scheme in one byte: 0 is HMAC, 1 is fixed, and 16 + K an EID that rotates each 2^K seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    pub const HMAC: Kind = Kind(0);
    const FIXED: Kind = Kind(1);
    const EID: u8 = 16;

    pub fn of(secret: &Secret) -> Kind {
        match secret {
            Secret::Hmac { .. } => Kind::HMAC,
            Secret::Fixed { .. } => Kind::FIXED,
            Secret::EddystoneEid { exponent, .. } => Kind(Kind::EID + exponent),
        }
    }

    /// `None` when no dongle has this one: a record of another version.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        let is_known = byte <= Kind::FIXED.0 || (Kind::EID..=Kind::EID + 15).contains(&byte);
        is_known.then_some(Kind(byte))
    }

    pub fn byte(self) -> u8 {
        self.0
    }

    #[inline]
    pub(super) fn is_single(self) -> bool {
        self == Kind::FIXED
    }

    /// The secret with this key, of which EID and fixed use the first half.
    pub fn secret(self, key: &[u8; 32]) -> Secret {
        let (halves, _) = key.as_chunks::<16>();
        match self.0 {
            0 => Secret::Hmac { code_key: *key },
            1 => Secret::Fixed { code: Code(halves[0]) },
            eid => Secret::EddystoneEid { identity_key: halves[0], exponent: eid - Kind::EID },
        }
    }

    #[inline]
    pub(super) fn slot_ms(self, chain: SlotLength) -> u64 {
        if self.0 < Kind::EID { chain.ms() } else { 1000 << (self.0 - Kind::EID) }
    }
}

/// The key of a secret in the 32 bytes that each has here.
pub fn key_of(secret: &Secret) -> [u8; 32] {
    let mut key = [0; 32];
    match secret {
        Secret::Hmac { code_key } => key = *code_key,
        Secret::EddystoneEid { identity_key, .. } => key[..16].copy_from_slice(identity_key),
        Secret::Fixed { code } => key[..16].copy_from_slice(&code.0),
    }
    key
}

/// The keys of some dongles, wiped when they are dropped.
#[derive(Default)]
struct Keys {
    keys: Column<[u8; 32]>,
    len: usize,
}

impl Keys {
    fn of(keys: &[[u8; 32]]) -> Keys {
        Keys { keys: Column::copied(keys), len: keys.len() }
    }

    fn all(&self) -> &[[u8; 32]] {
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
    members: Arc<Column<Member>>,
    /// Without it all are HMAC dongles, as in a chain that has no others.
    kinds: Option<Arc<Column<u8>>>,
    len: usize,
}

impl Members {
    #[inline]
    pub(super) fn all(&self) -> &[Member] {
        &self.members[..self.len]
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
        self.members.bytes() + self.kinds.as_ref().map_or(0, |kinds| kinds.bytes())
    }
}

#[derive(Default)]
pub struct Roster {
    pub(super) members: Members,
    blocks: Vec<Keys>,
    /// The number of the first dongle of each block.
    starts: Vec<u32>,
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
    pub(super) fn changed(self, changes: &Changes, learned: &HashMap<DeviceId, ClockOffset>) -> (Roster, Vec<u32>) {
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
    learned: &'a HashMap<DeviceId, ClockOffset>,
}

impl OldBlock<'_> {
    fn last_place(&self) -> Place {
        self.members.all()[self.start + self.block.len - 1].place()
    }

    fn member(&self, nth: usize) -> (Member, Kind) {
        let member = self.members.all()[self.start + nth];
        let learned = if self.learned.is_empty() { None } else { self.learned.get(&member.device()) };
        let member = learned.map_or(member, |offset| Member::new(member.device(), *offset));
        (member, self.members.kind(self.start + nth))
    }

    /// Keys without a change are not moved.
    fn move_into(self, next: &mut RosterBuilder, changes: &[(Place, &Option<Dongle>)], fresh: &mut Vec<u32>) {
        if changes.is_empty() {
            let members = (0..self.block.len).map(|nth| self.member(nth));
            next.push_members(members);
            next.push_block(self.block);
            return;
        }
        let mut changes = changes.iter().peekable();
        let mut push = |next: &mut RosterBuilder, dongle: &Dongle, was: Option<(Kind, &[u8; 32])>| {
            if was != Some((Kind::of(&dongle.secret), &key_of(&dongle.secret))) {
                fresh.push(next.len() as u32);
            }
            next.push(dongle);
        };
        for (nth, key) in self.block.all().iter().enumerate() {
            let (member, kind) = self.member(nth);
            while let Some((_, change)) = changes.next_if(|(place, _)| *place < member.place()) {
                change.iter().for_each(|dongle| push(next, dongle, None));
            }
            match changes.next_if(|(place, _)| *place == member.place()) {
                Some((_, change)) => change.iter().for_each(|dongle| push(next, dongle, Some((kind, key)))),
                None => next.push_parts(member, kind, key),
            }
        }
        changes.for_each(|(_, change)| change.iter().for_each(|dongle| push(next, dongle, None)));
        next.close_block();
    }
}

/// Takes dongles in the order of the store.
pub struct RosterBuilder {
    members: Column<Member>,
    kinds: Option<Column<u8>>,
    len: usize,
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
        self.push_parts(Member::new(dongle.device, dongle.offset), Kind::of(&dongle.secret), &key);
        key.zeroize();
    }

    /// Dongles whose keys are together already: at most [`BLOCK_MAX`].
    pub fn push_all(&mut self, dongles: &[(DeviceId, ClockOffset, Kind)], keys: &[[u8; 32]]) {
        self.close_block();
        self.push_members(dongles.iter().map(|&(device, offset, kind)| (Member::new(device, offset), kind)));
        self.push_block(Keys::of(keys));
    }

    fn push_parts(&mut self, member: Member, kind: Kind, key: &[u8; 32]) {
        self.push_members(std::iter::once((member, kind)));
        if self.open.keys.is_empty() {
            self.open.keys = Column::zeroed(BLOCK_MAX);
        }
        self.open.keys[self.open.len] = *key;
        self.open.len += 1;
        if self.open.len == BLOCK_MAX {
            self.close_block();
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

    fn push_block(&mut self, block: Keys) {
        if block.len > 0 {
            self.blocks.push(block);
        }
    }

    /// A block that is not full takes no more than its keys need.
    fn close_block(&mut self) {
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
        let members = Members { members: Arc::new(members), kinds: self.kinds.map(Arc::new), len: self.len };
        Roster { members, blocks: self.blocks, starts }
    }
}
