//! Certificates and limits, taken over by the running engine.
//!
//! All or nothing: settings that do not hold, a certificate that has run out, a key that is another certificate's leave
//! everything as it was. What was changed and cannot be taken over is named, since it is not what runs.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::sync::mpsc;

use crate::{
    config::{ConfigError, Settings},
    http::{Limits, Readiness, ReloadOrder, Reloaded},
    ingest::{Renewal, TlsError},
};

/// Reads the settings again from where they were said at the start.
pub type Reread = Box<dyn Fn() -> Result<Settings, ConfigError> + Send>;

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Certificates(#[from] TlsError),
}

/// Describes and registers every metric of reloads with the recorder in force.
pub(super) fn register_metrics() {
    let _ = Metrics::new();
}

pub(super) struct Reload {
    pub(super) reread: Reread,
    pub(super) in_force: Settings,
    pub(super) uplinks: Renewal,
    pub(super) limits: Arc<Limits>,
    pub(super) readiness: Readiness,
}

impl Reload {
    /// One reload after the other, for whoever asks.
    pub(super) async fn serve(mut self, mut orders: mpsc::Receiver<ReloadOrder>) {
        let metrics = Metrics::new();
        while let Some(order) = orders.recv().await {
            let reload = move || {
                let reloaded = self.run();
                (self, reloaded)
            };
            let Ok((reload, reloaded)) = tokio::task::spawn_blocking(reload).await else { return };
            self = reload;
            self.readiness.set_reload((&reloaded).into());
            metrics.tell(&reloaded);
            // Who asked may have gone.
            let _ = order.send(reloaded);
        }
    }

    fn run(&mut self) -> Reloaded {
        self.take_over().unwrap_or_else(|refusal| {
            tracing::error!(%refusal, "nothing is taken over: what was in force still is");
            Reloaded::refused(refusal.to_string())
        })
    }

    fn take_over(&mut self) -> Result<Reloaded, Refusal> {
        let said = (self.reread)()?;
        let certificates = self.uplinks.read()?;
        let before = self.in_force.clone();
        self.in_force.adopt(&said);
        let mut taken = before.differing(&self.in_force);
        let restart = self.in_force.differing(&said);
        taken.extend(certificates.are_new.then(|| "certificates".to_owned()));
        self.uplinks.take_over(certificates, &self.in_force.ingest);
        self.limits.take_over(&self.in_force.http);
        tracing::info!(taken = taken.join(", "), needs_restart = restart.join(", "), "reloaded");
        Ok(Reloaded { refused: None, taken, restart })
    }
}

struct Metrics {
    taken: Counter,
    refused: Counter,
    is_refused: Gauge,
}

impl Metrics {
    fn new() -> Metrics {
        const RELOADS: &str = "forecourt_settings_reloads_total";
        const REFUSED: &str = "forecourt_settings_refused";
        describe_counter!(RELOADS, "Reloads of settings and certificates, by what became of them.");
        describe_gauge!(REFUSED, "1 while the last reload was refused: what is on the disk is not in force.");
        let of = |outcome: &'static str| counter!(RELOADS, "outcome" => outcome);
        Metrics { taken: of("taken"), refused: of("refused"), is_refused: gauge!(REFUSED) }
    }

    fn tell(&self, reloaded: &Reloaded) {
        let is_refused = reloaded.refused.is_some();
        if is_refused { &self.refused } else { &self.taken }.increment(1);
        self.is_refused.set(f64::from(u8::from(is_refused)));
    }
}
