//! The `forecourt` command: arguments, settings, app, drain.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("forecourt: {failure}");
            failure.exit_code()
        }
    }
}
