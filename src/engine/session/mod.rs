//! One fuelling of one vehicle, from its selection to its settlement: a pure state machine.
//!
//! The stage journals an event with its [`Moment`] before anybody hears of it; [`Session::on_event`] is deterministic
//! in both, so that replaying the journal gives the state. The diagram stands above [`State`].
//!
//! Rules:
//! - Fuel that has flowed is never refused for what is wrong around it: that decides the state it enters. Only a report
//!   that contradicts itself, or an earlier one, stays out.
//! - `Paid` is reached only over a proof that was verified for that amount.
//! - A word to the driver is unseen until the phone says so, does something, or it is no news any more.
//! - At most one instruction that takes money is in flight. What succeeds beside the session's payment is refunded,
//!   and a hold that no sale will be paid from is voided, both in one place: [`Session::on_event`] ends there.

mod event;
mod facts;
mod fuelling;
mod grade;
mod paying;
mod proving;
mod state;
#[cfg(test)]
mod tests;

pub use event::{Effect, Effects, Event, Moment, Refusal, Standing};
pub use facts::{
    Challenge, Completion, GRADE_BYTES_MAX, Notice, Opening, Proof, Quote, StateName, TRANSACTION_BYTES_MAX, Unseen,
    Vehicle, Why,
};
pub use paying::{Attempt, AttemptStatus};
pub use state::{
    BACK_OFFICE_MS, DOUBT_ALERT_MS, FUELLING_ALERT_MS, HOLDING_MS, NOTICE_MS, NOZZLE_MS, PAYING_MS, PROOF_MS, Payment,
    REMIND_MS, SELECTED_MS, State,
};

use super::{id::PumpNumber, money::Money, proof::PayTerms, time::UnixMs};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    opening: Opening,
    state: State,
    /// Why the sale, once there is one, cannot be proven: the driver said "not me", or the binding is suspended.
    barred: Option<Why>,
    /// Every report that was taken, so that a repetition is known as one.
    reports: Vec<Completion>,
    /// Every instruction that was given to the PSP.
    attempts: Vec<Attempt>,
    /// The first instruction under the present proof: means tried before it may be tried again.
    proof_ordinal: u32,
    /// An operator lets the vehicle have any grade.
    grade_allowed: bool,
    notice: Option<Notice>,
    /// The vehicle was let go, and may be anywhere: a late proof or a correction does not take it back.
    freed: bool,
    unseen: Option<Unseen>,
    opened_at: UnixMs,
    updated_at: UnixMs,
    version: u32,
}

impl Session {
    pub fn open(opening: Opening, at: UnixMs) -> (Session, Effects) {
        let session = Session {
            opening,
            state: State::Selected { until: at.plus(SELECTED_MS) },
            barred: None,
            reports: Vec::new(),
            attempts: Vec::new(),
            proof_ordinal: 0,
            grade_allowed: false,
            notice: Some(Notice::Selected),
            freed: false,
            unseen: Some(Unseen { notice: Notice::Selected, version: 1, at }),
            opened_at: at,
            updated_at: at,
            version: 1,
        };
        (session, vec![Effect::NotifyPhone(Notice::Selected)])
    }

    /// A refused event leaves the session as it was.
    pub fn on_event(&mut self, event: Event, moment: Moment) -> Result<Effects, Refusal> {
        let is_from_phone = event.is_from_phone();
        let mut effects = self.turn(event, moment)?;
        self.let_go(&mut effects);
        self.notice = effects.iter().rev().find_map(|effect| match effect {
            Effect::NotifyPhone(notice) | Effect::NotifyStation(notice) => Some(*notice),
            Effect::Instruct(_) | Effect::Ask(_) => None,
        });
        self.freed |= !self.name().pins_vehicle();
        self.updated_at = moment.at;
        self.version += 1;
        self.unseen = self.still_unseen(is_from_phone, &effects);
        Ok(effects)
    }

    /// The last word to the driver that is news and not seen, after an event that had these effects.
    fn still_unseen(&self, is_seen: bool, effects: &Effects) -> Option<Unseen> {
        let before = self.unseen.filter(|_| !is_seen);
        let words = effects.iter().filter_map(|effect| match effect {
            Effect::NotifyPhone(notice) => Some(*notice),
            Effect::NotifyStation(_) | Effect::Instruct(_) | Effect::Ask(_) => None,
        });
        let new = words.map(|notice| Unseen { notice, version: self.version, at: self.updated_at });
        before.into_iter().chain(new).rfind(|word| word.notice.is_news_in(self.name()))
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.state.deadline()
    }

    /// What is due at `moment`; `Already` when nothing is.
    pub fn on_deadline(&mut self, moment: Moment) -> Result<Effects, Refusal> {
        self.on_event(Event::DeadlinePassed, moment)
    }

    fn turn(&mut self, event: Event, moment: Moment) -> Result<Effects, Refusal> {
        let now = moment.at;
        match event {
            Event::ReservationAsked { pump, preset, hold } => self.on_reservation(pump, preset, hold, now),
            Event::FuellingStarted { pump } => self.on_fuelling(pump, now),
            Event::FuelDelivered { completion, price_agreed } => self.on_delivery(completion, price_agreed, moment),
            Event::Corrected { completion, price_agreed } => self.on_correction(completion, price_agreed, moment),
            Event::ReleaseAsked => self.on_release(Why::Cancelled),
            Event::PaidAtCounter => self.on_paid_at_counter(),
            Event::SiteCleared => self.on_cleared(),
            Event::PhoneNoticed => self.on_noticed(now),
            Event::DriverRejected => self.on_rejected(now),
            Event::ProofVerified { nonce } => self.on_proof(nonce, now),
            Event::ProofRefused { nonce } => self.on_wrong_proof(nonce, now),
            Event::BindingChanged(standing) => self.on_binding(standing, moment),
            Event::ChargeSent { ordinal } => self.on_sent(ordinal),
            Event::ChargeInDoubt { ordinal } => self.on_doubt(ordinal, now),
            Event::ChargeConcluded { ordinal, outcome } => self.on_concluded(ordinal, outcome, now),
            Event::RefundOrdered { amount } => self.on_refund_order(amount),
            Event::SettledInBatch => self.on_settled(),
            Event::HandedOver => self.on_hand_over(),
            Event::DeadlinePassed => self.on_deadline_passed(now),
            Event::GradeAllowed { .. } => self.on_grade_allowed(moment),
        }
    }

    fn on_deadline_passed(&mut self, now: UnixMs) -> Result<Effects, Refusal> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Err(Refusal::Already);
        }
        match &mut self.state {
            State::Selected { .. } | State::Reserved { .. } | State::Holding { .. } => self.on_release(Why::TimedOut),
            State::Fuelling { alerted, .. } if !*alerted => {
                *alerted = true;
                Ok(vec![Effect::NotifyStation(Notice::FuellingLong)])
            }
            State::Fuelling { .. } => Ok(self.enter_back_office(Why::TimedOut)),
            State::Completed { .. } => {
                self.await_proof(now);
                Ok(Effects::new())
            }
            State::AwaitingProof { reminded, .. } if !*reminded => {
                *reminded = true;
                Ok(vec![Effect::NotifyPhone(Notice::Reminder)])
            }
            State::AwaitingProof { sale, challenge, .. } => {
                let (sale, challenge) = (sale.clone(), *challenge);
                Ok(self.enter_collect(sale, Why::NoProof, Some(challenge), now))
            }
            State::Proven { .. } | State::Paying { .. } => self.enter_doubt(now),
            State::InDoubt { told, ordinal, .. } if !*told => {
                *told = true;
                let ordinal = *ordinal;
                let mut effects = vec![Effect::NotifyStation(Notice::StillInDoubt)];
                effects.extend(self.ask(ordinal));
                Ok(effects)
            }
            State::InDoubt { .. } => Ok(self.enter_back_office(Why::NeverKnown)),
            State::Paid { .. } | State::CollectAtSite { .. } | State::Disputed { .. } | State::ProofFailed { .. } => {
                Ok(self.enter_back_office(Why::TimedOut))
            }
            State::Cleared { .. } | State::Settled { .. } | State::Released { .. } | State::Rejected => {
                Err(Refusal::Already)
            }
            State::PaidElsewhere { .. } | State::BackOffice { .. } => Err(Refusal::Already),
        }
    }

    fn on_hand_over(&mut self) -> Result<Effects, Refusal> {
        match self.state.name() {
            name if name.is_end() => Err(Refusal::WrongState),
            _ => Ok(self.enter_back_office(Why::Operator)),
        }
    }

    fn enter_back_office(&mut self, why: Why) -> Effects {
        let effects = self.pending_charge().into_iter().map(Effect::Ask).collect();
        self.state = State::BackOffice { sale: self.state.sale().cloned(), why };
        effects
    }

    /// The driver pays at the counter, or by a late proof if `challenge` allows one.
    fn enter_collect(&mut self, sale: Completion, why: Why, challenge: Option<Challenge>, now: UnixMs) -> Effects {
        let until = now.plus(BACK_OFFICE_MS);
        let challenge = challenge.map(|challenge| Challenge { expires_at: until, ..challenge });
        self.state = State::CollectAtSite { sale, why, challenge, until };
        vec![Effect::NotifyPhone(Notice::PayAtCounter), Effect::NotifyStation(Notice::PayAtCounter)]
    }

    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    pub fn vehicle(&self) -> &Vehicle {
        &self.opening.vehicle
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn name(&self) -> StateName {
        self.state.name()
    }

    /// Whether the vehicle belongs to this session: it stays pinned, and no other session may have it.
    pub fn pins_vehicle(&self) -> bool {
        !self.freed && self.name().pins_vehicle()
    }

    pub fn notice(&self) -> Option<Notice> {
        self.notice
    }

    /// The last word to the driver, until a phone has shown it or it is no news any more.
    pub fn unseen(&self) -> Option<Unseen> {
        self.unseen
    }

    pub fn opened_at(&self) -> UnixMs {
        self.opened_at
    }

    pub fn updated_at(&self) -> UnixMs {
        self.updated_at
    }

    /// Counts the events that made the session what it is, its opening included.
    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The pump of the sale, or else the one that was named for it.
    pub fn pump(&self) -> Option<PumpNumber> {
        match &self.state {
            State::Holding { pump, .. } | State::Reserved { pump, .. } => Some(*pump),
            State::Fuelling { pump, .. } => pump.or(self.opening.pump),
            state => state.sale().map(|sale| sale.pump).or(self.opening.pump),
        }
    }

    pub fn preset(&self) -> Option<Money> {
        match &self.state {
            State::Holding { preset, .. } => Some(*preset),
            State::Reserved { preset, .. } | State::Fuelling { preset, .. } => *preset,
            _ => None,
        }
    }

    /// What dongle and phone prove over, with the epoch that the challenge was made under.
    pub fn terms(&self) -> Option<PayTerms> {
        let challenge = self.state.challenge()?;
        let sale = self.state.sale()?;
        Some(PayTerms {
            nonce: challenge.nonce,
            device: self.opening.vehicle.device,
            binding: self.opening.vehicle.binding,
            session: self.opening.session,
            station: self.opening.station,
            pump: sale.pump,
            amount: sale.amount,
            epoch: challenge.epoch,
        })
    }

    /// The site transactions that were reported for this session.
    pub fn transactions(&self) -> impl Iterator<Item = &str> {
        self.reports.iter().map(|report| report.transaction.as_str())
    }
}
