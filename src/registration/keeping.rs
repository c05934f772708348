//! When the codebook's snapshot is written, and what a start makes of it.
//!
//! Where there is a Redis, the segments go there as well: a start that has no snapshot of its own takes them from there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::cache::RedisUrl;
use super::clocks::UnsavedClocks;
use super::envelope::Envelope;
use super::fleet::Fleet;
use super::metrics::Metrics;
use super::shelf::{self, Shelf, ShelfError};
use super::snapshot::{self, CODEBOOK_FILE, SnapshotError, Writer};
use super::truth::{Moment, Revision, has_been_at, revision, store_id};
use crate::engine::codebook::Roster;
use crate::engine::time::{SlotLength, UnixMs};
use crate::telemetry;

pub(super) struct Keeping {
    path: PathBuf,
    envelope: Arc<Envelope>,
    redis: Option<RedisUrl>,
    writer: Option<Writer>,
    /// As long as Redis takes what the snapshot is made of.
    shelf: Option<Shelf>,
    /// When the last one was begun, and the moment that it is of.
    began: UnixMs,
    as_of: Moment,
}

impl Keeping {
    pub(super) fn new(folder: &Path, envelope: Arc<Envelope>, redis: Option<RedisUrl>) -> Keeping {
        let path = folder.join(CODEBOOK_FILE);
        let (writer, shelf) = (None, None);
        Keeping { path, envelope, redis, writer, shelf, began: telemetry::now(), as_of: Moment::default() }
    }

    /// The fleet as the truth has it: from the snapshot or Redis and what changed since, else from the truth alone.
    pub(super) fn fleet(&self, slot: SlotLength, db: &Connection, metrics: &Metrics) -> rusqlite::Result<Fleet> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let refused = match self.caught_up(slot, db, snapshot::read(&self.path, &self.envelope, threads))? {
            Ok(fleet) => {
                metrics.starts_from_snapshot.increment(1);
                return Ok(fleet);
            }
            Err(refused) => refused,
        };
        // A store that nothing was ever in has left no snapshot either.
        if revision(db)? == Revision(0) {
            return Fleet::read(slot, db, &self.envelope);
        }
        tracing::warn!(reason = %refused, "no snapshot of the codebook is of use");
        if let Some(url) = &self.redis {
            let read = shelf::read(url, store_id(db)?, &self.envelope, threads);
            match self.caught_up(slot, db, read)? {
                Ok(fleet) => {
                    metrics.starts_from_redis.increment(1);
                    return Ok(fleet);
                }
                Err(refused) => tracing::warn!(reason = %refused, "neither is what Redis has"),
            }
        }
        metrics.starts_from_truth.increment(1);
        tracing::warn!("all dongles are read from the store");
        Fleet::read(slot, db, &self.envelope)
    }

    /// What a copy holds, with all that changed in the truth since.
    fn caught_up<E: Into<Refusal>>(
        &self,
        slot: SlotLength,
        db: &Connection,
        copy: Result<(Roster, Moment), E>,
    ) -> rusqlite::Result<Result<Fleet, Refusal>> {
        let (roster, as_of) = match copy {
            Ok(read) => read,
            Err(refused) => return Ok(Err(refused.into())),
        };
        if !has_been_at(db, as_of)? {
            return Ok(Err(Refusal::Elsewhere));
        }
        let mut fleet = Fleet::of(slot, roster, as_of);
        fleet.catch_up(db, &self.envelope, &UnsavedClocks::default())?;
        Ok(Ok(fleet))
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writer.is_some()
    }

    /// `each_ms` of 0 is never, but at the end.
    pub(super) fn is_due(&self, now: UnixMs, each_ms: u64) -> bool {
        self.writer.is_none() && each_ms > 0 && now.since(self.began) >= each_ms
    }

    /// Begins a snapshot, unless nothing changed since the last one.
    pub(super) fn begin(&mut self, fleet: &Fleet, db: &Connection, now: UnixMs) {
        self.began = now;
        if fleet.as_of == self.as_of {
            return;
        }
        match Writer::begin(&self.path, fleet.as_of) {
            Ok(writer) => (self.writer, self.as_of) = (Some(writer), fleet.as_of),
            Err(error) => tracing::error!(%error, "the codebook's snapshot cannot be written"),
        }
        let Some(url) = self.redis.as_ref().filter(|_| self.writer.is_some()) else { return };
        let begun = store_id(db)
            .map_err(|error| error.to_string())
            .and_then(|store| Shelf::begin(url, store, fleet.as_of).map_err(|error| error.to_string()));
        self.shelf = begun.inspect_err(|error| tracing::debug!(%error, "Redis gets no segments this time")).ok();
    }

    /// Writes some more. `false` when nothing is being written any more.
    pub(super) fn step(&mut self, fleet: &Fleet, metrics: &Metrics) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        let stepped = writer.step(&fleet.keeper, &self.envelope);
        if let Ok(Some(segment)) = &stepped {
            self.shelve(|shelf| shelf.put(segment).map(|()| true));
            return true;
        }
        let is_whole = stepped.is_ok();
        let envelope = Arc::clone(&self.envelope);
        self.shelve(|shelf| if is_whole { shelf.finish(&envelope).map(|()| false) } else { Ok(false) });
        let finished = stepped.and(self.writer.take().map_or(Ok(0), Writer::finish));
        match finished {
            Ok(bytes) => metrics.snapshot_written(bytes, telemetry::now().since(self.began)),
            Err(error) => {
                self.as_of = Moment::default();
                metrics.snapshots_failed.increment(1);
                tracing::error!(%error, "the codebook's snapshot was not written; the last one stays");
            }
        }
        false
    }

    /// A Redis that fails in the middle gets no more of this snapshot; what it had stays.
    fn shelve(&mut self, put: impl FnOnce(&mut Shelf) -> Result<bool, ShelfError>) {
        let Some(mut taken) = self.shelf.take() else { return };
        match put(&mut taken) {
            Ok(true) => self.shelf = Some(taken),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "Redis got no segments of the codebook; it keeps those that it had"),
        }
    }
}

/// Why a copy is not what a start is made of.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("the store was never where it is, and must have been put back from a backup")]
    Elsewhere,
}
