//! `loadtest compare`: two runs side by side.

use std::path::PathBuf;

use clap::Args;
use loadtest::report;

use super::{Held, Ran};

/// Compare two runs that were written with --report.
///
/// Every figure of both, their ratio, and whether it got better or worse where that is known; then the conditions and
/// facts of the machine in which the runs differ. Ends with 1 if a threshold that held in A is missed in B.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder of the run to compare with.
    a: PathBuf,

    /// The folder of the run to judge.
    b: PathBuf,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Ran {
    let comparison = report::compare(&arguments.a, &arguments.b)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&comparison)?);
    } else {
        print!("{comparison}");
    }
    Ok(Held(comparison.holds()))
}
