//! Whether the journal alone gives every session: each entry is replayed as a start replays it, in bounded memory.

use std::collections::{BTreeMap, HashMap};

use super::{By, StateName, Unreadable, desk::Desk, prices::PricesSet};
use crate::{
    engine::id::SessionId,
    ledger::{Entry, Journal, Kind, LedgerError, Seq},
    registration::OperatorName,
};

/// Sessions at an end that are kept for what may still come to them; the others are read again. Some kilobytes each.
const ENDED_MAX: usize = 10_000;

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("a session has an id of {0} bytes")]
    Id(usize),
    #[error("these prices cannot be read")]
    Prices,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The sessions so far. Costs some 40 bytes for each that there ever was.
pub struct Audit<'a> {
    journal: &'a Journal,
    desk: Desk,
    states: HashMap<SessionId, StateName>,
}

impl<'a> Audit<'a> {
    pub fn of(journal: &'a Journal) -> Audit<'a> {
        Audit { journal, desk: Desk::new(ENDED_MAX, u64::MAX), states: HashMap::new() }
    }

    /// Takes the next entry of the journal.
    pub fn take(&mut self, seq: Seq, entry: &Entry) -> Result<(), Finding> {
        match entry.kind {
            Kind::Session => self.take_session(seq, entry),
            Kind::Prices => PricesSet::read(entry).map(drop).ok_or(Finding::Prices),
            Kind::Charge | Kind::Purge => Ok(()),
        }
    }

    /// How many sessions are in each state.
    pub fn states(&self) -> BTreeMap<StateName, u64> {
        let mut counts = BTreeMap::new();
        for state in self.states.values() {
            *counts.entry(*state).or_default() += 1;
        }
        counts
    }

    fn take_session(&mut self, seq: Seq, entry: &Entry) -> Result<(), Finding> {
        let subject = entry.subject.as_slice();
        let id = SessionId(subject.try_into().map_err(|_| Finding::Id(subject.len()))?);
        if self.states.contains_key(&id) && !self.desk.knows(id) {
            let mut entries = self.journal.of(Kind::Session, subject)?;
            entries.retain(|(of, _)| *of <= seq);
            self.desk.recall(id, &entries)?;
        } else {
            self.desk.recover(seq, entry)?;
        }
        // An event of a session that was never opened leaves none.
        let view = self.desk.view(id, By::Operator(OperatorName::FOLDER)).map_err(|_| Unreadable::Contradiction(id))?;
        self.states.insert(id, view.state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::journal_of_a_sale, *};
    use crate::ledger::{self, Ledger};

    /// What an audit says of these entries.
    async fn audited(entries: Vec<Entry>) -> Result<BTreeMap<StateName, u64>, Finding> {
        let folder = tempfile::tempdir().unwrap();
        let all: toml::Table = toml::from_str(include_str!("../default.toml")).unwrap();
        let config: ledger::Config = all["ledger"].clone().try_into().unwrap();
        let ledger = Ledger::open(&config, folder.path()).unwrap();
        ledger.append(entries.clone()).await.unwrap();
        let journal = Journal::open(&Ledger::file(folder.path())).unwrap();
        let mut audit = Audit::of(&journal);
        for (seq, entry) in (1..).map(Seq).zip(&entries) {
            audit.take(seq, entry)?;
        }
        Ok(audit.states())
    }

    #[tokio::test]
    async fn every_session_is_counted_in_the_state_that_it_is_in() {
        let states = audited(journal_of_a_sale()).await.unwrap();
        assert_eq!(states, BTreeMap::from([(StateName::Paid, 1)]));
    }

    #[tokio::test]
    async fn events_that_contradict_each_other_are_found() {
        let sale = journal_of_a_sale();
        let mut twice_opened = sale.clone();
        twice_opened.insert(1, sale[0].clone());
        let mut never_opened = sale.clone();
        never_opened.remove(0);
        let mut out_of_order = sale.clone();
        out_of_order.swap(1, 2);
        for entries in [twice_opened, never_opened, out_of_order] {
            let found = audited(entries).await;
            assert!(matches!(found, Err(Finding::Unreadable(Unreadable::Contradiction(_)))), "{found:?}");
        }
        let mut unreadable = sale;
        unreadable[1].payload.truncate(5);
        assert!(matches!(audited(unreadable).await, Err(Finding::Unreadable(Unreadable::Damaged(_)))));
    }
}
