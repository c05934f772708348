//! The simulated journal: what a disk keeps, and what it does not.
//!
//! Appends become durable in their order, each after some time. One may fail; one may fail although it is durable. A
//! crash keeps a prefix of what was on its way, and everything that was ever acknowledged.

use std::collections::{HashMap, VecDeque};

use forecourt::{
    engine::{
        charge::{ChargeKey, Instruction},
        id::{SessionId, StationId},
    },
    ledger::{Entry, Kind, Seq},
    payment::Record,
    session::plain::PricesSet,
};

use crate::chance::Chance;

/// Who waits for an append, and for what.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    Session(SessionId),
    /// With the instruction whose session waits for its intent.
    Charge(ChargeKey, Record, Option<Instruction>),
    Prices(StationId, PricesSet),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Durable,
    Failed,
    /// The failure is a lie: the entry is there.
    FailedButDurable,
}

impl Fate {
    pub(crate) fn is_durable(self) -> bool {
        self != Fate::Failed
    }
}

#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) entry: Entry,
    pub(crate) fate: Fate,
    pub(crate) then: Then,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<(Seq, Entry)>,
    places: HashMap<(Kind, Vec<u8>), Vec<usize>>,
    under_way: VecDeque<Append>,
    /// When the last append is done: none overtakes another.
    busy_until: u64,
}

impl Journal {
    /// Takes an append; the answer is when it will be done.
    pub(crate) fn append(&mut self, append: Append, now: u64, latency: u64) -> u64 {
        self.under_way.push_back(append);
        self.busy_until = self.busy_until.max(now + latency);
        self.busy_until
    }

    /// The oldest append is done; the answer names the last place that is taken then.
    pub(crate) fn complete(&mut self) -> (Seq, Append) {
        let append = self.under_way.pop_front().expect("as many completions as appends");
        if append.fate.is_durable() {
            self.keep(append.entry.clone());
        }
        (self.last(), append)
    }

    /// Power is lost: some of what was under way is durable all the same. Answers with those entries.
    pub(crate) fn crash(&mut self, chance: &mut Chance) -> Vec<(Seq, Entry)> {
        let kept = chance.below(self.under_way.len() as u64 + 1) as usize;
        let under_way = std::mem::take(&mut self.under_way).into_iter().take(kept);
        let durable: Vec<Entry> = under_way.filter(|a| a.fate.is_durable()).map(|a| a.entry).collect();
        let known = self.entries.len();
        for entry in durable {
            self.keep(entry);
        }
        self.busy_until = 0;
        self.entries[known..].to_vec()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(crate) fn last(&self) -> Seq {
        Seq(self.entries.len() as u64)
    }

    pub(crate) fn entries(&self) -> &[(Seq, Entry)] {
        &self.entries
    }

    pub(crate) fn of(&self, kind: Kind, subject: &[u8]) -> Vec<(Seq, Entry)> {
        let places = self.places.get(&(kind, subject.to_vec()));
        places.into_iter().flatten().map(|place| self.entries[*place].clone()).collect()
    }

    fn keep(&mut self, entry: Entry) {
        self.places.entry((entry.kind, entry.subject.clone())).or_default().push(self.entries.len());
        self.entries.push((Seq(self.entries.len() as u64 + 1), entry));
    }
}
