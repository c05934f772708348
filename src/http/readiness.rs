//! Whether the engine can do its work, part by part. Liveness is another matter: an engine that answers is alive.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// The parts of the engine and what each lacks. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    parts: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Readiness {
    /// Names a part; it is not ready until it says so.
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part { name, readiness: self.clone() };
        part.not_ready("starting");
        part
    }

    /// What a probe is told.
    pub fn report(&self) -> Report {
        let parts = self.lock();
        let state = |(&name, reason): (&&'static str, &Option<String>)| PartReport {
            name,
            ready: reason.is_none(),
            reason: reason.clone(),
        };
        Report { ready: parts.values().all(Option::is_none), parts: parts.iter().map(state).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part's own handle.
#[derive(Debug, Clone)]
pub struct Part {
    name: &'static str,
    readiness: Readiness,
}

impl Part {
    pub fn ready(&self) {
        self.readiness.lock().insert(self.name, None);
    }

    /// `reason` is read by anybody who can reach the probe.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.readiness.lock().insert(self.name, Some(reason.into()));
    }
}

/// The engine is ready when every part is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Report {
    pub ready: bool,
    pub parts: Vec<PartReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PartReport {
    pub name: &'static str,
    pub ready: bool,
    /// What the part lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_ready_when_every_part_is() {
        let readiness = Readiness::default();
        let (ledger, ingest) = (readiness.part("ledger"), readiness.part("ingest"));
        ledger.ready();
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.parts[0].reason.as_deref(), Some("starting"));
        ingest.ready();
        assert!(readiness.report().ready);
    }

    #[test]
    fn a_part_that_drains_takes_the_engine_out_with_its_reason() {
        let readiness = Readiness::default();
        let part = readiness.part("ingest");
        part.ready();
        part.not_ready("draining");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.parts[0].reason.as_deref(), Some("draining"));
    }
}
