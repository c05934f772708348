//! `loadtest uplinks`: many uplinks held, and all of them back after they broke at once.

use clap::Args;
use loadtest::flood::{Load, chain::SLOT, dongles::Dongles, uplinks};

use crate::{
    Held, Ran,
    bench::{BenchArguments, report_of},
};

#[derive(Debug, Args)]
pub(crate) struct UplinksArguments {
    /// Uplinks, each of a station of its own.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// On each forecourt, so that an uplink is held with what it brings along.
    #[arg(long, default_value_t = 10)]
    vehicles: usize,
    /// Dongles in the engine's codebook.
    #[arg(long, default_value_t = 100_000)]
    devices: u64,
    #[command(flatten)]
    bench: BenchArguments,
}

pub(crate) fn run(arguments: &UplinksArguments) -> Ran {
    let load = Load {
        connections: arguments.connections,
        stations: arguments.connections,
        frames_per_batch: 25,
        batches_per_second: None,
        vehicles: arguments.vehicles,
        turnover_s: None,
        codes_s: None,
        clocks_s: 0.0,
        unknown_share: 0.0,
        dongles: Dongles { seed: arguments.bench.seed, count: arguments.devices },
        slot: SLOT,
    };
    let config = uplinks::Config { load, bench: arguments.bench.bench() };
    let outcome = arguments.bench.block_on(uplinks::run(&config, |line| eprintln!("{line}")))??;
    arguments.bench.tell(report_of("Many uplinks, and all of them back", &load, &config.bench, &outcome)?)?;
    Ok(Held(outcome.is_clean()))
}
