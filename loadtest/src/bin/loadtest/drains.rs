//! `loadtest drains`: the engine told to stop under load, and started again.

use clap::Args;
use loadtest::{
    report::{Bound, Verdict},
    sessions::drains::{self, Config, Outcome},
};

use crate::{
    Ran,
    bench::{PlaceArguments, TellArguments, block_on, judge, none},
};

/// Stops the engine (SIGTERM) under the load of uplinks and sales and starts it again, several times: no frame, session or
/// parked car may be lost, and nothing charged twice.
///
/// The windows that the engine writes down, the uplinks' spools and the PSP's own books are the oracle. It says how long a
/// drain took.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 20)]
    drains: u32,
    /// Cars at eight pumps a station; of each eight, two are parked and silent, and the others are served all the while.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    cars: u32,
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    tell: TellArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let config = Config { drains: arguments.drains, place: arguments.place.place(arguments.cars) };
    let outcome = block_on(drains::run(&config, |line| eprintln!("{line}")))??;
    judge(
        "The engine stopped under load, again and again",
        arguments.conditions(),
        &outcome,
        thresholds(&outcome),
        &arguments.tell,
    )
}

fn thresholds(outcome: &Outcome) -> Vec<Verdict> {
    vec![
        none("drains_overrun", outcome.drains_overrun),
        none("frames_lost", outcome.frames_lost),
        none("frames_undelivered", outcome.frames_undelivered),
        none("parked_forgotten", outcome.parked_forgotten),
        none("lost", outcome.sales.lost),
        none("stuck", outcome.sales.stuck),
        none("double_charged", outcome.sales.double_charged),
        none("wrongly_charged", outcome.sales.wrongly_charged),
        Verdict::new("frames", Bound::AtLeast(1.0), outcome.frames as f64),
        Verdict::new("completions", Bound::AtLeast(1.0), outcome.sales.completions as f64),
    ]
}

impl Arguments {
    fn conditions(&self) -> Vec<(String, String)> {
        let all = [
            ("drains", self.drains.to_string()),
            ("cars", self.cars.to_string()),
            ("seed", self.place.seed.to_string()),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }
}
