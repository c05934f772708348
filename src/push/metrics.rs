//! What the second channel counts.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::{outbox::Verdict, sender::Tried};

pub(super) struct Metrics {
    pub(super) waiting: Gauge,
    pub(super) overdue: Gauge,
    /// 1 once the push service has answered 410.
    pub(super) disabled: Gauge,
    pub(super) dropped: Counter,
    pub(super) given_up: Counter,
    delivered: Counter,
    refused: Counter,
    timed_out: Counter,
    failed: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!("forecourt_push_waiting_words", "Words to drivers that wait to be pushed");
        describe_gauge!(
            "forecourt_push_oldest_due_timestamp_seconds",
            "Since when the word that is longest due has waited for a try; 0 when none is due"
        );
        describe_gauge!("forecourt_push_disabled", "1 when the push service wants no more messages");
        describe_counter!("forecourt_push_lost_total", "Words that were not pushed, by reason");
        describe_counter!("forecourt_push_tries_total", "Tries to push a word, by how they ended");
        let lost = |reason| counter!("forecourt_push_lost_total", "reason" => reason);
        let tries = |outcome| counter!("forecourt_push_tries_total", "outcome" => outcome);
        let disabled = gauge!("forecourt_push_disabled");
        disabled.set(0.0);
        Metrics {
            waiting: gauge!("forecourt_push_waiting_words"),
            overdue: gauge!("forecourt_push_oldest_due_timestamp_seconds"),
            disabled,
            dropped: lost("full"),
            given_up: lost("old"),
            delivered: tries("delivered"),
            refused: tries("refused"),
            timed_out: tries("timed_out"),
            failed: tries("failed"),
        }
    }

    pub(super) fn tried(&self, tried: Tried) {
        let counter = match tried {
            Tried::Answered(_) if tried.verdict() == Verdict::Delivered => &self.delivered,
            Tried::Answered(_) => &self.refused,
            Tried::TimedOut => &self.timed_out,
            Tried::Failed => &self.failed,
        };
        counter.increment(1);
    }
}
