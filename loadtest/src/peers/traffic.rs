//! The frames that the peers carry: those of the flood's forecourts, with the codes of one slot, as plain records.

use bytes::Bytes;
use forecourt::{
    engine::time::{Slot, UnixMs},
    telemetry,
};

use super::{PeersOptions, record};
use crate::flood::{
    chain::SLOT,
    dongles::Dongles,
    traffic::{Mix, Traffic},
};

/// Seconds after which one vehicle of a forecourt makes way for another, and its batches until then at ten a second.
pub(super) const TURNOVER_S: f64 = 5.0;
const BATCHES_PER_TURNOVER: usize = 50;
const TURNOVERS: usize = 4;

/// The air at one moment: a run is over before the slot matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Air {
    mix: Mix,
    dongles: Dongles,
    slot: Slot,
    now: UnixMs,
}

impl Air {
    pub(super) fn new(options: &PeersOptions) -> Air {
        let now = telemetry::now();
        Air { mix: options.mix(), dongles: options.dongles(), slot: SLOT.slot_at(now), now }
    }

    /// The codes of all dongles, in the order of their numbers.
    pub(super) fn codes(&self) -> Vec<u8> {
        (0..self.dongles.count).flat_map(|index| self.dongles.secret(index).code(self.slot).0).collect()
    }

    /// What the `station`th of so many stations says, one message for each batch.
    pub(super) fn messages(&self, station: usize, stations: usize) -> Vec<Bytes> {
        let mut traffic = Traffic::new(self.mix, self.dongles, station, stations);
        let mut messages = Vec::with_capacity(TURNOVERS * BATCHES_PER_TURNOVER);
        for _ in 0..TURNOVERS {
            let batches = (0..BATCHES_PER_TURNOVER).map(|number| traffic.batch(number, self.slot, self.now));
            messages.extend(batches.map(|hearings| Bytes::from(record::write(&hearings))));
            traffic.turn_over();
        }
        messages
    }
}
