//! When the codebook's snapshot is written, and what a start makes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::envelope::Envelope;
use super::fleet::Fleet;
use super::metrics::Metrics;
use super::snapshot::{self, CODEBOOK_FILE, SnapshotError, Writer};
use super::truth::{Revision, revision};
use crate::engine::time::{SlotLength, UnixMs};
use crate::telemetry;

pub(super) struct Keeping {
    path: PathBuf,
    envelope: Arc<Envelope>,
    writer: Option<Writer>,
    /// When the last one was begun, and the revision that it is of.
    began: UnixMs,
    revision: Revision,
}

impl Keeping {
    pub(super) fn new(folder: &Path, envelope: Arc<Envelope>) -> Keeping {
        let path = folder.join(CODEBOOK_FILE);
        Keeping { path, envelope, writer: None, began: telemetry::now(), revision: Revision(0) }
    }

    /// The fleet as the truth has it: from the snapshot and what changed since, else from the truth alone.
    pub(super) fn fleet(&self, slot: SlotLength, db: &Connection, metrics: &Metrics) -> rusqlite::Result<Fleet> {
        let refused = match self.restored(slot, db)? {
            Ok(fleet) => {
                metrics.starts_from_snapshot.increment(1);
                return Ok(fleet);
            }
            Err(refused) => refused,
        };
        // A store that nothing was ever in has left no snapshot either.
        if revision(db)? > Revision(0) {
            metrics.starts_from_truth.increment(1);
            tracing::warn!(reason = %refused, "no snapshot of the codebook is of use; all dongles are read from the store");
        }
        Fleet::read(slot, db, &self.envelope)
    }

    fn restored(&self, slot: SlotLength, db: &Connection) -> rusqlite::Result<Result<Fleet, SnapshotError>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (roster, as_of) = match snapshot::read(&self.path, &self.envelope, threads) {
            Ok(read) => read,
            Err(refused) => return Ok(Err(refused)),
        };
        if as_of > revision(db)? {
            return Ok(Err(SnapshotError::Ahead));
        }
        let mut fleet = Fleet::of(slot, roster, as_of);
        fleet.catch_up(db, &self.envelope)?;
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
    pub(super) fn begin(&mut self, fleet: &Fleet, now: UnixMs) {
        self.began = now;
        if fleet.revision == self.revision {
            return;
        }
        match Writer::begin(&self.path, fleet.revision) {
            Ok(writer) => (self.writer, self.revision) = (Some(writer), fleet.revision),
            Err(error) => tracing::error!(%error, "the codebook's snapshot cannot be written"),
        }
    }

    /// Writes some more. `false` when nothing is being written any more.
    pub(super) fn step(&mut self, fleet: &Fleet, metrics: &Metrics) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        let stepped = writer.step(&fleet.keeper, &self.envelope);
        if let Ok(true) = stepped {
            return true;
        }
        let finished = stepped.and(self.writer.take().map_or(Ok(0), Writer::finish));
        match finished {
            Ok(bytes) => metrics.snapshot_written(bytes, telemetry::now().since(self.began)),
            Err(error) => {
                self.revision = Revision(0);
                metrics.snapshots_failed.increment(1);
                tracing::error!(%error, "the codebook's snapshot was not written; the last one stays");
            }
        }
        false
    }
}
