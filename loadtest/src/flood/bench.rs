//! Where a run takes place: the cores of either side, the engine's program and the data folder that it starts on.

use std::path::{Path, PathBuf};

use super::{
    FloodError,
    chain::{Chain, Prepared},
    receiver::{Receiver, SinkProcess},
    sink::SinkRuntime,
};
use crate::process::{Serve, ServeOptions, placement};

/// Connections that an engine takes beside those of the load, such as probes.
const CONNECTIONS_SPARE: usize = 64;

#[derive(Debug, Clone, Default)]
pub struct Bench {
    /// The cores of sink and engine; the generator's are those it was started on.
    pub receiver_cores: Option<Vec<usize>>,
    pub sender_threads: usize,
    /// The chain's data folder; without it one is kept in the system's temporary folder.
    pub data: Option<PathBuf>,
    /// The engine's program; without it the one beside ours.
    pub engine: Option<PathBuf>,
    /// Further settings of the engine.
    pub settings: Vec<(String, String)>,
}

impl Bench {
    /// The data folder, filled with what it lacks of the chain.
    pub fn prepare(&self, chain: Chain) -> Result<Prepared, FloodError> {
        Ok(chain.prepare(self.data.as_deref(), self.engine.as_deref())?)
    }

    /// An engine that lets a flood in: what it bounds in the field, a flood is meant to exceed.
    pub async fn engine(&self, data: &Path, connections: usize) -> Result<Receiver, FloodError> {
        let own = [
            ("FORECOURT_STATION_HEARINGS_PER_RECEIVER_S", u32::MAX.to_string()),
            // Twice: those that broke, until they are given up, and those that came back.
            ("FORECOURT_INGEST_CONNECTIONS_MAX", (2 * connections + CONNECTIONS_SPARE).to_string()),
            ("FORECOURT_INGEST_WAITING_MAX", (connections + CONNECTIONS_SPARE).max(8_192).to_string()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let options = ServeOptions {
            data: data.into(),
            settings: Chain::settings().into_iter().chain(own).chain(self.settings.iter().cloned()).collect(),
            cores: self.receiver_cores.clone(),
            binary: self.engine.clone(),
        };
        Ok(Receiver::Engine(Serve::start(options).await?))
    }

    pub fn sink(&self, data: &Path, runtime: SinkRuntime) -> Result<Receiver, FloodError> {
        Ok(Receiver::Sink(SinkProcess::start(data, runtime, self.receiver_cores.as_deref())?))
    }

    /// What every figure is to be read with.
    pub fn conditions(&self) -> Vec<(String, String)> {
        let cores = |cores: Option<&[usize]>| cores.map_or("any".into(), |cores| format!("{cores:?}"));
        let ours = placement::current().ok();
        let settings = self.settings.iter().map(|(name, value)| format!("{name}={value}"));
        [
            ("receiver_cores", cores(self.receiver_cores.as_deref())),
            ("sender_cores", cores(ours.as_deref())),
            ("sender_threads", self.sender_threads.to_string()),
            ("settings", settings.collect::<Vec<_>>().join(" ")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}
