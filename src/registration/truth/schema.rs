//! The tables of `registrations.db`, and what must hold of SQLite before one row is trusted to it.
//!
//! Device ids are unsigned 64-bit numbers kept as SQLite's signed ones, bit for bit: their order in the table is the
//! signed one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::registration::error::StartError;

/// Raised with every change of the tables; an unknown one is refused, never guessed at.
const SCHEMA_VERSION: i32 = 2;

/// 3.51.3: earlier ones can lose committed writes when the WAL is reset.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

const TABLES: &str = "
CREATE TABLE kek (only INTEGER PRIMARY KEY CHECK (only = 1), sealed BLOB NOT NULL) STRICT;

-- Counts the changes of dongles and bindings.
CREATE TABLE revision (only INTEGER PRIMARY KEY CHECK (only = 1), count INTEGER NOT NULL) STRICT;
INSERT INTO revision (only, count) VALUES (1, 0);

CREATE TABLE stations (
    station_id INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    brand      TEXT NOT NULL,
    lat        REAL,
    lon        REAL,
    pumps      INTEGER NOT NULL
) STRICT;

-- `mark` is a keyed fingerprint of the code key: two dongles with one key would be one dongle on the air.
-- `epoch` is the last one given to any binding of the dongle, `changed` the revision of its or its binding's last change.
CREATE TABLE devices (
    device_id       INTEGER PRIMARY KEY,
    scheme          TEXT NOT NULL,
    exponent        INTEGER,
    secret          BLOB NOT NULL,
    mark            BLOB NOT NULL UNIQUE,
    proof_key       BLOB,
    activation_hash BLOB,
    clock_offset_ms INTEGER NOT NULL DEFAULT 0,
    epoch           INTEGER NOT NULL DEFAULT 0,
    changed         INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_changed ON devices (changed);
CREATE UNIQUE INDEX devices_activation ON devices (activation_hash) WHERE activation_hash IS NOT NULL;

CREATE TABLE bindings (
    id             BLOB PRIMARY KEY,
    device_id      INTEGER NOT NULL REFERENCES devices,
    plate          TEXT NOT NULL,
    fuel           TEXT,
    phone_key      BLOB,
    epoch          INTEGER NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'revoked')),
    created_ms     INTEGER NOT NULL,
    ended_ms       INTEGER,
    phone_token_ms INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX bindings_live_device ON bindings (device_id) WHERE status <> 'revoked';
CREATE UNIQUE INDEX bindings_live_plate ON bindings (plate) WHERE status <> 'revoked';
CREATE UNIQUE INDEX bindings_device_epoch ON bindings (device_id, epoch);

CREATE TABLE means (
    binding BLOB NOT NULL REFERENCES bindings ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    token   TEXT NOT NULL,
    PRIMARY KEY (binding, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    hash       BLOB PRIMARY KEY,
    role       TEXT NOT NULL CHECK (role IN ('terminal', 'phone', 'operator')),
    subject    BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_subject ON tokens (role, subject);

-- Open claims, one for each dongle at most.
CREATE TABLE couplings (
    id         BLOB PRIMARY KEY,
    device_id  INTEGER NOT NULL UNIQUE REFERENCES devices,
    phone_key  BLOB NOT NULL,
    plate      TEXT NOT NULL,
    fuel       TEXT,
    means      TEXT NOT NULL,
    nonce      BLOB NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX couplings_expiry ON couplings (expires_ms);

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    who     TEXT NOT NULL,
    what    TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
";

/// From the tables of version 1: what is there counts as changed once, so that a copy of nothing asks for all of it.
const TO_VERSION_2: &str = "
CREATE TABLE revision (only INTEGER PRIMARY KEY CHECK (only = 1), count INTEGER NOT NULL) STRICT;
INSERT INTO revision (only, count) VALUES (1, 1);
ALTER TABLE devices ADD COLUMN changed INTEGER NOT NULL DEFAULT 1;
CREATE INDEX devices_changed ON devices (changed);
";

/// The writer's connection: makes the tables in a new file, and asserts everything that durability rests on.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StartError> {
    let version = rusqlite::version_number();
    if version < SQLITE_VERSION_MIN {
        return Err(StartError::Unfit(format!("SQLite {} is too old, 3.51.3 is needed", rusqlite::version())));
    }
    let mut db = Connection::open(path)?;
    // 16 MiB of pages: the upper levels of every index at ten million dongles.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384",
    )?;
    assert_pragma(&db, "journal_mode", "wal")?;
    assert_pragma(&db, "synchronous", "2")?;
    assert_pragma(&db, "foreign_keys", "1")?;
    db.set_prepared_statement_cache_capacity(64);
    migrate(&mut db)?;
    Ok(db)
}

/// A look-up connection. Read-only: it never writes back the WAL, which is the writer's alone.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StartError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

fn assert_pragma(db: &Connection, pragma: &str, expected: &str) -> Result<(), StartError> {
    let found = db.pragma_query_value(None, pragma, |row| {
        let value = row.get_ref(0)?;
        Ok(value.as_str().map_or_else(|_| value.as_i64().unwrap_or(-1).to_string(), str::to_owned))
    })?;
    if found == expected {
        Ok(())
    } else {
        Err(StartError::Unfit(format!("registrations.db: {pragma} is {found}, and must be {expected}")))
    }
}

fn migrate(db: &mut Connection) -> Result<(), StartError> {
    let version: i32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let change = match version {
        SCHEMA_VERSION => return Ok(()),
        0 => TABLES,
        1 => TO_VERSION_2,
        other => {
            return Err(StartError::Unfit(format!(
                "registrations.db: written by another version (tables {other}, known {SCHEMA_VERSION})"
            )));
        }
    };
    let tx = db.transaction()?;
    tx.execute_batch(change)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(tx.commit()?)
}
