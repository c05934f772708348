//! A PSP's books, as reconciliation reads them.

use crate::engine::{charge::ChargeKey, id::SessionId, money::Money, time::UnixMs};

/// Lines of one day that are held in memory, about 150 bytes each (150 MB): 3,500 stations with 285 sales each.
pub(super) const LINES_MAX: usize = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Movement {
    Charged,
    /// Of a hold.
    Captured,
    Refunded,
}

impl Movement {
    /// From the driver to the chain.
    pub(crate) fn takes_money(self) -> bool {
        self != Movement::Refunded
    }
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The key of the charge, or of the hold that was captured; `None` of a movement that we did not order.
    pub key: Option<ChargeKey>,
    pub session: Option<SessionId>,
    pub movement: Movement,
    pub amount: Money,
    pub at: UnixMs,
    pub reference: String,
}

/// The PSP's books cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    #[error("the PSP does not show its books: {0}")]
    Unavailable(String),
    #[error("the PSP's books have more than {LINES_MAX} lines")]
    TooMany,
}
