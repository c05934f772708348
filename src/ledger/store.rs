//! The table, and how it is opened.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, params};

use super::{Entry, Kind, LedgerError, OpenError, Seq};
use crate::engine::time::UnixMs;

/// The oldest SQLite without the WAL-reset bug.
const SQLITE_MIN: (i32, &str) = (3_051_003, "3.51.3");

const LAYOUT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS journal (
        seq     INTEGER PRIMARY KEY,
        at_ms   INTEGER NOT NULL,
        kind    INTEGER NOT NULL,
        subject BLOB    NOT NULL,
        format  INTEGER NOT NULL,
        payload BLOB    NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS journal_subject ON journal (kind, subject);
";

pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_MIN.0 {
        return Err(OpenError::Library { found: rusqlite::version(), needed: SQLITE_MIN.1 });
    }
    let connection = Connection::open(path)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > LAYOUT {
        return Err(OpenError::Version { found, known: LAYOUT });
    }
    demand(&connection, "journal_mode", "wal", "wal")?;
    demand(&connection, "synchronous", "full", "2")?;
    demand(&connection, "wal_autocheckpoint", "0", "0")?;
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    Ok(connection)
}

pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// Sets a pragma and reads it back: SQLite ignores in silence what it cannot do.
fn demand(connection: &Connection, pragma: &'static str, value: &str, expected: &str) -> Result<(), OpenError> {
    connection.execute_batch(&format!("PRAGMA {pragma}={value}"))?;
    let found = connection.pragma_query_value(None, pragma, |row| {
        let value: rusqlite::types::Value = row.get(0)?;
        Ok(match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        })
    })?;
    if found == expected { Ok(()) } else { Err(OpenError::Pragma { pragma, found }) }
}

/// One transaction; the place of the last entry of each append.
pub(super) fn append(connection: &mut Connection, appends: &[&[Entry]]) -> Result<Vec<Seq>, LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut places = Vec::with_capacity(appends.len());
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO journal (at_ms, kind, subject, format, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for entries in appends {
            for entry in *entries {
                let at = entry.at.0 as i64;
                insert.execute(params![at, entry.kind as u8, entry.subject, entry.format, entry.payload])?;
            }
            places.push(Seq(transaction.last_insert_rowid() as u64));
        }
    }
    transaction.commit()?;
    Ok(places)
}

pub(super) fn replay(connection: &Connection, mut each: impl FnMut(Seq, Entry)) -> Result<(), LedgerError> {
    let mut select =
        connection.prepare("SELECT seq, at_ms, kind, subject, format, payload FROM journal ORDER BY seq")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(Seq(row.get::<_, i64>(0)? as u64), entry(row)?);
    }
    Ok(())
}

pub(super) fn of(connection: &Connection, kind: Kind, subject: &[u8]) -> Result<Vec<(Seq, Entry)>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT seq, at_ms, kind, subject, format, payload FROM journal WHERE kind = ?1 AND subject = ?2 ORDER BY seq",
    )?;
    let mut rows = select.query(params![kind as u8, subject])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push((Seq(row.get::<_, i64>(0)? as u64), entry(row)?));
    }
    Ok(entries)
}

fn entry(row: &Row<'_>) -> Result<Entry, LedgerError> {
    let kind: u8 = row.get(2)?;
    Ok(Entry {
        at: UnixMs(row.get::<_, i64>(1)? as u64),
        kind: Kind::from_number(kind).ok_or(LedgerError::UnknownKind(kind))?,
        subject: row.get(3)?,
        format: row.get(4)?,
        payload: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize) -> Entry {
        Entry { at: UnixMs(1), kind: Kind::Charge, subject: vec![1], format: 1, payload: vec![0; bytes] }
    }

    #[test]
    fn a_full_disk_is_named_and_a_failed_transaction_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut writer = open_writer(&path).unwrap();
        append(&mut writer, &[&[entry(10)]]).unwrap();
        writer.execute_batch("PRAGMA max_page_count=8").unwrap();
        let failed = append(&mut writer, &[&[entry(20)], &[entry(100_000)]]);
        assert_eq!(failed, Err(LedgerError::DiskFull));
        let reader = open_reader(&path).unwrap();
        assert_eq!(of(&reader, Kind::Charge, &[1]).unwrap(), [(Seq(1), entry(10))]);
        append(&mut writer, &[&[entry(30)]]).unwrap();
    }

    #[test]
    fn a_journal_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(open_writer(&path).unwrap());
        let mut reader = open_reader(&path).unwrap();
        assert_eq!(append(&mut reader, &[&[entry(10)]]), Err(LedgerError::ReadOnly));
    }
}
