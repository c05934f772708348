//! The site transactions that the journal's sessions claimed, for a ledger that has only the entries.

use std::collections::HashMap;

use super::{StartError, desk::transaction_of, record::Record};
use crate::{
    engine::{id::SessionId, time::UnixMs},
    ledger::{Claim, Kind, Ledger},
};

/// In the order in which they were made.
pub(super) fn of_journal(ledger: &Ledger) -> Result<Vec<(Claim, UnixMs)>, StartError> {
    let mut stations = HashMap::new();
    let mut claims = Vec::new();
    let mut outcome = Ok(());
    ledger.replay(|_, entry| {
        let Ok(session) = entry.subject.as_slice().try_into().map(SessionId) else { return };
        if entry.kind != Kind::Session || outcome.is_err() {
            return;
        }
        match Record::read(&entry) {
            Ok(Record::Opened { opening, .. }) => drop(stations.insert(session, opening.station)),
            Ok(Record::Happened { event, .. }) => {
                let claim = transaction_of(&event).zip(stations.get(&session)).map(|(transaction, station)| Claim {
                    station: *station,
                    transaction: transaction.to_owned(),
                    session,
                });
                claims.extend(claim.map(|claim| (claim, entry.at)));
            }
            Err(error) => outcome = Err(error.into()),
        }
    })?;
    outcome.map(|()| claims)
}
