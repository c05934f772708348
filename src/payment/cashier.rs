//! Every charge that is open, and what to do next with each: no clock, no PSP, no journal.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::engine::{
    charge::{Action, Charge, ChargeKey, Event, Instruction, Outcome, Patience, State},
    time::UnixMs,
};

/// What is journalled of a charge. The layout is version [`FORMAT`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) enum Record {
    Intended(Instruction),
    Concluded(Outcome),
    /// Given up after a week of asking.
    Unresolved,
}

pub(super) const FORMAT: u16 = 1;

/// Concluded charges that are kept in memory for repeated questions; older ones are read from the journal.
const CONCLUDED_MAX: usize = 4096;

pub(super) struct Cashier {
    patience: Patience,
    open_max: usize,
    charges: HashMap<ChargeKey, Charge>,
    deadlines: BTreeSet<(UnixMs, ChargeKey)>,
    concluded: VecDeque<ChargeKey>,
}

/// There are too many open charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Cashier {
    pub(super) fn new(patience: Patience, open_max: usize) -> Cashier {
        Cashier { patience, open_max, charges: HashMap::new(), deadlines: BTreeSet::new(), concluded: VecDeque::new() }
    }

    pub(super) fn knows(&self, key: ChargeKey) -> bool {
        self.charges.contains_key(&key)
    }

    pub(super) fn open_count(&self) -> usize {
        self.charges.len() - self.concluded.len()
    }

    pub(super) fn instruction(&self, key: ChargeKey) -> Option<&Instruction> {
        self.charges.get(&key).map(|charge| &charge.instruction)
    }

    /// A new charge; its intent has to be durable before it is sent.
    pub(super) fn intend(&mut self, instruction: Instruction, now: UnixMs) -> Result<(), Full> {
        if self.open_count() >= self.open_max {
            return Err(Full);
        }
        self.charges.insert(instruction.key(), Charge::intended(instruction, self.patience, now));
        Ok(())
    }

    /// The intent did not become durable: nothing was sent, nothing is left.
    pub(super) fn withdraw(&mut self, key: ChargeKey) {
        self.charges.remove(&key);
    }

    /// Takes up one journalled record; the charges that stay open are asked about first of all.
    pub(super) fn recover(&mut self, key: ChargeKey, record: Record, at: UnixMs) {
        let event = match record {
            Record::Intended(instruction) => {
                self.charges.insert(key, Charge::intended(instruction, self.patience, at));
                Event::Restarted
            }
            Record::Concluded(Outcome::Succeeded { amount, reference }) => Event::Answered { amount, reference },
            Record::Concluded(Outcome::Declined) => Event::AnsweredDeclined,
            Record::Concluded(Outcome::Failed) => Event::ConcludedFailed,
            Record::Unresolved => Event::GivenUp,
        };
        self.on_event(key, event, at);
    }

    /// What follows from an event; nothing for a charge that is unknown or does not take it.
    pub(super) fn on_event(&mut self, key: ChargeKey, event: Event, now: UnixMs) -> Action {
        self.with(key, |charge| charge.on_event(event, now).unwrap_or(Action::Nothing))
    }

    pub(super) fn next_deadline(&self) -> Option<UnixMs> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next charge that is due, and what to do with it.
    pub(super) fn due(&mut self, now: UnixMs) -> Option<(ChargeKey, Action)> {
        let (_, key) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        Some((key, self.with(key, |charge| charge.on_deadline(now))))
    }

    fn with(&mut self, key: ChargeKey, turn: impl FnOnce(&mut Charge) -> Action) -> Action {
        let Some(charge) = self.charges.get_mut(&key) else { return Action::Nothing };
        if let Some(at) = charge.next_deadline() {
            self.deadlines.remove(&(at, key));
        }
        let was_open = is_open(charge);
        let action = turn(charge);
        if let Some(at) = charge.next_deadline() {
            self.deadlines.insert((at, key));
        }
        if was_open && !is_open(charge) {
            self.keep_concluded(key);
        }
        action
    }

    fn keep_concluded(&mut self, key: ChargeKey) {
        self.concluded.push_back(key);
        if self.concluded.len() > CONCLUDED_MAX
            && let Some(oldest) = self.concluded.pop_front()
        {
            self.charges.remove(&oldest);
        }
    }
}

fn is_open(charge: &Charge) -> bool {
    matches!(charge.state, State::Intended | State::Sent { .. } | State::Unknown { .. })
}
