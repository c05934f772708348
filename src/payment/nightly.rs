//! The reconciliation of the day before, every night, by the engine itself.

use std::{path::PathBuf, time::Duration};

use metrics::{Gauge, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use super::{
    Payments,
    reconciliation::{self, Day, FactsOf, FilesError, Reconciliation},
};
use crate::{
    engine::time::UnixMs,
    ledger::{Ledger, OpenError},
    telemetry::{self, trace::session_span},
};

const HOUR_MS: u64 = 3600 * 1000;

/// An hour that never comes.
const NEVER: u8 = 24;

/// How often the clock is looked at, and how long it is until a night that failed is tried again.
const LOOK: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum NightError {
    #[error(transparent)]
    Reconciliation(#[from] reconciliation::Error),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Journal(#[from] OpenError),
}

/// Exceptions of a day that are told one by one, each in its session's trace; the day's files name all.
const TOLD_MAX: usize = 100;

/// What it needs beside the payments.
pub struct Nights {
    pub ledger: Ledger,
    pub facts: FactsOf,
    /// Where the days are kept.
    pub folder: PathBuf,
    /// Of the day, UTC; 24 is never.
    pub hour: u8,
}

impl Payments {
    /// Reconciles every day once its night's hour has come, a day that was missed by a stop included, until `end`.
    pub async fn keep_reconciled(self, nights: Nights, end: CancellationToken) {
        let metrics = Metrics::new();
        if nights.hour >= NEVER {
            return;
        }
        loop {
            // Not at once: a start has better things to do.
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Some(day) = due(nights.hour, telemetry::now()).filter(|day| !nights.has(*day)) {
                match self.reconcile(&nights, day).await {
                    Ok(made) => metrics.tell(&made),
                    Err(error) => tracing::error!(%error, %day, "the day is not reconciled yet"),
                }
            }
        }
    }

    async fn reconcile(&self, nights: &Nights, day: Day) -> Result<Reconciliation, NightError> {
        let Nights { ledger, facts, folder, .. } = nights;
        let (journal, facts) = (ledger.reader()?, facts.clone());
        let gateway = self.guard.gateway();
        let made = reconciliation::compare_books(gateway, journal, facts, day, telemetry::now()).await?;
        reconciliation::write(folder, &made)?;
        Ok(made)
    }
}

impl Nights {
    /// One that does not read is made anew.
    fn has(&self, day: Day) -> bool {
        matches!(reconciliation::stored(&self.folder, day), Ok(Some(_)))
    }
}

/// The last day whose hour has come.
fn due(hour: u8, now: UnixMs) -> Option<Day> {
    (now.since(Day::of(now).start()) >= u64::from(hour) * HOUR_MS).then(|| Day::yesterday(now))
}

pub(super) struct Metrics {
    exceptions: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!(
            "forecourt_payment_reconciliation_exceptions",
            "Exceptions of the last day that was reconciled"
        );
        Metrics { exceptions: gauge!("forecourt_payment_reconciliation_exceptions") }
    }

    fn tell(&self, made: &Reconciliation) {
        let count = made.exceptions.len();
        self.exceptions.set(count as f64);
        if count == 0 {
            tracing::info!(date = made.date, "the day is reconciled");
        } else {
            tracing::error!(date = made.date, exceptions = count, "the day does not agree with the PSP's books");
            for exception in made.exceptions.iter().take(TOLD_MAX) {
                let Some(session) = exception.session else { continue };
                session_span!("reconciliation", session)
                    .in_scope(|| tracing::warn!(kind = ?exception.kind, date = made.date, "a payment is an exception"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_before_is_due_from_its_hour_on() {
        let day: Day = "2026-11-24".parse().unwrap();
        let morning = day.end();
        assert_eq!(due(3, morning.plus(3 * HOUR_MS - 1)), None);
        assert_eq!(due(3, morning.plus(3 * HOUR_MS)), Some(day));
        assert_eq!(due(0, morning), Some(day));
        assert_eq!(due(23, morning.plus(23 * HOUR_MS)), Some(day));
    }
}
