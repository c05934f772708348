//! `loadtest peers`: what a chain's team would build instead.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use loadtest::{
    peers::{self, Broker, ConsumerOptions, Keeping, PeersOptions},
    process::host::Facts,
    report::Run,
};

use super::{Held, Ran};

/// Measure what a chain's team would build instead, beside us.
///
/// nats-server and mosquitto, each with a consumer in Rust that resolves codes in a hash map and keeps presence in its
/// own memory or in redis-server; then `forecourt serve`. The same frames go through each, 25 a batch, from one fat
/// sender and from many; what counts is the CPU time of all processes but the sender. Needs Debian's packages
/// nats-server, mosquitto and redis-server; nothing needs to run, and nothing is left running.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Seconds of each of the 14 measurements.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,

    /// Registered dongles.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=30_000_000))]
    devices: u64,

    /// Vehicles on a forecourt at a time.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=1000))]
    vehicles: u16,

    /// Connections of the mode with many senders.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    senders: u16,

    /// Batches a second of each of them.
    #[arg(long, default_value_t = 10.0)]
    batches_per_second: f64,

    /// The same seed makes the same vehicles.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Let all processes run on all cores, instead of the sender apart from the rest.
    #[arg(long)]
    unpinned: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    /// Write the run into this folder.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Ran {
    let mut run = Run::new(super::command_line(), "Forecourt and what would be built instead");
    let outcome = peers::run(&arguments.options())?;
    if let Some(folder) = &arguments.report {
        run.host = serde_json::to_value(Facts::read())?;
        run.conditions = arguments.conditions();
        run.summary = outcome.summary();
        run.write(folder)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print!("{outcome}");
    }
    Ok(Held(true))
}

impl Arguments {
    fn options(&self) -> PeersOptions {
        PeersOptions {
            lasts: Duration::from_secs_f64(self.seconds),
            dongles: self.devices,
            seed: self.seed,
            vehicles: self.vehicles.into(),
            senders: self.senders.into(),
            batches_per_second: self.batches_per_second,
            is_unpinned: self.unpinned,
            engine: None,
        }
    }

    fn conditions(&self) -> Vec<(String, String)> {
        let placement = if self.unpinned { "all cores for all" } else { "the sender apart from the rest" };
        [
            ("seconds of a measurement", self.seconds.to_string()),
            ("dongles", self.devices.to_string()),
            ("vehicles on a forecourt", self.vehicles.to_string()),
            ("many senders", format!("{} of {} batches a second", self.senders, self.batches_per_second)),
            ("cores", placement.into()),
            ("seed", self.seed.to_string()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into()
    }
}

/// The consumer of a build that is measured.
#[derive(Debug, Args)]
pub(super) struct ConsumerArguments {
    #[arg(long)]
    broker: Broker,
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    keeping: Keeping,
    #[arg(long)]
    redis: Option<SocketAddr>,
    #[arg(long)]
    codes: PathBuf,
}

pub(super) fn consume(arguments: &ConsumerArguments) -> Ran {
    let ConsumerArguments { broker, address, keeping, redis, codes } = arguments;
    let codes = codes.clone();
    peers::consume(&ConsumerOptions { broker: *broker, address: *address, keeping: *keeping, redis: *redis, codes })?;
    Ok(Held(true))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.5..=600.0).contains(&seconds) { Ok(seconds) } else { Err("0.5 to 600 seconds".into()) }
}
