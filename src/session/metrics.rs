//! What the session desk counts.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::Summary;
use crate::engine::session::StateName;

pub(super) struct Metrics {
    open: Gauge,
    in_doubt: Gauge,
    pub(super) journal_failures: Counter,
    pub(super) station_refusals: Counter,
    pub(super) payment_retries: Counter,
    /// One per state, in the order of `StateName::ALL`.
    changes: Vec<Counter>,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!("forecourt_session_open_sessions", "Sessions that are not at an end");
        describe_gauge!("forecourt_session_in_doubt_sessions", "Sessions whose payment is in doubt");
        describe_counter!("forecourt_session_journal_failures_total", "Events that the journal did not take");
        describe_counter!("forecourt_session_station_refusals_total", "Changes that a station's full mailbox refused");
        describe_counter!("forecourt_session_payment_retries_total", "Instructions that payments did not take at once");
        describe_counter!("forecourt_session_changes_total", "Journalled changes, by the state they led to");
        let change = |state: StateName| counter!("forecourt_session_changes_total", "state" => format!("{state:?}"));
        Metrics {
            open: gauge!("forecourt_session_open_sessions"),
            in_doubt: gauge!("forecourt_session_in_doubt_sessions"),
            journal_failures: counter!("forecourt_session_journal_failures_total"),
            station_refusals: counter!("forecourt_session_station_refusals_total"),
            payment_retries: counter!("forecourt_session_payment_retries_total"),
            changes: StateName::ALL.into_iter().map(change).collect(),
        }
    }

    pub(super) fn changed(&self, state: StateName, summary: &Summary) {
        self.changes[state as usize].increment(1);
        self.open.set(summary.open as f64);
        self.in_doubt.set(summary.in_doubt as f64);
    }
}
