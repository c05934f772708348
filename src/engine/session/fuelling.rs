//! From the reservation to the sale.

use super::{
    Challenge, Completion, Effect, Effects, GRADE_BYTES_MAX, Moment, NOTICE_MS, NOZZLE_MS, Notice, PROOF_MS, Refusal,
    Session, State, TRANSACTION_BYTES_MAX, Why, grade, state::HOLDING_MS,
};
use crate::engine::{
    charge::Operation,
    id::PumpNumber,
    money::{Money, amount_minor},
    time::UnixMs,
};

/// Wrong proofs that one challenge forgives, the last one included.
pub(super) const TRIES: u8 = 3;

/// Reports of one session, corrections included.
const REPORTS_MAX: usize = 8;

/// Rounding may differ between the forecourt controller and us by this much.
const TOLERANCE_MINOR: u64 = 1;

impl Session {
    pub(super) fn on_reservation(
        &mut self,
        pump: PumpNumber,
        preset: Option<Money>,
        hold: bool,
        now: UnixMs,
    ) -> Result<Effects, Refusal> {
        let State::Selected { .. } = self.state else { return Err(Refusal::WrongState) };
        if preset.is_some_and(|preset| preset.minor <= 0) {
            return Err(Refusal::Invalid("a preset amount is more than nothing"));
        }
        if !hold {
            self.state = State::Reserved { pump, preset, until: now.plus(NOZZLE_MS) };
            return Ok(Effects::new());
        }
        let preset = preset.ok_or(Refusal::Invalid("a hold needs a preset amount"))?;
        if self.barred.is_some() {
            return Err(Refusal::BindingSuspended);
        }
        let means = self.vehicle().means.first().cloned().filter(|_| self.vehicle().can_pay());
        let (Some(means), true) = (means, self.may_instruct()) else { return Err(Refusal::MeansNotPermitted) };
        let (ordinal, effect) = self.instruct(Operation::Hold, means, preset, None);
        self.state = State::Holding { pump, preset, ordinal, until: now.plus(HOLDING_MS) };
        Ok(vec![effect])
    }

    pub(super) fn on_fuelling(&mut self, pump: Option<PumpNumber>, now: UnixMs) -> Result<Effects, Refusal> {
        match self.state {
            State::Reserved { pump: reserved, .. } if pump.is_some_and(|pump| pump != reserved) => {
                Err(Refusal::Invalid("another pump is reserved"))
            }
            State::Reserved { pump, preset, .. } => {
                self.state = State::Fuelling { pump: Some(pump), preset, since: now, alerted: false };
                Ok(Effects::new())
            }
            State::Fuelling { .. } => Err(Refusal::Already),
            _ => Err(Refusal::WrongState),
        }
    }

    pub(super) fn on_release(&mut self, why: Why) -> Result<Effects, Refusal> {
        match self.state {
            State::Selected { .. } | State::Reserved { .. } => {
                self.state = State::Released { why };
                Ok(Effects::new())
            }
            State::Holding { ordinal, .. } => {
                self.state = State::Released { why };
                Ok(self.ask(ordinal).into_iter().collect())
            }
            State::Released { .. } => Err(Refusal::Already),
            _ => Err(Refusal::WrongState),
        }
    }

    pub(super) fn on_rejected(&mut self, now: UnixMs) -> Result<Effects, Refusal> {
        match &self.state {
            State::Selected { .. } => {
                self.barred = Some(Why::NotMe);
                self.state = State::Rejected;
                Ok(Effects::new())
            }
            State::Holding { .. } | State::Reserved { .. } => {
                self.barred = Some(Why::NotMe);
                self.on_release(Why::NotMe)
            }
            State::Fuelling { .. } if self.barred == Some(Why::NotMe) => Err(Refusal::Already),
            State::Fuelling { .. } => {
                self.barred = Some(Why::NotMe);
                Ok(Effects::new())
            }
            State::Completed { sale, .. } | State::AwaitingProof { sale, .. } => {
                let sale = sale.clone();
                Ok(self.enter_dispute(sale, Why::DriverRejected, now))
            }
            State::Rejected => Err(Refusal::Already),
            _ => Err(Refusal::WrongState),
        }
    }

    pub(super) fn on_delivery(
        &mut self,
        report: Completion,
        price_agreed: bool,
        moment: Moment,
    ) -> Result<Effects, Refusal> {
        self.check_report(&report)?;
        if self.reports.contains(&report) {
            return Err(Refusal::Already);
        }
        if self.transactions().any(|known| known == report.transaction) {
            return Err(Refusal::TransactionConflict);
        }
        let effects = match &self.state {
            State::Selected { .. } | State::Holding { .. } | State::Reserved { .. } | State::Fuelling { .. } => {
                self.take_delivery(&report, price_agreed, moment)
            }
            State::Released { .. } | State::Rejected if report.volume_ml == 0 => Effects::new(),
            State::Released { .. } | State::Rejected => {
                let challenge = self.may_prove().then(|| self.challenge(moment, TRIES));
                let why = self.barred.unwrap_or(Why::CameLate);
                self.enter_collect(report.clone(), why, challenge, moment.at)
            }
            State::BackOffice { sale: None, why } => {
                self.state = State::BackOffice { sale: Some(report.clone()), why: *why };
                Effects::new()
            }
            _ => return Err(Refusal::WrongState),
        };
        self.reports.push(report);
        Ok(effects)
    }

    pub(super) fn on_correction(
        &mut self,
        report: Completion,
        price_agreed: bool,
        moment: Moment,
    ) -> Result<Effects, Refusal> {
        self.check_report(&report)?;
        match &self.state {
            State::Completed { sale, .. } | State::AwaitingProof { sale, .. } if *sale == report => {
                return Err(Refusal::Already);
            }
            State::Completed { .. }
            | State::AwaitingProof { .. }
            | State::Disputed { .. }
            | State::ProofFailed { .. } => {}
            _ => return Err(Refusal::WrongState),
        }
        if self.reports.len() >= REPORTS_MAX {
            return Err(Refusal::Invalid("the sale was corrected too often"));
        }
        if !price_agreed {
            return Err(Refusal::PriceChanged);
        }
        if !self.takes_grade(&report.grade) {
            return Err(Refusal::GradeMismatch);
        }
        let mut effects = self.enter_sale(&report, None, moment);
        if self.await_proof(moment.at) {
            effects = vec![Effect::NotifyPhone(Notice::ProveAnew)];
        }
        self.reports.push(report);
        Ok(effects)
    }

    /// The phone has shown the last word. That is an event of its own even where it moves nothing: a restart must not
    /// tell the driver again by another channel, and the evidence says when the driver knew.
    pub(super) fn on_noticed(&mut self, now: UnixMs) -> Result<Effects, Refusal> {
        if !self.await_proof(now) && self.unseen.is_none() {
            return Err(Refusal::Already);
        }
        Ok(Effects::new())
    }

    /// For as long as a completion or a correction may come. The sale that was stopped for its grade goes on.
    pub(super) fn on_grade_allowed(&mut self, moment: Moment) -> Result<Effects, Refusal> {
        match &self.state {
            State::Selected { .. }
            | State::Holding { .. }
            | State::Reserved { .. }
            | State::Fuelling { .. }
            | State::Completed { .. }
            | State::AwaitingProof { .. }
            | State::Disputed { .. }
            | State::ProofFailed { .. } => {}
            _ => return Err(Refusal::WrongState),
        }
        if self.grade_allowed {
            return Err(Refusal::Already);
        }
        self.grade_allowed = true;
        let State::Disputed { sale, why: Why::WrongGrade, .. } = &self.state else { return Ok(Effects::new()) };
        let effects = self.enter_sale(&sale.clone(), None, moment);
        self.await_proof(moment.at);
        Ok(effects)
    }

    /// Whether the grade fits the vehicle, or an operator lets it have it.
    pub fn takes_grade(&self, grade: &str) -> bool {
        self.grade_allowed || grade::fits(self.vehicle().fuel.as_deref(), grade)
    }

    /// From `Completed` on; `false` in any other state.
    pub(super) fn await_proof(&mut self, now: UnixMs) -> bool {
        let State::Completed { sale, challenge, .. } = &self.state else { return false };
        self.state = State::AwaitingProof { sale: sale.clone(), challenge: *challenge, since: now, reminded: false };
        true
    }

    /// What can be wrong with a report by itself.
    fn check_report(&self, report: &Completion) -> Result<(), Refusal> {
        if report.transaction.is_empty() || report.transaction.len() > TRANSACTION_BYTES_MAX {
            return Err(Refusal::Invalid("a site transaction id has 1 to 64 bytes"));
        }
        if report.grade.is_empty() || report.grade.len() > GRADE_BYTES_MAX {
            return Err(Refusal::Invalid("a grade has 1 to 64 bytes"));
        }
        if report.unit_price_milli < 0 || report.amount.minor < 0 {
            return Err(Refusal::Invalid("prices and amounts are not negative"));
        }
        if self.preset().is_some_and(|preset| preset.currency != report.amount.currency) {
            return Err(Refusal::Invalid("the preset amount has another currency"));
        }
        let expected = amount_minor(report.volume_ml, report.unit_price_milli)
            .ok_or(Refusal::Invalid("volume and unit price come to more than any amount"))?;
        if expected.abs_diff(report.amount.minor) > TOLERANCE_MINOR {
            return Err(Refusal::AmountMismatch { expected });
        }
        Ok(())
    }

    fn take_delivery(&mut self, report: &Completion, price_agreed: bool, moment: Moment) -> Effects {
        let fault = self.fault(report, price_agreed);
        let pending_hold = match self.state {
            State::Holding { ordinal, .. } => self.ask(ordinal),
            _ => None,
        };
        let mut effects = self.enter_sale(report, fault, moment);
        effects.extend(pending_hold);
        effects
    }

    /// What is wrong with the sale although the report is sound. The grade comes last: when an operator allows it,
    /// nothing else is wrong.
    fn fault(&self, report: &Completion, price_agreed: bool) -> Option<Why> {
        let pump = match self.state {
            State::Reserved { pump, .. } | State::Holding { pump, .. } => Some(pump),
            State::Fuelling { pump, .. } => pump,
            _ => None,
        };
        if self.over_hold(report) {
            Some(Why::OverHold)
        } else if pump.is_some_and(|pump| pump != report.pump) {
            Some(Why::WrongPump)
        } else if !price_agreed {
            Some(Why::PriceChanged)
        } else if !self.takes_grade(&report.grade) {
            Some(Why::WrongGrade)
        } else {
            None
        }
    }

    fn over_hold(&self, report: &Completion) -> bool {
        self.held().is_some_and(|held| held.currency != report.amount.currency || held.minor < report.amount.minor)
    }

    fn enter_sale(&mut self, report: &Completion, fault: Option<Why>, moment: Moment) -> Effects {
        let sale = report.clone();
        if report.volume_ml == 0 {
            self.state = State::Released { why: Why::NothingSold };
            return Effects::new();
        }
        if let Some(why) = self.barred {
            return self.enter_collect(sale, why, None, moment.at);
        }
        if let Some(why) = fault.or(self.over_hold(report).then_some(Why::OverHold)) {
            return self.enter_dispute(sale, why, moment.at);
        }
        if !self.may_prove() {
            return self.enter_collect(sale, Why::Unprovable, None, moment.at);
        }
        let challenge = self.challenge(moment, TRIES);
        self.state = State::Completed { sale, challenge, until: moment.at.plus(NOTICE_MS) };
        vec![Effect::NotifyPhone(Notice::PleaseProve)]
    }

    pub(super) fn enter_dispute(&mut self, sale: Completion, why: Why, now: UnixMs) -> Effects {
        self.state = State::Disputed { sale, why, until: now.plus(super::BACK_OFFICE_MS) };
        Effects::new()
    }

    pub(super) fn may_prove(&self) -> bool {
        self.barred.is_none() && self.vehicle().can_pay()
    }

    /// Valid for the notice and the wait for the proof; a session that waits longer prolongs it.
    pub(super) fn challenge(&self, moment: Moment, tries_left: u8) -> Challenge {
        Challenge {
            nonce: moment.nonce,
            epoch: self.vehicle().epoch,
            expires_at: moment.at.plus(NOTICE_MS + PROOF_MS),
            tries_left,
        }
    }
}
