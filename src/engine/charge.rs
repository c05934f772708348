//! One operation at the PSP (a hold, a charge, a refund), so that it happens at most once whatever is lost on the way.
//!
//! ```text
//!              +-------- sent again, after a pause --------+
//!              v                                           |
//! Intended --sent--> Sent --nothing left the house--> Unsent --wanted no more--> Failed
//!    |               | ^ |
//!    |               | | +---answer---> Succeeded | Declined
//!    |     no answer v |
//!    +--restart--> Unknown ---found---> Succeeded | Declined
//!                   ^ |  |
//!          ask again+-+  +---not there---> Failed      (or Sent again under the same key, if still wanted)
//!                   |
//!                   +---7 days---> Unresolved
//! ```
//!
//! Rules:
//! - The intent is durable before the first byte leaves, so what was never intended was never sent.
//! - A charge has one idempotency key for ever. Silence means unknown, and unknown means: ask.
//! - It is sent again only under its own key, only after the PSP said that it does not know the key, only while the
//!   session still wants it, and never once the PSP may have forgotten the key.
//! - What certainly never left is sent again under its key after a growing pause, for as long as it is wanted: a sale
//!   until its session gives up, a void or refund for ever. That holds only while no earlier request may have arrived.
//! - A success that comes after the charge was given up is still reported: whoever gave it up refunds it.

use sha2::{Digest, Sha256};

use super::{id::SessionId, money::Money, time::UnixMs};

/// PSPs keep an idempotency key for a day. After that "not found" proves nothing, and sending again could charge twice.
pub const KEY_REMEMBERED_MS: u64 = 24 * 3600 * 1000;

/// When a charge that nobody knows anything about is left to reconciliation.
pub const UNRESOLVED_MS: u64 = 7 * KEY_REMEMBERED_MS;

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Pre-authorises an amount.
    Hold,
    /// Takes a part or all of a hold.
    Capture,
    /// Lets a hold go.
    Void,
    /// Takes an amount without a hold.
    Charge,
    /// Gives back a part or all of what was captured or charged.
    Refund,
}

impl Operation {
    /// Whether it moves money from the driver.
    pub fn takes_money(self) -> bool {
        matches!(self, Operation::Capture | Operation::Charge)
    }

    /// Whether it undoes another: wanted whatever becomes of the session, and worth more attempts.
    fn undoes(self) -> bool {
        matches!(self, Operation::Void | Operation::Refund)
    }

    fn sends_max(self) -> u8 {
        if self.undoes() { 8 } else { 2 }
    }
}

/// The idempotency key of a charge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChargeKey(pub [u8; 32]);

impl std::fmt::Debug for ChargeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChargeKey({})", hex::encode(self.0))
    }
}

/// What the PSP is to do. Its key follows from it: the same instruction is the same charge.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Instruction {
    pub session: SessionId,
    /// Counts the session's instructions.
    pub ordinal: u32,
    pub operation: Operation,
    /// The PSP's token.
    pub means: String,
    pub amount: Money,
    /// The charge that a capture, void or refund refers to.
    pub of: Option<ChargeKey>,
}

impl Instruction {
    /// SHA-256 of a tag, the session, the means (length first), the operation and the ordinal. The amount is not in
    /// it: a key that met the PSP with two amounts is an error that the PSP should see.
    pub fn key(&self) -> ChargeKey {
        let mut hash = Sha256::new_with_prefix(b"forecourt charge v1");
        hash.update(self.session.0);
        hash.update((self.means.len() as u64).to_be_bytes());
        hash.update(self.means.as_bytes());
        hash.update([self.operation as u8]);
        hash.update(self.ordinal.to_be_bytes());
        ChargeKey(hash.finalize().into())
    }
}

/// How long to wait before asking, and how often to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Without an answer for so long, a charge is unknown.
    pub answer_ms: u64,
    /// The first look-up comes after this; each one doubles it.
    pub ask_ms_min: u64,
    pub ask_ms_max: u64,
    /// "Not found" counts only if asked this long after sending: before, the charge may still be on its way.
    pub arrival_ms: u64,
}

/// What became of a charge, as its session hears it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Outcome {
    /// A hold may be approved for less than was asked.
    Succeeded {
        amount: Money,
        reference: String,
    },
    Declined,
    /// It never reached the PSP.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Journalled, nothing sent.
    Intended,
    Sent {
        until: UnixMs,
    },
    /// Nothing of it has reached the PSP; it is sent again.
    Unsent {
        send_at: UnixMs,
    },
    /// Sent, perhaps, and not answered.
    Unknown {
        ask_at: UnixMs,
        wait_ms: u64,
    },
    Succeeded {
        amount: Money,
        reference: String,
    },
    Declined,
    Failed,
    /// Left to reconciliation.
    Unresolved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The request is on its way.
    Sent,
    /// The PSP answered, in time or late.
    Answered {
        amount: Money,
        reference: String,
    },
    AnsweredDeclined,
    /// The connection broke: whether the request arrived is unknown.
    NoAnswer,
    /// Certainly nothing reached the PSP: no connection, no free place, or refused at its door.
    NotSent,
    /// The PSP gave a sign that it knows more.
    Hinted,
    /// A look-up that was sent at `asked_at` found the key unknown.
    NotFound {
        asked_at: UnixMs,
    },
    /// The process stopped between the intent and the outcome.
    Restarted,
    /// From the journal: it was concluded that the charge never arrived, or that only reconciliation can tell.
    ConcludedFailed,
    GivenUp,
    /// The session wants the charge (again), or has no use for it any more.
    Wanted,
    Unwanted,
}

/// What the stage has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Send,
    Ask,
    /// Tell the session that the PSP is silent.
    Doubt,
    /// Journal the outcome, then tell the session.
    Conclude(Outcome),
    /// Tell the session what is journalled already.
    Tell(Outcome),
    /// Journal that only reconciliation can tell.
    GiveUp,
}

/// The diagram has no such edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the charge does not take this event now")]
pub struct Refused;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub instruction: Instruction,
    pub state: State,
    intended_at: UnixMs,
    sent_at: UnixMs,
    /// Requests that may have reached the PSP.
    sends: u8,
    /// The last pause before it was sent again.
    pause_ms: u64,
    wanted: bool,
    /// The PSP gave a sign while its answer was still awaited.
    hinted: bool,
    /// What the PSP calls it.
    object: Option<String>,
    patience: Patience,
}

impl Charge {
    pub fn intended(instruction: Instruction, patience: Patience, now: UnixMs) -> Charge {
        Charge {
            instruction,
            state: State::Intended,
            intended_at: now,
            sent_at: now,
            sends: 0,
            pause_ms: 0,
            wanted: true,
            hinted: false,
            object: None,
            patience,
        }
    }

    /// Takes down the PSP's name for it. The first one stays: no other object is ever asked to move this money.
    pub fn name(&mut self, object: String) {
        self.object.get_or_insert(object);
    }

    /// What the PSP calls it, as soon as that is known.
    pub fn object(&self) -> Option<&str> {
        match &self.state {
            _ if self.object.is_some() => self.object.as_deref(),
            State::Succeeded { reference, .. } => Some(reference),
            _ => None,
        }
    }

    /// Whether a look-up that does not find it may see to it that it can never happen: nobody wants it, and a request
    /// on its way would have arrived.
    pub fn may_be_closed(&self, now: UnixMs) -> bool {
        !self.wanted && now.since(self.sent_at) >= self.patience.arrival_ms
    }

    /// A charge that was asked about before anybody wanted it: it will never be sent.
    pub fn never_sent(instruction: Instruction, patience: Patience, now: UnixMs) -> Charge {
        Charge { state: State::Failed, ..Charge::intended(instruction, patience, now) }
    }

    pub fn on_event(&mut self, event: Event, now: UnixMs) -> Result<Action, Refused> {
        match event {
            Event::Sent => self.on_sent(now),
            Event::Answered { amount, reference } => self.on_success(amount, reference),
            Event::AnsweredDeclined => self.on_decline(),
            Event::NoAnswer => self.on_silence(now),
            Event::NotSent => self.on_not_sent(now),
            Event::Hinted => Ok(self.on_hint()),
            Event::NotFound { asked_at } => self.on_not_found(asked_at, now),
            Event::Restarted => self.on_restart(now),
            Event::ConcludedFailed => self.on_journalled(State::Failed),
            Event::GivenUp => self.on_journalled(State::Unresolved),
            Event::Wanted => Ok(self.on_wish(true)),
            Event::Unwanted => Ok(self.on_wish(self.instruction.operation.undoes())),
        }
    }

    /// When the charge wants to be looked at again.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        match self.state {
            State::Sent { until } => Some(until),
            State::Unsent { send_at } => Some(send_at),
            State::Unknown { ask_at, .. } => Some(ask_at),
            State::Intended | State::Succeeded { .. } | State::Declined | State::Failed | State::Unresolved => None,
        }
    }

    pub fn on_deadline(&mut self, now: UnixMs) -> Action {
        match self.state {
            State::Sent { until } if now >= until => self.doubt(now),
            State::Unsent { send_at } if now >= send_at => Action::Send,
            State::Unknown { ask_at, .. } if now >= ask_at && now.since(self.intended_at) >= UNRESOLVED_MS => {
                self.state = State::Unresolved;
                Action::GiveUp
            }
            State::Unknown { ask_at, wait_ms } if now >= ask_at => {
                self.ask_after((wait_ms * 2).min(self.patience.ask_ms_max), now);
                Action::Ask
            }
            _ => Action::Nothing,
        }
    }

    /// What became of it, once that is known.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.state {
            State::Succeeded { amount, reference } => {
                Some(Outcome::Succeeded { amount: *amount, reference: reference.clone() })
            }
            State::Declined => Some(Outcome::Declined),
            State::Failed => Some(Outcome::Failed),
            State::Intended | State::Sent { .. } | State::Unsent { .. } | State::Unknown { .. } | State::Unresolved => {
                None
            }
        }
    }

    /// Whether it waits for an outcome that will come by itself.
    pub fn is_open(&self) -> bool {
        self.outcome().is_none() && self.state != State::Unresolved
    }

    fn on_sent(&mut self, now: UnixMs) -> Result<Action, Refused> {
        match self.state {
            State::Intended | State::Unsent { .. } | State::Unknown { .. } => {
                self.sends += 1;
                self.sent_at = now;
                self.state = State::Sent { until: now.plus(self.patience.answer_ms) };
                Ok(Action::Nothing)
            }
            _ => Err(Refused),
        }
    }

    fn on_success(&mut self, amount: Money, reference: String) -> Result<Action, Refused> {
        match self.state {
            State::Intended => Err(Refused),
            State::Succeeded { .. } => Ok(Action::Nothing),
            State::Sent { .. }
            | State::Unsent { .. }
            | State::Unknown { .. }
            | State::Declined
            | State::Failed
            | State::Unresolved => {
                self.state = State::Succeeded { amount, reference: reference.clone() };
                Ok(Action::Conclude(Outcome::Succeeded { amount, reference }))
            }
        }
    }

    fn on_decline(&mut self) -> Result<Action, Refused> {
        match self.state {
            State::Sent { .. } | State::Unknown { .. } | State::Unresolved => {
                self.state = State::Declined;
                Ok(Action::Conclude(Outcome::Declined))
            }
            State::Declined => Ok(Action::Nothing),
            State::Intended | State::Unsent { .. } | State::Succeeded { .. } | State::Failed => Err(Refused),
        }
    }

    fn on_silence(&mut self, now: UnixMs) -> Result<Action, Refused> {
        match self.state {
            State::Sent { .. } => Ok(self.doubt(now)),
            State::Unknown { .. } => Ok(Action::Nothing),
            _ => Err(Refused),
        }
    }

    fn on_not_sent(&mut self, now: UnixMs) -> Result<Action, Refused> {
        let (State::Sent { .. } | State::Unknown { .. }) = self.state else { return Err(Refused) };
        self.sends = self.sends.saturating_sub(1);
        if self.sends > 0 {
            return self.on_silence(now); // of an earlier request
        }
        if !self.wanted {
            return Ok(self.fail());
        }
        self.pause_ms = (self.pause_ms * 2).clamp(self.patience.ask_ms_min, self.patience.ask_ms_max);
        self.state = State::Unsent { send_at: now.plus(self.pause_ms) };
        Ok(Action::Nothing)
    }

    /// Only a look-up tells: a hint is nobody's word. It may tell of a success that was given up, too.
    fn on_hint(&mut self) -> Action {
        self.hinted |= matches!(self.state, State::Sent { .. });
        match self.state {
            State::Unknown { .. } | State::Declined | State::Failed | State::Unresolved => Action::Ask,
            State::Intended | State::Sent { .. } | State::Unsent { .. } | State::Succeeded { .. } => Action::Nothing,
        }
    }

    /// Only a look-up that left when the charge must have arrived says anything, however late its answer comes.
    fn on_not_found(&mut self, asked_at: UnixMs, now: UnixMs) -> Result<Action, Refused> {
        let State::Unknown { .. } = self.state else { return Err(Refused) };
        let forgotten = now.since(self.intended_at) >= KEY_REMEMBERED_MS;
        if forgotten || asked_at.since(self.sent_at) < self.patience.arrival_ms {
            return Ok(Action::Nothing);
        }
        if self.wanted && self.sends < self.instruction.operation.sends_max() {
            return Ok(Action::Send);
        }
        Ok(self.fail())
    }

    fn fail(&mut self) -> Action {
        self.state = State::Failed;
        Action::Conclude(Outcome::Failed)
    }

    fn on_restart(&mut self, now: UnixMs) -> Result<Action, Refused> {
        let State::Intended = self.state else { return Err(Refused) };
        self.wanted = self.instruction.operation.undoes();
        // It may have been sent up to the moment at which the process stopped.
        self.sent_at = now;
        self.sends = 1;
        self.ask_after(0, now);
        Ok(Action::Nothing)
    }

    fn on_journalled(&mut self, state: State) -> Result<Action, Refused> {
        let State::Unknown { .. } = self.state else { return Err(Refused) };
        self.state = state;
        Ok(Action::Nothing)
    }

    fn on_wish(&mut self, wanted: bool) -> Action {
        self.wanted = wanted;
        if let (State::Unsent { .. }, false) = (&self.state, wanted) {
            return self.fail();
        }
        self.outcome().map_or(Action::Nothing, Action::Tell)
    }

    /// From here on the charge is only asked about, unless the session says anew that it wants it.
    fn doubt(&mut self, now: UnixMs) -> Action {
        self.wanted = self.instruction.operation.undoes();
        let wait_ms = if std::mem::take(&mut self.hinted) { 0 } else { self.patience.ask_ms_min };
        self.ask_after(wait_ms, now);
        Action::Doubt
    }

    fn ask_after(&mut self, wait_ms: u64, now: UnixMs) {
        self.state = State::Unknown { ask_at: now.plus(wait_ms), wait_ms: wait_ms.max(self.patience.ask_ms_min) };
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const PATIENCE: Patience = Patience { answer_ms: 5_000, ask_ms_min: 500, ask_ms_max: 60_000, arrival_ms: 2_000 };
    const NOW: UnixMs = UnixMs(1_000_000);

    fn won(minor: i64) -> Money {
        Money { minor, currency: "KRW".parse().unwrap() }
    }

    fn instruction(operation: Operation) -> Instruction {
        Instruction {
            session: SessionId([7; 16]),
            ordinal: 1,
            operation,
            means: "tok_ok".into(),
            amount: won(50_000),
            of: None,
        }
    }

    fn answered() -> Event {
        Event::Answered { amount: won(50_000), reference: "r1".into() }
    }

    /// A charge of three seconds ago in every state.
    fn states() -> Vec<Charge> {
        let sent = UnixMs(NOW.0 - 3_000);
        let fresh = || Charge::intended(instruction(Operation::Charge), PATIENCE, sent);
        let after = |events: Vec<Event>| {
            let mut charge = fresh();
            for event in events {
                charge.on_event(event, sent).unwrap();
            }
            charge
        };
        let mut failed = after(vec![Event::Sent, Event::NoAnswer, Event::Unwanted]);
        failed.on_event(Event::NotFound { asked_at: NOW }, NOW).unwrap();
        let mut unresolved = after(vec![Event::Sent, Event::NoAnswer]);
        unresolved.on_deadline(sent.plus(UNRESOLVED_MS));
        vec![
            fresh(),
            after(vec![Event::Sent]),
            after(vec![Event::Sent, Event::NotSent]),
            after(vec![Event::Sent, Event::NoAnswer]),
            after(vec![Event::Sent, answered()]),
            after(vec![Event::Sent, Event::AnsweredDeclined]),
            failed,
            unresolved,
        ]
    }

    #[test]
    fn every_state_against_every_event() {
        let events = [
            Event::Sent,
            answered(),
            Event::AnsweredDeclined,
            Event::NoAnswer,
            Event::NotSent,
            Event::Hinted,
            Event::NotFound { asked_at: NOW },
            Event::Restarted,
            Event::ConcludedFailed,
            Event::GivenUp,
            Event::Wanted,
            Event::Unwanted,
        ];
        let mut table = String::new();
        for charge in states() {
            writeln!(table, "{}", name(&charge.state)).unwrap();
            for event in &events {
                let mut next = charge.clone();
                let answer = match next.on_event(event.clone(), NOW) {
                    Ok(action) => format!("{:13} {}", name(&next.state), word(&action)),
                    Err(Refused) => "refused".into(),
                };
                writeln!(table, "  {:18} {}", name(event), answer.trim_end()).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    fn name(value: &impl std::fmt::Debug) -> String {
        format!("{value:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
    }

    fn word(action: &Action) -> String {
        match action {
            Action::Nothing => String::new(),
            Action::Conclude(outcome) => format!("+ conclude {}", name(outcome)),
            other => format!("+ {other:?}"),
        }
    }

    #[test]
    fn a_key_is_the_same_for_ever_and_differs_by_means_operation_and_ordinal() {
        let charge = instruction(Operation::Charge);
        assert_eq!(
            hex::encode(charge.key().0),
            "2b251c279b831de25fc3b2b4ea8eaeeec93f6c64a0afcaffc8155c32d3ae2b3a",
            "keys must outlive releases: a PSP holds them"
        );
        let others = [
            Instruction { ordinal: 2, ..charge.clone() },
            Instruction { means: "tok_ok2".into(), ..charge.clone() },
            instruction(Operation::Capture),
        ];
        assert!(others.iter().all(|other| other.key() != charge.key()));
    }

    #[test]
    fn silence_is_asked_about_with_growing_pauses_and_never_sent_again_unasked() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Sent, NOW).unwrap();
        let mut pauses = Vec::new();
        let mut now = NOW;
        for _ in 0..6 {
            let next = charge.next_deadline().unwrap();
            pauses.push(next.since(now));
            now = next;
            assert_ne!(charge.on_deadline(now), Action::Send);
        }
        assert_eq!(pauses, [5_000, 500, 1_000, 2_000, 4_000, 8_000]);
    }

    #[test]
    fn what_never_left_is_sent_again_with_growing_pauses_until_nobody_wants_it() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        let (mut now, mut pauses) = (NOW, Vec::new());
        for _ in 0..4 {
            charge.on_event(Event::Sent, now).unwrap();
            assert_eq!(charge.on_event(Event::NotSent, now), Ok(Action::Nothing));
            let next = charge.next_deadline().unwrap();
            pauses.push(next.since(now));
            now = next;
            assert_eq!(charge.on_deadline(now), Action::Send);
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000]);
        assert_eq!(charge.on_event(Event::Unwanted, now), Ok(Action::Conclude(Outcome::Failed)));
    }

    #[test]
    fn a_refund_that_never_left_is_sent_again_for_ever() {
        let mut refund = Charge::intended(instruction(Operation::Refund), PATIENCE, NOW);
        let mut now = NOW;
        while now.since(NOW) < 2 * UNRESOLVED_MS {
            refund.on_event(Event::Sent, now).unwrap();
            refund.on_event(Event::NotSent, now).unwrap();
            refund.on_event(Event::Unwanted, now).unwrap();
            now = refund.next_deadline().unwrap();
            assert_eq!(refund.on_deadline(now), Action::Send);
        }
    }

    #[test]
    fn a_second_request_that_never_left_says_nothing_of_the_first() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Restarted, NOW).unwrap();
        charge.on_event(Event::Wanted, NOW).unwrap();
        let later = NOW.plus(10_000);
        assert_eq!(charge.on_event(Event::NotFound { asked_at: later }, later), Ok(Action::Send));
        charge.on_event(Event::Sent, later).unwrap();
        assert_eq!(charge.on_event(Event::NotSent, later), Ok(Action::Doubt));
        assert!(matches!(charge.state, State::Unknown { .. }));
    }

    #[test]
    fn a_charge_is_closed_only_when_nobody_wants_it_and_nothing_is_on_its_way() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Sent, NOW).unwrap();
        assert!(!charge.may_be_closed(NOW.plus(PATIENCE.arrival_ms)), "it is wanted");
        charge.on_event(Event::NoAnswer, NOW).unwrap();
        assert!(!charge.may_be_closed(NOW.plus(PATIENCE.arrival_ms - 1)));
        assert!(charge.may_be_closed(NOW.plus(PATIENCE.arrival_ms)));
    }

    #[test]
    fn a_hint_that_overtakes_the_answer_has_a_doubt_looked_up_at_once() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Sent, NOW).unwrap();
        assert_eq!(charge.on_event(Event::Hinted, NOW), Ok(Action::Nothing));
        charge.on_event(Event::NoAnswer, NOW).unwrap();
        assert_eq!(charge.on_deadline(NOW), Action::Ask);
    }

    #[test]
    fn after_a_day_not_found_proves_nothing_and_nothing_is_sent_again() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Sent, NOW).unwrap();
        charge.on_event(Event::NoAnswer, NOW).unwrap();
        let later = NOW.plus(KEY_REMEMBERED_MS);
        assert_eq!(charge.on_event(Event::NotFound { asked_at: later }, later), Ok(Action::Nothing));
        assert!(matches!(charge.state, State::Unknown { .. }));
    }

    #[test]
    fn a_look_up_that_left_before_the_charge_must_have_arrived_proves_nothing() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Sent, NOW).unwrap();
        charge.on_event(Event::NoAnswer, NOW).unwrap();
        let early = Event::NotFound { asked_at: NOW.plus(PATIENCE.arrival_ms - 1) };
        assert_eq!(charge.on_event(early, NOW.plus(4_000)), Ok(Action::Nothing));
    }

    #[test]
    fn a_restart_waits_for_what_the_process_before_it_may_have_sent_last() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        let restart = NOW.plus(60_000);
        charge.on_event(Event::Restarted, restart).unwrap();
        let not_found = |after| Event::NotFound { asked_at: restart.plus(after) };
        assert_eq!(charge.on_event(not_found(100), restart.plus(100)), Ok(Action::Nothing));
        assert_eq!(charge.on_event(not_found(2_000), restart.plus(2_000)), Ok(Action::Conclude(Outcome::Failed)));
    }

    #[test]
    fn a_charge_that_the_session_gave_up_is_not_sent_again() {
        let mut charge = Charge::intended(instruction(Operation::Charge), PATIENCE, NOW);
        charge.on_event(Event::Restarted, NOW).unwrap();
        let later = NOW.plus(10_000);
        let not_found = Event::NotFound { asked_at: later };
        assert_eq!(charge.clone().on_event(not_found.clone(), later), Ok(Action::Conclude(Outcome::Failed)));
        charge.on_event(Event::Wanted, NOW).unwrap();
        assert_eq!(charge.on_event(not_found.clone(), later), Ok(Action::Send));
    }
}
