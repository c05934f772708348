//! Arguments that floor, flood and race have in common.

use std::time::Duration;

use clap::{Args, ValueEnum};
use loadtest::{
    flood::{
        Load,
        chain::SLOT,
        dongles::Dongles,
        race::{self, Config, Target},
        sink,
        summary::Summary,
    },
    report::Run,
};

use crate::{Held, Ran, bench::BenchArguments};

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// Uplinks, each of a station of its own.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    #[arg(long, default_value_t = 250)]
    frames_per_batch: usize,
    /// Of each connection, by the clock; 0 is as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    batches_per_second: f64,
    /// On each forecourt at a time.
    #[arg(long, default_value_t = 40)]
    vehicles: usize,
    /// Seconds after which one vehicle of each station makes way for another; 0 is never.
    #[arg(long, default_value_t = 1.0)]
    turnover_every: f64,
    /// Seconds after which all codes change at once, as at the end of a slot; 0 is never.
    #[arg(long, default_value_t = 0.0)]
    codes_change_every: f64,
    /// The part of the vehicles whose codes are in no book, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    unknown_share: f64,
    /// Dongles in the engine's codebook. The first run with a number of them imports them, which takes a while.
    #[arg(long, default_value_t = 1_000_000)]
    devices: u64,
    /// How often each takes its turn.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// Seconds of a turn; its first quarter is not counted.
    #[arg(long, default_value_t = 1.0)]
    slice_seconds: f64,
    /// Seconds that each sends before the first turn; longer if vehicles are still driving onto their forecourts.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// The runtime of the sink.
    #[arg(long, value_enum, default_value_t = Runtime::Current)]
    sink_runtime: Runtime,
    #[command(flatten)]
    bench: BenchArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Current,
    Multi,
}

impl From<Runtime> for sink::SinkRuntime {
    fn from(runtime: Runtime) -> sink::SinkRuntime {
        match runtime {
            Runtime::Current => sink::SinkRuntime::Current,
            Runtime::Multi => sink::SinkRuntime::Multi,
        }
    }
}

impl LoadArguments {
    fn load(&self) -> Load {
        let given = |value: f64| (value > 0.0).then_some(value);
        Load {
            connections: self.connections,
            stations: self.connections,
            frames_per_batch: self.frames_per_batch,
            batches_per_second: given(self.batches_per_second),
            vehicles: self.vehicles,
            turnover_s: given(self.turnover_every),
            codes_s: given(self.codes_change_every),
            clocks_s: 0.0,
            unknown_share: self.unknown_share,
            dongles: Dongles { seed: self.bench.seed, count: self.devices },
            slot: SLOT,
        }
    }

    fn config(&self, targets: &[Target], scrape_every: Option<Duration>) -> Config {
        Config {
            load: self.load(),
            targets: targets.into(),
            rounds: self.rounds,
            slice: seconds(self.slice_seconds),
            warm_up: seconds(self.warm_up_seconds),
            scrape_every,
            sink_runtime: self.sink_runtime.into(),
            bench: self.bench.bench(),
        }
    }
}

/// What is no length of time is none.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Runs the race of these targets and tells what it came to. `scrape_every`: of who is scraped, if one is.
pub(crate) fn race(arguments: &LoadArguments, title: &str, targets: &[Target], scrape_every: Option<Duration>) -> Ran {
    let config = arguments.config(targets, scrape_every);
    let mut report = Run::new("", title);
    let outcome = arguments.bench.block_on(race::run(&config, |line| eprintln!("{line}")))??;
    let summary = Summary::of(outcome, arguments.bench.sender_cores()?, config.load.frames_per_second())?;
    report.conditions = config.conditions();
    report.summary = summary.keys();
    report.series = summary.series();
    report.tables = summary.tables();
    report.notes = summary.notes();
    arguments.bench.tell(report)?;
    Ok(Held(summary.is_clean()))
}
