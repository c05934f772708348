//! `loadtest race`: Floors and flood in turn.

use clap::Args;
use loadtest::flood::race::Target;

use crate::{
    Ran,
    load::{self, LoadArguments, seconds},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: LoadArguments,
    /// Seconds between two scrapes of /metrics in turns of the engine that are run so, beside those that are run without:
    /// `scraped_ratio` is the frames a second of the ones to those of the others. 0 is no such turn.
    #[arg(long, default_value_t = 0.0)]
    scrape_seconds: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let every = Some(seconds(arguments.scrape_seconds)).filter(|every| !every.is_zero());
    let takes_part = |target: &Target| *target != Target::Scraped || every.is_some();
    let targets: Vec<Target> = Target::ALL.into_iter().filter(takes_part).collect();
    load::race(&arguments.load, "Floors and flood in turn", &targets, every)
}
