//! What is purged is gone, and the rest is as it was.

use super::*;

fn order(subject: u8, last: u64) -> PurgeOrder {
    let removal = Removal { kind: Kind::Session, subject: vec![subject; 16], last: Seq(last) };
    let (at, before) = (UnixMs(1_000), UnixMs(900));
    PurgeOrder { at, rule: Rule::Payments, before, through: Seq(last), groups: vec![vec![removal]] }
}

#[tokio::test]
async fn a_purge_empties_its_rows_and_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.append((0..10).map(entry).collect()).await.unwrap();
    let purge = ledger.purge(order(1, 10)).await.unwrap();
    assert_eq!((purge.sessions, purge.entries), (1, 5));
    assert_eq!(purge.runs, [2, 4, 6, 8, 10].map(|seq| (Seq(seq), Seq(seq))));
    let left = replayed(&ledger);
    assert_eq!(left[..5], [0, 2, 4, 6, 8].map(entry));
    assert_eq!(Purge::read(&left[5]).unwrap(), purge);
    ledger.append(vec![entry(10)]).await.unwrap();
    let verified = verify(folder.path()).unwrap();
    assert_eq!((verified.entries, verified.purged), (12, 5));
}

#[tokio::test]
async fn what_got_another_entry_since_it_was_looked_at_stays() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.append((0..10).map(entry).collect()).await.unwrap();
    let purge = ledger.purge(order(1, 8)).await.unwrap();
    assert_eq!((purge.sessions, purge.entries), (0, 0));
    assert_eq!(replayed(&ledger).len(), 11);
    assert_eq!(verify(folder.path()).unwrap().purged, 0);
}

#[tokio::test]
async fn the_bytes_of_what_was_purged_are_in_no_file_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    let secret = b"12A3456 was at station 7";
    let told = Entry { payload: secret.repeat(400), ..entry(1) };
    ledger.append(vec![entry(0), told, entry(2)]).await.unwrap();
    let is_told = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
    };
    assert!(is_told());
    ledger.purge(order(1, 2)).await.unwrap();
    ledger.close().await.unwrap();
    assert!(!is_told());
}

#[tokio::test]
async fn the_last_purge_by_a_rule_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.append((0..4).map(entry).collect()).await.unwrap();
    ledger.purge(order(0, 3)).await.unwrap();
    ledger.purge(order(1, 4)).await.unwrap();
    let journal = Journal::open(&Ledger::file(folder.path())).unwrap();
    assert_eq!(journal.last_purge(Rule::Payments).unwrap().unwrap().through, Seq(4));
    assert_eq!(journal.last_purge(Rule::Location).unwrap(), None);
}
