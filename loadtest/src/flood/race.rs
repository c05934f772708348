//! Floors and engine in turn: processes and connections of both are held all the time, and short slices of each
//! alternate, so that whatever else the machine does falls on all of them alike. Separate runs differ by more than what
//! is to be shown.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    FloodError,
    bench::Bench,
    cargo::{Amount, Payload},
    chain::Prepared,
    group::{Group, Wire},
    load::Load,
    receiver::{Received, Receiver},
    scraper::Scraper,
    sender::Threads,
    sink::SinkRuntime,
    source::RECORD_BYTES,
};
use crate::process::{Usage, usage};

/// The part of a slice that is not counted: the windows of QUIC open, caches fill.
const WARM_UP: f64 = 0.25;

/// A process that kept its cores busier than this had no time left.
const BUSY: f64 = 0.95;

/// A generator that sent less than this part of its schedule did not keep it.
const ON_TIME: f64 = 0.97;

/// What takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Plain records of 24 bytes into a sink: the best that such a format could do.
    Floor,
    /// The bytes of the flood into a sink.
    SameBytes,
    Engine,
    /// The engine, while somebody scrapes its metrics.
    Scraped,
}

impl Target {
    pub const ALL: [Target; 4] = [Target::Floor, Target::SameBytes, Target::Engine, Target::Scraped];

    /// As the keys of a summary begin.
    pub fn key(self) -> &'static str {
        match self {
            Target::Floor => "floor",
            Target::SameBytes => "same_bytes",
            Target::Engine => "engine",
            Target::Scraped => "scraped",
        }
    }

    fn payload(self) -> Payload {
        match self {
            Target::Floor => Payload::Records,
            Target::SameBytes | Target::Engine | Target::Scraped => Payload::Batches,
        }
    }

    fn is_engine(self) -> bool {
        matches!(self, Target::Engine | Target::Scraped)
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
    /// Between two scrapes of [`Target::Scraped`].
    pub scrape_every: Option<Duration>,
    pub sink_runtime: SinkRuntime,
    pub bench: Bench,
}

impl Config {
    /// What every figure is to be read with.
    pub fn conditions(&self) -> Vec<(String, String)> {
        let own = [
            ("rounds", self.rounds.to_string()),
            ("slice_seconds", self.slice.as_secs_f64().to_string()),
            ("sink_runtime", format!("{:?}", self.sink_runtime).to_lowercase()),
        ];
        let scrape = self.scrape_every.map(|every| ("scrape_seconds", every.as_secs_f64().to_string()));
        let own = own.into_iter().chain(scrape).map(|(key, value)| (key.to_owned(), value));
        self.load.conditions().into_iter().chain(own).chain(self.bench.conditions()).collect()
    }
}

/// What one target did in one slice, by the receiver's own count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    pub target: Target,
    /// From the start of the race.
    pub begun_seconds: f64,
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    pub sent: Amount,
    pub received: Received,
    pub refused_frames: u64,
    pub broken: u64,
    pub wire: Wire,
    pub cipher: &'static str,
    pub connect_seconds: f64,
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
        progress(format!("warming up: {}", target.key()));
        race.warm_up(target, config).await?;
    }
    let begun = Instant::now();
    let mut slices = Vec::new();
    for round in 0..config.rounds {
        // Every other round runs backwards, so that nobody always follows the same one.
        let mut targets = config.targets.clone();
        if round % 2 == 1 {
            targets.reverse();
        }
        for target in targets {
            let begun_seconds = begun.elapsed().as_secs_f64();
            let slice = Slice { begun_seconds, ..race.slice(target, config).await? };
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

    /// Whether the receiver could have taken more than the generator gave with so many cores.
    pub fn is_generator_limited(&self, sender_cores: f64) -> bool {
        self.generator_cores() >= BUSY * sender_cores && self.receiver_cores() < BUSY
    }

    /// Whether less came than the clock asked for, although the receiver had time left.
    pub fn is_behind(&self, nominal: Option<f64>) -> bool {
        nominal.is_some_and(|nominal| self.frames_per_second() < ON_TIME * nominal) && self.receiver_cores() < BUSY
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
    _threads: Threads,
    /// Held for as long as the engine runs on it.
    _data: Prepared,
}

impl Race {
    async fn start(config: &Config, progress: &mut impl FnMut(String)) -> Result<Race, FloodError> {
        let (load, bench) = (&config.load, &config.bench);
        let data = bench.prepare(load.chain())?;
        let threads = Threads::start(bench.sender_threads)?;
        let (mut sink, mut engine) = (None, None);
        if config.targets.iter().any(|target| !target.is_engine()) {
            progress(format!("{} connections to the sink", load.connections));
            let receiver = bench.sink(&data, config.sink_runtime)?;
            sink = Some(Group::connect(receiver, load, &data, &threads, true).await?);
        }
        if config.targets.iter().any(|target| target.is_engine()) {
            progress(format!("starting the engine, and {} connections to it", load.connections));
            let receiver = bench.engine(&data, load.connections).await?;
            engine = Some(Group::connect(receiver, load, &data, &threads, false).await?);
        }
        Ok(Race { sink, engine, _threads: threads, _data: data })
    }

    fn group(&mut self, target: Target) -> &mut Group {
        let group = match target {
            Target::Floor | Target::SameBytes => self.sink.as_mut(),
            Target::Engine | Target::Scraped => self.engine.as_mut(),
        };
        group.expect("the groups of all targets are connected")
    }

    async fn warm_up(&mut self, target: Target, config: &Config) -> Result<(), FloodError> {
        let group = self.group(target);
        group.send(target.payload());
        sleep(config.warm_up).await;
        if target.is_engine() {
            group.fill(config.load.registered_vehicles()).await?;
        }
        group.hold().await?;
        Ok(group.rest().await?)
    }

    async fn slice(&mut self, target: Target, config: &Config) -> Result<Slice, FloodError> {
        let lasts = config.slice;
        let group = self.group(target);
        let every = config.scrape_every.filter(|_| target == Target::Scraped);
        let scraper = every.and_then(|every| Scraper::start(&group.receiver, every));
        group.send(target.payload());
        sleep(lasts.mul_f64(WARM_UP)).await;
        group.sent().take_late_us();
        let before = Look::at(group, target).await?;
        sleep(lasts.mul_f64(1.0 - WARM_UP)).await;
        let after = Look::at(group, target).await?;
        let late_us = group.sent().take_late_us();
        drop(scraper);
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
        cipher: group.cipher,
        connect_seconds: group.connect_seconds,
        memory_per_connection: group.memory_per_connection,
        receiver: group.receiver.usage()?,
    };
    if let Receiver::Engine(serve) = group.receiver {
        serve.stop().await?;
    }
    Ok(Some(ended))
}

/// Everything that is counted, at one moment.
pub(super) struct Look {
    at: Instant,
    received: Received,
    sent: Amount,
    receiver: Usage,
    generator: Usage,
    wire: Wire,
}

impl Look {
    pub(super) async fn at(group: &mut Group, target: Target) -> Result<Look, FloodError> {
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

    pub(super) fn slice_to(&self, after: &Look, target: Target, late_us: u64) -> Slice {
        let sent = after.sent - self.sent;
        let (frames, batches, bytes) = match target {
            Target::Engine | Target::Scraped => {
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
            begun_seconds: 0.0,
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
