//! Whether the journal takes appends: told by its thread, asked by whoever probes the engine.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::LedgerError;

/// A commit takes some milliseconds, tens on a busy disk. One that takes longer than this waits for a disk that hangs.
const STUCK: Duration = Duration::from_secs(5);

/// All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Condition(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    lack: Option<String>,
    /// When the transaction that is under way began.
    under_way: Option<Instant>,
}

impl Condition {
    pub(super) fn starting() -> Condition {
        Condition(Arc::new(Mutex::new(State { lack: Some("starting".into()), under_way: None })))
    }

    pub(super) fn begin(&self, now: Instant) {
        self.state().under_way = Some(now);
    }

    /// Whether this changed what it lacks.
    pub(super) fn end(&self, failure: Option<&LedgerError>) -> bool {
        let mut state = self.state();
        state.under_way = None;
        let lack = failure.map(LedgerError::to_string);
        let changed = lack != state.lack;
        state.lack = lack;
        changed
    }

    pub(super) fn lack(&self, now: Instant) -> Option<String> {
        let state = self.state();
        let stuck = state.under_way.filter(|began| now.saturating_duration_since(*began) > STUCK);
        let stuck = stuck.map(|began| format!("the disk has not answered for {} s", (now - began).as_secs()));
        stuck.or_else(|| state.lack.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Both fields are set in one step each: a panic leaves no half of anything.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lacks_what_the_last_transaction_lacked() {
        let condition = Condition::starting();
        let now = Instant::now();
        assert_eq!(condition.lack(now).as_deref(), Some("starting"));
        assert!(condition.end(None));
        assert_eq!(condition.lack(now), None);
        assert!(condition.end(Some(&LedgerError::DiskFull)));
        assert!(!condition.end(Some(&LedgerError::DiskFull)));
        assert_eq!(condition.clone().lack(now).as_deref(), Some("the disk under the journal is full"));
    }

    #[test]
    fn a_transaction_without_end_is_a_lack() {
        let condition = Condition::starting();
        let now = Instant::now();
        condition.end(None);
        condition.begin(now);
        assert_eq!(condition.lack(now + Duration::from_secs(1)), None);
        let lack = condition.lack(now + Duration::from_secs(9));
        assert_eq!(lack.as_deref(), Some("the disk has not answered for 9 s"));
    }
}
