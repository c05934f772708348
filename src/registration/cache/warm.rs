//! Fills Redis from the store at once, and compares the two: for an operator, beside a running engine or without one.
//!
//! The store is only read. Filling keeps to the rules of the engine's own writes: a record that a change overtakes is
//! refused by Redis and read again.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::watch;

use super::{
    RedisUrl,
    keeper::{Keeper, KeeperError},
    link::Link,
    names::Names,
    record,
};
use crate::engine::time::SlotLength;
use crate::{
    engine::id::DeviceId,
    registration::{
        binding::Registration,
        envelope::{Envelope, KekHex},
        error::StartError,
        fleet::Fleet,
        shelf::{Shelf, ShelfError},
        truth::{Truth, binding_of, bound_after, moment, store_id},
    },
};

/// Registrations in one write to Redis: some 80 KB.
const TOGETHER: usize = 256;

/// Each time it is overtaken by a change a write begins anew. An engine that changes more than this in a row is busy with
/// an import, after which warming is worth more.
const OVERTAKEN_MAX: u32 = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    #[error(transparent)]
    Store(#[from] StartError),
    #[error("registrations.db: {0}")]
    Read(#[from] rusqlite::Error),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("the registrations change faster than they can be copied; try again when the import is over")]
    Overtaken,
}

/// What Redis holds by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Warmed {
    pub registrations: u64,
    pub dongles: u64,
}

/// What a comparison found. Records that expire or are filled meanwhile may be counted or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Whether Redis is where the store is: of one that is not, nothing is believed.
    pub is_current: bool,
    /// Records that say what the store says.
    pub right: u64,
    /// Records that say something else.
    pub wrong: u64,
    /// Records that are not ours or damaged. The engine asks the store instead.
    pub unreadable: u64,
}

impl Verified {
    /// A current Redis with wrong records is believed, and must not be.
    pub fn is_sound(&self) -> bool {
        !self.is_current || self.wrong == 0
    }
}

/// The store, opened for reading, and the way to Redis.
pub struct Operator {
    db: Connection,
    envelope: Envelope,
    url: RedisUrl,
}

impl Operator {
    pub fn open(folder: &Path, kek_hex: Option<&KekHex>, url: &RedisUrl) -> Result<Operator, WarmError> {
        let (db, envelope) = Truth::read_only(folder, kek_hex)?;
        Ok(Operator { db, envelope, url: url.clone() })
    }

    /// Every registration, and the segments of all dongles. `progress` hears of each write.
    pub async fn warm(self, mut progress: impl FnMut(Warmed)) -> Result<Warmed, WarmError> {
        let names = Names::of(&self.db)?;
        let mut link = Link::open(&self.url.client()?, &names).await?;
        let (told, moments) = watch::channel(moment(&self.db)?);
        let mut warmed = Warmed::default();
        self.shelve(&mut warmed, &mut progress)?;
        let mut keeper = Keeper::of(&self.url, names, self.db, self.envelope, moments)?;
        let (mut after, mut overtaken) = (None, 0);
        loop {
            told.send_replace(moment(keeper.db())?);
            keeper.catch_up(&mut link).await?;
            let registrations = bound_after(keeper.db(), after, TOGETHER)?;
            let Some(last) = registrations.last().map(|bound| bound.device) else { return Ok(warmed) };
            if keeper.fill_all(&mut link, &registrations).await? {
                after = Some(last);
                warmed.registrations += registrations.len() as u64;
                overtaken = 0;
                progress(warmed);
            } else {
                overtaken += 1;
            }
            if overtaken > OVERTAKEN_MAX {
                return Err(WarmError::Overtaken);
            }
        }
    }

    fn shelve(&self, warmed: &mut Warmed, progress: &mut impl FnMut(Warmed)) -> Result<(), WarmError> {
        // The slot length matters to codes, and none are made.
        let fleet = Fleet::read(SlotLength::DEFAULT, &self.db, &self.envelope)?;
        let mut begun = Shelf::begin(&self.url, store_id(&self.db)?, fleet.as_of)?;
        begun.put_all(&fleet.keeper, &self.envelope, |dongles| {
            warmed.dongles += dongles as u64;
            progress(*warmed);
        })?;
        Ok(())
    }

    /// Every record in Redis against the store.
    pub async fn verify(&self, mut progress: impl FnMut(Verified)) -> Result<Verified, WarmError> {
        let mut link = Link::open(&self.url.client()?, &Names::of(&self.db)?).await?;
        let is_current = link.moment().await? == Some(moment(&self.db)?);
        let mut verified = Verified { is_current, ..Verified::default() };
        let mut cursor = 0;
        loop {
            let (next, records) = link.scan(cursor).await?;
            for (device, bytes) in records {
                self.compare(device, &bytes, &mut verified)?;
            }
            progress(verified);
            if next == 0 {
                return Ok(verified);
            }
            cursor = next;
        }
    }

    fn compare(&self, device: DeviceId, bytes: &[u8], verified: &mut Verified) -> rusqlite::Result<()> {
        let known: Option<Registration> = binding_of(&self.db, device)?;
        match record::read(&self.envelope, device, bytes) {
            Ok(record) if Some(&record) == known.as_ref() => verified.right += 1,
            Ok(_) => verified.wrong += 1,
            Err(record::Unreadable) => verified.unreadable += 1,
        }
        Ok(())
    }
}
