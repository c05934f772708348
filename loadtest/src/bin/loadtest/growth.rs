//! `loadtest growth`: what one frame costs as the chain grows.

use clap::{Args, ValueEnum};
use loadtest::{
    flood::{dongles::Dongles, growth},
    report::Run,
};
use serde_json::{Value, json};

use crate::{Held, Ran, bench::BenchArguments, load::seconds};

#[derive(Debug, Args)]
pub(crate) struct GrowthArguments {
    /// Along which axis; may be given again. Without it along all.
    #[arg(long = "axis", value_enum)]
    axes: Vec<Axis>,
    /// Only the first three points of each axis.
    #[arg(long)]
    quick: bool,
    /// Dongles in the codebook, where another axis grows.
    #[arg(long, default_value_t = 1_000_000)]
    devices: u64,
    /// Batches a second, of all uplinks together.
    #[arg(long, default_value_t = 10_000.0)]
    batches_per_second: f64,
    /// Seconds counted at each point.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[command(flatten)]
    bench: BenchArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Axis {
    Uplinks,
    Stations,
    Dongles,
    Frames,
}

impl From<Axis> for growth::Axis {
    fn from(axis: Axis) -> growth::Axis {
        match axis {
            Axis::Uplinks => growth::Axis::Uplinks,
            Axis::Stations => growth::Axis::Stations,
            Axis::Dongles => growth::Axis::Dongles,
            Axis::Frames => growth::Axis::Frames,
        }
    }
}

pub(crate) fn run(arguments: &GrowthArguments) -> Ran {
    let given: Vec<growth::Axis> = arguments.axes.iter().copied().map(Into::into).collect();
    let config = growth::Config {
        axes: if given.is_empty() { growth::Axis::ALL.into() } else { given },
        is_quick: arguments.quick,
        dongles: Dongles { seed: arguments.bench.seed, count: arguments.devices },
        batches_per_second: arguments.batches_per_second,
        lasts: seconds(arguments.seconds),
        bench: arguments.bench.bench(),
    };
    let mut report = Run::new("", "How the cost grows with the chain");
    let grown = arguments.bench.block_on(growth::run(&config, |line| eprintln!("{line}")))??;
    report.conditions = config.bench.conditions();
    report.conditions.push(("batches_per_second".into(), config.batches_per_second.to_string()));
    for growth in &grown {
        for point in &growth.points {
            let Value::Object(figures) = json!(point) else { unreachable!("a point is an object") };
            report.summary.extend(figures.into_iter().map(|(figure, value)| (growth.key(point, &figure), value)));
        }
        report.curves.extend(growth.curves());
        report.tables.push(growth.table());
    }
    arguments.bench.tell(report)?;
    Ok(Held(grown.iter().flat_map(|growth| &growth.points).all(|point| point.lost == 0)))
}
