//! Learned clocks on their way to the store.
//!
//! They go there in small commits with rests between them: twenty thousand in one commit are a hundred milliseconds in which
//! frames wait for the core. Until its commit a clock is here, and what the store says of it is older.

use std::collections::BTreeMap;

use crate::engine::clock::ClockOffset;
use crate::engine::codebook::Dongle;
use crate::engine::id::DeviceId;

/// Rows of one commit. Each is a page of its own in the log, some 5 us: 1.3 ms in all, and then the disk.
const COMMIT_ROWS: usize = 256;

/// Clocks that wait at most, but for those of one turn: some 24 bytes each, 6 MB. More are saved without waiting.
const WAITING_MAX: usize = 1 << 18;

/// What the store has not been told yet.
#[derive(Debug, Default)]
pub(super) struct UnsavedClocks(BTreeMap<DeviceId, ClockOffset>);

impl UnsavedClocks {
    pub(super) fn learn(&mut self, device: DeviceId, offset: ClockOffset) {
        self.0.insert(device, offset);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= WAITING_MAX
    }

    /// Takes out what goes into the next commit: the first by their ids, since neighbours share a page of the store.
    pub(super) fn next_commit(&mut self) -> Vec<(DeviceId, ClockOffset)> {
        std::iter::from_fn(|| self.0.pop_first()).take(COMMIT_ROWS).collect()
    }

    /// A dongle as the store has it, with the clock that was learned since.
    pub(super) fn applied_to(&self, dongle: Dongle) -> Dongle {
        match self.0.get(&dongle.device) {
            Some(&offset) => Dongle { offset, ..dongle },
            None => dongle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_clocks_is_saved_in_commits_of_a_bounded_size() {
        let mut clocks = UnsavedClocks::default();
        for device in 0..1_000 {
            clocks.learn(DeviceId(device), ClockOffset(1));
            clocks.learn(DeviceId(device), ClockOffset(device as i32));
        }
        let commits: Vec<_> =
            std::iter::from_fn(|| Some(clocks.next_commit()).filter(|commit| !commit.is_empty())).collect();
        assert!(clocks.is_empty() && commits.iter().all(|commit| commit.len() <= COMMIT_ROWS));
        let saved: Vec<_> = commits.concat();
        assert_eq!(saved, (0..1_000).map(|nth| (DeviceId(nth), ClockOffset(nth as i32))).collect::<Vec<_>>());
    }
}
