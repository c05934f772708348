//! `loadtest codebook`: what the codebook of a whole country takes.

use std::{num::NonZero, path::PathBuf};

use clap::Args;
use forecourt::registration::RedisUrl;
use loadtest::{
    codebook::{self, Config, Outcome},
    report::{Run, Table},
};
use serde_json::{Map, Value};

use crate::{
    Held, Ran,
    bench::{TellArguments, keys, none},
};

/// Memory, look-ups, rolls and a start of a codebook with that many dongles, and with 100 thousand beside them.
///
/// In this process, with synthetic dongles. `bytes_per_device` is resident memory as the kernel counts it, with keys, ids and
/// clocks; `lookup_hit_ns` and `lookup_miss_ns` are medians over slices of batches, `single_...` of one look-up after the
/// other; `lookup_hit_growth` and `lookup_miss_growth` compare the two books, which take turns; `roll_ns_per_device` is of one
/// core and has changes to take in.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Dongles in the book.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=200_000_000))]
    devices: u64,
    /// Threads of the first build. A roll has one, and a start from a snapshot has all cores.
    #[arg(long, default_value = "1")]
    threads: NonZero<usize>,
    /// Random codes to throw at the full book, none of which may be accepted.
    #[arg(long, default_value_t = 0)]
    forged: u64,
    /// The same seed makes the same dongles.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the snapshot is written, 45 bytes a dongle; without it, in the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// A Redis to write the segments to and start from, as redis://host:port; they stay there, under a name of their own.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    #[command(flatten)]
    tell: TellArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let config = Config {
        devices: usize::try_from(arguments.devices)?,
        seed: arguments.seed,
        threads: arguments.threads,
        forged: arguments.forged,
        folder: arguments.data.clone(),
        redis: arguments.redis.clone().map(RedisUrl::new),
    };
    let mut report = Run::new("", "The codebook of a whole country");
    let outcome = codebook::run(&config, |line| eprintln!("{line}"))?;
    report.conditions = arguments.conditions();
    report.tables = vec![table(&outcome)?];
    report.summary = keys(&outcome)?;
    report.thresholds = vec![
        none("accepted", outcome.accepted),
        none("wrong", outcome.full.wrong),
        none("at_100_thousand.wrong", outcome.at_100_thousand.wrong),
    ];
    let held = Held(report.passed());
    arguments.tell.tell(report)?;
    Ok(held)
}

impl Arguments {
    fn conditions(&self) -> Vec<(String, String)> {
        let all = [
            ("devices_asked", self.devices.to_string()),
            ("threads_of_the_first_build", self.threads.to_string()),
            ("threads_of_a_roll", "1".into()),
            ("threads_of_a_start", std::thread::available_parallelism().map_or(1, NonZero::get).to_string()),
            ("seed", self.seed.to_string()),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }
}

/// Each figure beside the same at 100 thousand.
fn table(outcome: &Outcome) -> serde_json::Result<Table> {
    let small: Map<String, Value> = keys(&outcome.at_100_thousand)?;
    let all = keys(outcome)?;
    let rows = all.iter().filter(|(_, value)| value.is_number()).map(|(key, value)| {
        let beside = small.get(key).map_or_else(String::new, shown);
        vec![key.clone(), shown(value), beside]
    });
    let columns = ["", "value", "at 100 thousand"].map(str::to_owned).into();
    Ok(Table { title: "What it came to".into(), columns, rows: rows.collect() })
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(float) if value.is_f64() => format!("{float:.2}"),
        _ => value.to_string(),
    }
}
