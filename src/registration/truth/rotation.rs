//! A new key-encryption key (KEK) for a store that no engine runs on: every sealed key is sealed anew, a batch a commit.
//!
//! ```text
//! begin: the new KEK is in the folder (`kek.next`) and in `keks` -> batches -> finish: the old one leaves `keks`
//!        -> `kek.next` becomes `kek`
//! ```
//!
//! Each arrow is one commit or one rename, and says by itself where a rotation that was cut off goes on; until the finish
//! both keys are needed, after it the old one is refused. An engine does not start in between: it has one key only.
//!
//! A rotation often follows a leak. So what is replaced is overwritten (`secure_delete`), and the log of the writes is
//! emptied in the end: the old key opens nothing in the files any more. What lies in backups it still opens.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::revision::Revisions;
use super::{STORE_FILE, keks, schema};
use crate::engine::id::DeviceId;
use crate::registration::envelope::{
    Envelope, KEK_FILE, KEK_NEXT_FILE, Kek, KekHex, Purpose, make_kek, parse_kek, read_kek, sync_folder, write_kek,
};
use crate::registration::error::StartError;

/// Dongles of a commit, of about 100 ms; as much is done anew after a kill.
pub const ROTATION_BATCH: usize = 5_000;

/// Where the new KEK comes from.
pub enum NewKek {
    Given(KekHex),
    /// Made at random, into the data folder.
    Made,
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("registrations.db: {0}")]
    Store(#[from] rusqlite::Error),
    #[error(
        "a rotation to another new key was cut off; end it first, with that key (the file {KEK_NEXT_FILE} of the data \
         folder, or the one that was given)"
    )]
    OtherNewKey,
    #[error("there is no key-encryption key to rotate: {0} has none, and none is set")]
    NoKey(PathBuf),
}

/// A rotation under way.
pub struct Rotation {
    db: Connection,
    folder: PathBuf,
    /// Whether the store's KEK is the file of the folder, and not one of the settings.
    is_of_folder: bool,
    old: Envelope,
    new: Envelope,
    new_kek: Kek,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    pub dongles: usize,
    /// Keys that did not open, and are left as they are: no engine opens them either.
    pub unsealable: usize,
}

/// What to do with the KEK now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing: the data folder has it.
    None,
    /// It has to be set where the old one is: the one that was given, or that of this file.
    Set(Option<PathBuf>),
}

impl Rotation {
    /// Begins a rotation, or takes one up that was cut off. `None` when nothing is left to do,
    /// or nothing was but the KEK's file.
    pub fn open(folder: &Path, settings: Option<&KekHex>, new: &NewKek) -> Result<Option<Rotation>, RotateError> {
        let old_kek = match settings {
            Some(hex) => parse_kek(hex.reveal())?,
            None => read_kek(&folder.join(KEK_FILE))?.ok_or_else(|| RotateError::NoKey(folder.into()))?,
        };
        let db = schema::open_writer(&folder.join(STORE_FILE))?;
        db.execute_batch("PRAGMA secure_delete = ON")?;
        let new_kek = new_kek(folder, settings.is_none(), new, &old_kek)?;
        let old = match keks::current(&db, &old_kek) {
            Ok(_) if new_kek == old_kek => return Ok(None),
            Err(StartError::WrongKek) if keks::current(&db, &new_kek).is_ok() => {
                switch_files(folder, settings.is_none())?;
                return Ok(None);
            }
            current => current?,
        };
        let new = if let Some(id) = keks::next_id(&db)? {
            let new = old.successor(id, &new_kek);
            keks::check_next(&db, &new).map_err(|_| RotateError::OtherNewKey)?;
            new
        } else {
            // 1 to 255 and around: zero is for another form of sealed keys.
            let new = old.successor(old.kek_id() % 255 + 1, &new_kek);
            keks::insert(&db, &new, true)?;
            new
        };
        let folder = folder.to_owned();
        Ok(Some(Rotation { db, folder, is_of_folder: settings.is_none(), old, new, new_kek }))
    }

    /// All dongles of the store, and those that are done.
    pub fn extent(&self) -> Result<(usize, usize), RotateError> {
        let count = |sql: &str| self.db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|count| count as usize);
        let done = "SELECT count(*) FROM devices WHERE device_id <= (SELECT done_to FROM keks WHERE is_next = 1)";
        Ok((count("SELECT count(*) FROM devices")?, count(done)?))
    }

    /// Seals the next dongles anew, in one commit. `None` when there are none.
    pub fn step(&mut self, dongles_max: usize) -> Result<Option<Rotated>, RotateError> {
        let tx = self.db.transaction()?;
        let mut rotated = Rotated { dongles: 0, unsealable: 0 };
        let rows = next_rows(&tx, dongles_max)?;
        let Some(last) = rows.last().map(|row| row.device) else { return Ok(None) };
        let mut revisions = Revisions::new(rows.len());
        for row in &rows {
            rotated.dongles += 1;
            let reseal = |purpose, sealed: &[u8]| reseal(&self.old, &self.new, row.device, purpose, sealed);
            let secret = reseal(Purpose::Code, &row.secret);
            let proof_key = row.proof_key.as_ref().map(|sealed| reseal(Purpose::Proof, sealed));
            rotated.unsealable += usize::from(secret.is_none()) + usize::from(proof_key == Some(None));
            let secret = secret.as_ref().unwrap_or(&row.secret);
            let proof_key = proof_key.flatten().or_else(|| row.proof_key.clone());
            // A copy that somebody keeps has keys under the old KEK: to him the dongle has changed.
            tx.prepare_cached("UPDATE devices SET secret = ?2, proof_key = ?3, changed = ?4 WHERE device_id = ?1")?
                .execute(params![row.device.0 as i64, secret, proof_key, revisions.next(&tx)?.0 as i64])?;
        }
        tx.execute("UPDATE keks SET done_to = ?1 WHERE is_next = 1", [last.0 as i64])?;
        tx.commit()?;
        Ok(Some(rotated))
    }

    /// Takes the old KEK out of the store, and out of the folder if it is there.
    pub fn finish(mut self) -> Result<NextStep, RotateError> {
        let tx = self.db.transaction()?;
        let resolver: Option<Vec<u8>> = tx.query_row("SELECT sealed FROM resolver", [], |row| row.get(0)).optional()?;
        if let Some(sealed) = resolver
            && let Some(sealed) = reseal(&self.old, &self.new, DeviceId(0), Purpose::Resolver, &sealed)
        {
            tx.execute("UPDATE resolver SET sealed = ?1", [sealed])?;
        }
        tx.execute("DELETE FROM keks WHERE is_next = 0", [])?;
        tx.execute("UPDATE keks SET is_next = 0, done_to = NULL", [])?;
        tx.commit()?;
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        switch_files(&self.folder, self.is_of_folder)?;
        let file = self.folder.join(KEK_NEXT_FILE);
        let is_made = read_kek(&file)?.is_some_and(|kek| kek == self.new_kek);
        Ok(if self.is_of_folder { NextStep::None } else { NextStep::Set(is_made.then_some(file)) })
    }
}

/// The new KEK, on the disk before the first key is sealed under it, unless somebody else keeps it.
fn new_kek(folder: &Path, is_of_folder: bool, new: &NewKek, old: &Kek) -> Result<Kek, RotateError> {
    let file = folder.join(KEK_NEXT_FILE);
    let begun = read_kek(&file)?;
    match (new, begun) {
        // Left of an earlier rotation, whose key is in the settings by now.
        (NewKek::Made, Some(kek)) if kek == *old => {
            std::fs::remove_file(&file).map_err(|source| StartError::File { path: file.clone(), source })?;
            Ok(make_kek(&file)?)
        }
        (NewKek::Made, Some(kek)) => Ok(kek),
        (NewKek::Made, None) => Ok(make_kek(&file)?),
        (NewKek::Given(hex), begun) => {
            let kek = parse_kek(hex.reveal())?;
            if begun.as_ref().is_some_and(|begun| *begun != kek && begun != old) {
                return Err(RotateError::OtherNewKey);
            }
            if is_of_folder && begun.is_none() && kek != *old {
                write_kek(&file, &kek)?;
            }
            Ok(kek)
        }
    }
}

fn switch_files(folder: &Path, is_of_folder: bool) -> Result<(), StartError> {
    let (next, kek) = (folder.join(KEK_NEXT_FILE), folder.join(KEK_FILE));
    if !is_of_folder {
        return Ok(());
    }
    match std::fs::rename(&next, &kek) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.and_then(|()| sync_folder(folder)).map_err(|source| StartError::File { path: next, source }),
    }
}

struct SealedRow {
    device: DeviceId,
    secret: Vec<u8>,
    proof_key: Option<Vec<u8>>,
}

fn next_rows(db: &Connection, limit: usize) -> rusqlite::Result<Vec<SealedRow>> {
    let done_to: Option<i64> = db.query_row("SELECT done_to FROM keks WHERE is_next = 1", [], |row| row.get(0))?;
    // Both ends of the ids are ids: without one that is done the first may be the least number there is.
    let (sql, from) = match done_to {
        Some(done_to) => ("device_id > ?1", done_to),
        None => ("device_id >= ?1", i64::MIN),
    };
    db.prepare_cached(&format!(
        "SELECT device_id, secret, proof_key FROM devices WHERE {sql} ORDER BY device_id LIMIT ?2"
    ))?
    .query_map(params![from, limit as i64], |row| {
        Ok(SealedRow { device: DeviceId(row.get::<_, i64>(0)? as u64), secret: row.get(1)?, proof_key: row.get(2)? })
    })?
    .collect()
}

/// `None` for what does not open.
fn reseal(old: &Envelope, new: &Envelope, device: DeviceId, purpose: Purpose, sealed: &[u8]) -> Option<Vec<u8>> {
    let opened = old.open(device, purpose, sealed).ok()?;
    Some(new.seal(device, purpose, &opened))
}
