//! Stripe's objects, as far as they are read, and what they say of an instruction.

use std::collections::HashMap;

use serde::Deserialize;

use crate::{
    engine::{
        charge::{ChargeKey, Instruction, Operation},
        id::SessionId,
        money::Money,
    },
    payment::gateway::Finding,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Succeeded,
    Canceled,
    /// Of a later API.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: Status,
    amount: i64,
    amount_received: Option<i64>,
    amount_capturable: Option<i64>,
    latest_charge: Option<LatestCharge>,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

/// Its name alone, where it was not asked to be expanded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum LatestCharge {
    Expanded { amount: i64, amount_refunded: i64 },
    Name(#[expect(dead_code, reason = "only that it is one is read")] String),
}

/// What an intent shows of an instruction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Known(Finding),
    /// The bank wants the driver to authenticate at a screen: there is none at the pump.
    WantsDriver,
}

impl Intent {
    /// | status | hold | charge | capture | void |
    /// |---|---|---|---|---|
    /// | `requires_payment_method` (declined) | declined | declined | declined | declined |
    /// | `requires_confirmation` | not found | not found | declined | declined |
    /// | `requires_action` | wants the driver | wants the driver | declined | declined |
    /// | `processing` | no answer | no answer | no answer | no answer |
    /// | `requires_capture` | succeeded | no answer | not found | not found |
    /// | `succeeded` | succeeded | succeeded | succeeded | declined |
    /// | `canceled` | declined | declined | declined | succeeded |
    ///
    /// Refunds are objects of their own ([`Refund`]).
    pub(super) fn shows(&self, instruction: &Instruction) -> Shown {
        use Operation::{Capture, Charge, Hold, Refund, Void};
        let known = match (self.status, instruction.operation) {
            (Status::RequiresCapture, Hold) => {
                self.succeeded(self.amount_capturable.unwrap_or(self.amount), instruction)
            }
            (Status::Succeeded, Hold) => self.succeeded(self.amount, instruction),
            (Status::Succeeded, Charge | Capture | Refund) => self.succeeded(self.received(), instruction),
            (Status::Canceled, Void) => self.succeeded(0, instruction),
            (Status::RequiresConfirmation, Hold | Charge) | (Status::RequiresCapture, Capture | Void | Refund) => {
                Finding::NotFound
            }
            (Status::RequiresAction, Hold | Charge) => return Shown::WantsDriver,
            (Status::Processing | Status::Other, _) | (Status::RequiresCapture, Charge) => Finding::NoAnswer,
            (Status::RequiresPaymentMethod, _)
            | (Status::RequiresConfirmation | Status::RequiresAction, Capture | Void | Refund)
            | (Status::Succeeded, Void)
            | (Status::Canceled, Hold | Charge | Capture | Refund) => Finding::Declined,
        };
        Shown::Known(known)
    }

    /// What was taken. Where the intent does not say, its charge does: what was not captured counts as refunded there.
    fn received(&self) -> i64 {
        match (self.amount_received, &self.latest_charge) {
            (Some(received), _) => received,
            (None, Some(LatestCharge::Expanded { amount, amount_refunded })) => amount - amount_refunded,
            (None, _) => self.amount,
        }
    }

    fn succeeded(&self, minor: i64, instruction: &Instruction) -> Finding {
        Finding::Succeeded { amount: Money { minor, ..instruction.amount }, reference: self.id.clone() }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    amount: i64,
    status: Option<String>,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

impl Refund {
    /// One that is under way to the driver's bank counts as given; should it fail, reconciliation shows it.
    pub(super) fn shows(&self, instruction: &Instruction) -> Finding {
        match self.status.as_deref() {
            Some("succeeded" | "pending") => Finding::Succeeded {
                amount: Money { minor: self.amount, ..instruction.amount },
                reference: self.id.clone(),
            },
            Some("failed" | "canceled") => Finding::Declined,
            _ => Finding::NoAnswer,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

/// What we wrote on an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Metadata(HashMap<String, String>);

impl Metadata {
    pub(super) fn key(&self) -> Option<ChargeKey> {
        let mut key = [0; 32];
        hex::decode_to_slice(self.0.get("key")?, &mut key).ok()?;
        Some(ChargeKey(key))
    }

    /// Whether it was written on the intent of a hold.
    pub(super) fn is_of_hold(&self) -> bool {
        self.0.get("operation").is_some_and(|operation| operation == "hold")
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.0.get("session")?.parse().ok()
    }
}

/// The code of a refusal, for the log: its message may name the driver.
pub(super) fn refusal_code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: Option<String>,
        r#type: Option<String>,
    }
    let refusal = serde_json::from_slice::<Refusal>(body).ok();
    refusal.and_then(|refusal| refusal.error.code.or(refusal.error.r#type)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::*;

    fn instruction(operation: Operation) -> Instruction {
        let amount = Money { minor: 900, currency: "EUR".parse().unwrap() };
        Instruction { session: SessionId([1; 16]), ordinal: 1, operation, means: "pm".into(), amount, of: None }
    }

    fn intent(status: &str) -> Intent {
        let intent = json!({ "id": "pi_1", "status": status, "amount": 1_000, "amount_received": 900 });
        serde_json::from_value(intent).unwrap()
    }

    #[test]
    fn every_status_against_every_operation() {
        let statuses = [
            "requires_payment_method",
            "requires_confirmation",
            "requires_action",
            "processing",
            "requires_capture",
            "succeeded",
            "canceled",
            "a_later_one",
        ];
        let mut table = String::new();
        for status in statuses {
            writeln!(table, "{status}").unwrap();
            for operation in [Operation::Hold, Operation::Charge, Operation::Capture, Operation::Void] {
                let shown = match intent(status).shows(&instruction(operation)) {
                    Shown::Known(Finding::Succeeded { amount, .. }) => format!("Succeeded {}", amount.minor),
                    Shown::Known(finding) => format!("{finding:?}"),
                    Shown::WantsDriver => "WantsDriver".into(),
                };
                writeln!(table, "  {:8} {shown}", format!("{operation:?}")).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn what_was_captured_is_read_from_the_charge_where_the_intent_does_not_say() {
        let charge = json!({ "id": "ch_1", "amount": 1_000, "amount_refunded": 100 });
        let intent = json!({ "id": "pi_1", "status": "succeeded", "amount": 1_000, "latest_charge": charge });
        let intent: Intent = serde_json::from_value(intent).unwrap();
        assert_eq!(intent.received(), 900);
    }

    #[test]
    fn a_refusal_is_logged_by_its_code_alone() {
        let body = json!({ "error": { "type": "card_error", "code": "card_declined", "message": "Ms Kim's card" } });
        assert_eq!(refusal_code(body.to_string().as_bytes()), "card_declined");
        assert_eq!(refusal_code(b"<html>"), "");
    }
}
