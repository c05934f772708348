//! `loadtest sink`: the process that a floor is measured with. Started by the other commands, and of no use by itself.

use std::path::PathBuf;

use clap::Args;
use loadtest::flood::sink;

use crate::{Held, Ran, load::Runtime};

#[derive(Debug, Args)]
pub(crate) struct SinkArguments {
    /// The data folder whose certificates are shown.
    #[arg(long)]
    data: PathBuf,
    #[arg(long, value_enum)]
    runtime: Runtime,
}

pub(crate) fn run(arguments: &SinkArguments) -> Ran {
    sink::run(&arguments.data, arguments.runtime.into())?;
    Ok(Held(true))
}
