//! `loadtest crashes`: the engine killed again and again while sales go on.

use std::path::PathBuf;

use clap::Args;
use loadtest::{
    report::{Bound, Verdict},
    sessions::crashes::{self, Config, Outcome},
};

use crate::{
    Ran,
    bench::{PlaceArguments, TellArguments, block_on, judge, none},
};

/// Kills the engine (SIGKILL) again and again in the middle of sales: none that was acknowledged may be lost or charged
/// twice.
///
/// The PSP's own books are the oracle. Faults of the built-in simulator come by `--setting`, as
/// FORECOURT_PAYMENT_SIMULATOR_FAULT_PERMILLE=100.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 300)]
    kills: u32,
    /// Cars that are served at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    cars: u32,
    #[command(flatten)]
    place: PlaceArguments,
    /// Pay through localstripe instead, from this Python environment, behind a proxy that loses, delays, doubles and refuses
    /// requests; its books are the oracle then.
    #[arg(long, value_name = "FOLDER")]
    stripe: Option<PathBuf>,
    #[command(flatten)]
    tell: TellArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let config = Config {
        kills: arguments.kills,
        place: arguments.place.place(arguments.cars),
        stripe: arguments.stripe.clone(),
    };
    let outcome = block_on(crashes::run(&config, |line| eprintln!("{line}")))??;
    judge(
        "Sales while the engine is killed again and again",
        arguments.conditions(),
        &outcome,
        thresholds(&outcome),
        &arguments.tell,
    )
}

fn thresholds(outcome: &Outcome) -> Vec<Verdict> {
    vec![
        none("lost", outcome.sales.lost),
        none("stuck", outcome.sales.stuck),
        none("double_charged", outcome.sales.double_charged),
        none("wrongly_charged", outcome.sales.wrongly_charged),
        none("key_conflicts", outcome.key_conflicts),
        Verdict::new("completions", Bound::AtLeast(1.0), outcome.sales.completions as f64),
    ]
}

impl Arguments {
    fn conditions(&self) -> Vec<(String, String)> {
        let psp = if self.stripe.is_some() { "localstripe behind a proxy with faults" } else { "simulator" };
        let all = [
            ("kills", self.kills.to_string()),
            ("cars", self.cars.to_string()),
            ("seed", self.place.seed.to_string()),
            ("psp", psp.into()),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }
}
