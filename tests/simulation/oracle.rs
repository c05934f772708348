//! What must hold, checked against books of the oracle's own: the PSP's, the phones', and a second desk that is fed
//! from the journal alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use forecourt::{
    engine::{
        charge::{ChargeKey, Instruction, Outcome, State as ChargeState},
        id::{SessionId, StationId},
        money::Money,
        session::{AttemptStatus, Event, Session},
    },
    ledger::{Entry, Kind, Seq},
    payment::Record as ChargeRecord,
    session::{
        Error, Request, SessionView,
        plain::{Desk, Record},
    },
};

use crate::{
    letter::{Letter, OPERATOR},
    process::Process,
    psp::Psp,
};

/// A vehicle that fell silent at a pump is held for so long, and then fades.
const PRESENT_MS: u64 = 15 * 60_000 + 120_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invariant {
    /// I1: at most one net charge per site transaction.
    OneCharge,
    /// I2: money is taken only over a proof that the driver gave for that amount.
    ProvenAmount,
    /// I3: only a vehicle that is present is selected, and into one session at a time.
    Present,
    /// I4: every hold ends captured or voided.
    HoldEnds,
    /// I5: every session, and so every completion, comes to an end, and every instruction to an outcome.
    Ends,
    /// I6: nothing is pinned for a session that has ended.
    PinsEnd,
    /// I7: the journal alone gives the state.
    Replay,
    /// The intent is durable before the first byte to the PSP.
    IntentFirst,
    /// An outcome is durable before its session hears of it.
    OutcomeFirst,
    /// What a caller or a watcher was told is in the journal, and stays there.
    ToldIsDurable,
    /// The same request has the same answer; its key with another body has none.
    SameAnswer,
    /// What sessions say is paid is what the PSP's books say.
    SumsAgree,
    /// The code did not panic.
    NoPanic,
}

#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) of: Invariant,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.of, self.what)
    }
}

/// What a driver read and agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) session: SessionId,
    pub(crate) nonce: [u8; 32],
    pub(crate) amount: Money,
    pub(crate) mac: [u8; 32],
}

pub(crate) struct Oracle {
    /// Knows what is durable, entry by entry, and forgets nothing.
    shadow: Desk,
    /// Each session as it was after each of its entries.
    histories: BTreeMap<SessionId, Vec<SessionView>>,
    intents: HashSet<ChargeKey>,
    outcomes: HashMap<ChargeKey, Vec<Outcome>>,
    approvals: Vec<Approval>,
    transactions: HashMap<(StationId, String), SessionId>,
    /// Key and body of the requests that changed something, which is what the journal remembers.
    carried_out: HashMap<[u8; 32], [u8; 32]>,
    /// The first answer to each of these.
    answered: HashMap<[u8; 32], Result<u32, Error>>,
    changed: BTreeSet<SessionId>,
    pub(crate) violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        Oracle {
            shadow: Desk::new(usize::MAX, u64::MAX),
            histories: BTreeMap::new(),
            intents: HashSet::new(),
            outcomes: HashMap::new(),
            approvals: Vec::new(),
            transactions: HashMap::new(),
            carried_out: HashMap::new(),
            answered: HashMap::new(),
            changed: BTreeSet::new(),
            violation: None,
        }
    }

    /// The first violation counts: later ones follow from it.
    fn demand(&mut self, holds: bool, of: Invariant, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { of, what: what() });
        }
    }

    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.histories.keys().copied().collect()
    }

    pub(crate) fn on_approval(&mut self, approval: Approval) {
        self.approvals.push(approval);
    }

    pub(crate) fn was_approved(&self, session: SessionId, mac: &[u8; 32]) -> bool {
        self.approvals.iter().any(|approval| approval.session == session && approval.mac == *mac)
    }

    /// The vehicle was last heard at the station so long ago, if ever.
    pub(crate) fn on_selection(&mut self, silent_ms: Option<u64>) {
        let present = silent_ms.is_some_and(|silent| silent <= PRESENT_MS);
        self.demand(present, Invariant::Present, || {
            format!("selected a vehicle that was last heard {silent_ms:?} ms ago")
        });
    }

    /// An entry is durable.
    pub(crate) fn on_durable(&mut self, seq: Seq, entry: &Entry, psp: &Psp) {
        match entry.kind {
            Kind::Charge => {
                let (key, record) = ChargeRecord::read(entry).expect("written by the cashier");
                match record {
                    ChargeRecord::Intended(_) => {
                        self.intents.insert(key);
                    }
                    ChargeRecord::Concluded(outcome) => self.outcomes.entry(key).or_default().push(outcome),
                    ChargeRecord::Named(_) | ChargeRecord::Unresolved => {}
                }
            }
            Kind::Session => self.on_session_entry(seq, entry, psp),
            Kind::Prices => self.shadow.recover(seq, entry).expect("written by the desk"),
            Kind::Purge => unreachable!("nothing is old enough here"),
        }
    }

    fn on_session_entry(&mut self, seq: Seq, entry: &Entry, psp: &Psp) {
        let id = SessionId(entry.subject.as_slice().try_into().expect("a session id has 16 bytes"));
        match Record::read(entry).expect("written by the desk") {
            Record::Opened { opening, request, .. } => {
                self.carried_out.insert(request.key, request.body);
                let holder = self.shadow.holder(opening.vehicle.device);
                self.demand(holder.is_none(), Invariant::Present, || {
                    format!("{id} was opened for a vehicle that is in {holder:?}")
                });
            }
            Record::Happened { event, request, .. } => {
                self.carried_out.extend(request.map(|request| (request.key, request.body)));
                self.on_event(id, &event);
            }
        }
        if let Err(error) = self.shadow.recover(seq, entry) {
            self.demand(false, Invariant::Replay, || error.to_string());
            return;
        }
        self.changed.insert(id);
        let view = self.shadow.view(id, OPERATOR).expect("recovered above");
        self.histories.entry(id).or_default().push(view);
        self.check_payment(id, psp);
    }

    fn on_event(&mut self, id: SessionId, event: &Event) {
        match event {
            Event::FuelDelivered { completion, .. } | Event::Corrected { completion, .. } => {
                let station = self.durable(id).opening().station;
                let owner = *self.transactions.entry((station, completion.transaction.clone())).or_insert(id);
                self.demand(owner == id, Invariant::OneCharge, || {
                    format!("{} belongs to {owner} and was taken for {id}", completion.transaction)
                });
            }
            Event::ChargeSent { ordinal } => {
                let key = self.instruction(id, *ordinal).map(|instruction| instruction.key());
                let intended = key.is_some_and(|key| self.intents.contains(&key));
                self.demand(intended, Invariant::IntentFirst, || format!("{id} heard that {ordinal} was sent"));
            }
            Event::ChargeConcluded { ordinal, outcome } => self.on_conclusion(id, *ordinal, outcome),
            _ => {}
        }
    }

    /// What has no intent was never sent, and may be called failed.
    fn on_conclusion(&mut self, id: SessionId, ordinal: u32, outcome: &Outcome) {
        let Some(key) = self.instruction(id, ordinal).map(|instruction| instruction.key()) else { return };
        let known = self.outcomes.get(&key).is_some_and(|outcomes| outcomes.contains(outcome));
        let never_sent = *outcome == Outcome::Failed && !self.intents.contains(&key);
        self.demand(known || never_sent, Invariant::OutcomeFirst, || {
            format!("{id} heard {outcome:?} of instruction {ordinal}, which is not in the journal")
        });
    }

    fn durable(&self, id: SessionId) -> &Session {
        self.shadow.session(id).expect("its opening came first")
    }

    fn instruction(&self, id: SessionId, ordinal: u32) -> Option<Instruction> {
        let attempt = self.durable(id).attempts().get(ordinal as usize - 1)?;
        Some(attempt.instruction.clone())
    }

    fn check_payment(&mut self, id: SessionId, psp: &Psp) {
        let state = self.durable(id).state();
        let (proof, payment) = (state.proof().copied(), state.payment().cloned());
        if let Some(proof) = proof {
            let approved = self
                .approvals
                .iter()
                .any(|approval| (approval.session, approval.nonce, approval.amount) == (id, proof.nonce, proof.amount));
            self.demand(approved, Invariant::ProvenAmount, || format!("no driver approved {proof:?} in {id}"));
        }
        if let Some(payment) = payment {
            let proven = proof.is_some_and(|proof| proof.amount == payment.amount);
            self.demand(proven, Invariant::ProvenAmount, || format!("{id} is paid without a proof of {payment:?}"));
            let booked =
                psp.of(id).any(|line| line.reference == payment.reference && line.approved == Some(payment.amount));
            self.demand(booked, Invariant::SumsAgree, || format!("the PSP knows nothing of {payment:?} of {id}"));
        }
    }

    /// A request reaches the PSP.
    pub(crate) fn on_request(&mut self, instruction: &Instruction) {
        let intended = self.intents.contains(&instruction.key());
        self.demand(intended, Invariant::IntentFirst, || format!("the PSP was asked for {instruction:?}"));
        if instruction.operation.takes_money() {
            let approved = (self.approvals.iter())
                .any(|approval| (approval.session, approval.amount) == (instruction.session, instruction.amount));
            self.demand(approved, Invariant::ProvenAmount, || format!("no driver approved {instruction:?}"));
        }
    }

    /// The PSP's books have another line.
    pub(crate) fn on_books(&mut self, id: SessionId, psp: &Psp) {
        let net = psp.takings(id).filter(|left| *left > 0).count();
        self.demand(net <= 1, Invariant::OneCharge, || format!("{id} was charged {net} times"));
    }

    /// A watcher was told.
    pub(crate) fn on_told(&mut self, view: &SessionView) {
        let history = self.histories.get(&view.id);
        let durable = history.and_then(|history| history.get(view.version as usize - 1));
        if durable != Some(view) {
            let what = format!("told {view:?}, and durable is {durable:?}");
            self.demand(false, Invariant::ToldIsDurable, || what);
        }
    }

    pub(crate) fn on_answer(&mut self, letter: &Letter, answer: &Result<SessionView, Error>) {
        if let Ok(view) = answer {
            self.on_told(view);
        }
        let said = match answer {
            Ok(view) => Ok(view.version),
            // The service's state, which says nothing of the request.
            Err(Error::Unavailable | Error::Overloaded) => return,
            Err(error) => Err(error.clone()),
        };
        let Some(request) = letter.request() else { return };
        match self.carried_out.get(&request.key) {
            None => {}
            Some(body) if *body == request.body => self.check_repetition(letter, request, &said),
            Some(_) => {
                let refused = said == Err(Error::KeyReused);
                self.demand(refused, Invariant::SameAnswer, || format!("{letter}: {said:?} under a used key"));
            }
        }
    }

    fn check_repetition(&mut self, letter: &Letter, request: Request, said: &Result<u32, Error>) {
        let before = self.answered.entry(request.key).or_insert_with(|| said.clone()).clone();
        let same = match (&before, said) {
            (Ok(before), Ok(now)) => now >= before,
            (before, now) => before == now,
        };
        self.demand(same, Invariant::SameAnswer, || format!("{letter}: {before:?} became {said:?}"));
    }

    /// With nothing on its way to the journal, memory is what the journal says.
    pub(crate) fn compare(&mut self, process: &Process) {
        for id in std::mem::take(&mut self.changed) {
            self.compare_session(process, id);
        }
        let (memory, journal) = (process.desk.summary(), self.shadow.summary());
        self.demand(memory == journal, Invariant::Replay, || format!("{memory:?}, and the journal gives {journal:?}"));
    }

    /// After a crash everything is compared, and what a restart makes of the charges as well.
    pub(crate) fn compare_rebuilt(&mut self, process: &Process) {
        for id in self.sessions() {
            self.compare_session(process, id);
        }
        self.compare(process);
        let (memory, journal) = (process.desk.unsettled(), self.shadow.unsettled());
        self.demand(memory == journal, Invariant::Replay, || format!("takes up {memory:?} instead of {journal:?}"));
        let (memory, journal) = (process.desk.next_deadline(), self.shadow.next_deadline());
        self.demand(memory == journal, Invariant::Replay, || format!("wakes at {memory:?} instead of {journal:?}"));
        let forgotten = self.outcomes.keys().find(|key| {
            let charge = process.cashier.charge(**key);
            charge.is_some_and(|charge| charge.outcome().is_none())
        });
        let forgotten = forgotten.copied();
        self.demand(forgotten.is_none(), Invariant::Replay, || format!("{forgotten:?} has an outcome no more"));
    }

    fn compare_session(&mut self, process: &Process, id: SessionId) {
        let memory = process.desk.session(id);
        let journal = self.shadow.session(id);
        // One at an end may have been forgotten: the journal is where it is.
        let same = memory == journal || memory.is_none() && journal.is_some_and(|session| session.name().is_end());
        let device = journal.map(|session| session.vehicle().device);
        let holders = device.map(|device| (process.desk.holder(device), self.shadow.holder(device)));
        let what = || format!("{memory:?}, and the journal gives {journal:?}; holders {holders:?}");
        if !same || holders.is_some_and(|(memory, journal)| memory != journal) {
            let what = what();
            self.demand(false, Invariant::Replay, || what);
        }
    }

    pub(crate) fn never_rests(&mut self) {
        self.demand(false, Invariant::Ends, || "it goes round in a circle".into());
    }

    pub(crate) fn on_empty_site(&mut self, pinned: usize) {
        self.demand(pinned == 0, Invariant::PinsEnd, || format!("{pinned} vehicles are pinned at the end"));
    }

    /// Faults are off and time has run on: every session is at its end, and so is every penny. Answers with the ends.
    pub(crate) fn conclude(&mut self, process: &Process, psp: &Psp) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::new();
        for id in self.sessions() {
            let session = self.durable(id).clone();
            *ends.entry(format!("{:?}", session.name())).or_default() += 1;
            self.demand(session.name().is_end(), Invariant::Ends, || format!("{id} is left in {:?}", session.state()));
            let holder = self.shadow.holder(session.vehicle().device);
            self.demand(holder.is_none(), Invariant::PinsEnd, || format!("a vehicle is kept by {holder:?}"));
            self.check_holds(process, &session, psp);
            if self.check_outcomes(process, &session) {
                let (books, said) = (psp.takings(id).sum::<i64>(), session.paid().map_or(0, |paid| paid.minor));
                self.demand(books == said, Invariant::SumsAgree, || {
                    format!("{id} says that {said} is paid, and the PSP's books {books}: {session:?}")
                });
            }
        }
        ends
    }

    /// A hold is left to run out only if its void was lost for good.
    fn check_holds(&mut self, process: &Process, session: &Session, psp: &Psp) {
        for hold in psp.open_holds(session.opening().session) {
            let key = hold.instruction.key();
            let mut voids = session.attempts().iter().filter(|attempt| attempt.instruction.of == Some(key));
            let lost =
                voids.any(|void| void.status == AttemptStatus::Failed || is_given_up(process, &void.instruction));
            self.demand(lost, Invariant::HoldEnds, || format!("{hold:?} is neither captured nor voided"));
        }
    }

    /// Whether all that was instructed has an outcome; what stayed unknown for a week is left to reconciliation.
    fn check_outcomes(&mut self, process: &Process, session: &Session) -> bool {
        for pending in session.pending() {
            let charge = process.cashier.charge(pending.key());
            let given_up = is_given_up(process, pending);
            self.demand(given_up, Invariant::Ends, || format!("{pending:?} has no outcome: {charge:?}"));
        }
        session.pending().next().is_none()
    }
}

fn is_given_up(process: &Process, instruction: &Instruction) -> bool {
    let charge = process.cashier.charge(instruction.key());
    charge.is_some_and(|charge| charge.state == ChargeState::Unresolved)
}
