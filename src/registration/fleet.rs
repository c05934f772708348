//! The dongles that the codebook is built from, in memory: one compact list in the order of the store.
//!
//! A list and not a map: it is walked as a whole once a slot, and a dongle whose clock was heard is found in it by 25
//! comparisons at 30 million. It is never grown in place, because what a vector leaves behind when it moves is not
//! wiped: a change writes a new list and drops the old one, key by key.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::envelope::Envelope;
use super::truth::{Dongle, count_live, each_live};
use crate::engine::clock::ClockOffset;
use crate::engine::code::Secret;
use crate::engine::codebook::{AddError, Builder, Codebook, Hit};
use crate::engine::id::DeviceId;
use crate::engine::time::{SlotLength, UnixMs};

/// The store's order: that of the ids as signed numbers.
type Place = i64;

/// What became of some dongles: their present rows, or `None` when no live binding holds them any more.
pub(super) type Changes = BTreeMap<Place, Option<Dongle>>;

#[derive(Default)]
pub(super) struct Fleet {
    dongles: Vec<Dongle>,
}

/// A built book, and the dongles that it had to leave out.
pub(super) struct Built {
    pub(super) book: Codebook,
    pub(super) duplicates: u64,
}

pub(super) fn place(device: DeviceId) -> Place {
    device.0 as i64
}

impl Fleet {
    pub(super) fn load(db: &Connection, envelope: &Envelope) -> rusqlite::Result<Fleet> {
        // One snapshot for the count and the rows: the list has its full size from the start and never moves.
        db.execute_batch("BEGIN")?;
        let loaded = count_live(db).and_then(|count| {
            let mut dongles = Vec::with_capacity(count);
            each_live(db, envelope, |dongle| dongles.push(dongle))?;
            Ok(Fleet { dongles })
        });
        db.execute_batch("COMMIT")?;
        loaded
    }

    /// The list with the changes in it.
    pub(super) fn merged(self, changes: Changes) -> Fleet {
        let mut dongles = Vec::with_capacity(self.dongles.len() + changes.len());
        let mut changes = changes.into_iter().peekable();
        for dongle in &self.dongles {
            let here = place(dongle.device);
            while let Some((_, change)) = changes.next_if(|(place, _)| *place < here) {
                dongles.extend(change);
            }
            match changes.next_if(|(place, _)| *place == here) {
                Some((_, change)) => dongles.extend(change),
                None => dongles.push(dongle.clone()),
            }
        }
        dongles.extend(changes.filter_map(|(_, change)| change));
        Fleet { dongles }
    }

    /// Learns from a verified hearing. Answers the new offset when it changed. A fixed code says nothing of a clock.
    pub(super) fn learn(&mut self, slot: SlotLength, hit: Hit, at: UnixMs) -> Option<ClockOffset> {
        let dongle = self.find(hit.device)?;
        if matches!(dongle.secret, Secret::Fixed { .. }) {
            return None;
        }
        let learned = dongle.offset.learned(dongle.secret.slot_ms(slot), hit.slot, at)?;
        let has_moved = learned != dongle.offset;
        dongle.offset = learned;
        has_moved.then_some(learned)
    }

    /// Every dongle's codes around `now`.
    pub(super) fn book(&self, slot: SlotLength, now: UnixMs, generation: u64) -> Built {
        let mut builder = Builder::new(slot, now, self.dongles.len());
        let mut duplicates = 0;
        for dongle in &self.dongles {
            match builder.add(dongle.device, &dongle.secret, dongle.offset) {
                Ok(()) => {}
                Err(AddError::Duplicate) => {
                    duplicates += 1;
                    tracing::warn!(device = %dongle.device, "another dongle has the same code; this one stays unseen");
                }
                Err(AddError::Full) => unreachable!("the builder was made for this many dongles"),
            }
        }
        Built { book: builder.finish(generation), duplicates }
    }

    fn find(&mut self, device: DeviceId) -> Option<&mut Dongle> {
        let at = self.dongles.binary_search_by_key(&place(device), |dongle| place(dongle.device)).ok()?;
        Some(&mut self.dongles[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::Slot;

    fn dongle(device: u64) -> Dongle {
        let secret = Secret::from_root(&[device as u8; 32]);
        Dongle { device: DeviceId(device), secret, offset: ClockOffset::default() }
    }

    fn fleet(devices: &[u64]) -> Fleet {
        Fleet { dongles: devices.iter().map(|&device| dongle(device)).collect() }
    }

    fn changes(changes: &[(u64, bool)]) -> Changes {
        changes.iter().map(|&(device, stays)| (place(DeviceId(device)), stays.then(|| dongle(device)))).collect()
    }

    #[test]
    fn changes_keep_the_order_of_the_list() {
        let merged = fleet(&[2, 4, 6]).merged(changes(&[(1, true), (3, true), (4, false), (6, true), (9, true)]));
        let devices: Vec<u64> = merged.dongles.iter().map(|dongle| dongle.device.0).collect();
        assert_eq!(devices, [1, 2, 3, 6, 9]);
    }

    #[test]
    fn an_id_beyond_the_signed_numbers_is_found_again() {
        let mut fleet = fleet(&[]).merged(changes(&[(u64::MAX, true), (1, true), (u64::MAX - 5, true)]));
        assert!([1, u64::MAX, u64::MAX - 5].iter().all(|&device| fleet.find(DeviceId(device)).is_some()));
    }

    #[test]
    fn a_hearing_out_of_step_moves_the_learned_clock() {
        let slot = SlotLength::DEFAULT;
        let mut fleet = fleet(&[1]);
        let at = UnixMs(1_000_000_000);
        let on_time = Hit { device: DeviceId(1), slot: slot.slot_at(at) };
        assert_eq!(fleet.learn(slot, on_time, at), None);
        let ahead = Hit { device: DeviceId(1), slot: Slot(on_time.slot.0 + 1) };
        let learned = fleet.learn(slot, ahead, at).unwrap();
        assert_eq!(slot.slot_at(learned.dongle_time(at)), ahead.slot);
        assert_eq!(fleet.learn(slot, Hit { device: DeviceId(2), slot: ahead.slot }, at), None, "a stranger");
    }

    #[test]
    fn of_two_dongles_with_one_code_the_second_is_left_out() {
        let mut fleet = fleet(&[1, 2]);
        fleet.dongles[1].secret = fleet.dongles[0].secret.clone();
        let built = fleet.book(SlotLength::DEFAULT, UnixMs(1_000_000_000), 3);
        assert_eq!((built.book.len(), built.duplicates, built.book.generation()), (1, 1, 3));
    }
}
