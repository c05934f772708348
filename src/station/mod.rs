//! Stations: one actor each, and what a terminal sees of it.
//!
//! [`Stations`] is the directory: it starts a station's actor on one of the current-thread arbiters when its uplink or
//! its terminal first asks; an uplink's is started where the uplink is served, so that neither wakes another thread. The
//! actor is a shell: [`Forecourt`] takes in batches and keeps presence, [`Selection`] decides whom the attendant means, on
//! the thread of who asks ([`scene`]), [`Whereabouts`] knows at which stations a dongle is. What is resolved comes from
//! `registration`, what is selected goes to `session`.
//!
//! The actor owns the stream of its uplink ([`intake`]): no batch is a message.

mod actor;
mod directory;
mod error;
mod forecourt;
mod health;
mod intake;
mod metrics;
mod scene;
mod selection;
mod snapshot;
mod survey;
mod tables;
mod view;
mod whereabouts;

pub use directory::{Attach, Attached, Stations, UplinkLink};
pub use error::{AttachError, SelectError, StationError};
pub use forecourt::{Forecourt, LookedUp, Tally};
pub use health::StationHealth;
pub use intake::{Applied, BatchStream, IntakeEnd, Progress};
pub use selection::{Select, Selection};
pub use snapshot::{SnapshotError, hearings as hearings_of_snapshot};
pub use survey::Ailment;
pub use view::{Candidate, StationEvent, VehicleView};
pub use whereabouts::Whereabouts;

use crate::engine::{
    control::{Receiver, Role},
    limits::RECEIVERS_MAX,
    presence::{Policy, Setup},
};

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Smoothed RSSI in dBm at which a dongle has entered, at receivers whose gateway names no other.
    pub enter_dbm: i8,
    /// Smoothed RSSI in dBm at a pump from which a silent car counts as parked.
    pub park_dbm: i8,
    /// Seconds after entering at which a dongle that is still heard counts as present.
    pub present_after_s: u32,
    /// Seconds of silence after which a dongle fades.
    pub fade_after_s: u32,
    /// Seconds of silence after which it has left.
    pub leave_after_s: u32,
    /// Seconds for which a parked car is held.
    pub parked_for_s: u32,
    /// Hearings a second of one receiver; what is more is dropped and counted. 12 cars are 60 a second.
    pub hearings_per_receiver_s: u32,
    /// Messages that a station's actor lets wait.
    pub mailbox: usize,
    /// Events that a slow watcher of a station may lag behind before it is told the whole state again.
    pub events_max: usize,
    /// Seconds between two snapshots of all presence windows.
    pub snapshot_s: u32,
    /// Seconds between two surveys of how the stations do: an actor message a station each, spread over them.
    pub survey_s: u32,
    /// Seconds without a frame after which a receiver counts as silent.
    pub silent_after_s: u32,
}

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Metrics::new();
}

impl Config {
    fn policy(&self) -> Policy {
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        Policy {
            fade_after_ms: ms(self.fade_after_s),
            leave_after_ms: ms(self.leave_after_s),
            parked_for_ms: ms(self.parked_for_s),
            present_after_ms: ms(self.present_after_s),
            park_dbm: self.park_dbm,
            default_enter_dbm: self.enter_dbm,
            receivers: [None; RECEIVERS_MAX],
        }
    }

    /// What the receivers that a gateway announced mean for presence.
    fn setups(&self, receivers: &[Receiver]) -> [Option<Setup>; RECEIVERS_MAX] {
        let mut setups = [None; RECEIVERS_MAX];
        for receiver in receivers {
            let pump = match receiver.role {
                Role::Pump(pump) => Some(pump),
                Role::Entrance | Role::Exit | Role::Canopy => None,
            };
            let enter_dbm = receiver.enter_dbm.unwrap_or(self.enter_dbm);
            if let Some(setup) = setups.get_mut(usize::from(receiver.id.0)) {
                *setup = Some(Setup { pump, enter_dbm });
            }
        }
        setups
    }
}
