//! The proof, and the binding that it is given under.

use super::{Challenge, Effect, Effects, Moment, Notice, PAYING_MS, Proof, Refusal, Session, Standing, State, Why};
use crate::engine::{session::BACK_OFFICE_MS, time::UnixMs};

impl Session {
    pub(super) fn on_proof(&mut self, nonce: [u8; 32], now: UnixMs) -> Result<Effects, Refusal> {
        let challenge = self.open_challenge(nonce, now)?;
        let sale = self.state.sale().expect("a state with a challenge has a sale").clone();
        let proof = Proof { nonce, epoch: challenge.epoch, amount: sale.amount, verified_at: now };
        self.proof_ordinal = self.next_ordinal();
        Ok(self.take_payment(sale, proof, now.plus(PAYING_MS), now))
    }

    pub(super) fn on_wrong_proof(&mut self, nonce: [u8; 32], now: UnixMs) -> Result<Effects, Refusal> {
        let left = self.open_challenge(nonce, now)?.tries_left.saturating_sub(1);
        if left == 0 {
            let sale = self.state.sale().expect("a state with a challenge has a sale").clone();
            self.state = State::ProofFailed { sale, until: now.plus(BACK_OFFICE_MS) };
            return Ok(vec![Effect::NotifyPhone(Notice::ProofWrong), Effect::NotifyStation(Notice::PayAtCounter)]);
        }
        self.on_challenge(|challenge| challenge.tries_left = left);
        Ok(vec![Effect::NotifyPhone(Notice::ProofWrong)])
    }

    pub(super) fn on_binding(&mut self, standing: Standing, moment: Moment) -> Result<Effects, Refusal> {
        let suspended = self.barred == Some(Why::Suspended);
        let vehicle = &mut self.opening.vehicle;
        if self.state.name().is_end() || standing.epoch < vehicle.epoch {
            return Err(Refusal::Already);
        }
        if standing.epoch == vehicle.epoch && standing.active != suspended {
            return Err(Refusal::Already);
        }
        vehicle.epoch = standing.epoch;
        vehicle.phone = standing.phone;
        vehicle.means = standing.means;
        vehicle.provable = standing.provable;
        self.barred = match self.barred {
            Some(Why::Suspended) | None => (!standing.active).then_some(Why::Suspended),
            other => other,
        };
        Ok(self.challenge_anew(moment))
    }

    /// The proof that is out is void: it was asked for under another epoch. The tries stay as they are.
    fn challenge_anew(&mut self, moment: Moment) -> Effects {
        let Some(old) = self.state.challenge().copied() else { return Effects::new() };
        if self.may_prove() {
            let new = self.challenge(moment, old.tries_left);
            let expires_at = new.expires_at.max(old.expires_at);
            self.on_challenge(|challenge| *challenge = Challenge { expires_at, ..new });
            return vec![Effect::NotifyPhone(Notice::ProveAnew)];
        }
        let why = self.barred.unwrap_or(Why::Unprovable);
        match self.state.clone() {
            State::CollectAtSite { sale, why, until, .. } => {
                self.state = State::CollectAtSite { sale, why, challenge: None, until };
                Effects::new()
            }
            state => {
                let sale = state.sale().expect("a state with a challenge has a sale").clone();
                self.enter_collect(sale, why, None, moment.at)
            }
        }
    }

    /// The challenge that was made with this nonce, if it is still open.
    fn open_challenge(&self, nonce: [u8; 32], now: UnixMs) -> Result<Challenge, Refusal> {
        if let Some(challenge) = self.state.challenge() {
            let open = challenge.nonce == nonce && now <= challenge.expires_at;
            return if open { Ok(*challenge) } else { Err(Refusal::WrongState) };
        }
        match &self.state {
            State::PaidElsewhere { .. } => Err(Refusal::PaidElsewhere),
            state if state.proof().is_some_and(|proof| proof.nonce == nonce) => Err(Refusal::Already),
            State::Cleared { .. } | State::Settled { .. } => Err(Refusal::AlreadyCleared),
            _ => Err(Refusal::WrongState),
        }
    }

    fn on_challenge(&mut self, change: impl FnOnce(&mut Challenge)) {
        match &mut self.state {
            State::Completed { challenge, .. }
            | State::AwaitingProof { challenge, .. }
            | State::CollectAtSite { challenge: Some(challenge), .. } => change(challenge),
            _ => unreachable!("callers hold the challenge of one of these states"),
        }
    }
}
