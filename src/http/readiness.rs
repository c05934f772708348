//! Whether the engine can do its work, part by part. Liveness is another matter: an engine that answers is alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Reloaded;
use crate::{payment::GatewayState, registration::CacheState};

/// What a probe is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All stages are up, and none drains.
    Engine,
    /// The session desk answers.
    Sessions,
    /// The journal takes appends.
    Ledger,
}

impl Part {
    const ALL: [Part; 3] = [Part::Engine, Part::Sessions, Part::Ledger];
}

/// What each part of the engine lacks. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<Told>>);

#[derive(Debug)]
struct Told {
    lacks: [Option<String>; Part::ALL.len()],
    reload: Option<ReloadReport>,
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness::new()
    }
}

impl Readiness {
    /// No part is ready until it is said to be.
    pub fn new() -> Readiness {
        let lacks = Part::ALL.map(|_| Some("starting".to_owned()));
        Readiness(Arc::new(Mutex::new(Told { lacks, reload: None })))
    }

    pub fn set_ready(&self, part: Part) {
        self.set_lack(part, None);
    }

    /// `reason` is read by anybody who can reach the probe.
    pub fn set_unready(&self, part: Part, reason: impl Into<String>) {
        self.set_lack(part, Some(reason.into()));
    }

    /// Ready when it lacks nothing.
    pub fn set_lack(&self, part: Part, lack: Option<String>) {
        self.told().lacks[part as usize] = lack;
    }

    /// What the last reload came to.
    pub fn set_reload(&self, reload: ReloadReport) {
        self.told().reload = Some(reload);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a probe is told.
    pub fn report(&self) -> Report {
        let (lacks, reload) = {
            let told = self.told();
            (told.lacks.clone(), told.reload.clone())
        };
        let parts =
            Part::ALL.into_iter().zip(lacks).map(|(part, reason)| PartReport { part, ready: reason.is_none(), reason });
        let parts: Vec<PartReport> = parts.collect();
        Report { ready: parts.iter().all(|part| part.ready), parts, cache: None, gateway: None, reload }
    }
}

/// The engine is ready when every part is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Report {
    pub ready: bool,
    pub parts: Vec<PartReport>,
    /// Absent of an engine without Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayReport>,
    /// Absent of an engine that was not told to reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadReport>,
}

/// The last reload. The engine is ready all the same: after a refused one, with what was in force before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ReloadReport {
    /// `taken` or `refused`. Why it was refused is in the log, and in the answer to who asked for it.
    pub state: &'static str,
    /// Settings that were changed since the start, and need another one.
    pub restart: Vec<String>,
}

impl From<&Reloaded> for ReloadReport {
    fn from(reloaded: &Reloaded) -> ReloadReport {
        let state = if reloaded.refused.is_some() { "refused" } else { "taken" };
        ReloadReport { state, restart: reloaded.restart.clone() }
    }
}

/// The PSP. The engine is ready without it: what has to be paid waits, or is paid at the counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct GatewayReport {
    /// `simulator` or `stripe`.
    pub gateway: &'static str,
    /// `reachable`, `probing` or `unreachable`.
    pub state: &'static str,
}

impl From<GatewayState> for GatewayReport {
    fn from(state: GatewayState) -> GatewayReport {
        GatewayReport { gateway: state.gateway.name(), state: state.word }
    }
}

/// The cache in Redis. The engine is ready without it, and slower at cars that it has not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CacheReport {
    /// `current`, `behind`, `connecting` or `down`.
    pub state: &'static str,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<CacheState> for CacheReport {
    fn from(state: CacheState) -> CacheReport {
        let (state, reason) = match state {
            CacheState::Current => ("current", None),
            CacheState::Behind => ("behind", None),
            CacheState::Connecting => ("connecting", None),
            CacheState::Down(reason) => ("down", Some(reason)),
        };
        CacheReport { state, reason }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PartReport {
    pub part: Part,
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
        let readiness = Readiness::new();
        readiness.set_ready(Part::Engine);
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.parts[1].reason.as_deref(), Some("starting"));
        readiness.set_ready(Part::Sessions);
        assert!(!readiness.report().ready);
        readiness.set_lack(Part::Ledger, None);
        assert!(readiness.report().ready);
    }

    #[test]
    fn a_part_that_drains_takes_the_engine_out_with_its_reason() {
        let readiness = Readiness::new();
        for part in Part::ALL {
            readiness.set_ready(part);
        }
        readiness.clone().set_unready(Part::Engine, "draining");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.parts[0].reason.as_deref(), Some("draining"));
    }
}
