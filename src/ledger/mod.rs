//! The ledger: the durable journal of everything that money depends on.
//!
//! One table in `ledger.db`, append-only, written by one thread. Whatever waits when the thread is free is committed
//! in one transaction (group commit), so that one flush of the disk serves many sessions; an append is answered once
//! its transaction is durable.
//!
//! Rules:
//! - SQLite is the bundled one and at least 3.51.3: older ones could lose committed writes when the WAL was reset.
//! - WAL with `synchronous=FULL`; checkpoints are made by the writer thread only. Both are asserted at start.
//! - Payloads are rkyv archives of events; kind and format stand outside of them, in columns.
//! - A failed transaction fails every append in it, and leaves no trace of any.

mod error;
mod metrics;
mod payload;
mod store;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::engine::time::UnixMs;
pub use error::{LedgerError, OpenError};
pub use payload::{Damaged, decode, encode};
use writer::{Job, Writer};

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Appends that may wait for the writer thread; past it, who appends waits. Each costs some hundred bytes.
    pub queue_max: usize,
    /// Appends in one transaction. More flush the disk less often, and lose more answers when a commit fails.
    pub commit_max: usize,
    /// Entries between two checkpoints. More keep the WAL file larger (about 500 bytes an entry) and restarts slower.
    pub checkpoint_entries: u64,
}

/// Whose events an entry holds. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Session = 1,
    Charge = 2,
    Prices = 3,
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        match number {
            1 => Some(Kind::Session),
            2 => Some(Kind::Charge),
            3 => Some(Kind::Prices),
            _ => None,
        }
    }
}

/// One event as it is journalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: UnixMs,
    pub kind: Kind,
    /// What the event belongs to: a session id, the key of a charge, a station.
    pub subject: Vec<u8>,
    /// Version of the payload's layout, counted per kind.
    pub format: u16,
    pub payload: Vec<u8>,
}

/// Place of an entry in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// Handle to the journal; cheap to clone. The thread ends with [`close`](Ledger::close) or with the last handle.
#[derive(Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    /// A connection of its own, so that a read never waits for a commit.
    reader: Arc<Mutex<Connection>>,
}

impl Ledger {
    /// Opens or makes `ledger.db` in the data folder and starts its writer thread.
    pub fn open(config: &Config, folder: &Path) -> Result<Ledger, OpenError> {
        let path = folder.join("ledger.db");
        let writer = Writer::new(store::open_writer(&path)?, config);
        let reader = store::open_reader(&path)?;
        let (jobs, queue) = mpsc::channel(config.queue_max.max(1));
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run(queue))
            .map_err(OpenError::Thread)?;
        Ok(Ledger { jobs, reader: Arc::new(Mutex::new(reader)) })
    }

    /// Appends `entries` in one transaction; answers with the place of the last once they are durable. Waits while
    /// the queue is full.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Seq, LedgerError> {
        let (answer, durable) = oneshot::channel();
        self.jobs.send(Job::Append { entries, answer }).await.map_err(|_| LedgerError::Closed)?;
        durable.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Every entry in order. Blocks; made for the start.
    pub fn replay(&self, each: impl FnMut(Seq, Entry)) -> Result<(), LedgerError> {
        store::replay(&self.reader(), each)
    }

    /// The entries of one subject in order, with their places.
    pub async fn of(&self, kind: Kind, subject: Vec<u8>) -> Result<Vec<(Seq, Entry)>, LedgerError> {
        let ledger = self.clone();
        tokio::task::spawn_blocking(move || ledger.read(kind, &subject)).await.unwrap_or(Err(LedgerError::Closed))
    }

    /// As [`of`](Ledger::of), and blocks; made for the start. Not from within a replay.
    pub fn read(&self, kind: Kind, subject: &[u8]) -> Result<Vec<(Seq, Entry)>, LedgerError> {
        store::of(&self.reader(), kind, subject)
    }

    /// Commits what waits, makes a last checkpoint and ends the thread. Later appends fail.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let (answer, closed) = oneshot::channel();
        self.jobs.send(Job::Close { answer }).await.map_err(|_| LedgerError::Closed)?;
        closed.await.unwrap_or(Err(LedgerError::Closed))
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A reader that panicked left no half-made change behind: it cannot write.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { queue_max: 64, commit_max: 16, checkpoint_entries: 10 }
    }

    fn entry(number: u8) -> Entry {
        Entry {
            at: UnixMs(u64::from(number)),
            kind: Kind::Session,
            subject: vec![number % 2; 16],
            format: 1,
            payload: vec![number; 40],
        }
    }

    fn replayed(ledger: &Ledger) -> Vec<Entry> {
        let mut entries = Vec::new();
        ledger.replay(|_, entry| entries.push(entry)).unwrap();
        entries
    }

    #[tokio::test]
    async fn what_was_answered_is_there_in_order_after_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&config(), folder.path()).unwrap();
        for number in 0..30 {
            assert_eq!(ledger.append(vec![entry(number)]).await.unwrap(), Seq(u64::from(number) + 1));
        }
        ledger.close().await.unwrap();
        assert!(matches!(ledger.append(vec![entry(0)]).await, Err(LedgerError::Closed)));
        let again = Ledger::open(&config(), folder.path()).unwrap();
        assert_eq!(replayed(&again), (0..30).map(entry).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn many_appends_at_once_are_all_answered_and_each_subject_reads_alone() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&config(), folder.path()).unwrap();
        let all = (0..100).map(|number| ledger.append(vec![entry(number), entry(number)]));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        assert_eq!(replayed(&ledger).len(), 200);
        assert_eq!(ledger.of(Kind::Session, vec![1; 16]).await.unwrap().len(), 100);
        assert!(ledger.of(Kind::Charge, vec![1; 16]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_journal_of_a_later_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Ledger::open(&config(), folder.path()).unwrap().close().await.unwrap();
        let raw = Connection::open(folder.path().join("ledger.db")).unwrap();
        raw.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Ledger::open(&config(), folder.path()), Err(OpenError::Version { found: 99, .. })));
    }
}
