//! What payments count.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::cashier::Record;
use crate::engine::charge::{Operation, Outcome};

pub(super) struct Metrics {
    pub(super) open: Gauge,
    pub(super) in_doubt: Counter,
    pub(super) look_ups: Counter,
    pub(super) refused: Counter,
    /// In the order of `Operation`.
    sent: [Counter; 5],
    succeeded: Counter,
    declined: Counter,
    failed: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!("forecourt_payment_open_charges", "Charges without an outcome");
        describe_counter!("forecourt_payment_in_doubt_total", "Charges that the PSP did not answer in time");
        describe_counter!("forecourt_payment_look_ups_total", "Look-ups of charges in doubt");
        describe_counter!("forecourt_payment_refused_total", "Instructions refused because too many were open");
        describe_counter!("forecourt_payment_sent_total", "Requests to the PSP, by operation");
        describe_counter!("forecourt_payment_concluded_total", "Charges that came to an outcome, by outcome");
        let concluded = |outcome| counter!("forecourt_payment_concluded_total", "outcome" => outcome);
        Metrics {
            open: gauge!("forecourt_payment_open_charges"),
            in_doubt: counter!("forecourt_payment_in_doubt_total"),
            look_ups: counter!("forecourt_payment_look_ups_total"),
            refused: counter!("forecourt_payment_refused_total"),
            sent: ["hold", "capture", "void", "charge", "refund"]
                .map(|operation| counter!("forecourt_payment_sent_total", "operation" => operation)),
            succeeded: concluded("succeeded"),
            declined: concluded("declined"),
            failed: concluded("failed"),
        }
    }

    pub(super) fn sent(&self, operation: Operation) {
        self.sent[operation as usize].increment(1);
    }

    /// A record became durable; an outcome counts then.
    pub(super) fn journalled(&self, record: &Record) {
        let counter = match record {
            Record::Concluded(Outcome::Succeeded { .. }) => &self.succeeded,
            Record::Concluded(Outcome::Declined) => &self.declined,
            Record::Concluded(Outcome::Failed) => &self.failed,
            Record::Intended(_) | Record::Named(_) | Record::Unresolved => return,
        };
        counter.increment(1);
    }
}

/// Of what the PSP announces.
pub(super) struct HearsayMetrics {
    pub(super) moved: Counter,
    pub(super) disputed: Counter,
    pub(super) other: Counter,
    pub(super) repeated: Counter,
    pub(super) refused: Counter,
}

impl HearsayMetrics {
    pub(super) fn new() -> HearsayMetrics {
        describe_counter!("forecourt_payment_announcements_total", "Announcements of the PSP, by what became of them");
        let counted = |outcome| counter!("forecourt_payment_announcements_total", "outcome" => outcome);
        HearsayMetrics {
            moved: counted("looked_up"),
            disputed: counted("dispute"),
            other: counted("other"),
            repeated: counted("repeated"),
            refused: counted("refused"),
        }
    }
}
