//! `loadtest panels` and `loadtest dashboards`: what ships in `grafana/`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use loadtest::grafana::{
    self,
    trial::{self, Answer, Config},
};

use crate::{Held, Ran, bench::block_on};

/// Asks every query of the dashboards and rules of a real Prometheus that scrapes a real engine under a small town's
/// traffic, and prints the answers.
///
/// Needs Debian's prometheus and redis-server. A query without an answer ends it with exit code 1.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long the town lives before it is asked.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// The same seed makes the same town.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The engine's program; without it, the `forecourt` beside this one.
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let temporary = tempfile::Builder::new().prefix("forecourt-panels-").tempdir()?;
    let config = Config {
        lasts: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
        data: temporary.path().join("engine"),
        engine: arguments.engine.clone(),
    };
    let answers = block_on(trial::run(&config))??;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&answers)?);
    } else {
        answers.iter().for_each(print);
    }
    let empty: Vec<&Answer> = answers.iter().filter(|answer| !answer.has_data()).collect();
    for Answer { of, name, query, error, .. } in &empty {
        eprintln!("no data: {of}: {name}: {query} {}", error.as_deref().unwrap_or_default());
    }
    eprintln!("{} queries asked, {} without data", answers.len(), empty.len());
    Ok(Held(empty.is_empty()))
}

fn print(answer: &Answer) {
    println!("{}: {}\n    {}", answer.of, answer.name, answer.query);
    answer.series.iter().for_each(|series| println!("        {series}"));
}

/// Writes the dashboards for Grafana from what people write.
pub(crate) fn write() -> Ran {
    for path in grafana::write(&grafana::folder())? {
        println!("{}", path.display());
    }
    Ok(Held(true))
}
