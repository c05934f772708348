//! Floors and engine in turn: processes and connections of both are held all the time, and short slices of each
//! alternate, so that whatever else the machine does falls on all of them alike. Separate runs differ by more than what
//! is to be shown.

use std::{io, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    cargo::{Amount, Payload},
    chain::{Chain, ChainError},
    group::{Group, GroupError, Wire},
    load::{Load, LoadError},
    receiver::{Received, Receiver, ReceiverError, SinkProcess},
    sender::Threads,
    sink::SinkRuntime,
    source::RECORD_BYTES,
};
use crate::process::{Serve, ServeError, ServeOptions, Usage, placement, usage};

/// The part of a slice that is not counted: the windows of QUIC open, caches fill.
const WARM_UP: f64 = 0.25;

/// Connections that an engine takes beside those of the load, such as probes.
const CONNECTIONS_SPARE: usize = 64;

/// What takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Plain records of 24 bytes into a sink: the best that such a format could do.
    Floor,
    /// The bytes of the flood into a sink.
    SameBytes,
    Engine,
}

impl Target {
    pub const ALL: [Target; 3] = [Target::Floor, Target::SameBytes, Target::Engine];

    /// As the keys of a summary begin.
    pub fn key(self) -> &'static str {
        match self {
            Target::Floor => "floor",
            Target::SameBytes => "same_bytes",
            Target::Engine => "engine",
        }
    }

    fn payload(self) -> Payload {
        match self {
            Target::Floor => Payload::Records,
            Target::SameBytes | Target::Engine => Payload::Batches,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    pub load: Load,
    pub targets: Vec<Target>,
    pub rounds: usize,
    pub slice: Duration,
    /// Before the first round, for each target: all vehicles of the load drive onto their forecourts.
    pub warm_up: Duration,
    pub sink_runtime: SinkRuntime,
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

impl Config {
    /// What every figure is to be read with.
    pub fn conditions(&self) -> Vec<(String, String)> {
        let load = &self.load;
        let or = |given: Option<f64>, otherwise: &str| given.map_or(otherwise.into(), |value| value.to_string());
        let cores = |cores: Option<&[usize]>| cores.map_or("any".into(), |cores| format!("{cores:?}"));
        let ours = placement::current().ok();
        [
            ("connections", load.connections.to_string()),
            ("frames_per_batch", load.frames_per_batch.to_string()),
            ("batches_per_second_each", or(load.batches_per_second, "as fast as it goes")),
            ("vehicles_per_station", load.vehicles.to_string()),
            ("turnover_every_s", or(load.turnover_s, "never")),
            ("codes_change_every_s", or(load.codes_s, "with the slot")),
            ("unknown_share", load.unknown_share.to_string()),
            ("devices", load.dongles.count.to_string()),
            ("seed", load.dongles.seed.to_string()),
            ("rounds", self.rounds.to_string()),
            ("slice_seconds", self.slice.as_secs_f64().to_string()),
            ("receiver_cores", cores(self.receiver_cores.as_deref())),
            ("sender_cores", cores(ours.as_deref())),
            ("sink_runtime", format!("{:?}", self.sink_runtime).to_lowercase()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FloodError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Engine(#[from] ServeError),
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("the generator: {0}")]
    Machine(#[from] io::Error),
    #[error("no slice of {0} came to anything")]
    Nothing(&'static str),
}

/// What one target did in one slice, by the receiver's own count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    pub target: Target,
    pub seconds: f64,
    pub frames: f64,
    pub batches: f64,
    /// Of the batch stream.
    pub bytes: f64,
    pub receiver_cpu: Duration,
    pub generator_cpu: Duration,
    pub datagrams: u64,
    pub wire_bytes: u64,
    pub packets_lost: u64,
    /// The worst that a batch was late; only by the clock.
    pub late_us: u64,
}

/// A group at the end of its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub sent: Amount,
    pub received: Received,
    pub refused_frames: u64,
    pub broken: u64,
    pub wire: Wire,
    pub memory_per_connection: u64,
    pub receiver: Usage,
}

impl Ended {
    /// Frames of which nobody knows what became.
    pub fn lost(&self) -> u64 {
        self.sent.frames.saturating_sub(self.received.frames())
    }
}

/// All slices, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub slices: Vec<Slice>,
    pub sink: Option<Ended>,
    pub engine: Option<Ended>,
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, FloodError> {
    config.load.check()?;
    let mut race = Race::start(config, &mut progress).await?;
    for &target in &config.targets {
        race.slice(target, config.warm_up).await?;
    }
    let mut slices = Vec::new();
    for round in 0..config.rounds {
        // Every other round runs backwards, so that nobody always follows the same one.
        let mut targets = config.targets.clone();
        if round % 2 == 1 {
            targets.reverse();
        }
        for target in targets {
            let slice = race.slice(target, config.slice).await?;
            progress(format!("round {} of {}: {}", round + 1, config.rounds, slice.line()));
            slices.push(slice);
        }
    }
    race.end(slices).await
}

impl Slice {
    pub fn frames_per_second(&self) -> f64 {
        self.frames / self.seconds
    }

    pub fn cpu_ns_per_frame(&self) -> f64 {
        self.receiver_cpu.as_nanos() as f64 / self.frames
    }

    pub fn cpu_us_per_batch(&self) -> f64 {
        self.receiver_cpu.as_nanos() as f64 / 1e3 / self.batches
    }

    /// Cores that the generator kept busy.
    pub fn generator_cores(&self) -> f64 {
        self.generator_cpu.as_secs_f64() / self.seconds
    }

    pub fn receiver_cores(&self) -> f64 {
        self.receiver_cpu.as_secs_f64() / self.seconds
    }

    fn line(&self) -> String {
        format!(
            "{:<10} {:8.2} million frames/s, {:6.2} ns and {:6.2} us a batch, {:.2} cores (generator {:.2})",
            self.target.key(),
            self.frames_per_second() / 1e6,
            self.cpu_ns_per_frame(),
            self.cpu_us_per_batch(),
            self.receiver_cores(),
            self.generator_cores(),
        )
    }
}

struct Race {
    sink: Option<Group>,
    engine: Option<Group>,
    threads: Threads,
}

impl Race {
    async fn start(config: &Config, progress: &mut impl FnMut(String)) -> Result<Race, FloodError> {
        let load = &config.load;
        let data = load.chain().prepare(config.data.as_deref(), config.engine.as_deref())?;
        let threads = Threads::start(config.sender_threads)?;
        let cores = config.receiver_cores.clone();
        let mut race = Race { sink: None, engine: None, threads };
        if config.targets.iter().any(|target| *target != Target::Engine) {
            progress(format!("{} connections to the sink", load.connections));
            let sink = Receiver::Sink(SinkProcess::start(&data, config.sink_runtime, cores.as_deref())?);
            race.sink = Some(Group::connect(sink, load, &data, &race.threads, true).await?);
        }
        if config.targets.contains(&Target::Engine) {
            progress("starting the engine".into());
            let options = ServeOptions {
                data: data.clone(),
                settings: engine_settings(config),
                cores,
                binary: config.engine.clone(),
            };
            let serve = Receiver::Engine(Serve::start(options).await?);
            progress(format!("{} connections to the engine", load.connections));
            race.engine = Some(Group::connect(serve, load, &data, &race.threads, false).await?);
        }
        Ok(race)
    }

    async fn slice(&mut self, target: Target, lasts: Duration) -> Result<Slice, FloodError> {
        let group = match target {
            Target::Floor | Target::SameBytes => self.sink.as_mut(),
            Target::Engine => self.engine.as_mut(),
        };
        let group = group.expect("the groups of all targets are connected");
        group.send(target.payload());
        sleep(lasts.mul_f64(WARM_UP)).await;
        group.sent().take_late_us();
        let before = Look::at(group, target).await?;
        sleep(lasts.mul_f64(1.0 - WARM_UP)).await;
        let after = Look::at(group, target).await?;
        let late_us = group.sent().take_late_us();
        group.hold().await?;
        Ok(before.slice_to(&after, target, late_us))
    }

    async fn end(mut self, slices: Vec<Slice>) -> Result<Outcome, FloodError> {
        let sink = end(self.sink.take()).await?;
        let engine = end(self.engine.take()).await?;
        Ok(Outcome { slices, sink, engine })
    }
}

async fn end(group: Option<Group>) -> Result<Option<Ended>, FloodError> {
    let Some(mut group) = group else { return Ok(None) };
    let wire = group.wire();
    let received = group.finish().await?;
    let ended = Ended {
        sent: group.sent().amount(Payload::Batches),
        received,
        refused_frames: group.sent().refused_frames(),
        broken: group.sent().broken(),
        wire,
        memory_per_connection: group.memory_per_connection,
        receiver: group.receiver.usage()?,
    };
    if let Receiver::Engine(serve) = group.receiver {
        serve.stop().await?;
    }
    Ok(Some(ended))
}

/// Settings under which an engine lets a flood in: what it is asked to bound in the field is what is asked of it here.
pub fn engine_settings(config: &Config) -> Vec<(String, String)> {
    let connections_max = config.load.connections + CONNECTIONS_SPARE;
    let own = [
        ("FORECOURT_STATION_HEARINGS_PER_RECEIVER_S", u32::MAX.to_string()),
        ("FORECOURT_INGEST_CONNECTIONS_MAX", connections_max.to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    Chain::settings().into_iter().chain(own).chain(config.settings.iter().cloned()).collect()
}

/// Everything that is counted, at one moment.
struct Look {
    at: Instant,
    received: Received,
    sent: Amount,
    receiver: Usage,
    generator: Usage,
    wire: Wire,
}

impl Look {
    async fn at(group: &mut Group, target: Target) -> Result<Look, FloodError> {
        let wire = group.wire();
        // The receiver's counts and its CPU time belong together: nothing comes between them.
        let received = group.receiver.received().await?;
        let used = group.receiver.usage()?;
        Ok(Look {
            at: Instant::now(),
            received,
            sent: group.sent().amount(target.payload()),
            receiver: used,
            generator: usage::of_self()?,
            wire,
        })
    }

    fn slice_to(&self, after: &Look, target: Target, late_us: u64) -> Slice {
        let sent = after.sent - self.sent;
        let (frames, batches, bytes) = match target {
            Target::Engine => {
                let batches = (after.received.batches - self.received.batches) as f64;
                let frames = (after.received.frames() - self.received.frames()) as f64;
                (frames, batches, batches * per(sent.bytes, sent.batches))
            }
            // The sink knows bytes only; how many frames those are, who sent them knows.
            Target::Floor | Target::SameBytes => {
                let bytes = (after.received.bytes - self.received.bytes) as f64;
                let batches = bytes / per(sent.bytes, sent.batches);
                (batches * per(sent.frames, sent.batches), batches, bytes)
            }
        };
        debug_assert!(target != Target::Floor || sent.bytes == sent.frames * RECORD_BYTES as u64);
        Slice {
            target,
            seconds: (after.at - self.at).as_secs_f64(),
            frames,
            batches,
            bytes,
            receiver_cpu: after.receiver - self.receiver,
            generator_cpu: after.generator - self.generator,
            datagrams: after.wire.datagrams - self.wire.datagrams,
            wire_bytes: after.wire.bytes - self.wire.bytes,
            packets_lost: after.wire.packets_lost - self.wire.packets_lost,
            late_us,
        }
    }
}

fn per(amount: u64, of: u64) -> f64 {
    amount as f64 / of as f64
}
