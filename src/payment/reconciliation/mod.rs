//! Reconciliation: one day of our journal against the PSP's books.
//!
//! A day is a day of UTC, from midnight to midnight, whatever the stations' clocks show: PSPs keep their books so, and a
//! chain over several zones has one day only that way. Ours counts by when the outcome was journalled, theirs by the
//! PSP's time; a sale at midnight may stand in two days, and is no exception for that: ours is searched for in the
//! PSP's books of a day before and an hour after, and theirs in the whole journal.
//!
//! Everything that does not agree is an [`Exception`] with the money that is at risk. It needs neither the engine nor
//! its lock: the journal is read, by an own connection, beside whoever writes it.

mod compare;
mod day;
mod files;
mod ours;

use std::{path::Path, sync::Arc};

pub use super::gateway::{BooksError, Choice};
use super::{Config, StartError, Unreadable, gateway::Gateway};
use crate::{
    engine::{
        charge::Operation,
        id::{SessionId, StationId},
        money::Currency,
        time::UnixMs,
    },
    ledger::{Journal, LedgerError},
};
pub use day::{Day, DayError};
pub use files::{FilesError, Written, folder, stored, write};

/// The PSP's time may be so long before the outcome was journalled: a charge that was in doubt.
const BEFORE_MS: u64 = 24 * 3600 * 1000;

/// And so long after: two clocks.
const AFTER_MS: u64 = 3600 * 1000;

/// What reconciliation has to know of a session, which other stages keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub station: StationId,
    /// It is paid, and the site has not booked the payment.
    pub is_uncleared: bool,
}

/// Where they come from; blocks.
pub type FactsOf = Arc<dyn Fn(&Journal, SessionId) -> Option<Facts> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Gateway(#[from] StartError),
    #[error(transparent)]
    Books(#[from] BooksError),
    #[error("the journal cannot be read: {0}")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the comparison was given up")]
    GivenUp,
}

/// A day of our books beside the PSP's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Reconciliation {
    /// The day, UTC: 2026-11-24.
    pub date: String,
    pub psp: String,
    pub made_at: UnixMs,
    /// By station and currency; movements of no known station last.
    pub totals: Vec<Totals>,
    pub exceptions: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Totals {
    pub station: Option<StationId>,
    pub currency: Currency,
    pub ours: Sums,
    pub theirs: Sums,
}

/// Counts, and sums in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Sums {
    pub charges: u64,
    pub charges_minor: i64,
    pub captures: u64,
    pub captures_minor: i64,
    pub refunds: u64,
    pub refunds_minor: i64,
    /// Charges and captures less refunds.
    pub net_minor: i64,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionKind {
    /// We have it, the PSP has not.
    MissingAtPsp,
    /// The PSP has it, and our journal knows of no success.
    MissingInJournal,
    AmountsDiffer,
    /// It has no outcome yet, and is being asked about.
    InDoubt,
    /// It had no outcome for a week, and nobody asks any more.
    Unresolved,
    /// The site has not booked a payment of this day.
    PaidNotCleared,
}

/// Something that people have to look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Exception {
    pub kind: ExceptionKind,
    pub session: Option<SessionId>,
    pub station: Option<StationId>,
    pub operation: Option<Operation>,
    /// The charge's idempotency key, in hexadecimal digits.
    pub key: Option<String>,
    /// The PSP's name for it.
    pub reference: Option<String>,
    pub currency: Currency,
    pub ours_minor: Option<i64>,
    pub theirs_minor: Option<i64>,
    /// What may be lost to the chain or the driver at worst.
    pub at_risk_minor: i64,
    pub since: UnixMs,
    /// From then to when the reconciliation was made.
    pub age_s: u64,
}

/// Reconciles a day with the PSP that the settings name, beside a running engine or without one.
pub async fn reconcile(
    config: &Config,
    folder: &Path,
    journal: Journal,
    facts: FactsOf,
    day: Day,
    now: UnixMs,
) -> Result<Reconciliation, Error> {
    compare_books(&Gateway::open(config, folder)?, journal, facts, day, now).await
}

pub(super) async fn compare_books(
    gateway: &Gateway,
    journal: Journal,
    facts: FactsOf,
    day: Day,
    now: UnixMs,
) -> Result<Reconciliation, Error> {
    let psp = gateway.choice().name();
    let theirs = gateway.books(day.start().minus(BEFORE_MS), day.end().plus(AFTER_MS)).await?;
    let compared = tokio::task::spawn_blocking(move || {
        let ours = ours::read(&journal, day, now)?;
        let is_known = |key| ours::has_moved_money(&journal, key);
        let facts = |session| facts(&journal, session);
        let (totals, exceptions) = compare::compare(&ours, &theirs, day, now, &facts, &is_known)?;
        Ok(Reconciliation { date: day.to_string(), psp: psp.to_owned(), made_at: now, totals, exceptions })
    });
    compared.await.unwrap_or(Err(Error::GivenUp))
}
