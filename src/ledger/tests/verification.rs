//! Whatever is done to a journal behind its back is found, and the first broken row is named.

use rusqlite::{params, types::Value};

use super::*;

#[tokio::test]
async fn a_whole_journal_verifies_and_says_its_head() {
    let folder = journal_of(9).await;
    let verified = verify(folder.path()).unwrap();
    assert_eq!((verified.entries, verified.purged, verified.head.seq), (9, 0, Seq(9)));
    let empty = journal_of(0).await;
    assert_eq!(verify(empty.path()).unwrap().head, Head::EMPTY);
}

/// Entries of two subjects, of which one was purged: rows of every kind that there is.
async fn journal_with_a_purge() -> TempDir {
    let folder = journal_of(3).await;
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    let removal = Removal { kind: Kind::Session, subject: vec![1; 16], last: Seq(2) };
    let (at, before) = (UnixMs(5), UnixMs(4));
    let order = PurgeOrder { at, rule: Rule::Location, before, through: Seq(3), groups: vec![vec![removal]] };
    ledger.purge(order).await.unwrap();
    ledger.close().await.unwrap();
    assert_eq!(verify(folder.path()).unwrap().purged, 1);
    folder
}

#[tokio::test]
async fn any_bit_that_flips_is_found_and_its_row_named() {
    let folder = journal_with_a_purge().await;
    let journal = Journal::open(&Ledger::file(folder.path())).unwrap();
    let raw = Connection::open(Ledger::file(folder.path())).unwrap();
    raw.execute_batch("PRAGMA synchronous = off").unwrap();
    let mut flips = 0;
    for seq in 1..=4_i64 {
        for column in ["at_ms", "kind", "subject", "format", "payload", "hash"] {
            let value: Value = raw
                .query_row(&format!("SELECT {column} FROM journal WHERE seq = {seq}"), [], |row| row.get(0))
                .unwrap();
            let mut set = raw.prepare(&format!("UPDATE journal SET {column} = ?1 WHERE seq = {seq}")).unwrap();
            for flipped in flipped(&value) {
                set.execute([&flipped]).unwrap();
                let Err(VerifyError::Broken(broken)) = journal.verify(None, |_, _| Ok(())) else {
                    panic!("row {seq}: nobody saw that {column} is {flipped:?}");
                };
                assert_eq!(broken.seq, Seq(seq as u64), "{column} is {flipped:?}: {broken:?}");
                flips += 1;
            }
            set.execute([&value]).unwrap();
        }
    }
    journal.verify(None, |_, _| Ok(())).unwrap();
    assert!(flips > 4 * (3 * 64 + 32 * 8), "{flips}");
}

/// What differs from the value in one bit.
fn flipped(value: &Value) -> Vec<Value> {
    match value {
        Value::Integer(number) => (0..64).map(|bit| Value::Integer(number ^ (1 << bit))).collect(),
        Value::Blob(bytes) => {
            let flip = |bit: usize| {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                Value::Blob(bytes)
            };
            (0..bytes.len() * 8).map(flip).collect()
        }
        other => panic!("no column is {other:?}"),
    }
}

#[tokio::test]
async fn what_is_done_to_rows_is_named_by_the_first_of_them() {
    let insert =
        "INSERT INTO journal SELECT {}, at_ms, kind, subject, format, payload, hash FROM journal WHERE seq = 5";
    let cases = [
        ("DELETE FROM journal WHERE seq = 4", 4, "it is missing"),
        ("DELETE FROM journal WHERE seq = 1", 1, "it is missing"),
        ("UPDATE journal SET seq = 90 WHERE seq = 4", 4, "it is missing"),
        ("UPDATE journal SET seq = seq - 9 WHERE seq = 4", 1, "it is missing: the journal goes on with -5"),
        (
            "UPDATE journal SET seq = 90 WHERE seq = 4; UPDATE journal SET seq = 4 WHERE seq = 6;
             UPDATE journal SET seq = 6 WHERE seq = 90;",
            4,
            "its contents are not those",
        ),
        (
            "UPDATE journal SET payload = (SELECT payload FROM journal WHERE seq = 6) WHERE seq = 4",
            4,
            "its contents are not those",
        ),
        (&insert.replace("{}", "0"), 1, "it is missing: the journal goes on with 0"),
        (&insert.replace("{}", "10"), 10, "its contents are not those"),
        ("DELETE FROM journal WHERE seq > 7", 8, "the journal ends before it, and its head says that it goes on to 9"),
        ("DELETE FROM journal", 1, "the journal ends before it"),
        ("UPDATE head SET seq = 8", 9, "it comes after the end"),
        ("UPDATE head SET hash = zeroblob(32)", 9, "the journal ends with it"),
        ("UPDATE head SET seq = 10", 10, "the journal ends before it"),
    ];
    for (statements, seq, fault) in cases {
        let folder = journal_of(9).await;
        tamper(folder.path(), statements);
        let broken = broken(folder.path());
        assert_eq!(broken.seq, Seq(seq), "{statements}: {broken:?}");
        assert!(broken.fault.to_string().starts_with(fault), "{statements}: {broken:?}");
    }
}

#[tokio::test]
async fn a_broken_row_is_named_with_what_it_says() {
    let folder = journal_of(9).await;
    tamper(folder.path(), "UPDATE journal SET payload = x'00' WHERE seq = 4");
    let row = broken(folder.path()).row.unwrap();
    assert_eq!((row.kind, row.subject, row.at), (Kind::Session as i64, vec![1; 16], UnixMs(3)));
}

#[tokio::test]
async fn a_journal_that_was_written_anew_differs_from_a_head_that_was_noted() {
    let folder = journal_of(9).await;
    let noted = verify(folder.path()).unwrap().head;
    let open = |folder: &TempDir| Journal::open(&Ledger::file(folder.path())).unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    ledger.append(vec![entry(9)]).await.unwrap();
    assert_eq!(open(&folder).verify(Some(noted), |_, _| Ok(())).unwrap().head.seq, Seq(10));

    let anew = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), anew.path()).unwrap();
    ledger.append((1..=10).map(entry).collect()).await.unwrap();
    let Err(VerifyError::Broken(broken)) = open(&anew).verify(Some(noted), |_, _| Ok(())) else { panic!("believed") };
    assert_eq!((broken.seq, broken.fault), (Seq(9), Fault::Unexpected));

    let short = journal_of(7).await;
    let Err(VerifyError::Broken(broken)) = open(&short).verify(Some(noted), |_, _| Ok(())) else { panic!("believed") };
    assert_eq!((broken.seq, broken.fault), (Seq(8), Fault::Cut(Seq(9))));
}

#[tokio::test]
async fn an_entry_that_its_reader_refuses_is_named_unless_the_chain_is_broken() {
    let folder = journal_of(9).await;
    let refuse = |seq: Seq, _: Option<&Entry>| if seq.0.is_multiple_of(3) { Err("no".to_owned()) } else { Ok(()) };
    let verify = || Journal::open(&Ledger::file(folder.path())).unwrap().verify(None, refuse);
    let Err(VerifyError::Broken(broken)) = verify() else { panic!("believed") };
    assert_eq!((broken.seq, broken.fault), (Seq(3), Fault::Meaning("no".into())));
    tamper(folder.path(), "DELETE FROM journal WHERE seq = 7");
    let Err(VerifyError::Broken(broken)) = verify() else { panic!("believed") };
    assert_eq!(broken.seq, Seq(7));
}

#[tokio::test]
async fn a_tombstone_that_no_purge_made_is_named_and_so_is_a_purged_row_that_is_back() {
    let folder = journal_of(9).await;
    let content = chain::Row::of(Seq(4), &entry(3)).content();
    let raw = Connection::open(Ledger::file(folder.path())).unwrap();
    raw.execute(
        "UPDATE journal SET at_ms = 0, kind = 0, subject = x'', format = 0, payload = ?1 WHERE seq = 4",
        params![content],
    )
    .unwrap();
    let unmandated = broken(folder.path());
    assert_eq!((unmandated.seq, unmandated.fault), (Seq(4), Fault::Unmandated));

    let folder = journal_with_a_purge().await;
    let raw = Connection::open(Ledger::file(folder.path())).unwrap();
    let Entry { subject, payload, .. } = entry(1);
    raw.execute(
        "UPDATE journal SET at_ms = 1, kind = 1, subject = ?1, format = 1, payload = ?2 WHERE seq = 2",
        params![subject, payload],
    )
    .unwrap();
    let kept = broken(folder.path());
    assert_eq!((kept.seq, kept.fault), (Seq(2), Fault::Kept));
}

#[tokio::test]
async fn an_index_that_lost_a_row_is_damage() {
    let folder = journal_of(9).await;
    tamper(
        folder.path(),
        "PRAGMA writable_schema = on;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX journal_subject ON journal (kind, subject) WHERE seq < 5'
         WHERE name = 'journal_subject';",
    );
    tamper(folder.path(), "REINDEX");
    tamper(
        folder.path(),
        "PRAGMA writable_schema = on;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX journal_subject ON journal (kind, subject)'
         WHERE name = 'journal_subject';",
    );
    assert!(matches!(verify(folder.path()), Err(VerifyError::Damaged(_))));
}
