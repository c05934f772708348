//! `forecourt serve`: the engine until it is told to stop.

use forecourt::{
    app::{App, DataFolder},
    config::Settings,
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    let folder = DataFolder::take(&settings.engine.data)?;
    println!("settings hold; the data folder {} is free", folder.path().display());
    Ok(())
}

pub(super) fn run(settings: Settings) -> Result<(), Failure> {
    telemetry::log(&settings.log)?;
    actix::System::new().block_on(async {
        let app = App::start(settings).await?;
        until_told_to_stop().await?;
        app.stop().await;
        Ok(())
    })
}

async fn until_told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
