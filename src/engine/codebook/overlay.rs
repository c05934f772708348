//! What changed since an edition was made: dongles that are gone from it, and dongles that came.
//!
//! A dongle with another clock or key did both. The newcomers are a small edition of their own, looked up where the
//! large one knows nothing; it lies in the cache, so that a miss costs some nanoseconds more while there is one.

use std::collections::HashSet;
use std::sync::Arc;

use super::Hit;
use super::dongle::{Changes, Dongle, Kind, Member};
use super::edition::{Edition, codes_around};
use super::gather::RosterBuilder;
use super::index::{Entry, hash};
use super::roll::Roll;
use crate::engine::code::Code;

pub(super) struct Overlay {
    gone: Gone,
    /// Of those that are gone, how many the edition had not left out.
    gone_known: usize,
    added: Arc<Edition>,
    left_out: usize,
}

impl Overlay {
    /// The overlay that makes these changes to the edition; `None` when there is nothing to make.
    pub(super) fn new<'a>(edition: &Edition, changes: impl Iterator<Item = &'a Changes>) -> Option<Overlay> {
        let mut latest = Changes::new();
        changes.for_each(|changes| latest.extend(changes.iter().map(|(place, change)| (*place, change.clone()))));
        if latest.is_empty() {
            return None;
        }
        let gone: HashSet<usize> =
            latest.keys().filter_map(|place| edition.members.find(super::DeviceId(place.cast_unsigned()))).collect();
        let gone_known = gone.iter().filter(|owner| !edition.is_left_out(**owner)).count();
        let is_free = |code: &Code| edition.find(hash(code), code).is_none_or(|entry| gone.contains(&entry.owner()));
        let mut roster = RosterBuilder::new(latest.len());
        let mut left_out = 0;
        for dongle in latest.values().flatten() {
            if codes_of(edition, dongle).iter().all(is_free) {
                roster.push(dongle);
            } else {
                left_out += 1;
            }
        }
        let roster = roster.finish();
        let added = Roll::around(edition.moment.chain, edition.moment.at, &roster).finish(&roster);
        left_out += added.left_out.len();
        Some(Overlay { gone: Gone::new(gone.into_iter()), gone_known, added, left_out })
    }

    /// What is found of a code under the overlay, when the edition found this.
    pub(super) fn over(&self, found: Option<(Entry, Hit)>, hash: u32, code: &Code) -> Option<Hit> {
        match found {
            Some((entry, hit)) if !self.gone.has(entry.owner()) => Some(hit),
            _ => self.added.find(hash, code).map(|entry| self.added.hit(entry)),
        }
    }

    pub(super) fn gone(&self) -> usize {
        self.gone_known
    }

    pub(super) fn added(&self) -> usize {
        self.added.len()
    }

    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn bytes(&self) -> usize {
        self.gone.owners.capacity() * size_of::<u32>() + self.added.bytes()
    }
}

fn codes_of(edition: &Edition, dongle: &Dongle) -> [Code; 3] {
    let member = Member::new(dongle.device, dongle.offset);
    codes_around(&dongle.secret, edition.moment.middle_slot(member, Kind::of(&dongle.secret)))
}

/// Numbers of dongles, in a table that is half empty: a look-up is one or two reads of the cache.
struct Gone {
    owners: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Gone {
    fn new(gone: impl ExactSizeIterator<Item = usize>) -> Gone {
        let mut owners = vec![NONE; (gone.len() * 2).next_power_of_two().max(2)];
        for owner in gone {
            let mut at = Gone::start(owner, owners.len());
            while owners[at] != NONE {
                at = (at + 1) % owners.len();
            }
            owners[at] = owner as u32;
        }
        Gone { owners }
    }

    fn has(&self, owner: usize) -> bool {
        let mut at = Gone::start(owner, self.owners.len());
        while self.owners[at] != NONE {
            if self.owners[at] as usize == owner {
                return true;
            }
            at = (at + 1) & (self.owners.len() - 1);
        }
        false
    }

    /// The upper bits of a product with the golden ratio: neighbours by number do not pile up.
    fn start(owner: usize, places: usize) -> usize {
        let mixed = (owner as u32).wrapping_mul(0x9E37_79B9);
        ((u64::from(mixed) * places as u64) >> 32) as usize
    }
}
