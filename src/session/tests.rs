//! The desk without a system, and the whole stage with journal, payments and registrations.

mod keeping;

use ed25519_dalek::{Signer, SigningKey};

use super::{
    orders::Witness,
    record::Record,
    slot::{Cause, Job},
    *,
};
use crate::{
    engine::{
        charge::{Instruction, Outcome},
        id::{DeviceId, ReceiverId},
        plate::Fit,
        proof::{PayTerms, ProofKey, Terms},
        session::{Effect, Event, Moment, SELECTED_MS, Standing},
        time::{SlotLength, UnixMs},
    },
    ledger::{self, Entry, Kind, Seq},
    payment::{self, Simulator},
    registration::{Amendment, Mandate, OperatorName},
};

const STATION: StationId = StationId(11);
const BINDING: BindingId = BindingId([1; 16]);
const ID: SessionId = SessionId([2; 16]);
const START: UnixMs = UnixMs(1_700_000_000_000);
const OPERATOR: By = By::Operator(OperatorName::FOLDER);

fn phone() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

fn dongle() -> ProofKey {
    ProofKey::new([6; 32])
}

fn won(minor: i64) -> Money {
    Money { minor, currency: "KRW".parse().unwrap() }
}

fn vehicle(means: &str) -> Vehicle {
    Vehicle {
        device: DeviceId(7),
        binding: BINDING,
        epoch: 5,
        plate: "12A3456".into(),
        fuel: None,
        phone: Some(phone().verifying_key().to_bytes()),
        means: vec![means.into()],
        provable: true,
    }
}

fn request(key: u8) -> Request {
    Request { key: [key; 32], body: [key; 32] }
}

fn open(session: SessionId, means: &str) -> Open {
    let heard = Heard {
        first: START,
        last: START,
        hearings: 9,
        receivers: vec![Level { receiver: ReceiverId(3), rssi_dbm: -55 }],
        pump: Some(PumpNumber(3)),
        matched: Matched { query: "**56".into(), fit: Fit::End, picked: false },
    };
    let (by, vehicle) = (By::Station(STATION), vehicle(means));
    let request = request(session.0[0]);
    Open { request, session, station: STATION, pump: None, vehicle, by, heard: Some(heard) }
}

fn sale(transaction: &str) -> Completion {
    Completion {
        pump: PumpNumber(3),
        grade: "diesel".into(),
        volume_ml: 30_000,
        unit_price_milli: 1_700_000,
        amount: won(51_000),
        transaction: transaction.into(),
    }
}

/// What the dongle and the phone answer to a challenge.
fn prove(view: &SessionView) -> Command {
    let challenge = view.challenge.as_ref().unwrap();
    let mut nonce = [0; 32];
    hex::decode_to_slice(&challenge.nonce, &mut nonce).unwrap();
    let terms = PayTerms {
        nonce,
        device: challenge.device,
        binding: challenge.binding,
        session: challenge.session,
        station: challenge.station,
        pump: challenge.pump,
        amount: challenge.amount,
        epoch: challenge.epoch,
    };
    let mac = terms.mac(&dongle());
    Command::Prove { mac, signature: phone().sign(&terms.phone_message(&mac)).to_bytes() }
}

/// A desk whose journal always succeeds, at once.
struct Bench {
    desk: Desk,
    journal: Vec<(Seq, Entry)>,
    effects: Vec<Effect>,
    now: UnixMs,
}

impl Bench {
    fn new() -> Bench {
        Bench { desk: Desk::new(100, 1_000_000), journal: Vec::new(), effects: Vec::new(), now: START }
    }

    fn entries(&self) -> Vec<Entry> {
        self.journal.iter().map(|(_, entry)| entry.clone()).collect()
    }

    fn moment(&self) -> Moment {
        Moment { at: self.now, nonce: [self.journal.len() as u8; 32] }
    }

    fn carry(&mut self, id: SessionId, mut entry: Option<Entry>) {
        while let Some(durable) = entry {
            self.journal.push((Seq(self.journal.len() as u64 + 1), durable));
            let done = self.desk.committed(id, Seq(self.journal.len() as u64), self.moment());
            self.effects.extend(done.effects);
            entry = done.next;
        }
    }

    /// Where the journal has the only session's events.
    fn places(&self) -> Vec<Seq> {
        self.journal.iter().map(|(seq, _)| *seq).collect()
    }

    fn open(&mut self, open: Open) -> Result<SessionView, Error> {
        let (reply, mut answer) = oneshot::channel();
        let id = open.session;
        let entry = self.desk.open(open, reply, self.moment());
        self.carry(id, entry);
        answer.try_recv().unwrap()
    }

    fn submit(&mut self, id: SessionId, job: Job) {
        let entry = self.desk.submit(id, job, self.moment());
        self.carry(id, entry);
    }

    fn give(&mut self, by: By, command: Command, key: u8) -> Result<SessionView, Error> {
        let (job, mut answer) = job(by, command, Some(request(key)));
        self.submit(ID, job);
        answer.try_recv().unwrap()
    }

    fn station(&mut self, command: Command, key: u8) -> Result<SessionView, Error> {
        self.give(By::Station(STATION), command, key)
    }

    fn phone(&mut self, command: Command, key: u8) -> Result<SessionView, Error> {
        self.give(By::Phone(BINDING), command, key)
    }

    fn instructions(&self) -> Vec<&Instruction> {
        let mut instructions = Vec::new();
        for effect in &self.effects {
            if let Effect::Instruct(instruction) = effect {
                instructions.push(instruction);
            }
        }
        instructions
    }

    /// The desk that a restart makes of the journal.
    fn restarted(&self) -> Desk {
        let mut desk = Desk::new(100, 1_000_000);
        for (seq, entry) in &self.journal {
            desk.recover(*seq, entry).unwrap();
        }
        desk
    }
}

fn job(by: By, command: Command, request: Option<Request>) -> (Job, oneshot::Receiver<Result<SessionView, Error>>) {
    let (reply, answer) = oneshot::channel();
    let Vehicle { epoch, phone, means, provable, .. } = vehicle("tok_ok");
    let standing = Standing { active: true, epoch, phone, means, provable };
    let witness = Some(Box::new(Witness { standing, key: Some(dongle()) }));
    (Job::order(Cause::Order { by, command, witness }, request, reply), answer)
}

fn paid() -> Bench {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let view = bench.station(Command::Complete(sale("T1")), 10).unwrap();
    bench.phone(prove(&view), 11).unwrap();
    let outcome = Outcome::Succeeded { amount: won(51_000), reference: "r1".into() };
    bench.submit(ID, Job::event(Event::ChargeSent { ordinal: 1 }));
    bench.submit(ID, Job::event(Event::ChargeConcluded { ordinal: 1, outcome }));
    bench
}

/// What is journalled of a sale that was paid.
pub(super) fn journal_of_a_sale() -> Vec<Entry> {
    paid().entries()
}

#[test]
fn a_proven_sale_is_charged_once_and_has_a_receipt() {
    let bench = paid();
    assert_eq!(bench.desk.view(ID, OPERATOR).unwrap().state, StateName::Paid);
    assert_eq!(bench.instructions().len(), 1);
    let receipt = bench.desk.receipt(ID, By::Phone(BINDING)).unwrap();
    assert_eq!((receipt.amount, receipt.reference.as_str()), (won(51_000), "r1"));
    assert_eq!(bench.desk.summary().paid, 1);
}

#[test]
fn the_same_request_again_answers_without_a_second_effect_and_another_body_is_refused() {
    let mut bench = paid();
    let journalled = bench.journal.len();
    assert_eq!(bench.open(open(ID, "tok_ok")).unwrap().state, StateName::Paid);
    assert_eq!(bench.station(Command::Complete(sale("T1")), 10).unwrap().state, StateName::Paid);
    assert_eq!(bench.journal.len(), journalled);
    let mut other = open(ID, "tok_ok");
    other.request.body = [0; 32];
    assert_eq!(bench.open(other), Err(Error::KeyReused));
}

#[test]
fn a_wrong_proof_costs_a_try_and_a_repeated_one_does_not_cost_another() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let view = bench.station(Command::Complete(sale("T1")), 10).unwrap();
    let Command::Prove { mac, mut signature } = prove(&view) else { unreachable!() };
    signature[0] ^= 1;
    let wrong = Command::Prove { mac, signature };
    assert_eq!(bench.phone(wrong.clone(), 11), Err(Error::ProofWrong { tries_left: 2 }));
    assert_eq!(bench.phone(wrong.clone(), 11), Err(Error::ProofWrong { tries_left: 2 }));
    assert_eq!(bench.phone(wrong, 12), Err(Error::ProofWrong { tries_left: 1 }));
    assert!(bench.instructions().is_empty());
    assert_eq!(bench.phone(prove(&view), 13).unwrap().state, StateName::Proven);
}

#[test]
fn a_restart_gives_the_same_sessions_and_deadlines() {
    let bench = paid();
    let restarted = bench.restarted();
    assert_eq!(restarted.view(ID, OPERATOR), bench.desk.view(ID, OPERATOR));
    assert_eq!(restarted.next_deadline(), bench.desk.next_deadline());
    assert_eq!(restarted.summary(), bench.desk.summary());
    assert_eq!(restarted.repeated(ID, request(ID.0[0])), bench.desk.repeated(ID, request(ID.0[0])));
}

#[test]
fn a_restart_while_paying_still_wants_its_charge() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let view = bench.station(Command::Complete(sale("T1")), 10).unwrap();
    bench.phone(prove(&view), 11).unwrap();
    let unsettled = bench.restarted().unsettled();
    assert_eq!(unsettled, [Effect::Instruct(bench.instructions()[0].clone())]);
}

#[test]
fn nobody_hears_of_an_event_before_it_is_durable_and_a_failed_one_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let (order, mut answer) = job(By::Station(STATION), Command::Release, None);
    assert!(bench.desk.submit(ID, order, bench.moment()).is_some());
    assert!(answer.try_recv().is_err());
    assert_eq!(bench.desk.view(ID, OPERATOR).unwrap().state, StateName::Selected);
    let moment = bench.moment();
    bench.desk.failed(ID, Some(&bench.places()), moment);
    assert_eq!(answer.try_recv().unwrap(), Err(Error::Unavailable));
    assert_eq!(bench.desk.view(ID, OPERATOR).unwrap().state, StateName::Selected);
    assert_eq!(bench.station(Command::Release, 10).unwrap().state, StateName::Released);
}

#[test]
fn an_event_that_is_in_the_journal_after_all_counts() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let (order, _answer) = job(By::Station(STATION), Command::Release, None);
    let entry = bench.desk.submit(ID, order, bench.moment()).unwrap();
    bench.journal.push((Seq(2), entry));
    let moment = bench.moment();
    bench.desk.failed(ID, Some(&bench.places()), moment);
    assert_eq!(bench.desk.view(ID, OPERATOR).unwrap().state, StateName::Released);
}

#[test]
fn an_opening_that_is_in_the_journal_after_all_counts_and_is_counted() {
    let mut bench = Bench::new();
    let (reply, mut answer) = oneshot::channel();
    let entry = bench.desk.open(open(ID, "tok_ok"), reply, bench.moment()).unwrap();
    bench.journal.push((Seq(1), entry));
    bench.desk.failed(ID, Some(&bench.places()), bench.moment());
    assert_eq!(answer.try_recv().unwrap().unwrap().state, StateName::Selected);
    assert_eq!(bench.desk.summary(), bench.restarted().summary());
}

#[test]
fn what_payments_report_comes_again_when_the_journal_does_not_take_it() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let view = bench.station(Command::Complete(sale("T1")), 10).unwrap();
    bench.phone(prove(&view), 11).unwrap();
    let event = Event::ChargeConcluded { ordinal: 1, outcome: Outcome::Declined };
    assert!(bench.desk.submit(ID, Job::event(event.clone()), bench.moment()).is_some());
    let done = bench.desk.failed(ID, Some(&bench.places()), bench.moment());
    assert_eq!(done.again, Some(event));
}

#[test]
fn a_session_at_an_end_stays_until_its_instructions_have_an_outcome() {
    let mut bench = paid();
    bench.station(Command::PaidAtSite, 12).unwrap();
    bench.desk.evict(START.plus(2_000_000));
    assert_eq!(bench.desk.unsettled().len(), 1, "the refund is still to come");
    let outcome = Outcome::Succeeded { amount: won(51_000), reference: "r2".into() };
    bench.submit(ID, Job::event(Event::ChargeConcluded { ordinal: 2, outcome }));
    bench.desk.evict(START.plus(2_000_000));
    assert!(!bench.desk.knows(ID));
}

#[test]
fn what_comes_of_a_session_that_a_replay_has_forgotten_is_counted() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    bench.station(Command::Release, 10).unwrap();
    bench.station(Command::Complete(sale("T1")), 11).unwrap();
    let mut desk = Desk::new(0, 0);
    bench.journal.iter().for_each(|(seq, entry)| desk.recover(*seq, entry).unwrap());
    assert_eq!(desk.missed(), [ID]);
    desk.recall(ID, &bench.journal).unwrap();
    assert_eq!(desk.view(ID, OPERATOR), bench.desk.view(ID, OPERATOR));
    assert_eq!(desk.summary(), bench.desk.summary());
}

#[test]
fn orders_wait_for_the_one_before_them_and_past_the_bound_are_refused() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let first = bench.desk.submit(ID, job(By::Station(STATION), Command::Release, None).0, bench.moment());
    let mut answers = Vec::new();
    for _ in 0..=slot::WAITING_MAX {
        let (order, answer) = job(By::Station(STATION), Command::Complete(sale("T1")), None);
        assert!(bench.desk.submit(ID, order, bench.moment()).is_none());
        answers.push(answer);
    }
    assert_eq!(answers.pop().unwrap().try_recv().unwrap(), Err(Error::Overloaded));
    bench.carry(ID, first);
    for mut answer in answers {
        assert_eq!(answer.try_recv().unwrap().unwrap().state, StateName::CollectAtSite);
    }
}

#[test]
fn a_vehicle_is_in_one_session_at_a_time() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let second = SessionId([3; 16]);
    assert_eq!(bench.open(open(second, "tok_ok")), Err(Error::VehicleTaken(ID)));
    bench.station(Command::Release, 10).unwrap();
    assert!(bench.open(open(second, "tok_ok")).is_ok());
}

#[test]
fn a_site_transaction_belongs_to_one_session() {
    let mut bench = paid();
    let second = SessionId([3; 16]);
    bench.open(open(second, "tok_ok")).unwrap();
    let (order, mut answer) = job(By::Station(STATION), Command::Complete(sale("T1")), None);
    bench.submit(second, order);
    assert_eq!(answer.try_recv().unwrap(), Err(Error::TransactionConflict));
}

#[test]
fn strangers_see_nothing_and_roles_keep_to_their_orders() {
    let mut bench = paid();
    assert_eq!(bench.desk.view(ID, By::Station(StationId(12))), Err(Error::NotFound));
    assert_eq!(bench.desk.view(ID, By::Phone(BindingId([9; 16]))), Err(Error::NotFound));
    assert_eq!(bench.phone(Command::Cleared, 20), Err(Error::NotPermitted));
    assert_eq!(bench.station(Command::Refund { amount: None }, 21), Err(Error::NotPermitted));
}

#[test]
fn a_reservation_with_a_hold_is_answered_when_the_psp_has_answered() {
    let reserve = || Command::Reserve { pump: PumpNumber(3), preset: Some(won(60_000)), hold: true, quote: None };
    for (outcome, expected) in [
        (Outcome::Declined, Err(Error::Declined)),
        (Outcome::Succeeded { amount: won(60_000), reference: "h".into() }, Ok(StateName::Reserved)),
    ] {
        let mut bench = Bench::new();
        bench.open(open(ID, "tok_ok")).unwrap();
        let (order, mut answer) = job(By::Station(STATION), reserve(), Some(request(10)));
        bench.submit(ID, order);
        assert!(answer.try_recv().is_err());
        bench.submit(ID, Job::event(Event::ChargeConcluded { ordinal: 1, outcome }));
        assert_eq!(answer.try_recv().unwrap().map(|view| view.state), expected);
        let again = bench.give(By::Station(STATION), reserve(), 10);
        assert_eq!(again.map(|view| view.state), expected, "a repetition has the same answer");
    }
}

#[test]
fn a_phone_that_shows_a_word_does_not_wait_for_an_open_hold() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let reserve = Command::Reserve { pump: PumpNumber(3), preset: Some(won(60_000)), hold: true, quote: None };
    bench.submit(ID, job(By::Station(STATION), reserve, Some(request(10))).0);
    let shown = bench.phone(Command::Notice { version: None }, 11).unwrap();
    assert_eq!((shown.state, shown.unseen), (StateName::Holding, None));
}

#[test]
fn a_deadline_that_passes_is_journalled_and_disarmed() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    bench.now = START.plus(SELECTED_MS);
    assert_eq!(bench.desk.due(bench.now, 10), [ID]);
    bench.submit(ID, Job::event(Event::DeadlinePassed));
    assert_eq!(bench.desk.view(ID, OPERATOR).unwrap().reason, Some(Why::TimedOut));
    assert_eq!(bench.desk.next_deadline(), None);
}

#[test]
fn a_session_that_was_forgotten_and_is_asked_for_again_is_answered_and_not_opened() {
    let mut bench = Bench::new();
    let first = bench.open(open(ID, "tok_ok")).unwrap();
    let mut desk = Desk::new(100, 1_000_000);
    for (request, answer) in [(open(ID, "tok_ok").request, Ok(first.state)), (request(99), Err(Error::KeyReused))] {
        let (reply, mut answered) = oneshot::channel();
        let asked = Open { request, ..open(ID, "tok_ok") };
        if desk.open(asked, reply, bench.moment()).is_some() {
            desk.begun_before(ID, &bench.journal).unwrap();
        }
        assert_eq!(answered.try_recv().unwrap().map(|view| view.state), answer);
    }
    assert!(!desk.is_opening(ID));
}

#[test]
fn a_forgotten_session_is_recalled_from_its_entries() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    bench.station(Command::Release, 10).unwrap();
    bench.desk.evict(START.plus(2_000_000));
    assert!(!bench.desk.knows(ID));
    bench.desk.recall(ID, &bench.journal).unwrap();
    assert_eq!(bench.station(Command::Release, 10).unwrap().state, StateName::Released);
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let bench = paid();
    for (_, entry) in &bench.journal {
        assert_eq!(Record::read(entry).unwrap().entry(ID), *entry);
    }
}

/// A journal of format 1, as the program wrote it then: a sale that was paid and cleared.
const FORMAT_1: [(u64, &str); 6] = [
    (
        1_700_000_000_000,
        "746f6b5f6f6bffff0000000000000000020202020202020202020202020202020b000000000000000700000000000000\
         01010101010101010101010101010101050000000000000031324133343536ff000000000000000000000000011398f6\
         2c6d1a457c51ba6a4b5f3dbd2f69fca93216218dc8997e416bd17d93ca00000080ffffff010000000100000000000000\
         020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202\
         020202020202020202020202020202020068e5cf8b010000000000000000000000000000000000000000000000000000\
         0000000000000000",
    ),
    (
        1_700_000_000_000,
        "010000000000000002000000000000000300000064696573656cffff30750000a0f019000000000038c7000000000000\
         4b525700000000005431ffffffffffff01000000000000000000000000000000010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\
         0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\
         0a000000000000000068e5cf8b0100000101010101010101010101010101010101010101010101010101010101010101\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        1_700_000_000_000,
        "010000000000000009010101010101010101010101010101010101010101010101010101010101010100000000000000\
         0000000000000000000000000000000000000000000000000000000000000000010b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\
         0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\
         0b000000000000000068e5cf8b0100000202020202020202020202020202020202020202020202020202020202020202\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        1_700_000_000_000,
        "01000000000000000c000000010000000000000000000000000000000000000000000000000000000000000000000000\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         00000000000000000068e5cf8b0100000303030303030303030303030303030303030303030303030303030303030303\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        1_700_000_000_000,
        "01000000000000000e00000001000000000000000000000038c70000000000004b525700000000007231ffffffffffff\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         00000000000000000068e5cf8b0100000404040404040404040404040404040404040404040404040404040404040404\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        1_700_000_000_000,
        "010000000000000006000000000000000000000000000000000000000000000000000000000000000000000000000000\
         0000000000000000000000000000000000000000000000000000000000000000010c0c0c0c0c0c0c0c0c0c0c0c0c0c0c\
         0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c\
         0c000000000000000068e5cf8b0100000505050505050505050505050505050505050505050505050505050505050505\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ),
];

#[test]
fn a_journal_of_format_1_is_read_with_nobody_known_to_have_given_the_orders() {
    let entry = |(at, payload): (u64, &str)| Entry {
        at: UnixMs(at),
        kind: Kind::Session,
        subject: ID.0.to_vec(),
        format: 1,
        payload: hex::decode(payload).unwrap(),
    };
    let mut desk = Desk::new(100, 1_000_000);
    let rows: Vec<(Seq, Entry)> = (1..).map(Seq).zip(FORMAT_1.map(entry)).collect();
    for (seq, entry) in &rows {
        desk.recover(*seq, entry).unwrap();
    }
    let view = desk.view(ID, OPERATOR).unwrap();
    assert_eq!((view.state, view.paid, view.seq), (StateName::Cleared, Some(won(51_000)), 6));
    let (evidence, keys) = Evidence::of(ID, &rows).unwrap();
    assert!(evidence.timeline.iter().all(|line| line.by == Who::Unknown));
    assert_eq!((evidence.heard, keys.len()), (None, 1));
}

#[test]
fn the_journal_says_who_gave_each_order_and_what_was_heard() {
    let mut bench = paid();
    let kim = By::Operator(OperatorName::parse("kim").unwrap());
    bench.give(kim, Command::Refund { amount: None }, 20).unwrap();
    let (evidence, _) = Evidence::of(ID, &bench.journal).unwrap();
    let by: Vec<&Who> = evidence.timeline.iter().map(|line| &line.by).collect();
    let (terminal, phone, operator) = (Who::Terminal(STATION), Who::Phone(BINDING), Who::Operator("kim".into()));
    assert_eq!(by, [&terminal, &terminal, &phone, &Who::Engine, &Who::Engine, &operator]);
    assert_eq!(evidence.timeline.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(evidence.heard, open(ID, "").heard);
}

#[test]
fn who_comes_back_is_told_of_the_sessions_that_ended_meanwhile() {
    let mut bench = Bench::new();
    let ids: Vec<SessionId> = (10..14).map(|id| SessionId([id; 16])).collect();
    for id in &ids {
        bench.open(open(*id, "tok_ok")).unwrap();
        bench.submit(*id, job(By::Station(STATION), Command::Release, None).0);
    }
    let told = |after: Option<u64>| -> Vec<SessionId> {
        bench.desk.told_phone(BINDING, after.map(Seq)).iter().map(|view| view.id).collect()
    };
    assert_eq!(told(None), [ids[3]], "the last one");
    let newest_first: Vec<SessionId> = ids.iter().rev().copied().collect();
    assert_eq!(told(Some(2)), newest_first);
    assert_eq!(told(Some(1_000)), [ids[3]], "a place that this journal does not have");
    assert!(bench.desk.told_station(STATION, None).is_empty());
}

#[test]
fn a_notice_of_an_older_version_leaves_a_later_word_unseen() {
    let mut bench = Bench::new();
    let opened = bench.open(open(ID, "tok_ok")).unwrap();
    let completed = bench.station(Command::Complete(sale("T1")), 10).unwrap();
    let unseen = |view: &SessionView| view.unseen.map(|word| word.notice);
    assert_eq!(unseen(&completed), Some(Notice::PleaseProve));
    let late = bench.phone(Command::Notice { version: Some(opened.version) }, 11).unwrap();
    assert_eq!((late.state, unseen(&late)), (StateName::Completed, Some(Notice::PleaseProve)));
    let shown = bench.phone(Command::Notice { version: Some(completed.version) }, 12).unwrap();
    assert_eq!((shown.state, unseen(&shown)), (StateName::AwaitingProof, None));
    assert!(bench.restarted().words().is_empty());
}

#[test]
fn a_reservation_for_a_grade_that_does_not_fit_is_refused_until_an_operator_allows_it() {
    let mut bench = Bench::new();
    let mut diesel = open(ID, "tok_ok");
    diesel.vehicle.fuel = Some("diesel".into());
    bench.open(diesel).unwrap();
    let quote = Some(Quote { grade: "E10".into(), unit_price_milli: 1_700_000 });
    let reserve = Command::Reserve { pump: PumpNumber(3), preset: None, hold: false, quote };
    assert_eq!(bench.station(reserve.clone(), 10), Err(Error::GradeMismatch));
    let allow = Command::AllowGrade { reason: "the tank was changed".into() };
    assert_eq!(bench.station(allow.clone(), 11), Err(Error::NotPermitted));
    bench.give(OPERATOR, allow, 12).unwrap();
    assert_eq!(bench.station(reserve, 13).unwrap().state, StateName::Reserved);
}

/// The whole stage in a data folder of its own.
struct Stage {
    sessions: Sessions,
    ledger: Ledger,
    registrations: Registrations,
}

fn default_section<T: serde::de::DeserializeOwned>(section: &str) -> T {
    let all: toml::Table = toml::from_str(include_str!("../default.toml")).unwrap();
    all[section].clone().try_into().unwrap()
}

async fn stage(folder: &std::path::Path) -> Stage {
    stage_with(folder, default_section("session")).await
}

async fn stage_with(folder: &std::path::Path, config: Config) -> Stage {
    let slot = SlotLength::DEFAULT;
    let registrations = Registrations::start(default_section("registration"), folder, slot).unwrap();
    let ledger = Ledger::open(&default_section::<ledger::Config>("ledger"), folder).unwrap();
    let arbiter = Arbiter::current();
    let payment: payment::Config = default_section("payment");
    let payments = Payments::start(&payment, folder, ledger.clone(), &arbiter).unwrap();
    let sessions = Sessions::start(&config, ledger.clone(), payments, registrations.clone(), &arbiter).await.unwrap();
    Stage { sessions, ledger, registrations }
}

impl Stage {
    /// One dongle with its proof key, phone and means; the vehicle as the station would give it.
    async fn vehicle(&self) -> Vehicle {
        let phone_key = hex::encode(phone().verifying_key().to_bytes());
        let csv = format!(
            "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means\n\
             7,fixed,{},{},12A3456,,{phone_key},tok_ok\n",
            "ab".repeat(16),
            hex::encode(dongle().bytes()),
        );
        let report = self.registrations.import_devices(std::io::Cursor::new(csv.into_bytes()), |_| {}).await.unwrap();
        assert_eq!(report.accepted, 1, "{report:?}");
        let known = self.registrations.find(DeviceId(7)).await.unwrap().unwrap();
        Vehicle { binding: known.binding, epoch: known.epoch, means: known.means.clone(), ..vehicle("") }
    }

    async fn stop(self) {
        self.ledger.close().await.unwrap();
        self.registrations.stop();
    }

    async fn order(&self, by: By, command: Command, key: u8) -> Result<SessionView, Error> {
        self.sessions.apply(Order { session: ID, by, request: Some(request(key)), command }).await
    }
}

#[actix::test]
async fn a_fuelling_is_paid_once_through_the_whole_stage_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = stage(folder.path()).await;
    let vehicle = first.vehicle().await;
    let phone = By::Phone(vehicle.binding);
    let opening = Open { vehicle: vehicle.clone(), ..open(ID, "") };
    first.sessions.open(opening.clone()).await.unwrap();
    first.order(By::Station(STATION), Command::Complete(sale("T1")), 10).await.unwrap();
    first.stop().await;

    let second = stage(folder.path()).await;
    let view = second.sessions.view(ID, phone).await.unwrap();
    let (_, mut changes) = second.sessions.watch_phone(vehicle.binding, None).await.unwrap();
    second.order(phone, prove(&view), 11).await.unwrap();
    while changes.recv().await.unwrap().state != StateName::Paid {}
    assert_eq!(second.sessions.receipt(ID, phone).await.unwrap().amount, won(51_000));
    second.stop().await;

    let third = stage(folder.path()).await;
    assert_eq!(third.sessions.open(opening).await.unwrap().state, StateName::Paid);
    assert_eq!(third.sessions.summary().await.unwrap().paid, 1);
    let simulator = Simulator::open(folder.path(), std::time::Duration::ZERO).unwrap();
    let charges = simulator.charges().unwrap();
    assert_eq!((charges.len(), charges[0].net, charges[0].net_minor), (1, 1, 51_000));
    third.stop().await;
}

#[actix::test]
async fn a_binding_that_is_suspended_while_the_proof_is_out_ends_at_the_counter() {
    let folder = tempfile::tempdir().unwrap();
    let stage = stage(folder.path()).await;
    let vehicle = stage.vehicle().await;
    let phone = By::Phone(vehicle.binding);
    stage.sessions.open(Open { vehicle: vehicle.clone(), ..open(ID, "") }).await.unwrap();
    let view = stage.order(By::Station(STATION), Command::Complete(sale("T1")), 10).await.unwrap();
    let mandate = Mandate::operator(OperatorName::FOLDER, "a test").unwrap();
    stage.registrations.amend(vehicle.binding, Amendment::suspend(), mandate, None).await.unwrap();
    let answer = stage.order(phone, prove(&view), 11).await;
    let view = stage.sessions.view(ID, phone).await.unwrap();
    assert_eq!((view.state, view.reason), (StateName::CollectAtSite, Some(Why::Suspended)), "{answer:?}");
    stage.stop().await;
}

#[actix::test]
async fn prices_are_kept_over_a_restart_and_a_sale_at_another_price_is_disputed() {
    let folder = tempfile::tempdir().unwrap();
    let first = stage(folder.path()).await;
    let vehicle = first.vehicle().await;
    let grades = vec![GradePrice { grade: "diesel".into(), unit_price_milli: 1_650_000 }];
    let prices = Prices { currency: "KRW".parse().unwrap(), grades };
    first.sessions.set_prices(STATION, prices, request(1)).await.unwrap();
    first.stop().await;
    let second = stage(folder.path()).await;
    second.sessions.open(Open { vehicle, ..open(ID, "") }).await.unwrap();
    let quote = Some(Quote { grade: "diesel".into(), unit_price_milli: 1_700_000 });
    let reserve = Command::Reserve { pump: PumpNumber(3), preset: None, hold: false, quote };
    assert_eq!(second.order(By::Station(STATION), reserve, 10).await, Err(Error::PriceChanged));
    let view = second.order(By::Station(STATION), Command::Complete(sale("T1")), 11).await.unwrap();
    assert_eq!((view.state, view.reason), (StateName::Disputed, Some(Why::PriceChanged)));
    second.stop().await;
}
