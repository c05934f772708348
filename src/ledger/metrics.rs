//! What the journal counts.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::LedgerError;
use crate::telemetry::queue::Queue;

/// Of the appends that wait for the writer.
pub(super) fn queue() -> Queue {
    Queue::new("forecourt_ledger_queue", "appends to the journal")
}

pub(super) struct Metrics {
    entries: Counter,
    commits: Counter,
    commit_seconds: Histogram,
    disk_full: Counter,
    read_only: Counter,
    failed: Counter,
    claims_refused: Counter,
    probes_passed: Counter,
    probes_failed: Counter,
    failing: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_counter!("forecourt_ledger_entries_total", "Entries that became durable");
        describe_counter!("forecourt_ledger_commits_total", "Transactions of the journal");
        describe_counter!("forecourt_ledger_failures_total", "Transactions that failed, by reason");
        describe_counter!(
            "forecourt_ledger_claims_refused_total",
            "Reports whose site transaction belongs to another session"
        );
        describe_counter!("forecourt_ledger_probes_total", "Trials whether the disk takes writes, by result");
        describe_gauge!("forecourt_ledger_failing", "1 while the journal takes no appends");
        describe_histogram!(
            "forecourt_ledger_commit_seconds",
            metrics::Unit::Seconds,
            "Time of a transaction, flush included"
        );
        let failure = |reason| counter!("forecourt_ledger_failures_total", "reason" => reason);
        let probes = |result| counter!("forecourt_ledger_probes_total", "result" => result);
        Metrics {
            entries: counter!("forecourt_ledger_entries_total"),
            commits: counter!("forecourt_ledger_commits_total"),
            commit_seconds: histogram!("forecourt_ledger_commit_seconds"),
            disk_full: failure("disk_full"),
            read_only: failure("read_only"),
            failed: failure("failed"),
            claims_refused: counter!("forecourt_ledger_claims_refused_total"),
            probes_passed: probes("passed"),
            probes_failed: probes("failed"),
            failing: gauge!("forecourt_ledger_failing"),
        }
    }

    pub(super) fn committed(&self, entries: u64, took: Duration) {
        self.entries.increment(entries);
        self.commits.increment(1);
        self.commit_seconds.record(took);
    }

    pub(super) fn claims_refused(&self, refused: u64) {
        self.claims_refused.increment(refused);
    }

    pub(super) fn probed(&self, passed: bool) {
        if passed { &self.probes_passed } else { &self.probes_failed }.increment(1);
    }

    pub(super) fn takes_appends(&self, takes: bool) {
        self.failing.set(if takes { 0.0 } else { 1.0 });
    }

    pub(super) fn failed(&self, error: &LedgerError) {
        let counter = match error {
            LedgerError::DiskFull => &self.disk_full,
            LedgerError::ReadOnly => &self.read_only,
            LedgerError::Closed
            | LedgerError::Claimed
            | LedgerError::Known
            | LedgerError::UnknownKind(_)
            | LedgerError::Failed(_) => &self.failed,
        };
        counter.increment(1);
    }
}
