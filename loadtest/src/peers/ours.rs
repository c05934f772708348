//! Our own side of the comparison: a real engine under the same frames, in the same modes, on the same cores.

use super::{
    FRAMES, PeersError, PeersOptions,
    outcome::{Mode, Peer, Presence},
    traffic::TURNOVER_S,
    trial::WARM_UP,
};
use crate::flood::{
    FloodError, Load,
    chain::SLOT,
    race::{self, Config, Slice, Target},
    sink::SinkRuntime,
};

/// A slice of the flood leaves its first quarter out.
const COUNTED: f64 = 0.75;

pub(super) struct Ours<'a> {
    pub(super) options: &'a PeersOptions,
    pub(super) mode: Mode,
}

impl Ours<'_> {
    pub(super) async fn run(&self) -> Result<Peer, PeersError> {
        let outcome = race::run(&self.config(), |line| eprintln!("{line}")).await?;
        let slice = outcome.slices.first().ok_or(FloodError::Nothing(Target::Engine.key()))?;
        Ok(self.peer(slice, outcome.engine.map_or(0, |ended| ended.lost())))
    }

    fn peer(&self, slice: &Slice, lost: u64) -> Peer {
        Peer {
            name: "forecourt".into(),
            mode: self.mode,
            presence: Presence::Memory,
            build: "forecourt serve".into(),
            frames_per_second: slice.frames_per_second(),
            frames_per_cpu_second: 1e9 / slice.cpu_ns_per_frame(),
            cores: slice.receiver_cores(),
            lost,
        }
    }

    fn config(&self) -> Config {
        Config {
            load: self.load(),
            targets: vec![Target::Engine],
            rounds: 1,
            slice: self.options.lasts.div_f64(COUNTED),
            warm_up: WARM_UP,
            scrape_every: None,
            sink_runtime: SinkRuntime::Current,
            bench: self.options.bench.clone(),
        }
    }

    fn load(&self) -> Load {
        let PeersOptions { senders, batches_per_second, vehicles, .. } = *self.options;
        let (connections, batches_per_second) = match self.mode {
            Mode::Fat => (1, None),
            Mode::Many => (senders, Some(batches_per_second)),
        };
        Load {
            connections,
            stations: connections,
            frames_per_batch: FRAMES,
            batches_per_second,
            vehicles,
            turnover_s: Some(TURNOVER_S),
            codes_s: None,
            clocks_s: 0.0,
            unknown_share: 0.0,
            dongles: self.options.dongles(),
            slot: SLOT,
        }
    }
}
