//! What the ledger keeps for the sessions, for how long, and what is left when it goes.

use super::*;
use crate::{
    engine::time::DAY_MS,
    ledger::{Journal, Kind, Rule, Seq},
    session::audit::Audit,
    telemetry::now,
};

const SECOND: SessionId = SessionId([3; 16]);

#[test]
fn a_transaction_that_the_ledger_knows_of_another_session_is_refused_and_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.open(open(ID, "tok_ok")).unwrap();
    let (order, mut answer) = job(By::Station(STATION), Command::Complete(sale("T1")), None);
    assert!(bench.desk.submit(ID, order, bench.moment()).is_some());
    let (waiting, mut later) = job(By::Station(STATION), Command::Release, None);
    assert!(bench.desk.submit(ID, waiting, bench.moment()).is_none());
    let claim = bench.desk.claim(ID).unwrap();
    assert_eq!((claim.station, claim.transaction.as_str(), claim.session), (STATION, "T1", ID));
    let moment = bench.moment();
    let done = bench.desk.refused(ID, moment);
    assert_eq!(answer.try_recv().unwrap(), Err(Error::TransactionConflict));
    assert_eq!(bench.desk.view(ID, OPERATOR).unwrap().state, StateName::Selected);
    assert_eq!(bench.desk.claim(ID), None, "a release claims nothing");
    bench.carry(ID, done.next);
    assert_eq!(later.try_recv().unwrap().unwrap().state, StateName::Released);
    bench.open(open(SECOND, "tok_ok")).unwrap();
    let (order, mut answer) = job(By::Station(STATION), Command::Complete(sale("T1")), None);
    bench.submit(SECOND, order);
    assert_eq!(answer.try_recv().unwrap().unwrap().state, StateName::Completed);
}

/// A stage whose memory keeps no session that is at an end over a restart.
async fn forgetful(folder: &std::path::Path) -> Stage {
    stage_with(folder, Config { ended_max: 0, ..default_section("session") }).await
}

impl Stage {
    async fn sell(&self, session: SessionId, key: u8) -> Result<SessionView, Error> {
        let command = Command::Complete(sale("T1"));
        let by = By::Station(STATION);
        self.sessions.apply(Order { session, by, request: Some(request(key)), command }).await
    }
}

/// A sale under T1 that was paid at the counter, in a folder that nobody has open.
async fn folder_with_a_sale() -> (tempfile::TempDir, Vehicle) {
    let folder = tempfile::tempdir().unwrap();
    let first = forgetful(folder.path()).await;
    let vehicle = first.vehicle().await;
    first.sessions.open(Open { vehicle: vehicle.clone(), ..open(ID, "") }).await.unwrap();
    first.sell(ID, 10).await.unwrap();
    first.order(By::Station(STATION), Command::PaidAtSite, 11).await.unwrap();
    first.stop().await;
    (folder, vehicle)
}

fn tamper(folder: &std::path::Path, statements: &str) {
    rusqlite::Connection::open(Ledger::file(folder)).unwrap().execute_batch(statements).unwrap();
}

#[actix::test]
async fn a_site_transaction_is_refused_to_another_session_long_after_the_first_was_forgotten() {
    let (folder, vehicle) = folder_with_a_sale().await;
    let second = forgetful(folder.path()).await;
    second.sessions.open(Open { vehicle, ..open(SECOND, "") }).await.unwrap();
    assert_eq!(second.sell(SECOND, 20).await, Err(Error::TransactionConflict));
    let replayed = second.sell(ID, 10).await.unwrap();
    assert_eq!(replayed.state, StateName::PaidElsewhere, "the one whose it is may send it again");
    second.stop().await;

    tamper(folder.path(), &format!("UPDATE claims SET at_ms = at_ms - {}", 4 * DAY_MS));
    let third = forgetful(folder.path()).await;
    let taken = third.sell(SECOND, 21).await.unwrap();
    assert_eq!(taken.completion.unwrap().transaction, "T1");
    third.stop().await;
}

#[actix::test]
async fn the_claims_of_a_journal_that_has_none_are_read_from_its_entries() {
    let (folder, vehicle) = folder_with_a_sale().await;
    tamper(folder.path(), "DELETE FROM claims; UPDATE head SET claims_complete = 0");
    let second = forgetful(folder.path()).await;
    assert!(!second.ledger.lacks_claims().unwrap());
    second.sessions.open(Open { vehicle, ..open(SECOND, "") }).await.unwrap();
    assert_eq!(second.sell(SECOND, 20).await, Err(Error::TransactionConflict));
    second.stop().await;
}

/// A sale that was paid and cleared, with its charge; a vehicle that was selected and released; one that still is.
struct Kept {
    folder: tempfile::TempDir,
    ledger: Ledger,
    sale: Vec<Entry>,
    charge: Entry,
    released: Vec<Entry>,
    open: Vec<Entry>,
}

impl Kept {
    async fn new(charged_at: UnixMs) -> Kept {
        let mut sold = paid();
        sold.station(Command::Cleared, 20).unwrap();
        let subject = sold.instructions()[0].key().0.to_vec();
        let charge = Entry { at: charged_at, kind: Kind::Charge, subject, format: 1, payload: vec![1] };
        let mut released = Bench::new();
        released.open(open(SECOND, "tok_ok")).unwrap();
        let (release, _answer) = job(By::Station(STATION), Command::Release, None);
        released.submit(SECOND, release);
        let mut selected = Bench::new();
        selected.open(open(SessionId([4; 16]), "tok_ok")).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&default_section::<ledger::Config>("ledger"), folder.path()).unwrap();
        let (sale, released, open) = (sold.entries(), released.entries(), selected.entries());
        let mixed = [&sale[..2], &released, &open, &sale[2..], std::slice::from_ref(&charge)].concat();
        ledger.append(mixed).await.unwrap();
        Kept { folder, ledger, sale, charge, released, open }
    }

    /// Purges as of some days later; sessions and entries by each rule.
    async fn purge(&self, days: u64) -> [(Rule, u64, u64); 2] {
        let now = START.plus(days * DAY_MS);
        let config = default_section::<ledger::Config>("ledger");
        let reader = || Journal::open(&Ledger::file(self.folder.path()));
        let due = due(&config, reader, now).unwrap();
        let purged = purge(&config, &self.ledger, now).await.unwrap();
        assert_eq!(purged, due, "a dry run says what a run does");
        [0, 1].map(|rule| (purged[rule].rule, purged[rule].sessions, purged[rule].entries))
    }

    /// What an engine would read of sessions and charges.
    fn left(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.ledger.replay(|_, entry| entries.push(entry)).unwrap();
        entries.retain(|entry| entry.kind != Kind::Purge);
        entries
    }

    /// Rows that are purged, of a journal that holds.
    fn purged(&self) -> u64 {
        let [journal, recalled] = [0, 1].map(|_| Journal::open(&Ledger::file(self.folder.path())).unwrap());
        let mut audit = Audit::of(&recalled);
        let verified = journal.verify(None, |seq: Seq, entry| {
            entry.map_or(Ok(()), |entry| audit.take(seq, entry).map_err(|error| error.to_string()))
        });
        verified.unwrap().purged
    }
}

#[actix::test]
async fn what_was_kept_long_enough_goes_with_all_its_rows_and_the_rest_stays_as_it_was() {
    let kept = Kept::new(START).await;
    let everything = kept.left();
    assert_eq!(kept.purge(29).await, [(Rule::Payments, 0, 0), (Rule::Location, 0, 0)]);
    assert_eq!(kept.left(), everything);

    assert_eq!(kept.purge(31).await, [(Rule::Payments, 0, 0), (Rule::Location, 1, 2)]);
    let without_released = [&kept.sale[..2], &kept.open, &kept.sale[2..], std::slice::from_ref(&kept.charge)].concat();
    assert_eq!(kept.left(), without_released);
    assert_eq!(kept.purged(), kept.released.len() as u64);
    assert_eq!(kept.purge(32).await, [(Rule::Payments, 0, 0), (Rule::Location, 0, 0)]);

    let entries = kept.sale.len() as u64 + 1;
    assert_eq!(kept.purge(5 * 366).await, [(Rule::Payments, 1, entries), (Rule::Location, 0, 0)]);
    assert_eq!(kept.left(), kept.open, "what is not at an end stays");
    assert_eq!(kept.purged(), 2 + entries);
    kept.ledger.append(kept.released.clone()).await.unwrap();
    kept.purged();
}

#[actix::test]
async fn a_session_with_a_young_charge_waits_for_it_and_is_found_again() {
    let kept = Kept::new(START.plus(7 * DAY_MS)).await;
    let sold = |purged: [(Rule, u64, u64); 2]| purged[0].1;
    assert_eq!(sold(kept.purge(1_830).await), 0);
    assert_eq!(sold(kept.purge(1_831).await), 0);
    assert_eq!(sold(kept.purge(1_834).await), 1);
    assert_eq!(kept.left(), kept.open);
}

#[test]
fn a_session_in_memory_is_not_let_go_and_one_that_is_let_go_does_not_come_back() {
    let mut bench = paid();
    assert_eq!(bench.desk.let_go(vec![ID, SECOND]), [SECOND]);
    let journal = bench.journal.clone();
    let mut desk = Desk::new(100, 1_000_000);
    assert_eq!(desk.let_go(vec![ID]), [ID]);
    desk.recall(ID, &journal).unwrap();
    assert!(!desk.knows(ID), "what was read of it before it was purged");
    let (reply, mut answer) = oneshot::channel();
    assert!(desk.open(open(ID, "tok_ok"), reply, bench.moment()).is_none());
    assert_eq!(answer.try_recv().unwrap(), Err(Error::Unavailable));
    desk.keep(&[ID]);
    desk.recall(ID, &journal).unwrap();
    assert!(desk.knows(ID));
}

#[actix::test]
async fn a_purge_beside_the_desk_passes_over_what_is_in_memory_and_comes_back_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = forgetful(folder.path()).await;
    let opening = Open { vehicle: first.vehicle().await, ..open(ID, "") };
    first.sessions.open(opening).await.unwrap();
    first.order(By::Station(STATION), Command::Release, 10).await.unwrap();
    let config = default_section::<ledger::Config>("ledger");
    let later = now().plus(31 * DAY_MS);
    let purge = async |stage: &Stage| {
        let purged = retention::run(&config, &stage.ledger, later, Some(&stage.sessions.desk)).await.unwrap();
        (purged[1].rule, purged[1].sessions, purged[1].entries)
    };
    assert_eq!(purge(&first).await, (Rule::Location, 0, 0));
    assert_eq!(first.sessions.view(ID, OPERATOR).await.unwrap().state, StateName::Released);
    first.stop().await;

    let second = forgetful(folder.path()).await;
    assert_eq!(purge(&second).await, (Rule::Location, 1, 2));
    assert_eq!(second.sessions.view(ID, OPERATOR).await, Err(Error::NotFound));
    second.stop().await;

    let third = forgetful(folder.path()).await;
    assert_eq!(third.sessions.summary().await.unwrap().opened, 0);
    third.stop().await;
}
