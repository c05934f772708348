//! Payments: the stage that drives [`engine::charge`] against a PSP.
//!
//! ```text
//! session --Instruct--> intent journalled --> gateway --> outcome journalled --Report--> session
//!                                                 \ silence: look up until it is known
//! ```
//!
//! One actor keeps the charges that are open. It never decides what to charge: an [`Instruction`] says so, and its key
//! follows from it. What the journal holds no intent of was never sent, so it may be declared failed.
//!
//! [`engine::charge`]: crate::engine::charge

mod actor;
mod audit;
mod cashier;
mod gateway;
mod metrics;
mod simulator;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use actix::prelude::*;

use crate::{
    engine::{
        charge::{Instruction, Outcome, Patience},
        id::SessionId,
    },
    ledger::{Ledger, LedgerError},
};
use actor::{Ask, Attach, Instruct, PaymentActor};
pub use audit::Audit;
pub use cashier::{Cashier, Full, Record, Step, Unreadable};
pub use gateway::{Answer, Finding, Gateway};
pub use simulator::{SessionCharges, Simulator};

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Milliseconds without an answer after which a charge is in doubt. Shorter asks PSPs that are merely slow.
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
    /// How long the built-in PSP simulator takes for an answer, in milliseconds.
    pub simulator_latency_ms: u64,
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
}

/// Handle to the payment actor; cheap to clone.
#[derive(Clone)]
pub struct Payments {
    actor: Addr<PaymentActor>,
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
        let latency = Duration::from_millis(config.simulator_latency_ms);
        let gateway = Gateway::Simulator(Simulator::open(folder, latency)?);
        let patience = Patience {
            answer_ms: config.answer_ms,
            ask_ms_min: config.ask_ms_min.max(1),
            ask_ms_max: config.ask_ms_max.max(config.ask_ms_min).max(1),
            arrival_ms: config.arrival_ms,
        };
        let mut cashier = Cashier::new(patience, config.open_max.max(1));
        actor::recover(&mut cashier, &ledger)?;
        let limit = Duration::from_millis(config.answer_ms);
        let mailbox = config.mailbox_max.max(1);
        let actor = PaymentActor::start_in_arbiter(arbiter, move |context| {
            context.set_mailbox_capacity(mailbox);
            PaymentActor::new(cashier, gateway, ledger, limit)
        });
        Ok(Payments { actor })
    }

    /// Has the PSP do it; answers once the intent is durable. What becomes of it is reported. The same instruction
    /// again is the same charge, and only wakes the wish for it.
    pub async fn instruct(&self, instruction: Instruction) -> Result<(), Error> {
        self.actor.send(Instruct(instruction)).await.unwrap_or(Err(Error::Stopped))
    }

    /// The instruction is wanted no more: it is never sent again, and what became of it is reported.
    pub async fn ask(&self, instruction: Instruction) -> Result<(), Error> {
        self.actor.send(Ask(instruction)).await.unwrap_or(Err(Error::Stopped))
    }

    /// Names who hears of outcomes, and with that begins to ask about the charges that a restart left open. Sessions
    /// then say anew what they want and what they only want to know.
    pub async fn attach(&self, reports: Recipient<Report>) -> Result<(), Error> {
        self.actor.send(Attach(reports)).await.map_err(|_| Error::Stopped)
    }
}
