//! Arguments that say where a run takes place, and how its results are told.

use std::{error::Error, path::PathBuf};

use clap::Args;
use loadtest::{
    flood::{Bench, Load},
    process::{host::Facts, placement},
    report::{Bound, Run, Table, Verdict},
    sessions::Place,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Held, Ran};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// The same seed makes the same chain and the same traffic.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Cores of engine and sink, separated by commas; "any" leaves them to the system.
    #[arg(long, default_value = "0", value_parser = cores)]
    receiver_cores: Cores,
    /// Cores of the generator.
    #[arg(long, default_value = "1", value_parser = cores)]
    sender_cores: Cores,
    #[arg(long, default_value_t = 1)]
    sender_threads: usize,
    /// Keep the chain's data folder here; without it, in the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    serve: EngineArguments,
    #[command(flatten)]
    tell: TellArguments,
}

/// Runs it on this thread.
pub(crate) fn block_on<T>(run: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run))
}

/// Which engine is started, and how it is set.
#[derive(Debug, Args)]
pub(crate) struct EngineArguments {
    /// The engine's program; without it, the `forecourt` beside this one.
    #[arg(long, value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
    /// A setting of the engine, as FORECOURT_<SECTION>_<KEY>=VALUE; may be given again.
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
}

/// Where sales take place.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    /// The same seed makes the same chain, and stops or kills the engine at the same times where that is done.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the engine's data folder is made; without it, in the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    serve: EngineArguments,
}

/// How the results are told.
#[derive(Debug, Args)]
pub(crate) struct TellArguments {
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Write the run into this folder: summary.json and report.html.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

/// `None`: wherever the system likes.
#[derive(Debug, Clone)]
struct Cores(Option<Vec<usize>>);

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

impl PlaceArguments {
    pub(crate) fn place(&self, cars: u32) -> Place {
        Place {
            seed: self.seed,
            cars: cars as usize,
            folder: self.data.clone(),
            engine: self.serve.engine.clone(),
            settings: self.serve.settings.clone(),
        }
    }
}

impl BenchArguments {
    pub(crate) fn bench(&self) -> Bench {
        Bench {
            receiver_cores: self.receiver_cores.0.clone(),
            sender_threads: self.sender_threads,
            data: self.data.clone(),
            engine: self.serve.engine.clone(),
            settings: self.serve.settings.clone(),
        }
    }

    /// Takes the generator's cores, and runs there. Nothing of the generator runs elsewhere: its threads come after.
    pub(crate) fn block_on<T>(&self, run: impl Future<Output = T>) -> std::io::Result<T> {
        if let Some(cores) = &self.sender_cores.0 {
            placement::pin(cores)?;
        }
        block_on(run)
    }

    /// How many cores the generator can keep busy.
    pub(crate) fn sender_cores(&self) -> std::io::Result<usize> {
        Ok(placement::current()?.len().min(self.sender_threads))
    }

    pub(crate) fn tell(&self, run: Run) -> Result<(), Box<dyn Error>> {
        self.tell.tell(run)
    }
}

impl TellArguments {
    /// Tells what came of the run, to whoever is to know.
    pub(crate) fn tell(&self, mut run: Run) -> Result<(), Box<dyn Error>> {
        run.host = serde_json::to_value(Facts::read())?;
        run.command = crate::command_line();
        if let Some(folder) = &self.report {
            run.write(folder)?;
            eprintln!("the report is {}", folder.join("report.html").display());
        }
        if self.json {
            println!("{}", serde_json::to_string(&run.document())?);
        } else {
            print_text(&run);
        }
        Ok(())
    }
}

/// The report of a load whose outcome is figures that are one each.
pub(crate) fn report_of(title: &str, load: &Load, bench: &Bench, outcome: &impl Serialize) -> serde_json::Result<Run> {
    run_of(title, load.conditions().into_iter().chain(bench.conditions()).collect(), outcome)
}

/// The same, under any conditions.
pub(crate) fn run_of(
    title: &str,
    conditions: Vec<(String, String)>,
    outcome: &impl Serialize,
) -> serde_json::Result<Run> {
    let mut run = Run::new("", title);
    run.conditions = conditions;
    run.summary = keys(outcome)?;
    run.tables = vec![figures(&run.summary)];
    Ok(run)
}

/// Tells what a run came to, and whether that is within its bounds.
pub(crate) fn judge(
    title: &str,
    conditions: Vec<(String, String)>,
    outcome: &impl Serialize,
    thresholds: Vec<Verdict>,
    tell: &TellArguments,
) -> Ran {
    let report = Run { thresholds, ..run_of(title, conditions, outcome)? };
    let held = Held(report.passed());
    tell.tell(report)?;
    Ok(held)
}

/// What must not happen.
pub(crate) fn none(key: &str, count: u64) -> Verdict {
    Verdict::new(key, Bound::AtMost(0.0), count as f64)
}

fn figures(keys: &Map<String, Value>) -> Table {
    Table {
        title: "What it came to".into(),
        columns: ["", "value"].map(str::to_owned).into(),
        rows: keys.iter().map(|(key, value)| vec![key.clone(), value.to_string()]).collect(),
    }
}

/// Figures with names, as the keys of a summary.
pub(crate) fn keys(of: &impl Serialize) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(of)? {
        Value::Object(keys) => Ok(keys),
        _ => unreachable!("figures with names are an object"),
    }
}

fn print_text(run: &Run) {
    for (key, value) in &run.conditions {
        println!("{key}: {value}");
    }
    for table in &run.tables {
        println!("\n{}", table.title);
        let rows = || std::iter::once(&table.columns).chain(&table.rows);
        let width = |column| rows().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
        for row in rows() {
            let cells = row.iter().enumerate().map(|(column, cell)| match column {
                0 => format!("{cell:<width$}", width = width(column)),
                _ => format!("{cell:>width$}", width = width(column)),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  "));
        }
    }
    println!();
    run.notes.iter().for_each(|note| println!("{note}"));
}
