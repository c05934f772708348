//! `loadtest overload`: more than the engine takes, and the way back to normal.

use clap::Args;
use loadtest::flood::{Load, chain::SLOT, dongles::Dongles, overload};

use crate::{
    Held, Ran,
    bench::{BenchArguments, report_of},
    load::seconds,
};

#[derive(Debug, Args)]
pub(crate) struct OverloadArguments {
    /// Few and fat by default: nobody else can offer so much from one core.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 250)]
    frames_per_batch: usize,
    #[arg(long, default_value_t = 40)]
    vehicles: usize,
    #[arg(long, default_value_t = 100_000)]
    devices: u64,
    /// How many times its capacity the engine is offered.
    #[arg(long, default_value_t = 2.0)]
    times: f64,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds within which latency has to be normal again.
    #[arg(long, default_value_t = 5.0)]
    recover_within: f64,
    #[command(flatten)]
    bench: BenchArguments,
}

pub(crate) fn run(arguments: &OverloadArguments) -> Ran {
    let load = Load {
        connections: arguments.connections,
        stations: arguments.connections,
        frames_per_batch: arguments.frames_per_batch,
        batches_per_second: None,
        vehicles: arguments.vehicles,
        turnover_s: None,
        codes_s: None,
        clocks_s: 0.0,
        unknown_share: 0.0,
        dongles: Dongles { seed: arguments.bench.seed, count: arguments.devices },
        slot: SLOT,
    };
    let config = overload::Config {
        load,
        times: arguments.times,
        lasts: seconds(arguments.seconds),
        bench: arguments.bench.bench(),
    };
    let outcome = arguments.bench.block_on(overload::run(&config, |line| eprintln!("{line}")))??;
    arguments.bench.tell(report_of("More than the engine takes", &load, &config.bench, &outcome)?)?;
    let is_back = outcome.recovered_seconds.is_some_and(|seconds| seconds <= arguments.recover_within);
    Ok(Held(outcome.is_clean() && is_back))
}
