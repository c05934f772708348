//! The ledger: the durable journal of everything that money depends on.
//!
//! One table in `ledger.db`, append-only, written by one thread, each row chained to the one before it ([`chain`]).
//! Whatever waits when the thread is free is committed in one transaction (group commit), so that one flush of the disk
//! serves many sessions; an append is answered once its transaction is durable.
//!
//! Bounds:
//! - A transaction has at most `commit_max` appends (512), some 10 us each, and one flush of the disk, whose time no
//!   setting bounds (0.1 to 10 ms on sound ones). Nobody waits for a group to fill: alone, an append costs its flush.
//! - An append waits for the transaction under way and for what is queued before it: `queue_max / commit_max` groups (8),
//!   so 9 flushes and 50 ms of work at the most, once it has a place. Past `queue_max` (4096 appends of about a kilobyte,
//!   4 MB) the callers wait for one, and what they hold is bounded by their own mailboxes.
//! - The WAL grows to `checkpoint_entries` plus one group, and beyond while somebody reads one state of the journal for long,
//!   as a verification and a backup do. A transaction writes whole pages, at least four of 4 KB: 64 MB for 4,000 entries that
//!   had one each, 2 MB in full groups.
//! - A checkpoint holds up the commits behind it for 4 to 9 ms, five times in a minute of 200 appends a second: it takes a
//!   two-thousandth of the time, and is not worth a connection and a thread of its own.
//!
//! Rules:
//! - SQLite is the bundled one and at least 3.51.3: older ones could lose committed writes when the WAL was reset.
//! - WAL with `synchronous=FULL`; checkpoints are made by the writer thread only. Both are asserted at start.
//! - Payloads are rkyv archives of events; kind and format stand outside of them, in columns.
//! - A failed transaction fails every append in it, and leaves no trace of any. While the disk fails, appends fail at
//!   once and the thread probes; [`Ledger::lack`] says so until one of the two has gone through again.
//! - A site transaction belongs for some days to the session that came with it first. The claim is taken in the
//!   transaction of the event that makes it, so that no two sessions ever have both.
//! - Nothing is deleted. What was kept long enough is emptied ([`purge`]), and the journal says so itself.

mod backup;
mod chain;
mod condition;
mod error;
mod journal;
mod metrics;
mod migration;
mod payload;
mod purge;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use crate::{
    engine::{
        id::{SessionId, StationId},
        time::UnixMs,
    },
    telemetry::{now, queue::Queue, trace::step},
};
pub use backup::{BackupError, copy, publish};
pub use chain::{Head, NoHead};
use condition::Condition;
pub use error::{LedgerError, OpenError};
pub use journal::Journal;
pub use payload::{Damaged, decode, encode};
pub use purge::{Purge, PurgeOrder, Removal, Rule};
use store::Append;
pub use verify::{Broken, Fault, Named, Verified, VerifyError};
use writer::{Job, Writer};

const FILE: &str = "ledger.db";

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Metrics::new();
    let _ = metrics::queue();
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Appends that may wait for the writer thread; past it, who appends waits. Each costs some hundred bytes.
    pub queue_max: usize,
    /// Appends in one transaction. More flush the disk less often, and lose more answers when a commit fails.
    pub commit_max: usize,
    /// Entries between two checkpoints. More keep the WAL file larger (16 KB an entry that is committed alone) and restarts slower.
    pub checkpoint_entries: u64,
    /// Days for which a site transaction is refused for another sale; about 100 bytes each.
    pub transaction_days: u32,
    /// Days after its last event for which a session that sold something is kept.
    pub session_days: u32,
    /// The same for a session that never did.
    pub location_days: u32,
}

/// Whose events an entry holds. The number is on disk; 0 is a row that was purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Session = 1,
    Charge = 2,
    Prices = 3,
    Purge = 4,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Session => "session",
            Kind::Charge => "charge",
            Kind::Prices => "prices",
            Kind::Purge => "purge",
        }
    }

    /// `None` for a number that this program does not know.
    pub fn from_number(number: u8) -> Option<Kind> {
        match number {
            1 => Some(Kind::Session),
            2 => Some(Kind::Charge),
            3 => Some(Kind::Prices),
            4 => Some(Kind::Purge),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Seq(pub u64);

/// A site's own id of a sale, which for some days belongs to the session that came with it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub station: StationId,
    pub transaction: String,
    pub session: SessionId,
}

/// Handle to the journal; cheap to clone. The thread ends with [`close`](Ledger::close) or with the last handle.
#[derive(Clone)]
pub struct Ledger {
    path: Arc<Path>,
    jobs: mpsc::Sender<Job>,
    waiting: Queue,
    /// A connection of its own, so that a read never waits for a commit.
    journal: Arc<Mutex<Journal>>,
    condition: Condition,
}

impl Ledger {
    /// Opens or makes `ledger.db` in the data folder and starts its writer thread.
    pub fn open(config: &Config, folder: &Path) -> Result<Ledger, OpenError> {
        let path = Ledger::file(folder);
        let condition = Condition::starting();
        let waiting = metrics::queue();
        let writer = Writer::open(config, path.clone(), condition.clone(), waiting.clone())?;
        let journal = Journal::open(&path)?;
        let (jobs, queue) = mpsc::channel(config.queue_max.max(1));
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run(queue))
            .map_err(OpenError::Thread)?;
        Ok(Ledger { path: path.into(), jobs, waiting, journal: Arc::new(Mutex::new(journal)), condition })
    }

    /// Where the journal of a data folder lies.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Another connection that reads, for who reads much.
    pub fn reader(&self) -> Result<Journal, OpenError> {
        Journal::open(&self.path)
    }

    /// Appends `entries` in one transaction; answers with the place of the last once they are durable. Waits while
    /// the queue is full.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Seq, LedgerError> {
        self.append_claiming(entries, None).await
    }

    /// The same, and the claim with it; [`Claimed`](LedgerError::Claimed) when it is another session's.
    pub async fn append_claiming(&self, entries: Vec<Entry>, claim: Option<Claim>) -> Result<Seq, LedgerError> {
        self.append_one(Append { entries, claim, is_first: false }).await
    }

    /// As [`append`](Ledger::append), for the first entry of a subject; [`Known`](LedgerError::Known) when there is one.
    pub async fn begin(&self, entry: Entry) -> Result<Seq, LedgerError> {
        self.append_one(Append { entries: vec![entry], claim: None, is_first: true }).await
    }

    /// Empties the entries of what is to go, and appends what was done.
    pub async fn purge(&self, order: PurgeOrder) -> Result<Purge, LedgerError> {
        self.ask(|answer| Job::Purge(order, answer)).await
    }

    /// Forgets claims that are too old to be refused.
    pub async fn forget_claims(&self, now: UnixMs) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            after = self.ask(|answer| Job::ForgetClaims { after, now, answer }).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether the claims of the last days have to be read from the entries, as after a migration.
    pub fn lacks_claims(&self) -> Result<bool, LedgerError> {
        Ok(!store::has_claims(&self.journal().connection)?)
    }

    /// Takes in the claims that were read from the entries, with their times.
    pub async fn complete_claims(&self, claims: Vec<(Claim, UnixMs)>) -> Result<(), LedgerError> {
        self.ask(|answer| Job::CompleteClaims(claims, answer)).await
    }

    /// Why the journal takes no appends at present.
    pub fn lack(&self) -> Option<String> {
        self.condition.lack(Instant::now())
    }

    /// Every entry in order. Blocks; made for the start.
    pub fn replay(&self, each: impl FnMut(Seq, Entry)) -> Result<(), LedgerError> {
        self.journal().replay(each)
    }

    /// The entries of one subject in order, with their places.
    pub async fn of(&self, kind: Kind, subject: Vec<u8>) -> Result<Vec<(Seq, Entry)>, LedgerError> {
        let ledger = self.clone();
        tokio::task::spawn_blocking(move || ledger.read(kind, &subject)).await.unwrap_or(Err(LedgerError::Closed))
    }

    /// As [`of`](Ledger::of), and blocks; made for the start. Not from within a replay.
    pub fn read(&self, kind: Kind, subject: &[u8]) -> Result<Vec<(Seq, Entry)>, LedgerError> {
        self.journal().of(kind, subject)
    }

    /// Commits what waits, makes a last checkpoint and ends the thread. Later appends fail.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.ask(Job::Close).await
    }

    /// From a place in the queue to the answer: group commit leaves no part of it to one append alone.
    async fn append_one(&self, append: Append) -> Result<Seq, LedgerError> {
        let since = now();
        self.ask(|answer| Job::Append(append, since, answer)).instrument(step!("journal")).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| LedgerError::Closed)?;
        self.waiting.grew(&self.jobs);
        answered.await.unwrap_or(Err(LedgerError::Closed))
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // A reader that panicked left no half-made change behind: it cannot write.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
