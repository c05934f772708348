//! Arguments that floor, flood and race have in common.

use std::{error::Error, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use loadtest::{
    flood::{
        Load,
        dongles::Dongles,
        race::{self, Config, Target},
        sink,
        summary::Summary,
    },
    process::{host::Facts, placement},
};
use serde_json::Value;

use crate::{Held, Ran};

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
    /// The same seed makes the same chain and the same traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each takes its turn.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// Seconds of a turn; its first quarter is not counted.
    #[arg(long, default_value_t = 1.0)]
    slice_seconds: f64,
    /// Seconds before the first turn in which the vehicles drive onto their forecourts.
    #[arg(long, default_value_t = 2.0)]
    warm_up_seconds: f64,
    /// Cores of engine and sink, separated by commas; "any" leaves them to the system.
    #[arg(long, default_value = "0", value_parser = cores)]
    receiver_cores: Cores,
    /// Cores of the generator.
    #[arg(long, default_value = "1", value_parser = cores)]
    sender_cores: Cores,
    #[arg(long, default_value_t = 1)]
    sender_threads: usize,
    /// The runtime of the sink.
    #[arg(long, value_enum, default_value_t = Runtime::Current)]
    sink_runtime: Runtime,
    /// Keep the chain's data folder here; without it, in the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The engine's program; without it, the `forecourt` beside this one.
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// A setting of the engine, as FORECOURT_<SECTION>_<KEY>=VALUE; may be given again.
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
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

/// `None`: wherever the system likes.
#[derive(Debug, Clone)]
pub(crate) struct Cores(Option<Vec<usize>>);

fn cores(text: &str) -> Result<Cores, String> {
    if text == "any" {
        return Ok(Cores(None));
    }
    let numbers = text.split(',').map(|core| core.trim().parse::<usize>().map_err(|_| format!("{core:?} is no core")));
    Ok(Cores(Some(numbers.collect::<Result<_, _>>()?)))
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

impl LoadArguments {
    fn config(&self, targets: &[Target]) -> Config {
        let given = |value: f64| (value > 0.0).then_some(value);
        let load = Load {
            connections: self.connections,
            stations: self.connections,
            frames_per_batch: self.frames_per_batch,
            batches_per_second: given(self.batches_per_second),
            vehicles: self.vehicles,
            turnover_s: given(self.turnover_every),
            codes_s: given(self.codes_change_every),
            unknown_share: self.unknown_share,
            dongles: Dongles { seed: self.seed, count: self.devices },
        };
        Config {
            load,
            targets: targets.into(),
            rounds: self.rounds,
            slice: seconds(self.slice_seconds),
            warm_up: seconds(self.warm_up_seconds),
            sink_runtime: self.sink_runtime.into(),
            receiver_cores: self.receiver_cores.0.clone(),
            sender_threads: self.sender_threads,
            data: self.data.clone(),
            engine: self.engine.clone(),
            settings: self.settings.clone(),
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Runs the race of these targets and prints what it came to.
pub(crate) fn race(arguments: &LoadArguments, targets: &[Target]) -> Ran {
    let config = arguments.config(targets);
    if let Some(cores) = &arguments.sender_cores.0 {
        placement::pin(cores)?;
    }
    let sender_cores = placement::current()?.len().min(arguments.sender_threads);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(race::run(&config, |line| eprintln!("{line}")))?;
    let summary = Summary::of(outcome, sender_cores)?;
    print(arguments, &config, &summary)?;
    Ok(Held(summary.is_clean()))
}

fn print(arguments: &LoadArguments, config: &Config, summary: &Summary) -> Result<(), Box<dyn Error>> {
    if arguments.json {
        let mut keys = summary.keys();
        keys.extend(config.conditions().into_iter().map(|(key, value)| (key, Value::String(value))));
        keys.insert("host".into(), serde_json::to_value(Facts::read())?);
        println!("{}", Value::Object(keys));
    } else {
        for (key, value) in config.conditions() {
            println!("{key}: {value}");
        }
        print!("\n{summary}");
    }
    Ok(())
}
