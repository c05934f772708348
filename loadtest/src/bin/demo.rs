//! `cargo demo`: the whole of Forecourt in one process, with a simulated fleet at its doors.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use forecourt::engine::time::SlotLength;
use loadtest::{
    demo::{self, DemoConfig, DemoError},
    outcome::Outcome,
};

/// Starts Forecourt with everything embedded and lets a simulated fleet loose on it.
///
/// Cars with drifting dongles drive onto forecourts, receivers hear them through radio noise and send what they heard
/// over QUIC; attendants select them by the last four digits of their plate, cars lose power at the pump, phones fetch
/// proofs from dongles, and a simulated PSP takes the money. Nothing needs to be installed and nothing is left behind.
///
/// An oracle that knows the truth counts cars that were missed, vehicles or amounts that were wrong, and double
/// charges. When the time is over, cars at the pumps are served to the end (15 s at most).
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    version,
    after_help = "Exit codes: 0 all was right; 1 something was missed, wrong or \
charged twice; 2 bad arguments; 3 the demo could not run."
)]
struct Arguments {
    /// Ends after this many seconds; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,

    /// Prints the summary as one JSON object on standard output.
    #[arg(long)]
    json: bool,

    /// Stations, with four pumps and seven receivers each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    stations: u16,

    /// Registered cars; one in five only ever drives past.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    cars: u16,

    /// The same seed makes the same fleet.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Seconds for which a dongle broadcasts one code, 15 to 900. Short, so that codes change during a visit.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(15..=900))]
    slot_seconds: u32,

    /// Keeps the engine's data in this folder, which must be empty or not there yet; without it, they go to a temporary
    /// folder and are removed.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

const WRONG: u8 = 1;
const CANNOT_RUN: u8 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(outcome) => {
            print(&outcome, arguments.json);
            if outcome.counts.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) }
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Outcome, DemoError> {
    let temporary = tempfile::Builder::new().prefix("forecourt-demo-").tempdir()?;
    let config = DemoConfig {
        stations: arguments.stations,
        cars: arguments.cars,
        seed: arguments.seed,
        slot: SlotLength::from_seconds(arguments.slot_seconds).expect("clap checked the range"),
        data: arguments.data.clone().unwrap_or_else(|| temporary.path().into()),
        lasts: arguments.seconds.map(Duration::from_secs),
    };
    demo::run(config).await
}

fn print(outcome: &Outcome, json: bool) {
    if json {
        println!("{}", serde_json::to_string(outcome).expect("an outcome is plain data"));
    } else {
        print!("{outcome}");
    }
}
