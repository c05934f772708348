//! Payments: the stage that drives [`engine::charge`] against a PSP.
//!
//! ```text
//! session --Instruct--> intent journalled --> prepared, its name journalled --> performed --> outcome journalled
//!    ^                                                                              |                 |
//!    |                                                  silence: look up until it is known            |
//!    +--------------------------------------------Report----------------------------------------------+
//! ```
//!
//! One actor keeps the charges that are open. It never decides what to charge: an [`Instruction`] says so, and its key
//! follows from it. What the journal holds no intent of was never sent, so it may be declared failed. The PSPs are behind
//! [`Gateway`], whose page says how another is added; every day is compared with their books ([`reconciliation`]).
//!
//! [`engine::charge`]: crate::engine::charge

mod actor;
mod audit;
mod calls;
mod cashier;
mod gateway;
mod hearsay;
mod metrics;
mod nightly;
pub mod reconciliation;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::prelude::*;

use crate::{
    engine::{
        charge::{Instruction, Outcome, Patience},
        id::SessionId,
    },
    ledger::{Ledger, LedgerError},
    secret::Secret,
    telemetry::{self, trace::session_span},
};
use actor::{Ask, Attach, Hinted, Instruct, PaymentActor};
pub use audit::Audit;
pub use cashier::{Cashier, Full, Record, Step, Unreadable};
use gateway::Hint;
pub use gateway::{
    AddressError, Answer, Choice, Finding, Gateway, GatewayState, Prepared, SIMULATOR_LATE_MS, SessionCharges,
    Simulator, Stripe, Task, Unheard,
};
use gateway::{Announcement, Guard};
use hearsay::Hearsay;
use metrics::HearsayMetrics;
pub use nightly::Nights;

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Metrics::new();
    let _ = HearsayMetrics::new();
    let _ = gateway::guard::Metrics::new();
    let _ = nightly::Metrics::new();
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Milliseconds without an answer after which a charge is in doubt; the wait for a place and the preparation have half
    /// of them at most. Shorter asks PSPs that are merely slow.
    pub answer_ms: u64,
    /// Milliseconds until the first look-up of a charge in doubt; each further one waits twice as long.
    pub ask_ms_min: u64,
    /// The longest pause between two look-ups, in milliseconds.
    pub ask_ms_max: u64,
    /// Milliseconds after sending before which "not found" is not believed: the charge may still be on its way.
    pub arrival_ms: u64,
    /// Charges that may be open at once; past it, sessions wait. Each costs about a kilobyte.
    pub open_max: usize,
    /// Instructions that may wait for the actor.
    pub mailbox_max: usize,
    /// Calls to the PSP at a time; further ones wait, for half of `answer_ms` at most. Each holds a connection.
    pub places_max: usize,
    /// Of the last 32 calls to the PSP, how many failures open the circuit breaker. Fewer leave a PSP in trouble alone
    /// sooner, and take a short disturbance for trouble.
    pub breaker_failures: u32,
    /// Milliseconds until an open breaker lets one call through; each failure of it doubles them, up to a minute.
    pub breaker_ms: u64,
    /// The hour of the day, UTC, at which the day before is reconciled: 0 to 23; 24 is never.
    pub reconcile_hour: u8,
    pub gateway: Choice,
    /// Where Stripe's API is.
    pub stripe_url: String,
    /// Stripe's secret key, from the environment alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_secret: Option<Secret>,
    /// The secret of Stripe's webhook endpoint, from the environment alone; without it announcements are not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_webhook_secret: Option<Secret>,
    /// How long the built-in PSP simulator takes for an answer, in milliseconds.
    pub simulator_latency_ms: u64,
    /// What the simulator's faults are drawn from, with the key and the attempt.
    pub simulator_seed: u64,
    /// Of a thousand requests to the simulator, how many meet a fault: lost, late, unanswered, or doubled.
    pub simulator_fault_permille: u32,
}

impl Config {
    /// What does not hold between its knobs, in words.
    pub fn contradiction(&self) -> Option<String> {
        if self.gateway == Choice::Stripe && self.stripe_secret.is_none() {
            Some("payment.gateway is \"stripe\": set FORECOURT_PAYMENT_STRIPE_SECRET".into())
        } else if self.reconcile_hour > 24 {
            let hour = self.reconcile_hour;
            Some(format!("payment.reconcile_hour is {hour}; a day has the hours 0 to 23, and 24 is never"))
        } else if self.breaker_failures > 32 || self.simulator_fault_permille > 1_000 {
            Some(
                "payment.breaker_failures counts of 32 calls, payment.simulator_fault_permille of 1000 requests".into(),
            )
        } else if self.simulator_fault_permille > 0 && self.arrival_ms <= SIMULATOR_LATE_MS {
            Some(format!(
                "payment.arrival_ms must be more than {SIMULATOR_LATE_MS}: so late the simulator's faults are"
            ))
        } else {
            None
        }
    }
}

/// What became of an instruction, for the session that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Report {
    pub session: SessionId,
    pub ordinal: u32,
    pub news: News,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The PSP is silent; it is being asked.
    InDoubt,
    Concluded(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("too many charges are open")]
    Full,
    #[error("the intent is not journalled: {0}")]
    Ledger(#[from] LedgerError),
    #[error("payments have stopped")]
    Stopped,
}

/// The payments stage cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the journal cannot be read: {0}")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the PSP simulator's books cannot be opened: {0}")]
    Simulator(#[from] rusqlite::Error),
    #[error("payment.gateway is stripe, and FORECOURT_PAYMENT_STRIPE_SECRET is not set")]
    NoSecret,
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Handle to the payment actor; cheap to clone.
#[derive(Clone)]
pub struct Payments {
    actor: Addr<PaymentActor>,
    guard: Guard,
    hearsay: Arc<Mutex<Hearsay>>,
    hearsay_metrics: Arc<HearsayMetrics>,
}

impl Payments {
    /// Takes up the journal's open charges and starts the actor on `arbiter`. They are asked about once the sessions
    /// have [attached](Payments::attach).
    pub fn start(
        config: &Config,
        folder: &Path,
        ledger: Ledger,
        arbiter: &ArbiterHandle,
    ) -> Result<Payments, StartError> {
        let limit = Duration::from_millis(config.answer_ms);
        let pause = Duration::from_millis(config.breaker_ms);
        let gateway = Gateway::open(config, folder)?;
        let guard = Guard::new(gateway, config.places_max, config.breaker_failures, pause, limit);
        let patience = Patience {
            answer_ms: config.answer_ms,
            ask_ms_min: config.ask_ms_min.max(1),
            ask_ms_max: config.ask_ms_max.max(config.ask_ms_min).max(1),
            arrival_ms: config.arrival_ms,
        };
        let mut cashier = Cashier::new(patience, config.open_max.max(1));
        actor::recover(&mut cashier, &ledger)?;
        let mailbox = config.mailbox_max.max(1);
        let calls = guard.clone();
        let actor = PaymentActor::start_in_arbiter(arbiter, move |context| {
            context.set_mailbox_capacity(mailbox);
            PaymentActor::new(cashier, calls, ledger)
        });
        let hearsay = Arc::new(Mutex::new(Hearsay::default()));
        Ok(Payments { actor, guard, hearsay, hearsay_metrics: Arc::new(HearsayMetrics::new()) })
    }

    /// Has the PSP do it; answers once the intent is durable. What becomes of it is reported. The same instruction
    /// again is the same charge, and only wakes the wish for it.
    pub async fn instruct(&self, instruction: Instruction) -> Result<(), Error> {
        let span = session_span!("instruct", instruction.session, ordinal = instruction.ordinal);
        self.actor.send(Instruct(instruction, span)).await.unwrap_or(Err(Error::Stopped))
    }

    /// The instruction is wanted no more: it is never sent again, and what became of it is reported.
    pub async fn ask(&self, instruction: Instruction) -> Result<(), Error> {
        let span = session_span!("ask", instruction.session, ordinal = instruction.ordinal);
        self.actor.send(Ask(instruction, span)).await.unwrap_or(Err(Error::Stopped))
    }

    /// Names who hears of outcomes, and with that begins to ask about the charges that a restart left open. Sessions
    /// then say anew what they want and what they only want to know.
    pub async fn attach(&self, reports: Recipient<Report>) -> Result<(), Error> {
        self.actor.send(Attach(reports)).await.map_err(|_| Error::Stopped)
    }

    /// How the PSP is.
    pub fn gateway_state(&self) -> GatewayState {
        self.guard.state()
    }

    /// What the PSP announced, with its signature. A charge that it is about is looked up at once: the announcement
    /// itself is believed in nothing. One that comes again changes nothing. `None` where none are taken.
    pub async fn hear(&self, payload: &[u8], signature: &str) -> Option<Result<(), Unheard>> {
        let heard = match self.guard.gateway().hear(payload, signature, telemetry::now())? {
            Ok(heard) => heard,
            Err(unheard) => {
                self.hearsay_metrics.refused.increment(1);
                return Some(Err(unheard));
            }
        };
        if !self.hearsay.lock().unwrap_or_else(PoisonError::into_inner).remember(heard.event) {
            self.hearsay_metrics.repeated.increment(1);
            return Some(Ok(()));
        }
        match heard.news {
            Announcement::Moved(hint) => self.hint(hint).await,
            Announcement::Disputed { object } => {
                self.hearsay_metrics.disputed.increment(1);
                tracing::error!(object, "a driver disputes a payment: people have to answer the PSP");
            }
            Announcement::Other => self.hearsay_metrics.other.increment(1),
        }
        Some(Ok(()))
    }

    async fn hint(&self, hint: Hint) {
        self.hearsay_metrics.moved.increment(1);
        let span = session_span!("announcement", hint.session);
        if self.actor.send(Hinted(hint, span)).await.is_err() {
            tracing::debug!("payments have stopped; the next start asks about what is open");
        }
    }
}
