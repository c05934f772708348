//! Every charge that is open, and what to do next with each: no clock, no PSP, no journal.
//!
//! The order that keeps a charge single is decided here and carried out by the shell: an intent is durable before it is
//! sent, an outcome is durable before its session hears of it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{News, Report};
use crate::{
    engine::{
        charge::{Action, Charge, ChargeKey, Event, Instruction, Outcome, Patience, State},
        id::SessionId,
        time::UnixMs,
    },
    ledger::{self, Entry, Kind},
};

/// What is journalled of a charge. The layout is version [`FORMAT`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Record {
    Intended(Instruction),
    Concluded(Outcome),
    /// Given up after a week of asking.
    Unresolved,
    /// The PSP's object that stands for it; journalled before that object may move money. Since format 2.
    Named(String),
}

const FORMAT: u16 = 2;

/// The journal of a charge cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the journal holds a charge of format {0}, which this program does not know")]
    Format(u16),
    #[error("the journal holds a charge that cannot be read: {0}")]
    Damaged(#[from] ledger::Damaged),
}

impl Record {
    pub fn entry(&self, key: ChargeKey, at: UnixMs) -> Entry {
        let subject = key.0.to_vec();
        Entry { at, kind: Kind::Charge, subject, format: FORMAT, payload: ledger::encode(self) }
    }

    pub fn read(entry: &Entry) -> Result<(ChargeKey, Record), Unreadable> {
        let key = entry.subject.as_slice().try_into().map_err(|_| Unreadable::Format(entry.format))?;
        match entry.format {
            // The first lacks a record, and is otherwise the same.
            1 | FORMAT => Ok((ChargeKey(key), ledger::decode(&entry.payload)?)),
            other => Err(Unreadable::Format(other)),
        }
    }
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Append the record, then say [`durable`](Cashier::durable) or [`refused`](Cashier::refused).
    Journal(ChargeKey, Record),
    Send(Instruction),
    LookUp(ChargeKey),
    Report(Report),
}

/// Concluded charges that are kept in memory for repeated questions; older ones are read from the journal.
const CONCLUDED_MAX: usize = 4096;

/// The plain struct of the payments stage; the actor is its shell.
pub struct Cashier {
    patience: Patience,
    open_max: usize,
    charges: HashMap<ChargeKey, Charge>,
    deadlines: BTreeSet<(UnixMs, ChargeKey)>,
    concluded: VecDeque<ChargeKey>,
    /// Records on their way to the journal, by charge: until they are there, nobody is told what they say.
    unwritten: HashMap<ChargeKey, u32>,
}

/// There are too many open charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Cashier {
    pub fn new(patience: Patience, open_max: usize) -> Cashier {
        Cashier {
            patience,
            open_max,
            charges: HashMap::new(),
            deadlines: BTreeSet::new(),
            concluded: VecDeque::new(),
            unwritten: HashMap::new(),
        }
    }

    pub fn knows(&self, key: ChargeKey) -> bool {
        self.charges.contains_key(&key)
    }

    pub fn open_count(&self) -> usize {
        self.charges.len() - self.concluded.len()
    }

    pub fn charge(&self, key: ChargeKey) -> Option<&Charge> {
        self.charges.get(&key)
    }

    /// The PSP's object that an instruction works on: its own, or that of the charge it refers to.
    pub fn object(&self, key: ChargeKey) -> Option<&str> {
        let charge = self.charge(key)?;
        charge.object().or_else(|| self.charge(charge.instruction.of?)?.object())
    }

    /// Takes down the PSP's name for a charge.
    pub fn name(&mut self, key: ChargeKey, object: String) {
        if let Some(charge) = self.charges.get_mut(&key) {
            charge.name(object);
        }
    }

    /// Whether its request is on its way and still waited for.
    pub fn is_sending(&self, key: ChargeKey) -> bool {
        self.charge(key).is_some_and(|charge| matches!(charge.state, State::Sent { .. }))
    }

    pub fn may_be_closed(&self, key: ChargeKey, now: UnixMs) -> bool {
        self.charge(key).is_some_and(|charge| charge.may_be_closed(now))
    }

    /// The charges that a hint about `key` may concern: itself, and what its session has open. Looks at every open one:
    /// at most a millisecond for 20,000, and only for who has signed.
    pub fn concerned(&self, session: SessionId, key: ChargeKey) -> Vec<ChargeKey> {
        let open = self.deadlines.iter().map(|(_, open)| *open);
        let of_session = open.filter(|open| self.charge(*open).is_some_and(|of| of.instruction.session == session));
        of_session.filter(|open| *open != key).chain([key]).collect()
    }

    /// The session wants it done. The same instruction again is the same charge, and only wakes the wish for it.
    pub fn instruct(&mut self, instruction: Instruction, now: UnixMs) -> Result<Option<Step>, Full> {
        let key = instruction.key();
        if self.knows(key) {
            return Ok(self.on_event(key, Event::Wanted, now));
        }
        if self.open_count() >= self.open_max {
            return Err(Full);
        }
        self.charges.insert(key, Charge::intended(instruction.clone(), self.patience, now));
        Ok(Some(self.journal(key, Record::Intended(instruction))))
    }

    /// The session has no use for it any more and wants to know what became of it. What nobody knows was never sent,
    /// and never will be, should the instruction come after the question.
    pub fn ask(&mut self, instruction: Instruction, now: UnixMs) -> Option<Step> {
        let key = instruction.key();
        if !self.knows(key) {
            self.charges.insert(key, Charge::never_sent(instruction, self.patience, now));
            self.keep_concluded(key);
        }
        self.on_event(key, Event::Unwanted, now)
    }

    /// Takes up one journalled record. A charge that stays open is asked about first of all; whether it is still on
    /// its way to the PSP, nobody remembers.
    pub fn take_up(&mut self, entry: &Entry, now: UnixMs) -> Result<(), Unreadable> {
        let (key, record) = Record::read(entry)?;
        let event = match record {
            Record::Intended(instruction) => {
                self.charges.insert(key, Charge::intended(instruction, self.patience, entry.at));
                Event::Restarted
            }
            Record::Concluded(Outcome::Succeeded { amount, reference }) => Event::Answered { amount, reference },
            Record::Concluded(Outcome::Declined) => Event::AnsweredDeclined,
            Record::Concluded(Outcome::Failed) => Event::ConcludedFailed,
            Record::Unresolved => Event::GivenUp,
            Record::Named(object) => {
                self.name(key, object);
                return Ok(());
            }
        };
        self.turn(key, |charge| charge.on_event(event, now).unwrap_or(Action::Nothing));
        Ok(())
    }

    /// What follows from an event; nothing for a charge that is unknown or does not take it.
    pub fn on_event(&mut self, key: ChargeKey, event: Event, now: UnixMs) -> Option<Step> {
        let action = self.turn(key, |charge| charge.on_event(event, now).unwrap_or(Action::Nothing));
        self.step(key, action, now)
    }

    /// The record is in the journal: now the PSP, or the session, may hear of it.
    pub fn durable(&mut self, key: ChargeKey, record: Record, now: UnixMs) -> Option<Step> {
        self.written(key);
        match record {
            Record::Intended(_) => self.send(key, now),
            Record::Concluded(outcome) => self.report(key, News::Concluded(outcome)),
            Record::Unresolved | Record::Named(_) => None,
        }
    }

    /// The journal did not take the record, as far as can be told. An intent is withdrawn: nothing was sent, and its
    /// session comes again. An outcome is offered to the journal again, after a pause.
    pub fn refused(&mut self, key: ChargeKey, record: Record) -> Option<Step> {
        self.written(key);
        match record {
            Record::Intended(_) => {
                self.charges.remove(&key);
                None
            }
            Record::Concluded(_) => Some(self.journal(key, record)),
            // The next start asks about it again.
            Record::Unresolved | Record::Named(_) => None,
        }
    }

    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// What the next charge that is due asks for.
    pub fn due(&mut self, now: UnixMs) -> Option<Step> {
        let (_, key) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        let action = self.turn(key, |charge| charge.on_deadline(now));
        self.step(key, action, now)
    }

    fn step(&mut self, key: ChargeKey, action: Action, now: UnixMs) -> Option<Step> {
        match action {
            Action::Nothing => None,
            Action::Send => self.send(key, now),
            Action::Ask => Some(Step::LookUp(key)),
            Action::Doubt => self.report(key, News::InDoubt),
            Action::Conclude(outcome) => Some(self.journal(key, Record::Concluded(outcome))),
            // It is told as soon as it is durable.
            Action::Tell(_) if self.unwritten.contains_key(&key) => None,
            Action::Tell(outcome) => self.report(key, News::Concluded(outcome)),
            Action::GiveUp => Some(self.journal(key, Record::Unresolved)),
        }
    }

    fn send(&mut self, key: ChargeKey, now: UnixMs) -> Option<Step> {
        self.turn(key, |charge| charge.on_event(Event::Sent, now).unwrap_or(Action::Nothing));
        self.charge(key).map(|charge| Step::Send(charge.instruction.clone()))
    }

    fn report(&self, key: ChargeKey, news: News) -> Option<Step> {
        self.charge(key).map(|charge| report(&charge.instruction, news))
    }

    fn journal(&mut self, key: ChargeKey, record: Record) -> Step {
        *self.unwritten.entry(key).or_default() += 1;
        Step::Journal(key, record)
    }

    fn written(&mut self, key: ChargeKey) {
        if let Some(count) = self.unwritten.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.unwritten.remove(&key);
            }
        }
    }

    fn turn(&mut self, key: ChargeKey, turn: impl FnOnce(&mut Charge) -> Action) -> Action {
        let Some(charge) = self.charges.get_mut(&key) else { return Action::Nothing };
        if let Some(at) = charge.next_deadline() {
            self.deadlines.remove(&(at, key));
        }
        let was_open = charge.is_open();
        let action = turn(charge);
        if let Some(at) = charge.next_deadline() {
            self.deadlines.insert((at, key));
        }
        if was_open && !charge.is_open() {
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

fn report(instruction: &Instruction, news: News) -> Step {
    Step::Report(Report { session: instruction.session, ordinal: instruction.ordinal, news })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{charge::Operation, money::Money};

    const PATIENCE: Patience = Patience { answer_ms: 5_000, ask_ms_min: 500, ask_ms_max: 60_000, arrival_ms: 2_000 };
    const NOW: UnixMs = UnixMs(1_000_000);

    fn charge() -> Instruction {
        let amount = Money { minor: 51_000, currency: "KRW".parse().unwrap() };
        let session = SessionId([3; 16]);
        Instruction { session, ordinal: 1, operation: Operation::Charge, means: "tok_ok".into(), amount, of: None }
    }

    fn told(outcome: Outcome) -> Step {
        report(&charge(), News::Concluded(outcome))
    }

    #[test]
    fn an_instruction_that_comes_after_the_question_about_it_is_never_sent() {
        let mut cashier = Cashier::new(PATIENCE, 10);
        assert_eq!(cashier.ask(charge(), NOW), Some(told(Outcome::Failed)));
        assert_eq!(cashier.instruct(charge(), NOW), Ok(Some(told(Outcome::Failed))));
    }

    #[test]
    fn nobody_is_told_of_an_outcome_before_it_is_durable() {
        let mut cashier = Cashier::new(PATIENCE, 10);
        let key = charge().key();
        let intent = Record::Intended(charge());
        assert_eq!(cashier.instruct(charge(), NOW), Ok(Some(Step::Journal(key, intent.clone()))));
        assert_eq!(cashier.durable(key, intent, NOW), Some(Step::Send(charge())));
        let outcome = Record::Concluded(Outcome::Declined);
        assert_eq!(cashier.on_event(key, Event::AnsweredDeclined, NOW), Some(Step::Journal(key, outcome.clone())));
        assert_eq!(cashier.ask(charge(), NOW), None);
        assert_eq!(cashier.refused(key, outcome.clone()), Some(Step::Journal(key, outcome.clone())));
        assert_eq!(cashier.durable(key, outcome, NOW), Some(told(Outcome::Declined)));
        assert_eq!(cashier.ask(charge(), NOW), Some(told(Outcome::Declined)));
    }
}
