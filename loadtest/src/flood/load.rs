//! What a flood consists of, as it is asked for.

use forecourt::engine::{
    limits::{HEARINGS_MAX, RECEIVERS_MAX, WINDOWS_MAX},
    time::UnixMs,
};

use super::{
    cargo::Cargo,
    chain::{Chain, SLOT},
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
    pub unknown_share: f64,
    pub dongles: Dongles,
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

    pub fn chain(&self) -> Chain {
        Chain { dongles: self.dongles, stations: self.stations }
    }

    /// What the `index`th connection sends.
    pub fn cargo(&self, index: usize, with_records: bool, now: UnixMs) -> Cargo {
        let mut traffic = Traffic::new(self.mix(), self.dongles, index, self.connections);
        let pace = self.pace();
        let records = with_records.then(|| Records::new(&mut traffic, pace, now));
        let phase = index as f64 / self.connections as f64;
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
            batches_min: if self.batches_per_second.is_some() { CLOCKED_BATCHES } else { FAST_BATCHES },
            slot: SLOT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        connections: 2,
        stations: 2,
        frames_per_batch: 25,
        batches_per_second: None,
        vehicles: 40,
        turnover_s: Some(1.0),
        codes_s: None,
        unknown_share: 0.0,
        dongles: Dongles { seed: 1, count: 1_000 },
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
