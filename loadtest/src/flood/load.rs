//! What a flood consists of, as it is asked for.

use forecourt::engine::{
    limits::{HEARINGS_MAX, RECEIVERS_MAX, WINDOWS_MAX},
    time::{SlotLength, UnixMs},
};

use super::{
    cargo::Cargo,
    chain::Chain,
    dongles::Dongles,
    source::{Batches, Pace, Records},
    traffic::{Mix, Traffic},
};

/// Receivers of a station: entrance, exit and six pumps.
pub const RECEIVERS: u8 = 8;

const _: () = assert!(RECEIVERS as usize <= RECEIVERS_MAX);

/// A round of a connection that sends by the clock: its batches are few, and it is written anew once a second.
const CLOCKED_BATCHES: usize = 4;

/// A round of one that sends as fast as it goes: a write or two, so that no batch is more alike the last than it must.
const FAST_BATCHES: usize = 64;

const HELD_MS_MIN: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub connections: usize,
    /// Stations that are registered; at least one for each connection.
    pub stations: usize,
    pub frames_per_batch: usize,
    /// Of each connection; `None`: as fast as it goes.
    pub batches_per_second: Option<f64>,
    pub vehicles: usize,
    /// Seconds after which one vehicle of a station makes way for another; `None`: never.
    pub turnover_s: Option<f64>,
    /// Seconds after which all codes change at once; `None`: only with the slot.
    pub codes_s: Option<f64>,
    /// Seconds by which the clocks of cars are ahead of the server's, from none at the first station to all of them at the
    /// last: so they change their codes one station after the other, as drift has it. Less than the slot.
    pub clocks_s: f64,
    pub unknown_share: f64,
    pub dongles: Dongles,
    /// Whoever gives another than the chain's has the engine told of it.
    pub slot: SlotLength,
}

/// A load that no uplink could send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("a batch has 1 to {HEARINGS_MAX} frames")]
    Frames,
    #[error("a station has 1 to {WINDOWS_MAX} vehicles")]
    Vehicles,
    #[error("there must be a connection, and a station for each")]
    Connections,
    #[error("the share of unknown codes is 0 to 1")]
    Unknown,
}

impl Load {
    pub fn check(&self) -> Result<(), LoadError> {
        if !(1..=HEARINGS_MAX).contains(&self.frames_per_batch) {
            return Err(LoadError::Frames);
        }
        if !(1..=WINDOWS_MAX).contains(&self.vehicles) {
            return Err(LoadError::Vehicles);
        }
        if self.connections == 0 || self.stations < self.connections {
            return Err(LoadError::Connections);
        }
        if (0.0..=1.0).contains(&self.unknown_share) { Ok(()) } else { Err(LoadError::Unknown) }
    }

    /// What the clock asks for; `None` when it is as much as goes.
    pub fn frames_per_second(&self) -> Option<f64> {
        Some(self.batches_per_second? * (self.connections * self.frames_per_batch) as f64)
    }

    /// Batches in which every vehicle of a station is heard.
    pub fn batches_per_round(&self) -> usize {
        self.mix().batches_per_round()
    }

    /// Vehicles on all forecourts that the engine knows.
    pub fn registered_vehicles(&self) -> u64 {
        let strangers = (self.unknown_share * self.vehicles as f64).round() as usize;
        (self.connections * (self.vehicles - strangers)) as u64
    }

    /// What every figure is to be read with.
    pub fn conditions(&self) -> Vec<(String, String)> {
        let or = |given: Option<f64>, otherwise: &str| given.map_or(otherwise.into(), |value| value.to_string());
        [
            ("connections", self.connections.to_string()),
            ("stations", self.stations.to_string()),
            ("frames_per_batch", self.frames_per_batch.to_string()),
            ("batches_per_second_each", or(self.batches_per_second, "as fast as it goes")),
            ("vehicles_per_station", self.vehicles.to_string()),
            ("turnover_every_s", or(self.turnover_s, "never")),
            ("codes_change_every_s", or(self.codes_s, "with the slot")),
            ("clocks_ahead_s", self.clocks_s.to_string()),
            ("unknown_share", self.unknown_share.to_string()),
            ("slot_seconds", self.slot.seconds().to_string()),
            ("devices", self.dongles.count.to_string()),
            ("seed", self.dongles.seed.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    pub fn chain(&self) -> Chain {
        Chain { dongles: self.dongles, stations: self.stations }
    }

    /// What the `index`th connection sends.
    pub fn cargo(&self, index: usize, with_records: bool, now: UnixMs) -> Cargo {
        let mut traffic = Traffic::new(self.mix(), self.dongles, index, self.stations);
        let phase = index as f64 / self.connections as f64;
        let pace = Pace { ahead_ms: (self.clocks_s * phase * 1e3) as u64, ..self.pace() };
        let records = with_records.then(|| Records::new(&mut traffic, pace, now));
        Cargo { records, batches: Batches::new(traffic, pace, now, phase) }
    }

    fn mix(&self) -> Mix {
        Mix {
            frames: self.frames_per_batch,
            receivers: RECEIVERS,
            vehicles: self.vehicles,
            unknown_share: self.unknown_share,
        }
    }

    fn pace(&self) -> Pace {
        let ms = |seconds: Option<f64>| seconds.map(|seconds| ((seconds * 1000.0) as u64).max(1));
        Pace {
            turnover_ms: ms(self.turnover_s),
            codes_ms: ms(self.codes_s),
            // Two periods, or what no stream that goes as fast as it can is ever still for.
            held_ms: self.batches_per_second.map_or(0, |rate| (2_000.0 / rate) as u64).max(HELD_MS_MIN),
            batches_min: if self.batches_per_second.is_some() { CLOCKED_BATCHES } else { FAST_BATCHES },
            ahead_ms: 0,
            slot: self.slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flood::chain::SLOT;

    const LOAD: Load = Load {
        connections: 2,
        stations: 2,
        frames_per_batch: 25,
        batches_per_second: None,
        vehicles: 40,
        turnover_s: Some(1.0),
        codes_s: None,
        clocks_s: 0.0,
        unknown_share: 0.0,
        dongles: Dongles { seed: 1, count: 1_000 },
        slot: SLOT,
    };

    #[test]
    fn a_load_that_no_uplink_could_send_is_refused() {
        assert_eq!(LOAD.check(), Ok(()));
        assert_eq!(Load { frames_per_batch: 251, ..LOAD }.check(), Err(LoadError::Frames));
        assert_eq!(Load { vehicles: 0, ..LOAD }.check(), Err(LoadError::Vehicles));
        assert_eq!(Load { stations: 1, ..LOAD }.check(), Err(LoadError::Connections));
        assert_eq!(Load { unknown_share: 1.5, ..LOAD }.check(), Err(LoadError::Unknown));
    }
}
