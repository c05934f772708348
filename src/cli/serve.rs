//! `forecourt serve`: the engine until it is told to stop.

use forecourt::{
    app::{App, DataFolder, Reread},
    config::Settings,
    telemetry::{self, Export},
};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    let folder = DataFolder::take(&settings.engine.data)?;
    println!("settings hold; the data folder {} is free", folder.path().display());
    Ok(())
}

pub(super) fn run(settings: Settings, reread: Reread) -> Result<(), Failure> {
    let export = telemetry::log_and_trace(&settings.log, &settings.trace)?;
    actix::System::new().block_on(async {
        // Before the start, so that one that is told to reload early does not end by it.
        let mut hangup = signal(SignalKind::hangup())?;
        let app = App::start(settings, reread).await?;
        let exporting = export.map(Export::start).transpose()?;
        tell_service_manager(NotifyState::Ready);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = hangup.recv() => drop(app.reload().await),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        tell_service_manager(NotifyState::Stopping);
        app.stop().await;
        if let Some(exporting) = exporting {
            exporting.stop().await;
        }
        Ok(())
    })
}

/// systemd waits for these words of a unit of `Type=notify`; without systemd nobody is there to hear them.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
