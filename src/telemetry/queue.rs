//! How long a queue is, and how old what waits in it: of the threads behind which everything else waits.

use metrics::{Gauge, Histogram, Unit, describe_gauge, describe_histogram, gauge, histogram};
use tokio::sync::mpsc;

use super::now;
use crate::engine::time::UnixMs;

/// The metrics of one queue; cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    waiting: Gauge,
    oldest: Gauge,
    seconds: Histogram,
}

impl Queue {
    /// `prefix` names stage and queue, as in `forecourt_ledger_queue`; `what` waits there.
    pub(crate) fn new(prefix: &str, what: &str) -> Queue {
        let [waiting, oldest, seconds] =
            ["waiting_jobs", "oldest_timestamp_seconds", "seconds"].map(|name| format!("{prefix}_{name}"));
        describe_gauge!(waiting.clone(), format!("How many {what} wait"));
        describe_gauge!(
            oldest.clone(),
            format!("Since when the oldest of the {what} under way has waited; 0 when none is under way")
        );
        let says = format!("How long the oldest of the {what} taken up together had waited");
        describe_histogram!(seconds.clone(), Unit::Seconds, says);
        Queue { waiting: gauge!(waiting), oldest: gauge!(oldest), seconds: histogram!(seconds) }
    }

    /// Something was put in: who puts it there sees the length, though the thread that takes it out may hang.
    pub(crate) fn grew<T>(&self, queue: &mpsc::Sender<T>) {
        self.waiting.set((queue.max_capacity() - queue.capacity()) as f64);
    }

    /// Some were taken out together, the oldest of which was put in at `since`; so many are left.
    pub(crate) fn began(&self, since: UnixMs, left: usize) {
        self.waiting.set(left as f64);
        self.oldest.set(since.0 as f64 / 1_000.0);
        self.seconds.record(now().since(since) as f64 / 1_000.0);
    }

    /// They are dealt with.
    pub(crate) fn ended(&self) {
        self.oldest.set(0.0);
    }
}
