//! Presence in the consumer's own memory.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use forecourt::engine::{id::DeviceId, time::UnixMs};

use super::{EXPIRY_S, Sighting};

/// A sweep passes over every entry, so there is one a second and not one a message.
const SWEEP_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(crate) struct MemoryPresence {
    present: HashMap<(u32, DeviceId), Present, RandomState>,
    swept_at: UnixMs,
}

#[derive(Debug, Clone, Copy)]
struct Present {
    last_heard: UnixMs,
    hearings: u32,
    rssi: i8,
}

impl MemoryPresence {
    pub(crate) fn see(&mut self, seen: &Sighting) {
        let present = self.present.entry((seen.station, seen.device));
        let present = present.or_insert(Present { last_heard: seen.at, hearings: 0, rssi: seen.rssi });
        present.last_heard = present.last_heard.max(seen.at);
        present.hearings += 1;
        present.rssi = seen.rssi;
    }

    /// Forgets who has been silent for too long.
    pub(crate) fn expire(&mut self, now: UnixMs) {
        if now.since(self.swept_at) >= SWEEP_MS {
            self.swept_at = now;
            self.present.retain(|_, present| now.since(present.last_heard) < EXPIRY_S * 1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn seen(device: u64, at: UnixMs) -> Sighting {
        Sighting { station: 7, device: DeviceId(device), rssi: -60, at }
    }

    #[test]
    fn a_vehicle_is_counted_while_it_is_heard_and_forgotten_when_it_is_silent() {
        let mut presence = MemoryPresence::default();
        presence.see(&seen(1, NOW));
        presence.see(&seen(1, NOW.plus(50_000)));
        presence.see(&seen(2, NOW));
        assert_eq!(presence.present[&(7, DeviceId(1))].hearings, 2);
        presence.expire(NOW.plus(EXPIRY_S * 1000));
        assert_eq!(presence.present.keys().collect::<Vec<_>>(), [&(7, DeviceId(1))]);
    }

    #[test]
    fn an_old_hearing_does_not_move_the_last_one_back() {
        let mut presence = MemoryPresence::default();
        presence.see(&seen(1, NOW));
        presence.see(&seen(1, NOW.minus(5_000)));
        assert_eq!(presence.present[&(7, DeviceId(1))].last_heard, NOW);
    }
}
