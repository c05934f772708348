//! What payments count.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::engine::charge::{Operation, Outcome};

pub(super) struct Metrics {
    pub(super) open: Gauge,
    pub(super) in_doubt: Counter,
    pub(super) look_ups: Counter,
    pub(super) refused: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!("forecourt_payment_open_charges", "Charges without an outcome");
        describe_counter!("forecourt_payment_in_doubt_total", "Charges that the PSP did not answer in time");
        describe_counter!("forecourt_payment_look_ups_total", "Look-ups of charges in doubt");
        describe_counter!("forecourt_payment_refused_total", "Instructions refused because too many were open");
        describe_counter!("forecourt_payment_sent_total", "Requests to the PSP, by operation");
        describe_counter!("forecourt_payment_concluded_total", "Charges that came to an outcome, by outcome");
        Metrics {
            open: gauge!("forecourt_payment_open_charges"),
            in_doubt: counter!("forecourt_payment_in_doubt_total"),
            look_ups: counter!("forecourt_payment_look_ups_total"),
            refused: counter!("forecourt_payment_refused_total"),
        }
    }

    /// A few a second at most: the label is looked up where it happens.
    pub(super) fn sent(&self, operation: Operation) {
        let operation = match operation {
            Operation::Hold => "hold",
            Operation::Capture => "capture",
            Operation::Void => "void",
            Operation::Charge => "charge",
            Operation::Refund => "refund",
        };
        counter!("forecourt_payment_sent_total", "operation" => operation).increment(1);
    }

    pub(super) fn concluded(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Succeeded { .. } => "succeeded",
            Outcome::Declined => "declined",
            Outcome::Failed => "failed",
        };
        counter!("forecourt_payment_concluded_total", "outcome" => outcome).increment(1);
    }
}
