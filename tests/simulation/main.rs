//! Sessions and payments under every fault there is, by seed, in virtual time.
//!
//! One seed is one history: stations, drivers, phones, the journal, the PSP and what goes wrong between them, in one
//! thread and without a pause. It drives the structs that the actors are shells around ([`forecourt::session::plain`],
//! [`forecourt::payment::Cashier`]), and after every step the [`oracle`] looks whether all is as it must be.
//!
//! | environment | |
//! |---|---|
//! | `SIMULATION_SEEDS=N` | so many seeds, from 1 |
//! | `SIMULATION_SECONDS=S` | fresh seeds for so long |
//! | `SIMULATION_SEED=X` | that one alone |
//! | `SIMULATION_TRACE=1` | all steps of a history that failed instead of the last 60 |

mod car;
mod chance;
mod journal;
mod letter;
mod network;
mod operator;
mod oracle;
mod payments;
mod phone;
mod plants;
mod process;
mod psp;
mod runs;
mod terminal;
mod world;

use std::process::ExitCode;

use runs::Runs;

/// What a debug build does in some ten seconds on a core of its own.
const SEEDS: u64 = 2_000;

fn main() -> ExitCode {
    match Asked::from_arguments(std::env::args().skip(1)) {
        Asked::List => {
            println!("simulation: test");
            ExitCode::SUCCESS
        }
        Asked::Nothing => ExitCode::SUCCESS,
        Asked::Run => simulate(),
    }
}

fn simulate() -> ExitCode {
    runs::silence_panics();
    let runs = match (number("SIMULATION_SEED"), number("SIMULATION_SECONDS"), number("SIMULATION_SEEDS")) {
        (Some(seed), _, _) => Runs::One(seed),
        (_, Some(seconds), _) => Runs::For { seconds, first: fresh_seed() },
        (_, _, seeds) => Runs::Many(seeds.unwrap_or(SEEDS)),
    };
    let holds = runs.run() && (matches!(runs, Runs::One(_)) || runs::catch_plants());
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a whole number")))
}

fn fresh_seed() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.expect("it is past 1970").as_secs() << 20
}

/// What `cargo test` asks of every test program: to list its tests, or to run those whose name contains a filter.
enum Asked {
    Run,
    List,
    Nothing,
}

impl Asked {
    fn from_arguments(arguments: impl Iterator<Item = String>) -> Asked {
        let arguments: Vec<String> = arguments.collect();
        let is_said = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        if is_said("--list") {
            return Asked::List;
        }
        let is_named = filters.peek().is_none() || filters.any(|filter| "simulation".contains(filter.as_str()));
        if is_named && !is_said("--ignored") { Asked::Run } else { Asked::Nothing }
    }
}
