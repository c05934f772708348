//! Stripe's PaymentIntents.
//!
//! A hold or a charge begins with an intent that is not confirmed: it takes nothing, and gives the name under which the
//! money will move. The name is journalled, and then the intent is confirmed. So a lost answer is looked up by name, at
//! any age and without a search, an intent whose name was lost with a crash moves nothing for ever, and no request that
//! could take money is ever made for a second intent.
//!
//! | operation | prepared by | performed by | looked up by |
//! |---|---|---|---|
//! | hold | `POST payment_intents`, `capture_method=manual` | `POST payment_intents/{id}/confirm` | `GET payment_intents/{id}` |
//! | charge | the same, `automatic` | the same | the same |
//! | capture | | `POST payment_intents/{hold's id}/capture` | the same |
//! | void | | `POST payment_intents/{hold's id}/cancel` | the same |
//! | refund | | `POST refunds` | `GET refunds?payment_intent={id}`, by `metadata[key]` |
//!
//! The idempotency key of the performing request is the charge's key; that of the intent has `-intent` behind it, and
//! that of a closing `-close`: one key, one body. What an answer means:
//!
//! | answer | prepare | perform | look-up |
//! |---|---|---|---|
//! | 200 | ready | what the object [shows](Intent::shows) | the same |
//! | 402 | declined | declined | no answer |
//! | 401, 403 | not sent, alarm | not sent, alarm | no answer, alarm |
//! | 409 (the same key is under way) | not sent | no answer | no answer |
//! | 429 | not sent | not sent | no answer |
//! | other 4xx | declined, its code logged | the object is looked up: what it shows; declined where it shows nothing | no answer |
//! | 3xx, 5xx, silence, a body that does not read | not sent | no answer | no answer |
//! | no connection | not sent | not sent | no answer |
//!
//! A look-up that finds nothing and may close cancels the intent: a request that is still on its way then meets a closed
//! door, and "declined" is certain. A bank that wants the driver to authenticate (`requires_action`) declines, and the
//! intent is cancelled: nobody sits at a screen.
//!
//! Amounts are in the currency's minor unit on both sides; for currencies without one (KRW, JPY) Stripe's unit is the
//! currency's own, as in [`Money`](crate::engine::money::Money). Means are `pm_...`, or `cus_...:pm_...` for one that a
//! customer owns, which Stripe wants named for every use after the first.

mod books;
mod objects;
#[cfg(test)]
mod tests;
mod transport;
mod webhook;

use hyper::StatusCode;
use serde::de::DeserializeOwned;

use self::{
    objects::{Intent, List, Refund, Shown, refusal_code},
    transport::{Reply, Transport},
    webhook::Endpoint,
};
use super::{Answer, BooksError, Config, Finding, Heard, Line, Prepared, StartError, Task, Unheard};
use crate::engine::{
    charge::{Instruction, Operation},
    time::UnixMs,
};
pub use transport::AddressError;

/// Refunds of one charge that are looked through; a session gives far fewer instructions.
const REFUNDS_MAX: usize = 100;

#[derive(Debug, Clone)]
pub struct Stripe {
    transport: Transport,
    endpoint: Option<Endpoint>,
}

/// What a request that was to move money came back with, as far as its status tells.
enum Verdict<T> {
    Object(T),
    Declined,
    /// A refusal that the object itself has to explain.
    Refused,
    NoAnswer,
    NotSent,
}

impl Stripe {
    pub(super) fn configured(config: &Config) -> Result<Stripe, StartError> {
        let secret = config.stripe_secret.as_ref().ok_or(StartError::NoSecret)?;
        let endpoint = config.stripe_webhook_secret.clone().map(Endpoint::new);
        Ok(Stripe { transport: Transport::new(&config.stripe_url, secret)?, endpoint })
    }

    pub(super) async fn prepare(&self, instruction: &Instruction) -> Prepared {
        let capture = match instruction.operation {
            Operation::Hold => "manual",
            Operation::Charge => "automatic",
            Operation::Capture | Operation::Void | Operation::Refund => return Prepared::Ready { object: None },
        };
        let key = hex::encode(instruction.key().0);
        let (amount, currency) = amount(instruction);
        let (customer, means) = means(&instruction.means);
        let mut form = vec![
            ("amount", amount.as_str()),
            ("currency", &currency),
            ("capture_method", capture),
            ("payment_method_types[]", "card"),
            ("payment_method", means),
        ];
        form.extend(customer.map(|customer| ("customer", customer)));
        let marks = marks(instruction, &key);
        form.extend(marks.iter().map(|(name, value)| (*name, value.as_str())));
        let reply = self.transport.post("payment_intents", &format!("{key}-intent"), &form).await;
        match verdict::<Intent>(&reply) {
            Verdict::Object(intent) => Prepared::Ready { object: Some(intent.id) },
            Verdict::Declined | Verdict::Refused => Prepared::Declined,
            Verdict::NoAnswer | Verdict::NotSent => Prepared::NotSent,
        }
    }

    pub(super) async fn perform(&self, task: &Task) -> Answer {
        let Some(object) = &task.object else {
            tracing::error!(key = ?task.instruction.key(), "the PSP's name of a charge is not journalled");
            return Answer::Declined;
        };
        let (instruction, key) = (&task.instruction, hex::encode(task.instruction.key().0));
        let intent = |what: &str| format!("payment_intents/{object}/{what}");
        let (amount, _) = amount(instruction);
        let reply = match instruction.operation {
            Operation::Hold | Operation::Charge => self.transport.post(&intent("confirm"), &key, &[]).await,
            Operation::Capture => {
                self.transport.post(&intent("capture"), &key, &[("amount_to_capture", &amount)]).await
            }
            Operation::Void => self.transport.post(&intent("cancel"), &key, &[]).await,
            Operation::Refund => return self.refund(task, object, &key, &amount).await,
        };
        match verdict::<Intent>(&reply) {
            Verdict::Object(intent) => answer(self.shown(&intent, instruction).await),
            Verdict::Declined => Answer::Declined,
            Verdict::Refused => explained(self.look_up(task, false).await),
            Verdict::NoAnswer => Answer::NoAnswer,
            Verdict::NotSent => Answer::NotSent,
        }
    }

    async fn refund(&self, task: &Task, object: &str, key: &str, amount: &str) -> Answer {
        let marks = marks(&task.instruction, key);
        let mut form = vec![("payment_intent", object), ("amount", amount)];
        form.extend(marks.iter().map(|(name, value)| (*name, value.as_str())));
        match verdict::<Refund>(&self.transport.post("refunds", key, &form).await) {
            Verdict::Object(refund) => answer(refund.shows(&task.instruction)),
            Verdict::Declined => Answer::Declined,
            Verdict::Refused => explained(self.look_up(task, false).await),
            Verdict::NoAnswer => Answer::NoAnswer,
            Verdict::NotSent => Answer::NotSent,
        }
    }

    pub(super) async fn look_up(&self, task: &Task, close: bool) -> Finding {
        // A hold or charge whose intent has no journalled name was never confirmed; what refers to one without a
        // name never left.
        let Some(object) = &task.object else { return Finding::NotFound };
        if task.instruction.operation == Operation::Refund {
            return self.look_up_refund(&task.instruction, object).await;
        }
        let path = format!("payment_intents/{object}?expand[]=latest_charge");
        let Some(intent) = read::<Intent>(&self.transport.get(&path).await) else { return Finding::NoAnswer };
        match self.shown(&intent, &task.instruction).await {
            Finding::NotFound if close => self.close(object, &task.instruction).await,
            finding => finding,
        }
    }

    async fn look_up_refund(&self, instruction: &Instruction, object: &str) -> Finding {
        let path = format!("refunds?payment_intent={object}&limit={REFUNDS_MAX}");
        let Some(refunds) = read::<List<Refund>>(&self.transport.get(&path).await) else { return Finding::NoAnswer };
        match refunds.data.iter().find(|refund| refund.metadata.key() == Some(instruction.key())) {
            Some(refund) => refund.shows(instruction),
            None if refunds.has_more => Finding::NoAnswer,
            None => Finding::NotFound,
        }
    }

    /// What the intent shows; one that wants the driver is cancelled first.
    async fn shown(&self, intent: &Intent, instruction: &Instruction) -> Finding {
        match intent.shows(instruction) {
            Shown::Known(finding) => finding,
            Shown::WantsDriver => self.close(&intent.id, instruction).await,
        }
    }

    /// After this, what did not happen cannot happen any more; a capture's hold goes with it.
    async fn close(&self, object: &str, instruction: &Instruction) -> Finding {
        let key = format!("{}-close", hex::encode(instruction.key().0));
        let reply = self.transport.post(&format!("payment_intents/{object}/cancel"), &key, &[]).await;
        match read::<Intent>(&reply) {
            Some(intent) if intent.status == objects::Status::Canceled => Finding::Declined,
            _ => Finding::NoAnswer,
        }
    }

    pub(super) async fn books(&self, from: UnixMs, until: UnixMs) -> Result<Vec<Line>, BooksError> {
        books::read(&self.transport, from, until).await
    }

    pub(super) fn hear(&self, payload: &[u8], signature: &str, now: UnixMs) -> Option<Result<Heard, Unheard>> {
        Some(self.endpoint.as_ref()?.hear(payload, signature, now))
    }
}

fn verdict<T: DeserializeOwned>(reply: &Reply) -> Verdict<T> {
    let (status, body) = match reply {
        Reply::Answer { status, body } => (*status, body),
        Reply::NotSent => return Verdict::NotSent,
        Reply::NoAnswer => return Verdict::NoAnswer,
    };
    match status {
        StatusCode::OK => serde_json::from_slice(body).map_or(Verdict::NoAnswer, Verdict::Object),
        StatusCode::PAYMENT_REQUIRED => Verdict::Declined,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            alarm(status);
            Verdict::NotSent
        }
        StatusCode::TOO_MANY_REQUESTS => Verdict::NotSent,
        StatusCode::CONFLICT => Verdict::NoAnswer,
        status if status.is_client_error() => {
            tracing::error!(%status, code = refusal_code(body), "the PSP refuses a request as it stands");
            Verdict::Refused
        }
        _ => Verdict::NoAnswer,
    }
}

/// The object of a question, if there is a clear answer.
fn read<T: DeserializeOwned>(reply: &Reply) -> Option<T> {
    match reply {
        Reply::Answer { status: StatusCode::OK, body } => serde_json::from_slice(body).ok(),
        Reply::Answer { status, .. } => {
            if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                alarm(*status);
            }
            None
        }
        Reply::NotSent | Reply::NoAnswer => None,
    }
}

fn alarm(status: StatusCode) {
    tracing::error!(%status, "the PSP does not accept our secret: no payment goes through");
}

/// Of a request that was accepted: an object that does not show it yet leaves it open.
fn answer(finding: Finding) -> Answer {
    match finding {
        Finding::Succeeded { amount, reference } => Answer::Succeeded { amount, reference },
        Finding::Declined => Answer::Declined,
        Finding::NotFound | Finding::NoAnswer => Answer::NoAnswer,
    }
}

/// Of a request that was refused: an object that does not show it says that it did not happen.
fn explained(finding: Finding) -> Answer {
    match finding {
        Finding::NotFound => Answer::Declined,
        finding => answer(finding),
    }
}

fn amount(instruction: &Instruction) -> (String, String) {
    (instruction.amount.minor.to_string(), instruction.amount.currency.to_string().to_lowercase())
}

/// The customer, if one is named, and the payment method.
fn means(means: &str) -> (Option<&str>, &str) {
    means.split_once(':').map_or((None, means), |(customer, method)| (Some(customer), method))
}

/// What our books call it, written on every object that moves money.
fn marks(instruction: &Instruction, key: &str) -> [(&'static str, String); 4] {
    let operation = match instruction.operation {
        Operation::Hold => "hold",
        Operation::Capture => "capture",
        Operation::Void => "void",
        Operation::Charge => "charge",
        Operation::Refund => "refund",
    };
    [
        ("metadata[session]", instruction.session.to_string()),
        ("metadata[ordinal]", instruction.ordinal.to_string()),
        ("metadata[operation]", operation.to_owned()),
        ("metadata[key]", key.to_owned()),
    ]
}
