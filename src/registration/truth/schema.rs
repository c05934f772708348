//! The tables of `registrations.db`, and what must hold of SQLite before one row is trusted to it.
//!
//! Device ids are unsigned 64-bit numbers kept as SQLite's signed ones, bit for bit: their order in the table is the
//! signed one.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::moment::begin_life;
use crate::registration::error::StartError;

/// Raised with every change of the tables; an unknown one is refused, never guessed at.
const SCHEMA_VERSION: i32 = 4;

/// 3.51.3: earlier ones can lose committed writes when the WAL is reset.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

const TABLES: &str = "
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
-- `epoch` is the last one given to any binding of the dongle, `changed` the revision of its or its binding's last change,
-- `lost_ms` when it was reported lost: nobody couples it until an operator frees it.
CREATE TABLE devices (
    device_id       INTEGER PRIMARY KEY,
    scheme          TEXT NOT NULL,
    exponent        INTEGER,
    secret          BLOB NOT NULL,
    mark            BLOB NOT NULL UNIQUE,
    proof_key       BLOB,
    activation_hash BLOB,
    clock_offset_s  INTEGER NOT NULL DEFAULT 0,
    epoch           INTEGER NOT NULL DEFAULT 0,
    changed         INTEGER NOT NULL,
    lost_ms         INTEGER
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

-- Open claims, one for each dongle at most. `binding` is the one that gets another phone; without it a new one is made.
CREATE TABLE couplings (
    id         BLOB PRIMARY KEY,
    device_id  INTEGER NOT NULL UNIQUE REFERENCES devices,
    phone_key  BLOB NOT NULL,
    plate      TEXT NOT NULL,
    fuel       TEXT,
    means      TEXT NOT NULL,
    nonce      BLOB NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    expires_ms INTEGER NOT NULL,
    binding    BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX couplings_expiry ON couplings (expires_ms);

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    who     TEXT NOT NULL,
    what    TEXT NOT NULL,
    subject TEXT NOT NULL,
    why     TEXT NOT NULL DEFAULT ''
) STRICT;
";

/// Since version 3, for a new store and for one that is taken over alike.
const SINCE_VERSION_3: &str = "
-- The key-encryption keys that something is sealed under, by the first byte of what is: one, and a second while the keys
-- are re-sealed under it. `sealed` is a known text, which tells a wrong one. `done_to` is the last dongle re-sealed.
CREATE TABLE keks (
    id       INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
    sealed   BLOB NOT NULL,
    mark_key BLOB,
    is_next  INTEGER NOT NULL DEFAULT 0 UNIQUE CHECK (is_next IN (0, 1)),
    done_to  INTEGER
) STRICT;

-- Every epoch of every dongle: who made it, why, and what it changed. In the order of the dongles, so that an import adds
-- to its end.
CREATE TABLE binding_journal (
    device_id    INTEGER NOT NULL REFERENCES devices,
    epoch        INTEGER NOT NULL,
    binding      BLOB NOT NULL,
    at_ms        INTEGER NOT NULL,
    who          TEXT NOT NULL,
    why          TEXT NOT NULL,
    what         TEXT NOT NULL,
    status       TEXT NOT NULL,
    plate_before TEXT,
    plate_after  TEXT NOT NULL,
    phone_before BLOB,
    phone_after  BLOB,
    means        INTEGER NOT NULL,
    PRIMARY KEY (device_id, epoch)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER binding_journal_stays BEFORE UPDATE ON binding_journal
    BEGIN SELECT RAISE(ABORT, 'the journal of bindings is only added to'); END;
CREATE TRIGGER binding_journal_keeps BEFORE DELETE ON binding_journal
    BEGIN SELECT RAISE(ABORT, 'the journal of bindings is only added to'); END;

-- Bindings whose phone an operator took away, and that wait for another one.
CREATE TABLE phone_permits (
    binding    BLOB PRIMARY KEY REFERENCES bindings,
    code_hash  BLOB NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was answered to a write under an idempotency key.
CREATE TABLE requests (
    key    BLOB PRIMARY KEY,
    body   BLOB NOT NULL,
    answer TEXT NOT NULL,
    at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_age ON requests (at_ms);

-- The X25519 key that beacons agree their identity keys with.
CREATE TABLE resolver (only INTEGER PRIMARY KEY CHECK (only = 1), public BLOB NOT NULL, sealed BLOB NOT NULL) STRICT;
";

/// Since version 4, likewise. What is there so far is one life.
const SINCE_VERSION_4: &str = "
-- From which revision on the store has been opened for writing, under a random name each time.
CREATE TABLE lives (first INTEGER PRIMARY KEY, name BLOB NOT NULL) STRICT;
INSERT INTO lives (first, name) VALUES (0, randomblob(8));
";

/// From the tables of version 1: what is there counts as changed once, so that a copy of nothing asks for all of it.
const TO_VERSION_2: &str = "
CREATE TABLE revision (only INTEGER PRIMARY KEY CHECK (only = 1), count INTEGER NOT NULL) STRICT;
INSERT INTO revision (only, count) VALUES (1, 1);
ALTER TABLE devices ADD COLUMN changed INTEGER NOT NULL DEFAULT 1;
CREATE INDEX devices_changed ON devices (changed);
";

/// From the tables of version 2: the journal begins with every binding as it stands.
const TO_VERSION_3: &str = "
INSERT INTO keks (id, sealed) SELECT 1, sealed FROM kek;
DROP TABLE kek;
ALTER TABLE devices RENAME COLUMN clock_offset_ms TO clock_offset_s;
UPDATE devices SET clock_offset_s = clock_offset_s / 1000;
ALTER TABLE devices ADD COLUMN lost_ms INTEGER;
ALTER TABLE couplings ADD COLUMN binding BLOB;
ALTER TABLE audit ADD COLUMN why TEXT NOT NULL DEFAULT '';
INSERT INTO binding_journal (device_id, epoch, binding, at_ms, who, why, what, status, plate_after, phone_after, means)
    SELECT device_id, epoch, id, coalesce(ended_ms, created_ms), 'system', '', 'taken over', status, plate, phone_key,
        (SELECT count(*) FROM means WHERE means.binding = bindings.id)
    FROM bindings;
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
    keep_plans(&db)?;
    migrate(&mut db)?;
    begin_life(&db)?;
    Ok(db)
}

/// Marks and activation codes come in any order, so each row touches a page of its own in their indexes. A page that stays
/// in memory (256 MiB), and is synced and written back once for many rows (each 256 MiB of log), costs a fraction of what
/// it does where memory and the time of a commit are shared with an engine.
pub(super) fn prepare_for_import(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA cache_size = -262144; PRAGMA wal_autocheckpoint = 65536; PRAGMA synchronous = NORMAL")
}

/// A look-up connection. Read-only: it never writes back the WAL, which is the writer's alone.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StartError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    keep_plans(&db)?;
    Ok(db)
}

/// For who reads a store that no writer of this program has opened.
pub(super) fn check_version(db: &Connection) -> Result<(), StartError> {
    match version(db)? {
        SCHEMA_VERSION => Ok(()),
        found => Err(StartError::Tables { found, known: SCHEMA_VERSION }),
    }
}

/// Statements are planned once. By default SQLite plans a statement anew for each value that is bound, when a partial index
/// is in sight, as that of the live bindings is: four fifths of a look-up.
fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(64);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
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

fn version(db: &Connection) -> rusqlite::Result<i32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn migrate(db: &mut Connection) -> Result<(), StartError> {
    let version = version(db)?;
    let changes: &[&str] = match version {
        SCHEMA_VERSION => return Ok(()),
        0 => &[TABLES, SINCE_VERSION_3, SINCE_VERSION_4],
        1 => &[TO_VERSION_2, SINCE_VERSION_3, TO_VERSION_3, SINCE_VERSION_4],
        2 => &[SINCE_VERSION_3, TO_VERSION_3, SINCE_VERSION_4],
        3 => &[SINCE_VERSION_4],
        found => return Err(StartError::Tables { found, known: SCHEMA_VERSION }),
    };
    let tx = db.transaction()?;
    for change in changes {
        tx.execute_batch(change)?;
    }
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(tx.commit()?)
}

/// The tables of the first version, as far as a later one takes something over from them.
#[cfg(test)]
pub(super) const FIRST_VERSION: &str = "
CREATE TABLE kek (only INTEGER PRIMARY KEY CHECK (only = 1), sealed BLOB NOT NULL) STRICT;
CREATE TABLE devices (
    device_id INTEGER PRIMARY KEY, clock_offset_ms INTEGER NOT NULL DEFAULT 0, epoch INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE bindings (
    id BLOB PRIMARY KEY, device_id INTEGER NOT NULL REFERENCES devices, plate TEXT NOT NULL, phone_key BLOB,
    epoch INTEGER NOT NULL, status TEXT NOT NULL, created_ms INTEGER NOT NULL, ended_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE means (
    binding BLOB NOT NULL, ordinal INTEGER NOT NULL, token TEXT NOT NULL, PRIMARY KEY (binding, ordinal)
) STRICT, WITHOUT ROWID;
CREATE TABLE couplings (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE audit (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL) STRICT;
PRAGMA user_version = 1;
";
