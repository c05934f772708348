//! What the journal counts.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use super::LedgerError;

pub(super) struct Metrics {
    entries: Counter,
    commits: Counter,
    commit_seconds: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_counter!("forecourt_ledger_entries_total", "Entries that became durable");
        describe_counter!("forecourt_ledger_commits_total", "Transactions of the journal");
        describe_counter!("forecourt_ledger_failures_total", "Transactions that failed, by reason");
        describe_histogram!(
            "forecourt_ledger_commit_seconds",
            metrics::Unit::Seconds,
            "Time of a transaction, flush included"
        );
        Metrics {
            entries: counter!("forecourt_ledger_entries_total"),
            commits: counter!("forecourt_ledger_commits_total"),
            commit_seconds: histogram!("forecourt_ledger_commit_seconds"),
        }
    }

    pub(super) fn committed(&self, entries: u64, took: Duration) {
        self.entries.increment(entries);
        self.commits.increment(1);
        self.commit_seconds.record(took);
    }

    /// Rare, so that the label is looked up where it happens.
    pub(super) fn failed(&self, error: &LedgerError) {
        counter!("forecourt_ledger_failures_total", "reason" => error.label()).increment(1);
    }
}
