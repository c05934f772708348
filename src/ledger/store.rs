//! The file: its tables, how it is opened by who writes, and what is written in one transaction.

use std::path::Path;

use rusqlite::{
    CachedStatement, Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

use super::{
    Claim, Entry, LedgerError, OpenError, Seq,
    chain::{Digest, Head, Row},
    migration,
};
use crate::engine::time::UnixMs;

/// The oldest SQLite without the WAL-reset bug.
const SQLITE_MIN: (i32, &str) = (3_051_003, "3.51.3");

pub(super) const LAYOUT: i64 = 2;

pub(super) const SCHEMA: &str = "
    CREATE TABLE journal (
        seq     INTEGER PRIMARY KEY,
        at_ms   INTEGER NOT NULL,
        kind    INTEGER NOT NULL,
        subject BLOB    NOT NULL,
        format  INTEGER NOT NULL,
        payload BLOB    NOT NULL,
        hash    BLOB    NOT NULL
    ) STRICT;
    CREATE INDEX journal_subject ON journal (kind, subject);
    CREATE TABLE head (
        only            INTEGER PRIMARY KEY CHECK (only = 1),
        seq             INTEGER NOT NULL,
        hash            BLOB    NOT NULL,
        claims_complete INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE claims (
        station          INTEGER NOT NULL,
        site_transaction TEXT    NOT NULL,
        session          BLOB    NOT NULL,
        at_ms            INTEGER NOT NULL,
        PRIMARY KEY (station, site_transaction)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE probe (only INTEGER PRIMARY KEY CHECK (only = 1), filler BLOB NOT NULL) STRICT;
";

/// A probe has to find room for what a full group takes: 512 appends of about 500 bytes.
const PROBE_BYTES: i32 = 256 * 1024;

/// One append as it waits: its entries, and the site transaction that they claim.
#[derive(Debug)]
pub(super) struct Append {
    pub entries: Vec<Entry>,
    pub claim: Option<Claim>,
    /// It stays out when its subject has entries already.
    pub is_first: bool,
}

/// Makes the file when there is none, and brings an older layout up to this one.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_MIN.0 {
        return Err(OpenError::Library { found: rusqlite::version(), needed: SQLITE_MIN.1 });
    }
    let mut connection = Connection::open(path)?;
    prepare(&connection)?;
    migration::run(&mut connection)?;
    let (head, last) = (head(&connection)?, last_row(&connection)?);
    if head != last {
        return Err(OpenError::Torn { head, last });
    }
    Ok(connection)
}

/// Another connection to the same journal, for when the one before it fails. Never to another file that lies there now:
/// one is not made, and `known` must be in it.
pub(super) fn reopen_writer(path: &Path, known: Head) -> Result<Connection, OpenError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&connection)?;
    let found = hash_at(&connection, known.seq)?;
    if known != Head::EMPTY && found != Some(known.hash) {
        return Err(OpenError::Replaced(known));
    }
    Ok(connection)
}

pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let found = layout(&connection)?;
    if found == LAYOUT { Ok(connection) } else { Err(OpenError::Version { found, known: LAYOUT }) }
}

pub(super) fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn prepare(connection: &Connection) -> Result<(), OpenError> {
    // SQLite opens in silence for reading what it may not write.
    if connection.is_readonly("main")? {
        return Err(OpenError::ReadOnly);
    }
    demand(connection, "journal_mode", "wal", "wal")?;
    demand(connection, "synchronous", "full", "2")?;
    demand(connection, "wal_autocheckpoint", "0", "0")?;
    // What is purged shall not lie on in the file's free pages.
    demand(connection, "secure_delete", "on", "1")
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

/// What the journal says of its own end.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    connection.query_row("SELECT seq, hash FROM head", [], |row| {
        Ok(Head { seq: Seq(row.get::<_, i64>(0)? as u64), hash: row.get(1)? })
    })
}

fn last_row(connection: &Connection) -> rusqlite::Result<Head> {
    let last = connection.query_row("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok(Head { seq: Seq(row.get::<_, i64>(0)? as u64), hash: row.get(1)? })
    });
    Ok(last.optional()?.unwrap_or(Head::EMPTY))
}

fn hash_at(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Digest>> {
    connection.query_row("SELECT hash FROM journal WHERE seq = ?1", [seq.0 as i64], |row| row.get(0)).optional()
}

/// One transaction. An append whose claim is another session's stays out, and the others of the group go in. The head
/// afterwards; and of each append the place of its last entry, or why it alone was refused.
pub(super) fn append(
    connection: &mut Connection,
    head: Head,
    appends: &[Append],
    claim_ms: u64,
) -> Result<(Head, Vec<Result<Seq, LedgerError>>), LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut places = Vec::with_capacity(appends.len());
    let mut end = head;
    let mut rows = Rows::new(&transaction)?;
    for Append { entries, claim, is_first } in appends {
        if *is_first && has_begun(&transaction, entries)? {
            places.push(Err(LedgerError::Known));
            continue;
        }
        let at = entries.last().map_or(UnixMs(0), |entry| entry.at);
        if let Some(claim) = claim
            && !take_claim(&transaction, claim, at, claim_ms)?
        {
            places.push(Err(LedgerError::Claimed));
            continue;
        }
        for entry in entries {
            end = rows.push(end, entry)?;
        }
        places.push(Ok(end.seq));
    }
    drop(rows);
    set_head(&transaction, end)?;
    transaction.commit()?;
    Ok((end, places))
}

/// Whether the journal has entries of what the first of these begins.
fn has_begun(transaction: &Transaction<'_>, entries: &[Entry]) -> rusqlite::Result<bool> {
    let Some(first) = entries.first() else { return Ok(false) };
    let mut select =
        transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM journal WHERE kind = ?1 AND subject = ?2)")?;
    select.query_row(params![first.kind as u8, first.subject], |row| row.get(0))
}

/// The row of a query for `seq, at_ms, kind, subject, format, payload`.
pub(super) fn row<'a>(found: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
    Ok(Row {
        seq: found.get(0)?,
        at_ms: found.get(1)?,
        kind: found.get(2)?,
        subject: found.get_ref(3)?.as_blob()?,
        format: found.get(4)?,
        payload: found.get_ref(5)?.as_blob()?,
    })
}

/// Where rows are added to the journal.
pub(super) struct Rows<'a> {
    insert: CachedStatement<'a>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(transaction: &'a Transaction<'_>) -> rusqlite::Result<Rows<'a>> {
        let insert = transaction.prepare_cached(
            "INSERT INTO journal (seq, at_ms, kind, subject, format, payload, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        Ok(Rows { insert })
    }

    /// The head once the entry has followed `head`.
    pub(super) fn push(&mut self, head: Head, entry: &Entry) -> rusqlite::Result<Head> {
        let row = Row::of(Seq(head.seq.0 + 1), entry);
        let head = head.followed_by(&row.content());
        self.insert.execute(params![row.seq, row.at_ms, row.kind, row.subject, row.format, row.payload, head.hash])?;
        Ok(head)
    }
}

pub(super) fn set_head(transaction: &Transaction<'_>, head: Head) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached("UPDATE head SET seq = ?1, hash = ?2")?;
    update.execute(params![head.seq.0 as i64, head.hash]).map(drop)
}

/// `false`: the site transaction belongs to another session, and not for too long yet.
fn take_claim(transaction: &Transaction<'_>, claim: &Claim, at: UnixMs, claim_ms: u64) -> rusqlite::Result<bool> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO claims (station, site_transaction, session, at_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET session = excluded.session, at_ms = excluded.at_ms
         WHERE session = excluded.session OR at_ms < ?5",
    )?;
    let Claim { station, transaction, session } = claim;
    let since = at.minus(claim_ms).0 as i64;
    Ok(insert.execute(params![station.0, transaction, session.0, at.0 as i64, since])? == 1)
}

/// Whether every claim of the journal's last days is in its table: not so after a migration.
pub(super) fn has_claims(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT claims_complete FROM head", [], |row| row.get(0))
}

/// Takes in the claims that were read from the journal.
pub(super) fn complete_claims(
    connection: &mut Connection,
    claims: &[(Claim, UnixMs)],
    claim_ms: u64,
) -> Result<(), LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (claim, at) in claims {
        take_claim(&transaction, claim, *at, claim_ms)?;
    }
    transaction.execute("UPDATE head SET claims_complete = 1", [])?;
    Ok(transaction.commit()?)
}

/// Forgets the claims of the first station after `station` that are older than `before`; the station, or `None` when there
/// is none any more. One station at a time, so that appends wait for some thousand rows at most.
pub(super) fn forget_claims(
    connection: &Connection,
    station: Option<u32>,
    before: UnixMs,
) -> Result<Option<u32>, LedgerError> {
    let after = station.map_or(-1, i64::from);
    let next: Option<u32> =
        connection.query_row("SELECT min(station) FROM claims WHERE station > ?1", [after], |row| row.get(0))?;
    if let Some(station) = next {
        connection
            .execute("DELETE FROM claims WHERE station = ?1 AND at_ms < ?2", params![station, before.0 as i64])?;
    }
    Ok(next)
}

/// Shows that the disk takes what a group needs, and gives the room back.
pub(super) fn probe(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute("INSERT OR REPLACE INTO probe (only, filler) VALUES (1, zeroblob(?1))", [PROBE_BYTES])?;
    connection.execute("DELETE FROM probe", [])?;
    Ok(())
}
