//! `loadtest import`: how many lines a minute an import of dongles takes.

use std::path::PathBuf;

use clap::Args;
use loadtest::{
    flood::dongles::Dongles,
    imports::{self, Config},
};

use crate::{Held, Ran, bench::block_on};

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// Lines of the file.
    #[arg(long, default_value_t = 1_000_000)]
    devices: u64,
    /// The same seed makes the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A phone, two means of payment and an activation code on each line, beside plate and fuel.
    #[arg(long)]
    full: bool,
    /// Once more through a running engine, with another writer beside.
    #[arg(long)]
    through_engine: bool,
    /// The engine's program; without it, the `forecourt` beside this one.
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &ImportArguments) -> Ran {
    let config = Config {
        dongles: Dongles { seed: arguments.seed, count: arguments.devices },
        is_full: arguments.full,
        through_engine: arguments.through_engine,
        engine: arguments.engine.clone(),
    };
    let imported = block_on(imports::run(&config))??;
    if arguments.json {
        println!("{}", serde_json::to_string(&imported)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&imported)?);
    }
    Ok(Held(true))
}
