//! `cargo loadtest`: the load generator. One command a file; each reads its arguments, calls the library and prints.

mod bench;
mod codebook;
mod compare;
mod crashes;
mod drains;
mod fleet;
mod flood;
mod floor;
mod growth;
mod import;
mod load;
mod overload;
mod panels;
mod peers;
mod race;
mod rolls;
mod sessions;
mod sink;
mod uplinks;

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};

/// Puts load on a real Forecourt engine, and on what it must be compared with, and says what came of it.
///
/// Results go to standard output, progress to standard error. Every command starts the engine that was built beside
/// it (`cargo build --release -p forecourt --bin forecourt`), on the loopback and on free ports.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    after_help = "Exit codes: 0 all thresholds held; 1 a threshold was missed, or something happened that must not; \
2 bad arguments; 3 it could not run."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the wire itself takes: a bare QUIC sink in the engine's place, with plain records and with the flood's bytes.
    Floor(load::LoadArguments),
    /// As many frames as the engine takes, every one decoded, resolved and windowed.
    Flood(load::LoadArguments),
    /// Floors and flood in turn, in many short slices, and how they compare.
    Race(race::Arguments),
    /// What a frame costs, and how long a car takes to the screen, as the chain grows.
    Growth(growth::GrowthArguments),
    /// Hold many uplinks, break them all at once, and see them come back.
    Uplinks(uplinks::UplinksArguments),
    /// Offer twice what the engine takes, and see memory, loss and the way back to normal.
    Overload(overload::OverloadArguments),
    Codebook(codebook::Arguments),
    Rolls(rolls::RollsArguments),
    /// Import a file of dongles, the same again, and once more through a running engine.
    Import(import::ImportArguments),
    Fleet(fleet::Arguments),
    Sessions(sessions::Arguments),
    Crashes(crashes::Arguments),
    Drains(drains::Arguments),
    Panels(panels::Arguments),
    /// Write grafana/dashboards/*.json anew from the TOML beside them.
    Dashboards,
    #[command(hide = true)]
    Sink(sink::SinkArguments),
    /// Print what is known of this machine and this build, as it stands in every report.
    Host,
    Compare(compare::Arguments),
    Peers(peers::Arguments),
    #[command(hide = true)]
    PeersConsumer(peers::ConsumerArguments),
}

/// What a command came to: whether everything held.
type Ran = Result<Held, Box<dyn Error>>;

/// Every threshold held, and nothing happened that must not.
struct Held(bool);

const MISSED: u8 = 1;
const CANNOT_RUN: u8 = 3;

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(Held(true)) => ExitCode::SUCCESS,
        Ok(Held(false)) => ExitCode::from(MISSED),
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn run(command: &Command) -> Ran {
    match command {
        Command::Floor(arguments) => floor::run(arguments),
        Command::Flood(arguments) => flood::run(arguments),
        Command::Race(arguments) => race::run(arguments),
        Command::Growth(arguments) => growth::run(arguments),
        Command::Uplinks(arguments) => uplinks::run(arguments),
        Command::Overload(arguments) => overload::run(arguments),
        Command::Codebook(arguments) => codebook::run(arguments),
        Command::Rolls(arguments) => rolls::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Fleet(arguments) => fleet::run(arguments),
        Command::Sessions(arguments) => sessions::run(arguments),
        Command::Crashes(arguments) => crashes::run(arguments),
        Command::Drains(arguments) => drains::run(arguments),
        Command::Panels(arguments) => panels::run(arguments),
        Command::Dashboards => panels::write(),
        Command::Sink(arguments) => sink::run(arguments),
        Command::Host => print_host(),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Peers(arguments) => peers::run(arguments),
        Command::PeersConsumer(arguments) => peers::consume(arguments),
    }
}

/// What was typed, for the report.
fn command_line() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("loadtest {}", words.join(" "))
}

fn print_host() -> Ran {
    println!("{}", serde_json::to_string_pretty(&loadtest::process::host::Facts::read())?);
    Ok(Held(true))
}
