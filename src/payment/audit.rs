//! Whether the journal's charges read back, as a start reads them.

use super::{Cashier, Unreadable};
use crate::{
    engine::charge::Patience,
    ledger::{Entry, Kind},
};

/// Nothing waits in an audit.
const NO_PATIENCE: Patience = Patience { answer_ms: 1, ask_ms_min: 1, ask_ms_max: 1, arrival_ms: 1 };

/// The charges so far: those that are open, and the last that are not.
pub struct Audit {
    cashier: Cashier,
}

impl Audit {
    pub fn new() -> Audit {
        Audit { cashier: Cashier::new(NO_PATIENCE, usize::MAX) }
    }

    /// Takes the next entry of the journal.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Unreadable> {
        if entry.kind == Kind::Charge { self.cashier.take_up(entry, entry.at) } else { Ok(()) }
    }

    /// Charges without an outcome.
    pub fn open_count(&self) -> usize {
        self.cashier.open_count()
    }
}

impl Default for Audit {
    fn default() -> Audit {
        Audit::new()
    }
}
