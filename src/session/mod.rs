//! Sessions: the stage that drives [`engine::session`].
//!
//! One actor keeps every open session of this node. Each change is an event that is in the [`ledger`] before the
//! caller hears of it and before its effects (a charge, a word to the phone) leave. A start replays the journal and
//! takes up what was in flight.
//!
//! [`engine::session`]: crate::engine::session
//! [`ledger`]: crate::ledger

mod view;

use actix::prelude::*;
use tokio::sync::broadcast;

pub use crate::engine::session::{Completion, Notice, Quote, StateName, Vehicle, Why};
use crate::engine::{
    id::{BindingId, PumpNumber, SessionId, StationId},
    money::{Currency, Money},
};
pub use view::{ChallengeView, Receipt, SessionView};

/// Why an order was refused; each variant is one problem code of the HTTP surface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such session, or not the caller's: the two look alike from outside.
    #[error("there is no such session")]
    NotFound,
    /// The caller's role may never give this order.
    #[error("this order is not the caller's to give")]
    NotPermitted,
    #[error("a session in state {0:?} does not take this order")]
    WrongState(StateName),
    #[error("the request is not usable: {0}")]
    Invalid(&'static str),
    /// `expected` is the amount in minor units that volume and price come to.
    #[error("volume and unit price come to {expected} minor units")]
    AmountMismatch { expected: i64 },
    #[error("the unit price is not the station's")]
    PriceChanged,
    #[error("the grade does not fit the vehicle")]
    GradeMismatch,
    /// The site's transaction id came with another body before, or belongs to another session.
    #[error("the site transaction was reported before with other contents")]
    TransactionConflict,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("the vehicle has no means of payment that permits this")]
    MeansNotPermitted,
    #[error("the hold was declined")]
    Declined,
    #[error("the sale was paid at the counter")]
    PaidElsewhere,
    #[error("the payment is cleared")]
    AlreadyCleared,
    #[error("the binding is suspended")]
    BindingSuspended,
    /// The vehicle is in another open session.
    #[error("the vehicle is in session {0}")]
    VehicleTaken(SessionId),
    #[error("the proof is wrong; {tries_left} tries are left")]
    ProofWrong { tries_left: u8 },
    /// The sale is not paid, so there is no receipt.
    #[error("the sale is not paid")]
    NotPaid,
    /// Too much is under way; the caller tries again later.
    #[error("too many requests are under way")]
    Overloaded,
    /// The journal or the registrations cannot be reached: nothing was changed.
    #[error("the service cannot take orders at present")]
    Unavailable,
}

/// Digests by which a repeated request is known, whatever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Request {
    /// SHA-256 of the idempotency key with its scope.
    pub key: [u8; 32],
    /// SHA-256 of the body.
    pub body: [u8; 32],
}

/// Opens a session. The same session id with the same body again answers with the session as it is now.
#[derive(Debug, Clone)]
pub struct Open {
    pub request: Request,
    /// Derived from the station and the request's key, so that the same request names the same session.
    pub session: SessionId,
    pub station: StationId,
    pub pump: Option<PumpNumber>,
    pub vehicle: Vehicle,
}

/// Who gives an order or asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Station(StationId),
    Phone(BindingId),
    Operator,
}

/// An order to one session.
#[derive(Debug, Clone)]
pub struct Order {
    pub session: SessionId,
    pub by: By,
    /// `None` for orders that are repeatable by nature (a notice, a site acknowledgement).
    pub request: Option<Request>,
    pub command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Station: takes the pump. A hold needs a preset amount, and is answered when the PSP has (30 s at most).
    Reserve { pump: PumpNumber, preset: Option<Money>, hold: bool, quote: Option<Quote> },
    /// Station: fuel flows.
    StartFuelling { pump: Option<PumpNumber> },
    /// Station: the nozzle is back.
    Complete(Completion),
    /// Station: the completion was wrong, this is right.
    Correct(Completion),
    /// Station: nobody fuels.
    Release,
    /// Station: the driver paid at the counter.
    PaidAtSite,
    /// Station: the site has booked the payment.
    Cleared,
    /// Phone: it shows the sale.
    Notice,
    /// Phone: not me.
    Reject,
    /// Phone: the dongle's MAC over the challenge's terms, and the phone's signature.
    Prove { mac: [u8; 32], signature: [u8; 64] },
    /// Operator: gives back a part, or with `None` all that is left.
    Refund { amount: Option<Money> },
    /// Operator: the acquirer's settlement contains the payment.
    Settle,
    /// Operator: takes the session out of the automatic flow.
    HandOver,
}

/// A station's unit prices, replaced as a whole.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub currency: Currency,
    /// At most 32 grades.
    pub grades: Vec<GradePrice>,
}

#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct GradePrice {
    pub grade: String,
    /// Thousandths of a minor unit per litre.
    pub unit_price_milli: i64,
}

/// A session changed: sent to its station's actor.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SessionChanged(pub SessionView);

/// Counts of sessions since the journal began, and of those open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Summary {
    pub opened: u64,
    /// Sessions that reached Paid at some time.
    pub paid: u64,
    pub collect_at_site: u64,
    pub proof_failed: u64,
    pub disputed: u64,
    pub refunded: u64,
    pub back_office: u64,
    /// Sessions that are in no end state now.
    pub open: u64,
    /// Sessions whose payment is in doubt now.
    pub in_doubt: u64,
}

/// Handle to the session desk; cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    desk: tokio::sync::mpsc::Sender<()>,
}

impl Sessions {
    /// Opens a session; journalled before it answers.
    pub async fn open(&self, open: Open) -> Result<SessionView, Error> {
        unimplemented!("{open:?}")
    }

    /// Gives an order; journalled before it answers.
    pub async fn apply(&self, order: Order) -> Result<SessionView, Error> {
        unimplemented!("{order:?}")
    }

    pub async fn view(&self, session: SessionId, by: By) -> Result<SessionView, Error> {
        unimplemented!("{session} {by:?}")
    }

    pub async fn receipt(&self, session: SessionId, by: By) -> Result<Receipt, Error> {
        unimplemented!("{session} {by:?}")
    }

    /// Registers the actor of a station for the changes of its sessions. The answer is its sessions that are not at
    /// an end, so that a restarted station pins their vehicles again.
    pub async fn attach_station(
        &self,
        station: StationId,
        actor: Recipient<SessionChanged>,
    ) -> Result<Vec<SessionView>, Error> {
        unimplemented!("{station} {}", actor.connected())
    }

    /// The sessions of a binding that are not at an end and the last that is, then every change. A receiver that
    /// lags asks anew.
    pub async fn watch_phone(
        &self,
        binding: BindingId,
    ) -> Result<(Vec<SessionView>, broadcast::Receiver<SessionView>), Error> {
        unimplemented!("{binding}")
    }

    pub async fn set_prices(&self, station: StationId, prices: Prices, request: Request) -> Result<(), Error> {
        unimplemented!("{station} {prices:?} {request:?}")
    }

    pub async fn summary(&self) -> Result<Summary, Error> {
        unimplemented!("{}", self.desk.capacity())
    }
}
