//! What the journal counts.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use super::LedgerError;

pub(super) struct Metrics {
    entries: Counter,
    commits: Counter,
    commit_seconds: Histogram,
    disk_full: Counter,
    read_only: Counter,
    failed: Counter,
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
        let failure = |reason| counter!("forecourt_ledger_failures_total", "reason" => reason);
        Metrics {
            entries: counter!("forecourt_ledger_entries_total"),
            commits: counter!("forecourt_ledger_commits_total"),
            commit_seconds: histogram!("forecourt_ledger_commit_seconds"),
            disk_full: failure("disk_full"),
            read_only: failure("read_only"),
            failed: failure("failed"),
        }
    }

    pub(super) fn committed(&self, entries: u64, took: Duration) {
        self.entries.increment(entries);
        self.commits.increment(1);
        self.commit_seconds.record(took);
    }

    pub(super) fn failed(&self, error: &LedgerError) {
        let counter = match error {
            LedgerError::DiskFull => &self.disk_full,
            LedgerError::ReadOnly => &self.read_only,
            LedgerError::Closed | LedgerError::UnknownKind(_) | LedgerError::Failed(_) => &self.failed,
        };
        counter.increment(1);
    }
}
