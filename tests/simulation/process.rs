//! One life of the engine: the plain structs, and a shell that carries their messages as the actors do, only later,
//! out of order where nothing promises order, and not at all once the process has died.

use forecourt::{
    engine::{
        charge::{ChargeKey, Instruction, Operation, Patience},
        id::SessionId,
        session::{Effect, Event, Moment, Standing},
        time::UnixMs,
    },
    ledger::{Entry, Kind, Seq},
    payment::{Cashier, Record, Report},
    session::{
        By, Command, Error,
        plain::{Cause, Desk, Done, Job, Reply, Witness},
    },
};

use crate::{
    journal::{Append, Fate, Then},
    letter::What,
    plants::Plant,
    world::{Happening, World},
};

/// As the defaults have it, but for the longest pause, which would fill a week with look-ups.
const PATIENCE: Patience =
    Patience { answer_ms: 5_000, ask_ms_min: 500, ask_ms_max: 3_600_000, arrival_ms: ARRIVAL_MS };

/// What the network to the PSP promises, if a request arrives at all.
pub(crate) const ARRIVAL_MS: u64 = 2_000;

/// Pause before payments or the journal are tried again.
pub(crate) const RETRY_MS: u64 = 1_000;

const DUE_MAX: usize = 256;

pub(crate) struct Process {
    pub(crate) desk: Desk,
    pub(crate) cashier: Cashier,
    pub(crate) life: u32,
    /// Sessions whose last append failed, and whose events are being counted in the journal.
    pub(crate) reading_back: u32,
    /// The wall clock at the start, and the true time: payments count from there and never see the clock jump.
    started: (UnixMs, u64),
}

/// What is on its way within the process, and dies with it.
#[derive(Debug, Clone)]
pub(crate) enum Inside {
    /// The oldest append of the journal is done.
    Journalled,
    /// After a failed append the journal was read.
    ReadBack(SessionId),
    Instruct(Instruction),
    Ask(Instruction),
    Taken(Instruction),
    NotTaken(Instruction),
    /// The journal is offered a record again.
    Offer(ChargeKey, Record),
    Report(Report),
    /// What the journal did not take comes again.
    Submit(SessionId, Event),
    BindingChanged(SessionId),
    Evict,
}

impl Process {
    pub(crate) fn new(life: u32, ended_max: usize, open_max: usize, started: (UnixMs, u64)) -> Process {
        // A week: the sites' transaction ids stay known for the whole history, unless the number says otherwise.
        let desk = Desk::new(ended_max, 7 * 24 * 3_600_000);
        Process { desk, cashier: Cashier::new(PATIENCE, open_max), life, reading_back: 0, started }
    }

    /// The wall clock of the start, and the time since.
    pub(crate) fn steady(&self, now: u64) -> UnixMs {
        self.started.0.plus(now - self.started.1)
    }

    /// When the cashier wants to be woken, in true time.
    pub(crate) fn cashier_wakes(&self) -> Option<u64> {
        self.cashier.next_deadline().map(|at| self.started.1 + at.since(self.started.0))
    }
}

impl World {
    pub(crate) fn inside(&mut self, message: Inside) {
        match message {
            Inside::Journalled => self.journalled(),
            Inside::ReadBack(id) => self.read_back(id),
            Inside::Instruct(instruction) => self.instruct(instruction),
            Inside::Ask(instruction) => self.ask(instruction),
            Inside::Taken(instruction) => {
                if let Some(job) = Job::taken(&instruction) {
                    self.submit(instruction.session, job);
                }
            }
            Inside::NotTaken(instruction) => {
                let effect = self.process.desk.again(&instruction);
                self.effect(effect);
            }
            Inside::Offer(key, record) => self.journal_charge(key, record, None),
            Inside::Report(report) => {
                self.recall(report.session);
                self.submit(report.session, Job::reported(report));
            }
            Inside::Submit(id, event) => self.submit(id, Job::event(event)),
            Inside::BindingChanged(id) => self.binding_changed(id),
            Inside::Evict => self.process.desk.evict(self.clock.wall()),
        }
    }

    pub(crate) fn timers(&mut self) {
        for id in self.process.desk.due(self.clock.wall(), DUE_MAX) {
            self.submit(id, Job::event(Event::DeadlinePassed));
        }
        for _ in 0..DUE_MAX {
            let Some(step) = self.process.cashier.due(self.steady()) else { break };
            self.carry_out(Some(step));
        }
    }

    /// An order or an opening reaches the desk.
    pub(crate) fn deliver(&mut self, id: SessionId, by: By, what: What, reply: Reply) {
        self.recall(id);
        match what {
            What::Open(open) => {
                let moment = self.moment();
                if let Some(entry) = self.process.desk.open(*open, reply, moment) {
                    self.append(entry, Then::Session(id));
                }
            }
            What::Order { command, request } => {
                let Some(cause) = self.cause(id, by, command) else {
                    let _ = reply.send(Err(Error::NotFound));
                    return;
                };
                self.submit(id, Job::order(cause, request, reply));
            }
        }
    }

    /// A proof is judged by what the registrations say at this moment. `None`: there is no such session.
    fn cause(&mut self, id: SessionId, by: By, command: Command) -> Option<Cause> {
        let Command::Prove { mac, .. } = &command else {
            return Some(Cause::Order { by, command, witness: None });
        };
        let session = self.process.desk.session(id)?;
        if self.plant == Some(Plant::AcceptOldProof)
            && self.oracle.was_approved(id, mac)
            && let Some(challenge) = session.state().challenge()
        {
            return Some(Cause::Event(Event::ProofVerified { nonce: challenge.nonce }));
        }
        let car = self.car_of(session.vehicle().device);
        let witness = Box::new(Witness { standing: car.standing(), key: Some(car.dongle.clone()) });
        Some(Cause::Order { by, command, witness: Some(witness) })
    }

    pub(crate) fn submit(&mut self, id: SessionId, job: Job) {
        let moment = self.moment();
        if let Some(entry) = self.process.desk.submit(id, job, moment) {
            self.append(entry, Then::Session(id));
        }
    }

    pub(crate) fn append(&mut self, entry: Entry, then: Then) {
        let fate = match (self.chance.fault("append failed", 8), self.chance.fault("append failed but durable", 8)) {
            (true, _) => Fate::Failed,
            (_, true) => Fate::FailedButDurable,
            _ => Fate::Durable,
        };
        let stalls = self.chance.fault("journal stalled", 10);
        let latency = if stalls { self.chance.within(100..=8_000) } else { self.chance.within(1..=15) };
        let early = self.plant == Some(Plant::AnswerEarly);
        let session = if let Then::Session(id) = then { Some(id) } else { None };
        let done_at = self.journal.append(Append { entry, fate, then }, self.clock.now, latency);
        self.at(done_at, Happening::Inside(Inside::Journalled));
        if let (true, Some(id)) = (early, session) {
            let moment = self.moment();
            let done = self.process.desk.committed(id, self.journal.last(), moment);
            self.finish(id, done);
        }
    }

    fn journalled(&mut self) {
        let (seq, Append { entry, fate, then }) = self.journal.complete();
        if fate.is_durable() {
            self.chance.tally.entries += 1;
            self.oracle.on_durable(seq, &entry, &self.psp);
        }
        match then {
            Then::Session(id) if fate == Fate::Durable => {
                let moment = self.moment();
                let done = self.process.desk.committed(id, seq, moment);
                self.finish(id, done);
            }
            Then::Session(id) => {
                self.process.reading_back += 1;
                self.soon(2_000, Inside::ReadBack(id));
            }
            Then::Charge(key, record, waiting) => self.charge_journalled(key, record, waiting, fate == Fate::Durable),
            Then::Prices(station, set) if fate == Fate::Durable => self.process.desk.prices.set(station, set, entry.at),
            Then::Prices(..) => {}
        }
    }

    fn read_back(&mut self, id: SessionId) {
        self.process.reading_back -= 1;
        let places: Vec<Seq> = self.journal.of(Kind::Session, &id.0).into_iter().map(|(seq, _)| seq).collect();
        let moment = self.moment();
        let done = self.process.desk.failed(id, Some(&places), moment);
        self.finish(id, done);
    }

    fn finish(&mut self, id: SessionId, done: Done) {
        if let Some(view) = done.changed {
            self.oracle.on_told(&view);
            self.follow(&view);
        }
        self.effect(done.effects);
        if let Some(entry) = done.next {
            self.append(entry, Then::Session(id));
        }
        if let Some(event) = done.again {
            self.later(RETRY_MS, Inside::Submit(id, event));
        }
    }

    pub(crate) fn effect(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            match effect {
                Effect::Instruct(instruction) => {
                    let forgotten = self.plant == Some(Plant::ForgetHold) && instruction.operation == Operation::Void;
                    if !forgotten {
                        self.soon(20, Inside::Instruct(instruction));
                    }
                }
                Effect::Ask(instruction) => self.soon(20, Inside::Ask(instruction)),
                Effect::NotifyPhone(_) | Effect::NotifyStation(_) => {}
            }
        }
    }

    fn recall(&mut self, id: SessionId) {
        if !self.process.desk.knows(id) {
            let entries = self.journal.of(Kind::Session, &id.0);
            self.process.desk.recall(id, &entries).expect("the journal holds what was written");
        }
    }

    fn binding_changed(&mut self, id: SessionId) {
        let Some((device, binding, _)) = self.process.desk.device(id) else { return };
        let car = self.car_of(device);
        if car.binding == binding {
            let standing: Standing = car.standing();
            self.submit(id, Job::event(Event::BindingChanged(standing)));
        }
    }

    /// The process dies; another one rebuilds everything from the journal alone.
    pub(crate) fn crash(&mut self) {
        self.chance.tally.crashes += 1;
        for (seq, entry) in self.journal.crash(&mut self.chance) {
            self.oracle.on_durable(seq, &entry, &self.psp);
        }
        self.forget_life();
        self.process = self.rebuilt();
        self.oracle.compare_rebuilt(&self.process);
        self.reopen_sites();
        if self.plant != Some(Plant::LoseUnsettled) {
            let unsettled = self.process.desk.unsettled();
            self.effect(unsettled);
        }
    }

    fn rebuilt(&self) -> Process {
        let life = self.process.life + 1;
        let mut process =
            Process::new(life, self.plan.ended_max, self.plan.open_max, (self.clock.wall(), self.clock.now));
        let now = process.steady(self.clock.now);
        for (seq, entry) in self.journal.entries() {
            process.desk.recover(*seq, entry).expect("the journal holds what was written");
            if entry.kind == Kind::Charge {
                process.cashier.take_up(entry, now).expect("the journal holds what was written");
            }
        }
        for id in process.desk.missed() {
            process.desk.recall(id, &self.journal.of(Kind::Session, &id.0)).expect("the journal holds it");
        }
        process
    }

    pub(crate) fn moment(&mut self) -> Moment {
        Moment { at: self.clock.wall(), nonce: self.chance.bytes() }
    }

    pub(crate) fn steady(&self) -> UnixMs {
        self.process.steady(self.clock.now)
    }
}
