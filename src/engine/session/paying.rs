//! What the session has the PSP do, and what comes of it.

use super::{
    Completion, Effect, Effects, Notice, PAYING_MS, Payment, Proof, Refusal, SELECTED_MS, Session, State, Why,
};
use crate::engine::{
    charge::{ChargeKey, Instruction, Operation, Outcome},
    money::Money,
    session::NOZZLE_MS,
    time::UnixMs,
};

/// Means that are tried under one proof: the first, and two more.
const MEANS_TRIED_MAX: usize = 3;

/// Instructions of one session that it starts by itself or on request; voids and refunds may go past it.
const ATTEMPTS_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub instruction: Instruction,
    pub status: AttemptStatus,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptStatus {
    Pending,
    Succeeded { amount: Money },
    Declined,
    Failed,
}

impl Attempt {
    fn succeeded(&self) -> Option<Money> {
        match self.status {
            AttemptStatus::Succeeded { amount } => Some(amount),
            _ => None,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.status, AttemptStatus::Declined | AttemptStatus::Failed)
    }
}

impl Session {
    /// What is held and neither captured nor voided.
    pub fn held(&self) -> Option<Money> {
        self.standing_hold().and_then(Attempt::succeeded)
    }

    /// What was taken and not given back.
    pub fn paid(&self) -> Option<Money> {
        self.total(|attempt| attempt.instruction.operation.takes_money())
            .map(|taken| Money { minor: taken.minor - self.refunded().map_or(0, |refunded| refunded.minor), ..taken })
    }

    pub fn refunded(&self) -> Option<Money> {
        self.total(|attempt| attempt.instruction.operation == Operation::Refund)
    }

    fn total(&self, of: impl Fn(&Attempt) -> bool) -> Option<Money> {
        let amounts = || self.attempts.iter().filter(|attempt| of(attempt)).filter_map(Attempt::succeeded);
        let currency = amounts().next()?.currency;
        Some(Money { minor: amounts().map(|amount| amount.minor).sum(), currency })
    }

    /// The instruction in flight that takes money: at most one.
    pub fn pending_charge(&self) -> Option<Instruction> {
        self.pending().find(|instruction| instruction.operation.takes_money()).cloned()
    }

    /// Every instruction without an outcome, for a restart to take up.
    pub fn pending(&self) -> impl Iterator<Item = &Instruction> {
        self.attempts
            .iter()
            .filter(|attempt| attempt.status == AttemptStatus::Pending)
            .map(|attempt| &attempt.instruction)
    }

    /// Whether the session still wants a pending instruction to happen, rather than only to know of it.
    pub fn wants(&self, instruction: &Instruction) -> bool {
        match (instruction.operation, &self.state) {
            (Operation::Void | Operation::Refund, _) => true,
            (Operation::Hold, State::Holding { ordinal, .. })
            | (_, State::Proven { ordinal, .. } | State::Paying { ordinal, .. }) => *ordinal == instruction.ordinal,
            _ => false,
        }
    }

    pub(super) fn may_instruct(&self) -> bool {
        self.attempts.len() < ATTEMPTS_MAX
    }

    pub(super) fn next_ordinal(&self) -> u32 {
        self.attempts.len() as u32 + 1
    }

    pub(super) fn instruct(
        &mut self,
        operation: Operation,
        means: String,
        amount: Money,
        of: Option<ChargeKey>,
    ) -> (u32, Effect) {
        let ordinal = self.next_ordinal();
        let instruction = Instruction { session: self.opening.session, ordinal, operation, means, amount, of };
        self.attempts.push(Attempt { instruction: instruction.clone(), status: AttemptStatus::Pending });
        (ordinal, Effect::Instruct(instruction))
    }

    /// Has the PSP found out about an instruction that is still without an outcome.
    pub(super) fn ask(&self, ordinal: u32) -> Option<Effect> {
        self.pending().find(|instruction| instruction.ordinal == ordinal).cloned().map(Effect::Ask)
    }

    /// Captures the hold, or charges the next means that was not tried under this proof; without any, the driver
    /// pays at the counter.
    pub(super) fn take_payment(&mut self, sale: Completion, proof: Proof, until: UnixMs, now: UnixMs) -> Effects {
        let amount = sale.amount;
        let hold = self.standing_hold().map(|hold| hold.instruction.clone());
        let (ordinal, effect) = match (hold, self.next_means()) {
            (Some(hold), _) if !self.tried(&hold.means) => {
                self.instruct(Operation::Capture, hold.means.clone(), amount, Some(hold.key()))
            }
            (_, Some(means)) if self.may_instruct() => self.instruct(Operation::Charge, means, amount, None),
            _ => return self.enter_collect(sale, Why::Declined, None, now),
        };
        self.state = State::Proven { sale, proof, ordinal, until };
        vec![effect]
    }

    fn next_means(&self) -> Option<String> {
        let tried = self.tries().count();
        let untried = self.vehicle().means.iter().find(|means| !self.tried(means)).cloned();
        untried.filter(|_| tried < MEANS_TRIED_MAX && self.barred.is_none())
    }

    fn tried(&self, means: &str) -> bool {
        self.tries().any(|instruction| instruction.means == means)
    }

    /// The instructions that were to take money under the present proof.
    fn tries(&self) -> impl Iterator<Item = &Instruction> {
        let instructions = self.attempts.iter().map(|attempt| &attempt.instruction);
        instructions.filter(|i| i.operation.takes_money() && i.ordinal >= self.proof_ordinal)
    }

    pub(super) fn on_sent(&mut self, ordinal: u32) -> Result<Effects, Refusal> {
        match &self.state {
            State::Proven { sale, proof, ordinal: charging, until } if *charging == ordinal => {
                self.state = State::Paying { sale: sale.clone(), proof: *proof, ordinal, until: *until };
                Ok(Effects::new())
            }
            _ => Err(Refusal::Already),
        }
    }

    pub(super) fn on_doubt(&mut self, ordinal: u32, now: UnixMs) -> Result<Effects, Refusal> {
        match self.state {
            State::Proven { ordinal: charging, .. } | State::Paying { ordinal: charging, .. }
                if charging == ordinal =>
            {
                self.enter_doubt(now)
            }
            _ => Err(Refusal::Already),
        }
    }

    pub(super) fn enter_doubt(&mut self, now: UnixMs) -> Result<Effects, Refusal> {
        match &self.state {
            State::Proven { sale, proof, ordinal, .. } | State::Paying { sale, proof, ordinal, .. } => {
                let (sale, proof, ordinal) = (sale.clone(), *proof, *ordinal);
                self.state = State::InDoubt { sale, proof, ordinal, since: now, told: false };
                Ok(self.ask(ordinal).into_iter().collect())
            }
            _ => Err(Refusal::WrongState),
        }
    }

    pub(super) fn on_concluded(&mut self, ordinal: u32, outcome: Outcome, now: UnixMs) -> Result<Effects, Refusal> {
        let place = (ordinal as usize).checked_sub(1).ok_or(Refusal::WrongState)?;
        let attempt = self.attempts.get_mut(place).ok_or(Refusal::WrongState)?;
        let status = match &outcome {
            Outcome::Succeeded { amount, .. } => AttemptStatus::Succeeded { amount: *amount },
            Outcome::Declined => AttemptStatus::Declined,
            Outcome::Failed => AttemptStatus::Failed,
        };
        let was_known = attempt.status != AttemptStatus::Pending;
        if was_known && (attempt.succeeded().is_some() || !matches!(outcome, Outcome::Succeeded { .. })) {
            return Err(Refusal::Already);
        }
        attempt.status = status;
        let lost = attempt.is_lost();
        match attempt.instruction.operation {
            Operation::Hold => Ok(self.on_hold_answer(ordinal, &outcome, now)),
            Operation::Charge | Operation::Capture => Ok(self.on_charge_answer(ordinal, outcome, now)),
            Operation::Refund if lost => Ok(self.enter_back_office(Why::RefundFailed)),
            Operation::Refund => {
                Ok(vec![Effect::NotifyPhone(Notice::Refunded), Effect::NotifyStation(Notice::Refunded)])
            }
            Operation::Void => Ok(Effects::new()),
        }
    }

    fn on_hold_answer(&mut self, answered: u32, outcome: &Outcome, now: UnixMs) -> Effects {
        match (&self.state, outcome) {
            (State::Holding { pump, preset, ordinal, .. }, Outcome::Succeeded { amount, .. })
                if *ordinal == answered =>
            {
                let approved = Money { minor: preset.minor.min(amount.minor), ..*preset };
                self.state = State::Reserved { pump: *pump, preset: Some(approved), until: now.plus(NOZZLE_MS) };
                Effects::new()
            }
            (State::Holding { ordinal, .. }, _) if *ordinal == answered => {
                self.state = State::Selected { until: now.plus(SELECTED_MS) };
                vec![Effect::NotifyStation(Notice::HoldDeclined)]
            }
            _ => Effects::new(),
        }
    }

    fn on_charge_answer(&mut self, answered: u32, outcome: Outcome, now: UnixMs) -> Effects {
        let (sale, proof, until) = match self.state.clone() {
            State::Proven { sale, proof, ordinal, until } | State::Paying { sale, proof, ordinal, until }
                if ordinal == answered =>
            {
                (sale, proof, until)
            }
            State::InDoubt { sale, proof, ordinal, .. } if ordinal == answered => (sale, proof, now.plus(PAYING_MS)),
            _ => return Effects::new(),
        };
        match outcome {
            Outcome::Succeeded { amount, reference } if amount == proof.amount => {
                let payment = Payment { ordinal: answered, amount, reference, paid_at: now };
                self.state = State::Paid { sale, proof, payment };
                vec![Effect::NotifyPhone(Notice::Paid), Effect::NotifyStation(Notice::Paid)]
            }
            Outcome::Succeeded { .. } => self.enter_back_office(Why::AmountDiffers),
            Outcome::Declined | Outcome::Failed if now < until => self.take_payment(sale, proof, until, now),
            Outcome::Declined | Outcome::Failed => self.enter_collect(sale, Why::Declined, None, now),
        }
    }

    pub(super) fn on_paid_at_counter(&mut self) -> Result<Effects, Refusal> {
        match &self.state {
            State::PaidElsewhere { .. } => Err(Refusal::Already),
            State::Cleared { .. } | State::Settled { .. } => Err(Refusal::AlreadyCleared),
            State::BackOffice { .. } => Err(Refusal::WrongState),
            state => {
                let sale = state.sale().ok_or(Refusal::WrongState)?.clone();
                let effects = self.pending_charge().into_iter().map(Effect::Ask).collect();
                self.state = State::PaidElsewhere { sale };
                Ok(effects)
            }
        }
    }

    pub(super) fn on_cleared(&mut self) -> Result<Effects, Refusal> {
        match &self.state {
            State::Paid { sale, proof, payment } => {
                self.state = State::Cleared { sale: sale.clone(), proof: *proof, payment: payment.clone() };
                Ok(Effects::new())
            }
            State::Cleared { .. } | State::Settled { .. } => Err(Refusal::Already),
            State::PaidElsewhere { .. } => Err(Refusal::PaidElsewhere),
            _ => Err(Refusal::WrongState),
        }
    }

    pub(super) fn on_settled(&mut self) -> Result<Effects, Refusal> {
        match &self.state {
            State::Cleared { sale, proof, payment } => {
                self.state = State::Settled { sale: sale.clone(), proof: *proof, payment: payment.clone() };
                Ok(Effects::new())
            }
            State::Settled { .. } => Err(Refusal::Already),
            _ => Err(Refusal::WrongState),
        }
    }

    /// An operator gives back a part, or all that is left.
    pub(super) fn on_refund_order(&mut self, amount: Option<Money>) -> Result<Effects, Refusal> {
        let payment = self.state.payment().ok_or(Refusal::WrongState)?;
        let left = self.left_of(payment.ordinal);
        let amount = amount.unwrap_or(left);
        if amount.currency != left.currency || amount.minor <= 0 || amount.minor > left.minor {
            return Err(Refusal::Invalid("a refund is more than nothing and at most what is left of the payment"));
        }
        let ordinal = payment.ordinal;
        Ok(vec![self.refund(ordinal, amount)])
    }

    /// Voids a hold that no sale will be paid from, and refunds what was taken beside the session's payment.
    pub(super) fn let_go(&mut self, effects: &mut Effects) {
        if !self.name().expects_payment()
            && let Some(hold) = self.standing_hold().map(|hold| hold.instruction.clone())
        {
            effects.push(self.instruct(Operation::Void, hold.means.clone(), hold.amount, Some(hold.key())).1);
        }
        if let State::BackOffice { .. } = self.state {
            return; // people decide what becomes of money there
        }
        let payment = self.state.payment().map(|payment| payment.ordinal);
        let strays: Vec<u32> = self
            .attempts
            .iter()
            .filter(|attempt| attempt.instruction.operation.takes_money() && attempt.succeeded().is_some())
            .map(|attempt| attempt.instruction.ordinal)
            .filter(|ordinal| Some(*ordinal) != payment)
            .collect();
        for ordinal in strays {
            let left = self.left_of(ordinal);
            if left.minor > 0 {
                effects.push(self.refund(ordinal, left));
                effects.push(Effect::NotifyPhone(Notice::Refunding));
                effects.push(Effect::NotifyStation(Notice::Refunding));
            }
        }
    }

    fn refund(&mut self, ordinal: u32, amount: Money) -> Effect {
        let taken = self.attempts[ordinal as usize - 1].instruction.clone();
        self.instruct(Operation::Refund, taken.means.clone(), amount, Some(taken.key())).1
    }

    /// What an instruction took, less the refunds that were ordered and did not fail.
    fn left_of(&self, ordinal: u32) -> Money {
        let taken = &self.attempts[ordinal as usize - 1];
        let key = taken.instruction.key();
        let amount = taken.succeeded().unwrap_or(Money { minor: 0, ..taken.instruction.amount });
        let refunds = self.attempts.iter().filter(|attempt| {
            attempt.instruction.operation == Operation::Refund
                && attempt.instruction.of == Some(key)
                && !attempt.is_lost()
        });
        let given: i64 = refunds.map(|refund| refund.instruction.amount.minor).sum();
        Money { minor: amount.minor - given, ..amount }
    }

    /// The hold that went through and was neither captured nor voided. A failed capture leaves it standing, a failed
    /// void does not: it would be ordered for ever, and the hold runs out by itself.
    fn standing_hold(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| {
            attempt.instruction.operation == Operation::Hold
                && attempt.succeeded().is_some()
                && !self.attempts.iter().any(|later| {
                    later.instruction.of == Some(attempt.instruction.key())
                        && (later.instruction.operation == Operation::Void || !later.is_lost())
                })
        })
    }
}
