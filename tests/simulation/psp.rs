//! The simulated PSP and its own books, which are the oracle for money.
//!
//! It honours an idempotency key for ever. What a token does is in its name, as with the simulator that is built in;
//! the network to it is the world's.

use std::collections::BTreeMap;

use forecourt::engine::{
    charge::{ChargeKey, Event, Instruction, Operation},
    id::SessionId,
    money::Money,
};

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) instruction: Instruction,
    /// `None`: declined.
    pub(crate) approved: Option<Money>,
    pub(crate) reference: String,
}

impl Line {
    fn answer(&self) -> Event {
        match self.approved {
            Some(amount) => Event::Answered { amount, reference: self.reference.clone() },
            None => Event::AnsweredDeclined,
        }
    }

    fn approved_minor(&self) -> i64 {
        self.approved.map_or(0, |amount| amount.minor)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Psp {
    lines: BTreeMap<ChargeKey, Line>,
    by_session: BTreeMap<SessionId, Vec<ChargeKey>>,
}

impl Psp {
    pub(crate) fn perform(&mut self, instruction: &Instruction) -> Event {
        let key = instruction.key();
        if !self.lines.contains_key(&key) {
            let approved = self.approve(instruction);
            let reference = format!("psp-{}", self.lines.len() + 1);
            self.by_session.entry(instruction.session).or_default().push(key);
            self.lines.insert(key, Line { instruction: instruction.clone(), approved, reference });
        }
        self.lines[&key].answer()
    }

    pub(crate) fn look_up(&self, key: ChargeKey) -> Option<Event> {
        self.lines.get(&key).map(Line::answer)
    }

    pub(crate) fn of(&self, session: SessionId) -> impl Iterator<Item = &Line> {
        self.by_session.get(&session).into_iter().flatten().map(|key| &self.lines[key])
    }

    /// What each taking of a session took and did not give back, in minor units.
    pub(crate) fn takings(&self, session: SessionId) -> impl Iterator<Item = i64> {
        self.succeeded(session, Operation::takes_money)
            .map(|taken| taken.approved_minor() - self.used(taken, Operation::Refund))
    }

    /// The holds of a session that were neither captured nor voided.
    pub(crate) fn open_holds(&self, session: SessionId) -> impl Iterator<Item = &Line> {
        self.succeeded(session, |operation| operation == Operation::Hold).filter(|hold| self.is_open(hold))
    }

    fn succeeded(&self, session: SessionId, which: impl Fn(Operation) -> bool) -> impl Iterator<Item = &Line> {
        self.of(session).filter(move |line| line.approved.is_some() && which(line.instruction.operation))
    }

    fn approve(&self, instruction: &Instruction) -> Option<Money> {
        let asked = instruction.amount;
        let means = instruction.means.as_str();
        let of = instruction.of.and_then(|of| self.lines.get(&of)).filter(|line| line.approved.is_some());
        let minor = match instruction.operation {
            Operation::Hold | Operation::Charge if means.starts_with("tok_decline") => None,
            Operation::Hold if means.starts_with("tok_half") => Some(asked.minor / 2),
            Operation::Charge if means.starts_with("tok_odd") => Some(asked.minor + 1),
            Operation::Hold | Operation::Charge => Some(asked.minor),
            Operation::Capture => {
                of.filter(|hold| self.is_open(hold) && asked.minor <= hold.approved_minor()).map(|_| asked.minor)
            }
            Operation::Void => of.filter(|hold| self.is_open(hold)).map(|_| 0),
            Operation::Refund => of
                .filter(|taken| asked.minor <= taken.approved_minor() - self.used(taken, Operation::Refund))
                .map(|_| asked.minor),
        };
        minor.map(|minor| Money { minor, ..asked })
    }

    fn is_open(&self, hold: &Line) -> bool {
        !self.of_line(hold).any(|line| matches!(line.instruction.operation, Operation::Capture | Operation::Void))
    }

    fn used(&self, line: &Line, by: Operation) -> i64 {
        self.of_line(line).filter(|line| line.instruction.operation == by).map(Line::approved_minor).sum()
    }

    /// What went through and refers to `line`.
    fn of_line(&self, line: &Line) -> impl Iterator<Item = &Line> {
        let key = line.instruction.key();
        self.succeeded(line.instruction.session, |_| true).filter(move |later| later.instruction.of == Some(key))
    }
}
