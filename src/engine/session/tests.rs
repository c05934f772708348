//! The state machine against its table, and against random histories.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::engine::{
    charge::{Operation, Outcome},
    id::{BindingId, DeviceId, SessionId, StationId},
};

const START: UnixMs = UnixMs(1_700_000_000_000);
const PUMP: PumpNumber = PumpNumber(3);

fn won(minor: i64) -> Money {
    Money { minor, currency: "KRW".parse().unwrap() }
}

fn vehicle() -> Vehicle {
    Vehicle {
        device: DeviceId(7),
        binding: BindingId([1; 16]),
        epoch: 5,
        plate: "12A3456".into(),
        fuel: Some("diesel".into()),
        phone: Some([9; 32]),
        means: vec!["tok_a".into(), "tok_b".into(), "tok_c".into(), "tok_d".into()],
        provable: true,
    }
}

fn opened(vehicle: Vehicle) -> Session {
    let opening = Opening { session: SessionId([2; 16]), station: StationId(11), pump: None, vehicle };
    Session::open(opening, START).0
}

/// 30 litres at 1,700 won.
fn sale() -> Completion {
    Completion {
        pump: PUMP,
        grade: "diesel".into(),
        volume_ml: 30_000,
        unit_price_milli: 1_700_000,
        amount: won(51_000),
        transaction: "T1".into(),
    }
}

fn moment(after_ms: u64) -> Moment {
    let mut nonce = [0; 32];
    nonce[..8].copy_from_slice(&after_ms.to_be_bytes());
    Moment { at: START.plus(after_ms), nonce }
}

fn reserve(hold: bool) -> Event {
    Event::ReservationAsked { pump: PUMP, preset: Some(won(60_000)), hold }
}

fn delivered(completion: Completion) -> Event {
    Event::FuelDelivered { completion, price_agreed: true }
}

fn corrected(completion: Completion) -> Event {
    Event::Corrected { completion, price_agreed: true }
}

fn succeeded(ordinal: u32, minor: i64) -> Event {
    Event::ChargeConcluded { ordinal, outcome: Outcome::Succeeded { amount: won(minor), reference: "r".into() } }
}

fn declined(ordinal: u32) -> Event {
    Event::ChargeConcluded { ordinal, outcome: Outcome::Declined }
}

fn suspended(epoch: u64) -> Event {
    let Vehicle { phone, means, provable, .. } = vehicle();
    Event::BindingChanged(Standing { active: false, epoch, phone, means, provable })
}

fn rebound(epoch: u64) -> Event {
    let Vehicle { phone, means, provable, .. } = vehicle();
    Event::BindingChanged(Standing { active: true, epoch, phone, means, provable })
}

/// The nonce that `moment` brings is the time; a proof names the challenge that is open.
fn prove(session: &Session) -> Event {
    Event::ProofVerified { nonce: session.state().challenge().map_or([0; 32], |challenge| challenge.nonce) }
}

/// A session after `events`, one every millisecond from 1.
fn after(events: impl IntoIterator<Item = Event>) -> Session {
    let mut session = opened(vehicle());
    for (at, event) in (1..).zip(events) {
        let event = match event {
            Event::ProofVerified { .. } => prove(&session),
            other => other,
        };
        session.on_event(event, moment(at)).unwrap();
    }
    session
}

const PROOF: Event = Event::ProofVerified { nonce: [0; 32] };

fn in_state(name: StateName) -> Session {
    let proven = || vec![delivered(sale()), PROOF];
    let then = |mut events: Vec<Event>, more: Vec<Event>| {
        events.extend(more);
        after(events)
    };
    let paid = || vec![Event::ChargeSent { ordinal: 1 }, succeeded(1, 51_000)];
    match name {
        StateName::Selected => after([]),
        StateName::Holding => after([reserve(true)]),
        StateName::Reserved => after([reserve(false)]),
        StateName::Fuelling => after([reserve(false), Event::FuellingStarted { pump: None }]),
        StateName::Completed => after([delivered(sale())]),
        StateName::AwaitingProof => after([delivered(sale()), Event::PhoneNoticed]),
        StateName::Proven => after(proven()),
        StateName::Paying => then(proven(), vec![Event::ChargeSent { ordinal: 1 }]),
        StateName::InDoubt => then(proven(), vec![Event::ChargeInDoubt { ordinal: 1 }]),
        StateName::Paid => then(proven(), paid()),
        StateName::Cleared => then(proven(), [paid(), vec![Event::SiteCleared]].concat()),
        StateName::Settled => then(proven(), [paid(), vec![Event::SiteCleared, Event::SettledInBatch]].concat()),
        StateName::CollectAtSite => after([Event::ReleaseAsked, delivered(sale())]),
        StateName::Disputed => after([delivered(Completion { grade: "E10".into(), ..sale() })]),
        StateName::ProofFailed => {
            let mut session = after([delivered(sale())]);
            for at in 2..5 {
                let nonce = session.state().challenge().unwrap().nonce;
                session.on_event(Event::ProofRefused { nonce }, moment(at)).unwrap();
            }
            session
        }
        StateName::Released => after([Event::ReleaseAsked]),
        StateName::Rejected => after([Event::DriverRejected]),
        StateName::PaidElsewhere => after([delivered(sale()), Event::PaidAtCounter]),
        StateName::BackOffice => after([delivered(sale()), Event::HandedOver]),
    }
}

/// Every event once, each in the form that has the best chance to be taken.
fn events(session: &Session) -> Vec<(&'static str, Event)> {
    let nonce = session.state().challenge().map_or([0; 32], |challenge| challenge.nonce);
    let ordinal = session.attempts().last().map_or(1, |attempt| attempt.instruction.ordinal);
    let other = Completion { transaction: "T2".into(), ..sale() };
    let nothing = Completion { volume_ml: 0, amount: won(0), transaction: "T3".into(), ..sale() };
    vec![
        ("reserve", reserve(false)),
        ("reserve with hold", reserve(true)),
        ("fuelling", Event::FuellingStarted { pump: None }),
        ("completion", delivered(other.clone())),
        ("the same completion", delivered(sale())),
        ("nothing sold", delivered(nothing)),
        ("correction", corrected(Completion { volume_ml: 29_000, amount: won(49_300), ..sale() })),
        ("release", Event::ReleaseAsked),
        ("paid at counter", Event::PaidAtCounter),
        ("cleared", Event::SiteCleared),
        ("noticed", Event::PhoneNoticed),
        ("not me", Event::DriverRejected),
        ("proof", Event::ProofVerified { nonce }),
        ("wrong proof", Event::ProofRefused { nonce }),
        ("suspended", suspended(6)),
        ("binding changed", rebound(6)),
        ("charge sent", Event::ChargeSent { ordinal }),
        ("no clear answer", Event::ChargeInDoubt { ordinal }),
        ("approved", succeeded(ordinal, if session.held().is_none() { 51_000 } else { 60_000 })),
        ("declined", declined(ordinal)),
        ("refund", Event::RefundOrdered { amount: None }),
        ("settled", Event::SettledInBatch),
        ("handed over", Event::HandedOver),
        ("deadline", Event::DeadlinePassed),
        ("grade allowed", Event::GradeAllowed { reason: "tank was changed".into() }),
    ]
}

#[test]
fn every_state_against_every_event() {
    let mut table = String::new();
    for name in StateName::ALL {
        let session = in_state(name);
        assert_eq!(session.name(), name);
        writeln!(table, "{name:?}").unwrap();
        for (word, event) in events(&session) {
            let mut next = session.clone();
            let at = session.next_deadline().filter(|_| event == Event::DeadlinePassed).unwrap_or(START.plus(10));
            let answer = match next.on_event(event, Moment { at, nonce: [0xee; 32] }) {
                Ok(effects) => format!("{:13} {}", format!("{:?}", next.name()), words(&effects)),
                Err(refusal) => format!("- {refusal}"),
            };
            writeln!(table, "  {word:20} {}", answer.trim_end()).unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

fn words(effects: &Effects) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Instruct(instruction) => format!("{:?}", instruction.operation),
        Effect::Ask(instruction) => format!("ask {:?}", instruction.operation),
        Effect::NotifyPhone(notice) => format!("phone: {notice:?}"),
        Effect::NotifyStation(notice) => format!("station: {notice:?}"),
    };
    effects.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn operations(effects: &Effects) -> Vec<Operation> {
    let operation = |effect: &Effect| match effect {
        Effect::Instruct(instruction) => Some(instruction.operation),
        _ => None,
    };
    effects.iter().filter_map(operation).collect()
}

#[test]
fn a_declined_means_is_followed_by_the_next_two_and_then_by_the_counter() {
    let mut session = in_state(StateName::Paying);
    for ordinal in 1..=2 {
        let effects = session.on_event(declined(ordinal), moment(10)).unwrap();
        assert_eq!(operations(&effects), [Operation::Charge]);
    }
    session.on_event(declined(3), moment(10)).unwrap();
    assert_eq!(session.name(), StateName::CollectAtSite);
    let means: Vec<_> = session.attempts().iter().map(|attempt| attempt.instruction.means.as_str()).collect();
    assert_eq!(means, ["tok_a", "tok_b", "tok_c"]);
}

#[test]
fn a_sale_within_the_hold_is_captured_from_it() {
    let mut session = after([reserve(true), succeeded(1, 60_000), Event::FuellingStarted { pump: None }]);
    session.on_event(delivered(sale()), moment(10)).unwrap();
    let effects = session.on_event(prove(&session), moment(11)).unwrap();
    assert_eq!(operations(&effects), [Operation::Capture]);
    assert_eq!(session.held(), None);
}

#[test]
fn a_hold_approved_for_less_lowers_the_preset_and_a_sale_over_it_is_disputed_and_voids_it() {
    let mut session = after([reserve(true), succeeded(1, 50_000)]);
    assert_eq!(session.preset(), Some(won(50_000)));
    let effects = session.on_event(delivered(sale()), moment(10)).unwrap();
    assert_eq!(session.state().why(), Some(Why::OverHold));
    assert_eq!(operations(&effects), [Operation::Void]);
}

#[test]
fn a_hold_that_is_approved_after_its_session_was_released_is_voided() {
    let mut session = after([reserve(true), Event::ReleaseAsked]);
    let effects = session.on_event(succeeded(1, 60_000), moment(10)).unwrap();
    assert_eq!(operations(&effects), [Operation::Void]);
}

#[test]
fn a_charge_that_succeeds_after_the_counter_took_the_money_is_refunded_once() {
    let mut session = in_state(StateName::InDoubt);
    let effects = session.on_event(Event::PaidAtCounter, moment(10)).unwrap();
    assert_eq!(words(&effects), "ask Charge");
    let effects = session.on_event(succeeded(1, 51_000), moment(11)).unwrap();
    assert_eq!(operations(&effects), [Operation::Refund]);
    assert_eq!(session.on_event(succeeded(1, 51_000), moment(12)), Err(Refusal::Already));
}

#[test]
fn the_same_transaction_with_another_body_is_a_conflict() {
    let mut session = in_state(StateName::Completed);
    let other = Completion { volume_ml: 31_000, amount: won(52_700), ..sale() };
    assert_eq!(session.on_event(delivered(other), moment(10)), Err(Refusal::TransactionConflict));
    assert_eq!(session.on_event(delivered(sale()), moment(10)), Err(Refusal::Already));
}

#[test]
fn an_amount_may_be_off_by_one_minor_unit_and_no_more() {
    let off = |by: i64| delivered(Completion { amount: won(51_000 + by), ..sale() });
    assert!(after([]).on_event(off(1), moment(10)).is_ok());
    assert_eq!(after([]).on_event(off(-2), moment(10)), Err(Refusal::AmountMismatch { expected: 51_000 }));
}

#[test]
fn a_binding_that_changes_voids_the_challenge_without_costing_a_try() {
    let mut session = in_state(StateName::AwaitingProof);
    let old = *session.state().challenge().unwrap();
    session.on_event(Event::ProofRefused { nonce: old.nonce }, moment(10)).unwrap();
    session.on_event(rebound(6), moment(11)).unwrap();
    let new = *session.state().challenge().unwrap();
    assert_eq!((new.epoch, new.tries_left), (6, 2));
    assert_eq!(session.on_event(Event::ProofVerified { nonce: old.nonce }, moment(12)), Err(Refusal::WrongState));
}

#[test]
fn a_vehicle_that_cannot_prove_and_a_suspended_binding_end_at_the_counter() {
    for unprovable in [
        Vehicle { provable: false, ..vehicle() },
        Vehicle { phone: None, ..vehicle() },
        Vehicle { means: Vec::new(), ..vehicle() },
    ] {
        let mut session = opened(unprovable);
        session.on_event(delivered(sale()), moment(1)).unwrap();
        assert_eq!(session.state().why(), Some(Why::Unprovable));
    }
    let session = after([suspended(6), delivered(sale())]);
    assert_eq!((session.name(), session.state().challenge()), (StateName::CollectAtSite, None));
}

#[test]
fn a_vehicle_that_was_let_go_is_not_taken_back_by_a_late_proof() {
    let mut session = in_state(StateName::CollectAtSite);
    assert!(!session.pins_vehicle());
    let proof = prove(&session);
    session.on_event(proof, moment(2_000_000)).unwrap();
    assert_eq!((session.name(), session.pins_vehicle()), (StateName::Proven, false));
}

#[test]
fn a_not_me_while_fuelling_is_kept_until_the_completion() {
    let session =
        after([reserve(false), Event::FuellingStarted { pump: None }, Event::DriverRejected, delivered(sale())]);
    assert_eq!((session.state().why(), session.state().challenge()), (Some(Why::NotMe), None));
}

fn wrong_grade() -> Completion {
    Completion { grade: "E10".into(), ..sale() }
}

const ALLOWED: Event = Event::GradeAllowed { reason: String::new() };

#[test]
fn a_grade_that_an_operator_allows_is_sold_whether_he_says_so_before_or_after_it_flowed() {
    assert!(!after([]).takes_grade("E10"));
    let mut before = after([ALLOWED, delivered(wrong_grade())]);
    assert_eq!(before.name(), StateName::Completed);
    assert_eq!(before.on_event(ALLOWED, moment(10)), Err(Refusal::Already));
    let mut after = after([delivered(wrong_grade())]);
    assert_eq!(after.state().why(), Some(Why::WrongGrade));
    let effects = after.on_event(ALLOWED, moment(10)).unwrap();
    assert_eq!((after.name(), words(&effects)), (StateName::AwaitingProof, "phone: PleaseProve".to_owned()));
    assert_eq!(after.state().challenge().unwrap().nonce, moment(10).nonce);
    after.on_event(prove(&after), moment(11)).unwrap();
    assert_eq!(after.name(), StateName::Proven);
}

#[test]
fn an_allowed_grade_excuses_nothing_else_that_is_wrong_with_the_sale() {
    let other_pump = Completion { pump: PumpNumber(4), ..wrong_grade() };
    let mut session = after([reserve(false), Event::FuellingStarted { pump: None }, delivered(other_pump), ALLOWED]);
    assert_eq!(session.state().why(), Some(Why::WrongPump));
    let right = Completion { transaction: "T2".into(), ..wrong_grade() };
    session.on_event(corrected(right), moment(10)).unwrap();
    assert_eq!(session.name(), StateName::AwaitingProof);
}

/// The words to the driver that are open after each event.
fn unseen(events: impl IntoIterator<Item = Event>) -> Vec<Option<Notice>> {
    let mut session = opened(vehicle());
    let mut words = vec![session.unseen().map(|word| word.notice)];
    for (at, event) in (1..).zip(events) {
        let event = if event == PROOF { prove(&session) } else { event };
        session.on_event(event, moment(at)).unwrap();
        words.push(session.unseen().map(|word| word.notice));
    }
    words
}

#[test]
fn a_word_is_open_until_the_phone_shows_it_or_acts_or_it_is_news_no_more() {
    use Notice as N;
    let seen = Event::PhoneNoticed;
    let paid = [delivered(sale()), PROOF, Event::ChargeSent { ordinal: 1 }, succeeded(1, 51_000)];
    let open = unseen([vec![seen.clone()], paid.to_vec(), vec![Event::SiteCleared, seen]].concat());
    let paid = Some(N::Paid);
    assert_eq!(open, [Some(N::Selected), None, Some(N::PleaseProve), None, None, paid, paid, None]);
    assert_eq!(unseen([Event::ReleaseAsked]), [Some(N::Selected), None], "nobody need know of it any more");
    let counter = unseen([delivered(sale()), suspended(6), Event::PaidAtCounter]);
    assert_eq!(counter, [Some(N::Selected), Some(N::PleaseProve), Some(N::PayAtCounter), None]);
}

#[test]
fn a_word_keeps_the_version_that_it_came_with() {
    let mut session = after([delivered(sale())]);
    let word = session.unseen().unwrap();
    session.on_deadline(Moment { at: session.next_deadline().unwrap(), nonce: [1; 32] }).unwrap();
    assert_eq!((session.unseen(), session.version()), (Some(word), word.version + 1));
}

/// What a random history is made of; `pick` chooses ordinals and forms.
fn random_event(session: &Session, kind: usize, pick: u8) -> Event {
    let mut all = events(session);
    let count = session.attempts().len() as u32;
    let ordinal = if count == 0 { 1 } else { 1 + u32::from(pick) % count };
    let amount =
        session.attempts().get(ordinal as usize - 1).map_or(51_000, |attempt| attempt.instruction.amount.minor);
    all.push(("any approved", succeeded(ordinal, amount)));
    all.push(("any declined", declined(ordinal)));
    all.push(("any failed", Event::ChargeConcluded { ordinal, outcome: Outcome::Failed }));
    all.push(("any sent", Event::ChargeSent { ordinal }));
    all.push(("later epoch", rebound(session.vehicle().epoch + 1)));
    all.push(("wrong grade", delivered(Completion { grade: "E10".into(), ..sale() })));
    let kind = kind % all.len();
    all.swap_remove(kind).1
}

fn check_invariants(session: &Session) {
    let taking = session.pending().filter(|instruction| instruction.operation.takes_money()).count();
    assert!(taking <= 1, "two charges in flight");
    if let Some(payment) = session.state().payment() {
        let proof = session.state().proof().expect("paid implies a proof");
        assert_eq!((proof.amount, payment.amount), (session.state().sale().unwrap().amount, proof.amount));
    }
    if !session.name().expects_payment() {
        assert_eq!(session.held(), None, "a hold outlives its use");
    }
    let collects = matches!(session.name(), StateName::PaidElsewhere | StateName::CollectAtSite);
    let left: i64 = session.attempts().iter().map(|attempt| signed(attempt, collects)).sum();
    assert!(!collects || left <= 0, "money is kept that the counter takes too");
}

/// What an attempt leaves with us, refunds under way counted as done.
fn signed(attempt: &Attempt, collects: bool) -> i64 {
    let amount = attempt.instruction.amount.minor;
    match (attempt.instruction.operation, &attempt.status) {
        (Operation::Charge | Operation::Capture, AttemptStatus::Succeeded { .. }) => amount,
        (Operation::Refund, AttemptStatus::Pending | AttemptStatus::Succeeded { .. }) if collects => -amount,
        _ => 0,
    }
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant_and_a_replay_gives_the_same_state(
        steps in prop::collection::vec((any::<usize>(), any::<u8>(), 0_u64..400_000), 1..60)
    ) {
        let mut session = opened(vehicle());
        let mut journal = Vec::new();
        let mut clock = 0;
        for (kind, pick, pause) in steps {
            clock += if pick < 32 { pause } else { pause / 1_000 };
            let event = random_event(&session, kind, pick);
            let before = session.clone();
            if session.on_event(event.clone(), moment(clock)).is_ok() {
                journal.push((event, moment(clock)));
            } else {
                prop_assert_eq!(&before, &session, "a refusal changed the session");
            }
            check_invariants(&session);
        }
        let mut replayed = opened(vehicle());
        for (event, moment) in journal {
            prop_assert!(replayed.on_event(event, moment).is_ok());
        }
        prop_assert_eq!(&replayed, &session);
        for _ in 0..16 {
            let Some(deadline) = session.next_deadline() else { break };
            let moment = Moment { at: deadline, nonce: [1; 32] };
            prop_assert!(session.on_deadline(moment).is_ok());
            check_invariants(&session);
        }
        prop_assert!(session.name().is_end(), "deadlines lead to {:?}", session.name());
    }
}
