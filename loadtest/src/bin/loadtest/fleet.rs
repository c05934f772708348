//! `loadtest fleet`: A national fleet against the real engine.

use std::path::PathBuf;

use clap::Args;
use loadtest::{
    nation::{self, Options},
    process::placement,
    report::Run,
};

use crate::{
    Held, Ran,
    bench::{EngineArguments, block_on},
    command_line,
};

/// A national fleet against the real engine: cars, receivers, attendants and phones, and an oracle that knows the truth.
///
/// The scenarios that come with it are in `loadtest/scenarios`. Thresholds of the scenario decide the exit code.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What happens, as a TOML file.
    scenario: PathBuf,
    /// The part of the scenario's stations that takes part, more than 0 and at most 1: what this machine carries.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    rate_share: f64,
    /// Leave engine and generator wherever the system likes; else the generator has the last core to itself.
    #[arg(long)]
    no_pinning: bool,
    /// Keep the engine's data in this folder, which must not be there yet; else it is temporary.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    serve: EngineArguments,
    /// Write summary.json, latency logs and report.html here.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("is more than 0 and at most 1".into()) }
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let temporary = tempfile::Builder::new().prefix("forecourt-fleet-").tempdir()?;
    let (engine_cores, generator_cores) = placed(arguments.no_pinning)?;
    let options = Options {
        command: command_line(),
        scenario: arguments.scenario.clone(),
        rate_share: arguments.rate_share,
        data: arguments.data.clone().unwrap_or_else(|| temporary.path().join("engine")),
        engine_cores,
        generator_cores,
        engine: arguments.serve.engine.clone(),
        settings: arguments.serve.settings.clone(),
    };
    let run = block_on(nation::run(&options))??;
    if let Some(folder) = &arguments.report {
        run.write(folder)?;
    }
    if arguments.json {
        println!("{}", run.document());
    } else {
        print(&run);
    }
    Ok(Held(run.passed()))
}

/// The generator keeps to the last core, the engine to the others; where there is only one, both take it.
type Cores = Option<Vec<usize>>;

fn placed(nowhere: bool) -> std::io::Result<(Cores, Cores)> {
    let mut cores = placement::current()?;
    if nowhere || cores.len() < 2 {
        return Ok((None, None));
    }
    let last = cores.pop().into_iter().collect::<Vec<_>>();
    placement::pin(&last)?;
    Ok((Some(cores), Some(last)))
}

fn print(run: &Run) {
    println!("{}", run.title);
    for (key, value) in &run.summary {
        println!("  {key:28} {value}");
    }
    for verdict in &run.thresholds {
        let held = if verdict.held { "held  " } else { "MISSED" };
        println!("  {held} {} {}: {}", verdict.key, verdict.bound, verdict.value);
    }
    run.notes.iter().for_each(|note| println!("  - {note}"));
}
