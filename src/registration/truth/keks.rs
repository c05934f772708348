//! Which key-encryption keys the store is sealed under, and the one that it is opened with.

use rusqlite::{Connection, OptionalExtension as _, params};
use zeroize::Zeroizing;

use crate::engine::id::DeviceId;
use crate::registration::envelope::{Envelope, Kek, Purpose, Unsealable};
use crate::registration::error::StartError;

const CHECK_TEXT: &[u8] = b"forecourt registrations v1";

/// The envelope of a store that is under this KEK and no other. A store that was written under another one would open
/// none of its keys: better told at start than at the pump.
pub(super) fn open_envelope(db: &Connection, kek: &Kek) -> Result<Envelope, StartError> {
    if count(db)? == 0 {
        return Ok(first(db, kek)?);
    }
    if count(db)? > 1 {
        return Err(StartError::Rotating);
    }
    current(db, kek)
}

/// The envelope of the keys that are not re-sealed yet, or of all.
pub(super) fn current(db: &Connection, kek: &Kek) -> Result<Envelope, StartError> {
    let (id, sealed, mark_key): (u8, Vec<u8>, Option<Vec<u8>>) =
        db.query_row("SELECT id, sealed, mark_key FROM keks WHERE is_next = 0", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let envelope = Envelope::new(id, kek);
    check(&envelope, &sealed)?;
    if let Some(sealed) = mark_key {
        return with_mark_key(envelope, &sealed);
    }
    // A store of before version 3: its marks are under the key that follows from this KEK, which is kept from now on.
    db.execute("UPDATE keks SET mark_key = ?1 WHERE id = ?2", params![envelope.sealed_mark_key(), id])?;
    Ok(envelope)
}

fn first(db: &Connection, kek: &Kek) -> rusqlite::Result<Envelope> {
    let envelope = Envelope::new(1, kek);
    insert(db, &envelope, false)?;
    Ok(envelope)
}

fn count(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("SELECT count(*) FROM keks", [], |row| row.get(0))
}

pub(super) fn insert(db: &Connection, envelope: &Envelope, is_next: bool) -> rusqlite::Result<()> {
    let sealed = envelope.seal(DeviceId(0), Purpose::Check, CHECK_TEXT);
    db.execute(
        "INSERT INTO keks (id, sealed, mark_key, is_next) VALUES (?1, ?2, ?3, ?4)",
        params![envelope.kek_id(), sealed, envelope.sealed_mark_key(), is_next],
    )
    .map(drop)
}

/// The number of the KEK that a rotation goes to, when one is under way.
pub(super) fn next_id(db: &Connection) -> rusqlite::Result<Option<u8>> {
    db.query_row("SELECT id FROM keks WHERE is_next = 1", [], |row| row.get(0)).optional()
}

/// Whether the rotation under way goes to the KEK of this envelope.
pub(super) fn check_next(db: &Connection, envelope: &Envelope) -> Result<(), StartError> {
    let sealed: Vec<u8> = db.query_row("SELECT sealed FROM keks WHERE is_next = 1", [], |row| row.get(0))?;
    check(envelope, &sealed)
}

fn check(envelope: &Envelope, sealed: &[u8]) -> Result<(), StartError> {
    match envelope.open(DeviceId(0), Purpose::Check, sealed) {
        Ok(text) if text.as_slice() == CHECK_TEXT => Ok(()),
        Ok(_) | Err(Unsealable) => Err(StartError::WrongKek),
    }
}

fn with_mark_key(envelope: Envelope, sealed: &[u8]) -> Result<Envelope, StartError> {
    let opened = envelope.open(DeviceId(0), Purpose::Mark, sealed).map_err(|_| StartError::WrongKek)?;
    let key: [u8; 32] = opened.as_slice().try_into().map_err(|_| StartError::WrongKek)?;
    Ok(envelope.with_mark_key(Zeroizing::new(key)))
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn a_store_of_before_the_mark_key_keeps_its_marks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let kek = Kek::new([7; 32]);
        let before = Envelope::new(1, &kek);
        let old = Connection::open(&path).unwrap();
        old.execute_batch(schema::FIRST_VERSION).unwrap();
        let sealed = before.seal(DeviceId(0), Purpose::Check, CHECK_TEXT);
        old.execute("INSERT INTO kek (only, sealed) VALUES (1, ?1)", [sealed]).unwrap();
        drop(old);

        let db = schema::open_writer(&path).unwrap();
        assert!(matches!(open_envelope(&db, &Kek::new([8; 32])), Err(StartError::WrongKek)));
        for _ in 0..2 {
            assert_eq!(open_envelope(&db, &kek).unwrap().mark(b"key"), before.mark(b"key"));
        }
        let sealed = before.seal(DeviceId(1), Purpose::Code, b"key");
        assert!(open_envelope(&db, &kek).unwrap().open(DeviceId(1), Purpose::Code, &sealed).is_ok());
    }
}
