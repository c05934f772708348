//! Charges through the actor, the journal and the simulator's own books.

use std::path::Path;

use tokio::sync::mpsc;

use super::{cashier::Record, *};
use crate::{
    engine::{charge::Operation, money::Money},
    ledger::{Entry, Kind},
};

struct Collector(mpsc::UnboundedSender<Report>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Report> for Collector {
    type Result = ();

    fn handle(&mut self, report: Report, _: &mut Context<Self>) {
        let _ = self.0.send(report);
    }
}

fn config() -> Config {
    Config {
        answer_ms: 100,
        ask_ms_min: 20,
        ask_ms_max: 200,
        arrival_ms: 50,
        open_max: 10,
        mailbox_max: 16,
        places_max: 4,
        breaker_failures: 16,
        breaker_ms: 1_000,
        reconcile_hour: 24,
        gateway: Choice::Simulator,
        stripe_url: String::new(),
        stripe_secret: None,
        stripe_webhook_secret: None,
        simulator_latency_ms: 0,
        simulator_seed: 0,
        simulator_fault_permille: 0,
    }
}

fn ledger(folder: &Path) -> Ledger {
    let config = crate::ledger::Config {
        queue_max: 16,
        commit_max: 16,
        checkpoint_entries: 100,
        transaction_days: 3,
        session_days: 1826,
        location_days: 30,
    };
    Ledger::open(&config, folder).unwrap()
}

fn charge(means: &str) -> Instruction {
    Instruction {
        session: SessionId([3; 16]),
        ordinal: 1,
        operation: Operation::Charge,
        means: means.into(),
        amount: Money { minor: 51_000, currency: "KRW".parse().unwrap() },
        of: None,
    }
}

struct Bench {
    payments: Payments,
    reports: mpsc::UnboundedReceiver<Report>,
    ledger: Ledger,
}

async fn start(folder: &Path, resumed: Vec<(Instruction, bool)>) -> Bench {
    start_with(&config(), folder, resumed).await
}

async fn start_with(config: &Config, folder: &Path, resumed: Vec<(Instruction, bool)>) -> Bench {
    let ledger = ledger(folder);
    let payments = Payments::start(config, folder, ledger.clone(), &Arbiter::current()).unwrap();
    let (sender, reports) = mpsc::unbounded_channel();
    payments.attach(Collector(sender).start().recipient()).await.unwrap();
    for (instruction, wanted) in resumed {
        let taken = if wanted { payments.instruct(instruction).await } else { payments.ask(instruction).await };
        taken.unwrap();
    }
    Bench { payments, reports, ledger }
}

impl Bench {
    async fn next(&mut self) -> News {
        self.reports.recv().await.unwrap().news
    }
}

fn net_charges(folder: &Path) -> u32 {
    let simulator = Simulator::open(folder, Duration::ZERO).unwrap();
    simulator.charges().unwrap().iter().map(|session| session.net).sum()
}

fn has_succeeded(news: &News) -> bool {
    matches!(news, News::Concluded(Outcome::Succeeded { amount, .. }) if amount.minor == 51_000)
}

#[actix::test]
async fn a_charge_given_twice_is_made_once_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = start(folder.path(), Vec::new()).await;
    bench.payments.instruct(charge("tok_ok")).await.unwrap();
    bench.payments.instruct(charge("tok_ok")).await.unwrap();
    assert!(has_succeeded(&bench.next().await));
    assert_eq!(net_charges(folder.path()), 1);
}

#[actix::test]
async fn a_lost_answer_is_in_doubt_until_it_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = start(folder.path(), Vec::new()).await;
    bench.payments.instruct(charge("tok_lost")).await.unwrap();
    assert_eq!(bench.next().await, News::InDoubt);
    assert!(has_succeeded(&bench.next().await));
    assert_eq!(net_charges(folder.path()), 1);
}

#[actix::test]
async fn a_charge_that_never_arrived_fails_after_it_was_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = start(folder.path(), Vec::new()).await;
    bench.payments.instruct(charge("tok_timeout")).await.unwrap();
    assert_eq!(bench.next().await, News::InDoubt);
    assert_eq!(bench.next().await, News::Concluded(Outcome::Failed));
}

/// What a process leaves that was killed between the intent and the first byte.
async fn leave_an_intent(folder: &Path, means: &str) {
    let ledger = ledger(folder);
    let long_ago = telemetry::now().minus(60_000);
    let entry = Record::Intended(charge(means)).entry(charge(means).key(), long_ago);
    ledger.append(vec![entry]).await.unwrap();
    ledger.close().await.unwrap();
}

#[actix::test]
async fn after_a_restart_a_wanted_intent_is_looked_up_and_then_charged_once() {
    let folder = tempfile::tempdir().unwrap();
    leave_an_intent(folder.path(), "tok_ok").await;
    let mut bench = start(folder.path(), vec![(charge("tok_ok"), true)]).await;
    assert!(has_succeeded(&bench.next().await));
    assert_eq!(net_charges(folder.path()), 1);
}

#[actix::test]
async fn after_a_restart_an_intent_that_nobody_wants_is_only_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    leave_an_intent(folder.path(), "tok_ok").await;
    let mut bench = start(folder.path(), vec![(charge("tok_ok"), false)]).await;
    assert_eq!(bench.next().await, News::Concluded(Outcome::Failed));
    assert_eq!(net_charges(folder.path()), 0);
}

#[actix::test]
async fn a_concluded_charge_is_told_again_after_a_restart_and_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = start(folder.path(), Vec::new()).await;
    bench.payments.instruct(charge("tok_ok")).await.unwrap();
    assert!(has_succeeded(&bench.next().await));
    bench.ledger.close().await.unwrap();
    let mut again = start(folder.path(), vec![(charge("tok_ok"), true)]).await;
    assert!(has_succeeded(&again.next().await));
    assert_eq!(net_charges(folder.path()), 1);
}

#[actix::test]
async fn faults_of_every_kind_end_in_one_charge_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Config { simulator_fault_permille: 700, simulator_seed: 3, arrival_ms: 1_500, ..config() };
    let mut bench = start_with(&faulty, folder.path(), Vec::new()).await;
    let charges = (1..=8).map(|ordinal| Instruction { ordinal, ..charge("tok_ok") });
    for charge in charges {
        bench.payments.instruct(charge).await.unwrap();
    }
    let (mut succeeded, mut concluded) = (0, 0);
    while concluded < 8 {
        let news = bench.next().await;
        concluded += u32::from(matches!(news, News::Concluded(_)));
        succeeded += u32::from(has_succeeded(&news));
    }
    assert!(succeeded > 0);
    assert_eq!(net_charges(folder.path()), succeeded);
}

#[test]
fn what_format_1_wrote_still_reads() {
    let charge = charge("tok_ok");
    let intended = "0000000000000000030303030303030303030303030303030100000003000000746f6b5f6f6bffff38c7000000000000\
                    4b5257000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    let succeeded = "0100000000000000000000000000000038c70000000000004b5257000000000073696d2d31ffffff0000000000000000\
                    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    let entry = |format, hexadecimal: &str| {
        let payload = hex::decode(hexadecimal).unwrap();
        Entry { at: telemetry::now(), kind: Kind::Charge, subject: vec![7; 32], format, payload }
    };
    let read = |hexadecimal: &str| Record::read(&entry(1, hexadecimal)).unwrap().1;
    let outcome = Outcome::Succeeded { amount: charge.amount, reference: "sim-1".into() };
    assert_eq!(read(intended), Record::Intended(charge));
    assert_eq!(read(succeeded), Record::Concluded(outcome));
    assert!(matches!(Record::read(&entry(3, intended)), Err(Unreadable::Format(3))));
}

#[actix::test]
async fn nothing_is_sent_when_the_intent_cannot_be_journalled() {
    let folder = tempfile::tempdir().unwrap();
    let bench = start(folder.path(), Vec::new()).await;
    bench.ledger.close().await.unwrap();
    assert_eq!(bench.payments.instruct(charge("tok_ok")).await, Err(Error::Ledger(LedgerError::Closed)));
    assert_eq!(net_charges(folder.path()), 0);
}
