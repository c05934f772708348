//! The PSPs that Forecourt can speak to, behind one enum: every outcome is matched wherever it is used.
//!
//! Every instruction goes through the same three calls, whoever the PSP is:
//!
//! | call | may move money | what it is for |
//! |---|---|---|
//! | [`prepare`](Gateway::prepare) | never | has the PSP make the object that will move it, so that its name can be journalled first |
//! | [`perform`](Gateway::perform) | once | has that object, or that of the charge it refers to, do it |
//! | [`look_up`](Gateway::look_up) | never | what became of it; when it did not happen and may be closed, it cannot happen after that |
//!
//! The outcomes are ours ([`Answer`], [`Finding`]), and the whole of what the rest of the engine knows of a PSP.
//! [`guard`] stands before every gateway: places, circuit breaker, metrics.
//!
//! # Another gateway
//!
//! 1. A variant in [`Gateway`] and one in [`Choice`]: the compiler then names every match that wants an arm, all of
//!    them in this file ([`Gateway::open`], [`prepare`](Gateway::prepare), [`perform`](Gateway::perform),
//!    [`look_up`](Gateway::look_up), [`books`](Gateway::books), [`choice`](Gateway::choice)).
//! 2. A file beside [`stripe`] with a plain struct that has these five calls, and its table from status to outcome.
//!    Whatever is unclear is [`Answer::NoAnswer`]; [`Answer::NotSent`] is only what certainly did nothing.
//! 3. Its knobs in [`Config`] and `default.toml`.
//! 4. A PSP that announces outcomes: the check of its signature beside the gateway, and a route that calls
//!    [`Payments::hear`](super::Payments::hear). An announcement is a hint to look up, never an outcome.

mod books;
mod breaker;
mod faults;
pub(super) mod guard;
mod simulator;
mod stripe;

use std::path::Path;

use super::{Config, StartError};
use crate::engine::{
    charge::{ChargeKey, Instruction},
    id::SessionId,
    money::Money,
    time::UnixMs,
};
pub use books::BooksError;
pub(super) use books::{Line, Movement};
pub use guard::GatewayState;
pub(super) use guard::{Guard, Place};
pub use simulator::{LATE_MS as SIMULATOR_LATE_MS, SessionCharges, Simulator};
pub use stripe::{AddressError, Stripe};

/// What an instruction came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Succeeded {
        amount: Money,
        reference: String,
    },
    Declined,
    /// Silence, or a broken connection: anything may have happened.
    NoAnswer,
    /// Certainly nothing happened: no connection, no free place, refused at the door. The same key may come again.
    NotSent,
}

/// What the preparation of an instruction came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// It may be performed. `object`: what the PSP calls it, if it has to be known for that.
    Ready {
        object: Option<String>,
    },
    Declined,
    /// As [`Answer::NotSent`]: what was prepared and not performed takes no money.
    NotSent,
}

/// What a look-up came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Succeeded { amount: Money, reference: String },
    Declined,
    NotFound,
    NoAnswer,
}

/// An instruction, and the PSP's object that it works on: its own, or that of the charge it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub instruction: Instruction,
    pub object: Option<String>,
}

/// What a PSP announced: nobody's word, only a reason to look the charge up now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    pub session: SessionId,
    pub key: ChargeKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    Simulator,
    Stripe,
}

impl Choice {
    pub fn name(self) -> &'static str {
        match self {
            Choice::Simulator => "simulator",
            Choice::Stripe => "stripe",
        }
    }
}

#[derive(Debug, Clone)]
pub enum Gateway {
    Simulator(Simulator),
    Stripe(Box<Stripe>),
}

impl Gateway {
    /// The gateway that the settings name; the simulator's books lie in `folder`.
    pub fn open(config: &Config, folder: &Path) -> Result<Gateway, StartError> {
        Ok(match config.gateway {
            Choice::Simulator => Gateway::Simulator(Simulator::configured(config, folder)?),
            Choice::Stripe => Gateway::Stripe(Box::new(Stripe::configured(config)?)),
        })
    }

    pub fn choice(&self) -> Choice {
        match self {
            Gateway::Simulator(_) => Choice::Simulator,
            Gateway::Stripe(_) => Choice::Stripe,
        }
    }

    pub async fn prepare(&self, instruction: &Instruction) -> Prepared {
        match self {
            Gateway::Simulator(_) => Prepared::Ready { object: None },
            Gateway::Stripe(stripe) => stripe.prepare(instruction).await,
        }
    }

    /// Carries an instruction out under its key. It may never answer: the caller sets the limit.
    pub async fn perform(&self, task: &Task) -> Answer {
        match self {
            Gateway::Simulator(simulator) => simulator.perform(task.instruction.clone()).await,
            Gateway::Stripe(stripe) => stripe.perform(task).await,
        }
    }

    /// `close`: what did not happen is to be made impossible, where the PSP can.
    pub async fn look_up(&self, task: &Task, close: bool) -> Finding {
        match self {
            Gateway::Simulator(simulator) => simulator.look_up(task.instruction.key()).await,
            Gateway::Stripe(stripe) => stripe.look_up(task, close).await,
        }
    }

    /// Every movement of money in the PSP's books from `from` until before `until`.
    pub(super) async fn books(&self, from: UnixMs, until: UnixMs) -> Result<Vec<Line>, BooksError> {
        match self {
            Gateway::Simulator(simulator) => simulator.books(from, until).await,
            Gateway::Stripe(stripe) => stripe.books(from, until).await,
        }
    }

    /// Checks what was announced to us; `None` from a gateway that announces nothing.
    pub(super) fn hear(&self, payload: &[u8], signature: &str, now: UnixMs) -> Option<Result<Heard, Unheard>> {
        match self {
            Gateway::Simulator(_) => None,
            Gateway::Stripe(stripe) => stripe.hear(payload, signature, now),
        }
    }
}

/// A genuine announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// The PSP's name for the announcement: one that comes again changes nothing.
    pub event: String,
    pub news: Announcement,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Announcement {
    Moved(Hint),
    /// The driver's bank takes the money back: for people.
    Disputed {
        object: String,
    },
    /// Nothing of ours.
    Other,
}

/// An announcement that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    #[error("the signature does not read")]
    Unsigned,
    #[error("the signature is of another time")]
    Stale,
    #[error("the signature does not fit")]
    Forged,
    #[error("the event does not read")]
    Unreadable,
}
