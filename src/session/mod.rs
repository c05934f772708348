//! Sessions: the stage that drives [`engine::session`].
//!
//! One actor keeps every open session of this node. Each change is an event that is in the [`ledger`] before the
//! caller hears of it and before its effects (a charge, a word to the phone) leave. A start replays the journal and
//! takes up what was in flight.
//!
//! [`engine::session`]: crate::engine::session
//! [`ledger`]: crate::ledger

mod actor;
mod audit;
mod claims;
mod desk;
mod evidence;
mod funnel;
mod gone;
mod heard;
mod index;
mod messages;
mod metrics;
mod orders;
mod prices;
mod record;
mod retention;
mod slot;
mod summary;
#[cfg(test)]
mod tests;
mod view;
mod watchers;

use ::metrics::Gauge;
use actix::prelude::*;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;

pub use crate::engine::session::{Completion, Notice, Quote, Session, StateName, Unseen, Vehicle, Why};
use crate::{
    engine::{
        id::{BindingId, PumpNumber, SessionId, StationId},
        money::{Currency, Money},
        time::UnixMs,
    },
    ledger::{self, Journal, Kind, Ledger, Seq},
    payment::{self, Payments},
    registration::{OperatorName, Registrations},
    telemetry::trace::session_span,
};
use actor::SessionDesk;
pub use actor::StartError;
pub use audit::{Audit, Finding};
use desk::Desk;
pub use evidence::Evidence;
pub use heard::{Heard, Level, Matched, RECEIVERS_KEPT_MAX};
use messages::{
    AttachStation, Give, OpenSession, Repeated, See, SeeReceipt, SetPrices, Summarise, TakeUp, TellStation, WatchPhone,
    WatchWords,
};
use prices::PricesSet;
pub use record::{Unreadable, Who};
pub use retention::{PurgeError, Purged, due};
pub use summary::Summary;
pub use view::{ChallengeView, Receipt, SessionView};

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Metrics::new();
    let _ = metrics::waiting();
    metrics::register_open_labels();
}

/// Purges what the journal has kept long enough, where no engine serves.
pub async fn purge(config: &ledger::Config, ledger: &Ledger, now: UnixMs) -> Result<Vec<Purged>, PurgeError> {
    retention::run(config, ledger, now, None).await
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Orders that may wait for the desk; past it, callers wait. Each costs about half a kilobyte.
    pub mailbox_max: usize,
    /// Sessions at an end that are kept in memory, some kilobytes each. Older ones are read from the journal when
    /// somebody asks, which takes a read of the disk each.
    pub ended_max: usize,
    /// Seconds after which a session at an end leaves the memory all the same.
    pub ended_s: u32,
    /// Changes that a phone's watcher may lag behind before it has to ask anew; each costs about a kilobyte.
    pub watch_max: usize,
}

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

/// What the actor is a shell around, for whoever drives it under a clock and a journal of their own.
pub mod plain {
    pub use super::{
        desk::{Desk, Done},
        orders::Witness,
        prices::{PriceBoard, PricesSet},
        record::Record,
        slot::{Cause, Job, Reply},
    };
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
    pub by: By,
    /// What the station heard of the vehicle.
    pub heard: Option<Heard>,
}

/// Who gives an order or asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Station(StationId),
    Phone(BindingId),
    Operator(OperatorName),
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
    /// Phone: it shows the last word to the driver; with a version, that of the session as it was then.
    Notice { version: Option<u32> },
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
    /// Operator: the vehicle may have a grade that does not fit it by its registration.
    AllowGrade { reason: String },
}

/// Sessions as somebody who watches is told of them, and the place in the journal up to which he knows them then.
#[derive(Debug)]
pub struct Told {
    pub seq: u64,
    pub sessions: Vec<SessionView>,
}

/// The sessions, and every change from then on.
pub type Watching = (Told, broadcast::Receiver<SessionView>);

/// What the driver of a session has still to be told; without `unseen` nothing, or nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub session: SessionId,
    pub binding: BindingId,
    pub unseen: Option<Unseen>,
}

impl Word {
    fn of(view: &SessionView) -> Word {
        Word { session: view.id, binding: view.binding, unseen: view.unseen }
    }
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

/// Keeps a station in step with its sessions.
pub type Follow = Box<dyn Fn(&SessionView) + Send>;

/// A session as the journal makes it, for who has the journal and no engine. Blocks.
pub fn from_journal(journal: &Journal, session: SessionId) -> Option<Session> {
    let entries = journal.of(Kind::Session, &session.0).ok()?;
    record::rebuild(session, &entries).ok().map(|rebuilt| rebuilt.session)
}

/// Handle to the session desk; cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    desk: Addr<SessionDesk>,
    /// Messages to the desk that it has not dealt with yet.
    waiting: Gauge,
    ledger: Ledger,
}

impl Sessions {
    /// Rebuilds the sessions from the journal and starts the desk on `arbiter`; it takes up what was in flight.
    pub async fn start(
        config: &Config,
        ledger: Ledger,
        payments: Payments,
        registrations: Registrations,
        arbiter: &ArbiterHandle,
    ) -> Result<Sessions, StartError> {
        let mut desk = Desk::new(config.ended_max, u64::from(config.ended_s) * 1_000);
        actor::recover(&mut desk, &ledger)?;
        if ledger.lacks_claims()? {
            ledger.complete_claims(claims::of_journal(&ledger)?).await?;
        }
        let (config, gateway, journal) = (config.clone(), payments.clone(), ledger.clone());
        let desk = SessionDesk::start_in_arbiter(arbiter, move |context| {
            context.set_mailbox_capacity(config.mailbox_max.max(1));
            SessionDesk::new(&config, desk, ledger, gateway, registrations)
        });
        payments.attach(desk.clone().recipient()).await?;
        desk.send(TakeUp()).await.map_err(|_| payment::Error::Stopped)?;
        Ok(Sessions { desk, waiting: metrics::waiting(), ledger: journal })
    }

    /// Opens a session; journalled before it answers.
    pub async fn open(&self, open: Open) -> Result<SessionView, Error> {
        let (reply, answer) = oneshot::channel();
        let span = session_span!("open", open.session);
        self.ask(OpenSession(open, reply, span)).await?;
        answer.await.unwrap_or(Err(Error::Unavailable))
    }

    /// The session that this very request opened before: a repetition finds it whether or not its vehicle is still
    /// there. `None` for a request that is new.
    pub async fn repeated(&self, session: SessionId, request: Request) -> Result<Option<SessionView>, Error> {
        self.ask(Repeated(session, request)).await?
    }

    /// Gives an order; journalled before it answers.
    pub async fn apply(&self, order: Order) -> Result<SessionView, Error> {
        let (reply, answer) = oneshot::channel();
        let span = session_span!("order", order.session, event = Empty, state = Empty);
        self.ask(Give(order, reply, span)).await?;
        answer.await.unwrap_or(Err(Error::Unavailable))
    }

    pub async fn view(&self, session: SessionId, by: By) -> Result<SessionView, Error> {
        self.ask(See(session, by)).await?
    }

    pub async fn receipt(&self, session: SessionId, by: By) -> Result<Receipt, Error> {
        self.ask(SeeReceipt(session, by)).await?
    }

    /// Registers a station for the changes of its sessions: `follow` hears of each in the turn of the desk in which whoever made
    /// it is answered, and so must not wait; then the actor does. Before this answers, `follow` hears of the sessions that are
    /// not at an end, so that a restarted station pins their vehicles again.
    pub async fn attach_station(
        &self,
        station: StationId,
        follow: Follow,
        actor: Recipient<SessionChanged>,
    ) -> Result<(), Error> {
        self.ask(AttachStation(station, follow, actor)).await
    }

    /// The sessions of a binding that are not at an end, the last that is and those that came to one since `after`, and
    /// then every change. A receiver that lags asks anew, with the place of the last change that it was told of.
    pub async fn watch_phone(&self, binding: BindingId, after: Option<u64>) -> Result<Watching, Error> {
        self.ask(WatchPhone(binding, after.map(Seq))).await
    }

    /// The sessions of a station that are not at an end, and those that came to one since `after`.
    pub async fn tell_station(&self, station: StationId, after: Option<u64>) -> Result<Told, Error> {
        self.ask(TellStation(station, after.map(Seq))).await
    }

    /// What drivers have still to be told, then each change of it. A receiver that lags asks anew.
    pub async fn watch_words(&self) -> Result<(Vec<Word>, broadcast::Receiver<Word>), Error> {
        self.ask(WatchWords()).await
    }

    /// All that the journal holds of a session, as one timeline.
    pub async fn evidence(&self, session: SessionId) -> Result<Evidence, Error> {
        let read = evidence::read(&self.ledger, session).await.map_err(|error| {
            tracing::error!(%error, %session, "the journal of a session cannot be read");
            Error::Unavailable
        });
        read?.ok_or(Error::NotFound)
    }

    pub async fn set_prices(&self, station: StationId, prices: Prices, request: Request) -> Result<(), Error> {
        self.ask(SetPrices(station, PricesSet { prices, request })).await?
    }

    pub async fn summary(&self) -> Result<Summary, Error> {
        self.ask(Summarise()).await
    }

    /// Purges what the journal has kept long enough, once a day until `stop`.
    pub async fn keep_retention(self, config: ledger::Config, ledger: Ledger, stop: CancellationToken) {
        stop.run_until_cancelled(retention::daily(&config, &ledger, &self.desk)).await;
    }

    /// Waits while the desk's mailbox is full.
    async fn ask<M>(&self, message: M) -> Result<M::Result, Error>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SessionDesk: Handler<M>,
    {
        self.waiting.increment(1.0);
        let answer = self.desk.send(message).await.map_err(|_| Error::Unavailable);
        self.waiting.decrement(1.0);
        answer
    }
}
