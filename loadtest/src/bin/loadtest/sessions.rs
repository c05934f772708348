//! `loadtest sessions`: how many fuellings a second are selected, proven and paid.

use clap::Args;
use loadtest::{
    report::{Bound, Verdict},
    sessions::{self, Config, Outcome},
};

use crate::{
    Ran,
    bench::{PlaceArguments, TellArguments, block_on, judge, none},
};

/// Fuellings a second, from the selection to the payment, through HTTP and with every step durable.
///
/// A closed loop: each car is served again as soon as it has paid and is cleared. Engine and generator share the cores.
/// The disk that `--data` lies on is measured beside.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Served before the clock starts.
    #[arg(long, default_value_t = 3)]
    warm_up_seconds: u64,
    /// Cars that are served at a time, each with its phone's event stream.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    cars: u32,
    /// Cars at one station, each at a pump of its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=31))]
    cars_per_station: u32,
    /// Milliseconds that the PSP simulator takes for an answer.
    #[arg(long, default_value_t = 10)]
    psp_ms: u64,
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    tell: TellArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Ran {
    let config = Config {
        seconds: arguments.seconds,
        warm_up_seconds: arguments.warm_up_seconds,
        cars_per_station: arguments.cars_per_station as usize,
        psp_ms: arguments.psp_ms,
        place: arguments.place.place(arguments.cars),
    };
    let outcome = block_on(sessions::run(&config, |line| eprintln!("{line}")))??;
    judge(
        "Fuellings, from the selection to the payment",
        arguments.conditions(),
        &outcome,
        thresholds(&outcome),
        &arguments.tell,
    )
}

fn thresholds(outcome: &Outcome) -> Vec<Verdict> {
    vec![
        none("lost", outcome.lost),
        none("double_charged", outcome.double_charged),
        none("wrongly_charged", outcome.wrongly_charged),
        none("failed_calls", outcome.failed_calls),
        Verdict::new("sessions", Bound::AtLeast(1.0), outcome.sessions as f64),
    ]
}

impl Arguments {
    fn conditions(&self) -> Vec<(String, String)> {
        let all = [
            ("seconds", self.seconds.to_string()),
            ("cars", self.cars.to_string()),
            ("cars_per_station", self.cars_per_station.to_string()),
            ("psp_ms", self.psp_ms.to_string()),
            ("calls_per_session", "select, completion, proof, cleared; two event streams' words".into()),
            (
                "cores_shared_by_engine_and_generator",
                std::thread::available_parallelism().map_or(1, usize::from).to_string(),
            ),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }
}
