//! What the stations count. Handles are kept; a message adds its plain integers to them once.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::forecourt::Tally;
use crate::engine::presence::{Change, State};

#[derive(Clone)]
pub(super) struct Metrics {
    batches: Counter,
    duplicate_batches: Counter,
    resolved: Counter,
    unknown: Counter,
    stale: Counter,
    over_rate: Counter,
    full: Counter,
    entered: Counter,
    left: Counter,
    pub(super) actors: Gauge,
    pub(super) mailbox_full: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        const FRAMES: &str = "forecourt_station_frames_total";
        const DROPPED: &str = "forecourt_station_frames_dropped_total";
        describe_counter!("forecourt_station_batches_total", "Batches applied.");
        describe_counter!("forecourt_station_duplicate_batches_total", "Batches that had been applied before.");
        describe_counter!(FRAMES, "Frames by whether their code belongs to a registered dongle.");
        describe_counter!(DROPPED, "Frames of registered dongles that changed nothing, by reason.");
        describe_counter!("forecourt_station_presence_total", "Vehicles that entered or left.");
        describe_gauge!("forecourt_station_actors", "Stations whose actor runs.");
        describe_counter!("forecourt_station_mailbox_full_total", "Messages refused because an actor was behind.");
        Metrics {
            batches: counter!("forecourt_station_batches_total"),
            duplicate_batches: counter!("forecourt_station_duplicate_batches_total"),
            resolved: counter!(FRAMES, "code" => "resolved"),
            unknown: counter!(FRAMES, "code" => "unknown"),
            stale: counter!(DROPPED, "reason" => "stale"),
            over_rate: counter!(DROPPED, "reason" => "over_rate"),
            full: counter!(DROPPED, "reason" => "full"),
            entered: counter!("forecourt_station_presence_total", "change" => "entered"),
            left: counter!("forecourt_station_presence_total", "change" => "left"),
            actors: gauge!("forecourt_station_actors"),
            mailbox_full: counter!("forecourt_station_mailbox_full_total"),
        }
    }

    pub(super) fn add(&self, tally: &Tally) {
        for (handle, count) in [
            (&self.batches, tally.batches),
            (&self.duplicate_batches, tally.duplicate_batches),
            (&self.resolved, tally.resolved),
            (&self.unknown, tally.unknown),
            (&self.stale, tally.stale),
            (&self.over_rate, tally.over_rate),
            (&self.full, tally.full),
        ] {
            if count > 0 {
                handle.increment(count);
            }
        }
    }

    pub(super) fn changed(&self, change: &Change) {
        match change.state {
            State::Entered => self.entered.increment(1),
            State::Left => self.left.increment(1),
            State::Sighted | State::Present | State::Fading | State::Parked => {}
        }
    }
}
