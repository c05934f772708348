//! The journal with its thread, and with disks that fail.

mod faults;
mod retention;
mod verification;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

fn config() -> Config {
    Config {
        queue_max: 64,
        commit_max: 16,
        checkpoint_entries: 10,
        transaction_days: 3,
        session_days: 1826,
        location_days: 30,
    }
}

fn entry(number: u8) -> Entry {
    Entry {
        at: UnixMs(u64::from(number)),
        kind: Kind::Session,
        subject: vec![number % 2; 16],
        format: 1,
        payload: vec![number; 40],
    }
}

fn replayed(ledger: &Ledger) -> Vec<Entry> {
    let mut entries = Vec::new();
    ledger.replay(|_, entry| entries.push(entry)).unwrap();
    entries
}

/// A journal of entries 0 to `count`, closed.
async fn journal_of(count: u8) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.append((0..count).map(entry).collect()).await.unwrap();
    ledger.close().await.unwrap();
    folder
}

fn verify(folder: &Path) -> Result<Verified, VerifyError> {
    Journal::open(&Ledger::file(folder)).unwrap().verify(None, |_, _| Ok(()))
}

#[track_caller]
fn broken(folder: &Path) -> Broken {
    match verify(folder) {
        Err(VerifyError::Broken(broken)) => *broken,
        other => panic!("{other:?}"),
    }
}

/// Statements by somebody who has the file and no respect for it.
fn tamper(folder: &Path, statements: &str) {
    Connection::open(Ledger::file(folder)).unwrap().execute_batch(statements).unwrap();
}

#[tokio::test]
async fn what_was_answered_is_there_in_order_after_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    for number in 0..30 {
        assert_eq!(ledger.append(vec![entry(number)]).await.unwrap(), Seq(u64::from(number) + 1));
    }
    ledger.close().await.unwrap();
    assert!(matches!(ledger.append(vec![entry(0)]).await, Err(LedgerError::Closed)));
    let again = Ledger::open(&config(), folder.path()).unwrap();
    assert_eq!(replayed(&again), (0..30).map(entry).collect::<Vec<_>>());
    assert_eq!(again.append(vec![entry(30)]).await, Ok(Seq(31)));
    assert_eq!(verify(folder.path()).unwrap().entries, 31);
}

#[tokio::test]
async fn many_appends_at_once_are_all_answered_and_each_subject_reads_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    let all = (0..100).map(|number| ledger.append(vec![entry(number), entry(number)]));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(replayed(&ledger).len(), 200);
    assert_eq!(ledger.of(Kind::Session, vec![1; 16]).await.unwrap().len(), 100);
    assert!(ledger.of(Kind::Charge, vec![1; 16]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_journal_of_a_later_version_is_refused() {
    let folder = journal_of(1).await;
    tamper(folder.path(), "PRAGMA user_version = 99");
    assert!(matches!(Ledger::open(&config(), folder.path()), Err(OpenError::Version { found: 99, .. })));
    assert!(matches!(Journal::open(&Ledger::file(folder.path())), Err(OpenError::Version { found: 99, .. })));
}

#[tokio::test]
async fn a_journal_without_a_chain_gets_one_and_keeps_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    tamper(
        folder.path(),
        "PRAGMA journal_mode = wal;
         CREATE TABLE journal (
            seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind INTEGER NOT NULL, subject BLOB NOT NULL,
            format INTEGER NOT NULL, payload BLOB NOT NULL
         ) STRICT;
         CREATE INDEX journal_subject ON journal (kind, subject);
         INSERT INTO journal VALUES (1, 10, 1, x'0102', 1, x'aa'), (2, 20, 2, x'03', 1, x'bb'), (3, 30, 1, x'0102', 1, x'cc');
         PRAGMA user_version = 1;",
    );
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    assert_eq!(ledger.read(Kind::Session, &[1, 2]).unwrap().len(), 2);
    assert!(ledger.lacks_claims().unwrap());
    ledger.complete_claims(Vec::new()).await.unwrap();
    assert!(!ledger.lacks_claims().unwrap());
    assert_eq!(ledger.append(vec![entry(1)]).await, Ok(Seq(4)));
    assert_eq!(verify(folder.path()).unwrap().entries, 4);
}

#[tokio::test]
async fn a_journal_without_a_chain_that_lacks_an_entry_is_not_chained() {
    let folder = journal_of(3).await;
    tamper(
        folder.path(),
        "ALTER TABLE journal DROP COLUMN hash; DROP TABLE head; DROP TABLE claims; DROP TABLE probe;
         DELETE FROM journal WHERE seq = 2; PRAGMA user_version = 1;",
    );
    assert!(matches!(Ledger::open(&config(), folder.path()), Err(OpenError::Gap(Seq(2)))));
    assert!(matches!(Ledger::open(&config(), folder.path()), Err(OpenError::Gap(Seq(2)))), "it is as it was");
}

fn claim(transaction: &str, session: u8) -> Claim {
    Claim { station: StationId(1), transaction: transaction.into(), session: SessionId([session; 16]) }
}

fn at(day: u64) -> Vec<Entry> {
    vec![Entry { at: UnixMs(day * 24 * 3600 * 1000), ..entry(1) }]
}

#[tokio::test]
async fn what_has_begun_does_not_begin_again_and_keeps_no_other_out() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.begin(entry(1)).await.unwrap();
    let (again, other) = futures_util::future::join(ledger.begin(entry(1)), ledger.begin(entry(2))).await;
    assert_eq!((again, other.is_ok()), (Err(LedgerError::Known), true));
    assert_eq!(replayed(&ledger), [entry(1), entry(2)]);
}

#[tokio::test]
async fn a_site_transaction_belongs_to_one_session_until_its_days_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.append_claiming(at(10), Some(claim("T1", 1))).await.unwrap();
    ledger.append_claiming(at(10), Some(claim("T1", 1))).await.unwrap();
    assert_eq!(ledger.append_claiming(at(13), Some(claim("T1", 2))).await, Err(LedgerError::Claimed));
    assert_eq!(ledger.lack(), None, "a refusal is no failure");
    ledger.close().await.unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    assert_eq!(ledger.append_claiming(at(13), Some(claim("T1", 2))).await, Err(LedgerError::Claimed));
    let elsewhere = Claim { station: StationId(2), ..claim("T1", 2) };
    ledger.append_claiming(at(13), Some(elsewhere)).await.unwrap();
    ledger.append_claiming(at(14), Some(claim("T1", 2))).await.unwrap();
    assert_eq!(ledger.append_claiming(at(14), Some(claim("T1", 1))).await, Err(LedgerError::Claimed));
    assert_eq!(replayed(&ledger).len(), 4, "what is refused is not journalled");
}

#[tokio::test]
async fn of_two_that_claim_at_once_one_is_refused_and_the_rest_of_the_group_goes_in() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    let claims = [Some(claim("T1", 1)), Some(claim("T1", 2)), None, Some(claim("T2", 3))];
    let all = claims.map(|claim| ledger.append_claiming(at(1), claim));
    let answers = futures_util::future::join_all(all).await;
    assert_eq!(answers, [Ok(Seq(1)), Err(LedgerError::Claimed), Ok(Seq(2)), Ok(Seq(3))]);
}

#[tokio::test]
async fn old_claims_are_forgotten_station_by_station() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    for station in 1..=3 {
        for (day, transaction) in [(10, "old"), (19, "new")] {
            let claim = Claim { station: StationId(station), ..claim(transaction, 1) };
            ledger.append_claiming(at(day), Some(claim)).await.unwrap();
        }
    }
    ledger.forget_claims(at(20)[0].at).await.unwrap();
    let raw = Connection::open(Ledger::file(folder.path())).unwrap();
    let left: String = raw
        .query_row("SELECT group_concat(station || site_transaction, ' ') FROM claims", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, "1new 2new 3new");
}
