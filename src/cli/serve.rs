//! `forecourt serve`: the engine until it is told to stop.

use forecourt::{
    app::{App, DataFolder},
    config::Settings,
    telemetry::{self, Export},
};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    let folder = DataFolder::take(&settings.engine.data)?;
    println!("settings hold; the data folder {} is free", folder.path().display());
    Ok(())
}

pub(super) fn run(settings: Settings) -> Result<(), Failure> {
    let export = telemetry::log_and_trace(&settings.log, &settings.trace)?;
    actix::System::new().block_on(async {
        let app = App::start(settings).await?;
        let exporting = export.map(Export::start).transpose()?;
        until_told_to_stop().await?;
        app.stop().await;
        if let Some(exporting) = exporting {
            exporting.stop().await;
        }
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
