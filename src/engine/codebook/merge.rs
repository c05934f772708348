//! From one roster to the next: the changes and learned clocks since, taken in some blocks at a time.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::Range;

use zeroize::Zeroize;

use super::dongle::{Changes, Clocks, Dongle, Kind, Member, Place, key_of};
use super::gather::RosterBuilder;
use super::roster::{Keys, Members, Roster};

/// Half a million dongles: 6 MB of members and, where all blocks changed, 16 MB of keys.
const BLOCKS_PER_STEP: usize = 64;

/// A roster in the making. The old one loses its keys to it, and keeps its members until it is done.
pub(super) struct Merge {
    next: RosterBuilder,
    /// Dongles with a key that they did not have before, by number in the next roster.
    fresh: Vec<u32>,
    changes: Changes,
    learned: Clocks,
    /// Blocks that are taken over, and the last place that they and the changes among them have.
    blocks: usize,
    after: Option<Place>,
}

impl Merge {
    pub(super) fn new(roster: &Roster, changes: Changes, learned: Clocks) -> Merge {
        let came = changes.values().filter(|change| change.is_some()).count();
        let next = RosterBuilder::new(roster.len() + came);
        Merge { next, fresh: Vec::new(), changes, learned, blocks: 0, after: None }
    }

    /// Takes over some blocks of the old roster. `false` when it has no more.
    pub(super) fn step(&mut self, roster: &mut Roster) -> bool {
        for _ in 0..BLOCKS_PER_STEP {
            let Some(block) = roster.blocks.get_mut(self.blocks).map(std::mem::take) else { return false };
            let start = roster.starts[self.blocks] as usize;
            self.blocks += 1;
            let (members, learned) = (&roster.members, &self.learned);
            let old = OldBlock { members, start, block, learned };
            let upto = if self.blocks == roster.blocks.len() { Place::MAX } else { old.last_place() };
            let range = (self.after.map_or(Unbounded, Excluded), Included(upto));
            let here: Vec<_> = self.changes.range(range).map(|(place, change)| (*place, change)).collect();
            old.move_into(&mut self.next, &here, &mut self.fresh);
            self.after = Some(upto);
        }
        true
    }

    /// The next roster, and the numbers of its fresh dongles in order.
    pub(super) fn finish(mut self, roster: &mut Roster) -> (Roster, Vec<u32>) {
        while self.step(roster) {}
        // Only a roster without any block leaves some.
        let rest = self.changes.range((self.after.map_or(Unbounded, Excluded), Unbounded));
        for dongle in rest.filter_map(|(_, change)| change.as_ref()) {
            self.fresh.push(self.next.len() as u32);
            self.next.push(dongle);
        }
        (self.next.finish(), self.fresh)
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
