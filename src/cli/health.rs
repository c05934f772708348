//! `forecourt health`: whether the running engine is ready, for who can run a command and no HTTP client.

use forecourt::config::Settings;

use super::{Failure, block_on, print, running::Running};

pub(super) fn run(settings: &Settings) -> Result<(), Failure> {
    let running = block_on(async { Ok(Running::on(&settings.engine.data).await) })?;
    let health = running.and_then(|running| running.health).ok_or(Failure::NotReady)?;
    print(&format!("{health}\n"))?;
    if health["ready"] == true { Ok(()) } else { Err(Failure::NotReady) }
}
