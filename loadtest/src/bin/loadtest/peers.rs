//! `loadtest peers`: what a chain's team would build instead.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use loadtest::{
    peers::{self, Broker, ConsumerOptions, Keeping, PeersOptions},
    report::Run,
};

use crate::{Held, Ran, bench::BenchArguments};

/// Measure what a chain's team would build instead, beside us.
///
/// nats-server and mosquitto, each with a consumer in Rust that resolves codes in a hash map and keeps presence in its
/// own memory or in redis-server; then `forecourt serve`. The same frames go through each, 25 a batch, from one fat
/// sender and from many; what counts is the CPU time of all processes but the sender. Needs Debian's packages
/// nats-server, mosquitto and redis-server; nothing needs to run, and nothing is left running.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
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
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    batches_per_second: f64,

    #[command(flatten)]
    bench: BenchArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let mut report = Run::new("", "Forecourt and what would be built instead");
    let outcome = arguments.bench.block_on(peers::run(&arguments.options()))??;
    report.conditions = arguments.conditions();
    report.summary = outcome.summary();
    report.tables = vec![outcome.table()];
    report.notes = outcome.notes();
    arguments.bench.tell(report)?;
    Ok(Held(true))
}

impl Arguments {
    fn options(&self) -> PeersOptions {
        PeersOptions {
            lasts: Duration::from_secs_f64(self.seconds),
            dongles: self.devices,
            seed: self.bench.seed,
            vehicles: self.vehicles.into(),
            senders: self.senders.into(),
            batches_per_second: self.batches_per_second,
            bench: self.bench.bench(),
        }
    }

    fn conditions(&self) -> Vec<(String, String)> {
        let own = [
            ("seconds", self.seconds.to_string()),
            ("devices", self.devices.to_string()),
            ("vehicles_per_station", self.vehicles.to_string()),
            ("senders", self.senders.to_string()),
            ("batches_per_second_each", self.batches_per_second.to_string()),
            ("seed", self.bench.seed.to_string()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        own.into_iter().chain(self.bench.bench().conditions()).chain(peers::versions()).collect()
    }
}

/// The consumer of a build that is measured.
#[derive(Debug, Args)]
pub(crate) struct ConsumerArguments {
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

pub(crate) fn consume(arguments: &ConsumerArguments) -> Ran {
    let ConsumerArguments { broker, address, keeping, redis, codes } = arguments;
    let codes = codes.clone();
    peers::consume(&ConsumerOptions { broker: *broker, address: *address, keeping: *keeping, redis: *redis, codes })?;
    Ok(Held(true))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.5..=600.0).contains(&seconds) { Ok(seconds) } else { Err("0.5 to 600 seconds".into()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.1..=10_000.0).contains(&rate) { Ok(rate) } else { Err("0.1 to 10000 batches a second".into()) }
}
