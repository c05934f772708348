//! The writer thread: takes what waits, commits it in one transaction, answers.
//!
//! A transaction that fails is answered at once and not tried again: who asked for it decides. From then on the thread
//! probes the disk, and says that the journal takes appends again once a probe or an append has gone through.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::{
    sync::{mpsc, oneshot},
    time::error::Elapsed,
};

use super::{
    Claim, Config, Head, LedgerError, OpenError, Purge, PurgeOrder, Seq,
    condition::Condition,
    metrics::Metrics,
    purge,
    store::{self, Append},
};
use crate::{
    engine::time::{DAY_MS, UnixMs},
    telemetry::queue::Queue,
};

/// Pauses between two probes of a disk that fails: twice as long each time, so that readiness comes back within seconds
/// and a log is not flooded.
const PROBE_MIN: Duration = Duration::from_millis(250);
const PROBE_MAX: Duration = Duration::from_secs(5);

type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

pub(super) enum Job {
    /// With the time from which it waits.
    Append(Append, UnixMs, Answer<Seq>),
    CompleteClaims(Vec<(Claim, UnixMs)>, Answer<()>),
    ForgetClaims {
        after: Option<u32>,
        now: UnixMs,
        answer: Answer<Option<u32>>,
    },
    Purge(PurgeOrder, Answer<Purge>),
    Close(Answer<()>),
}

pub(super) struct Writer {
    path: PathBuf,
    connection: Connection,
    /// Unknown after a failure, until the journal is asked.
    head: Option<Head>,
    /// The last head that was durable.
    known: Head,
    commit_max: usize,
    claim_ms: u64,
    checkpoint_entries: u64,
    since_checkpoint: u64,
    /// The pause until the next probe, while the disk fails.
    failing: Option<Duration>,
    condition: Condition,
    metrics: Metrics,
    waiting: Queue,
}

impl Writer {
    pub(super) fn open(
        config: &Config,
        path: PathBuf,
        condition: Condition,
        waiting: Queue,
    ) -> Result<Writer, OpenError> {
        let connection = store::open_writer(&path)?;
        let head = store::head(&connection)?;
        tracing::info!(%head, "the journal is open");
        Ok(Writer {
            path,
            connection,
            head: Some(head),
            known: head,
            commit_max: config.commit_max.max(1),
            claim_ms: u64::from(config.transaction_days) * DAY_MS,
            checkpoint_entries: config.checkpoint_entries.max(1),
            since_checkpoint: 0,
            failing: None,
            condition,
            metrics: Metrics::new(),
            waiting,
        })
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        self.probe();
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = self.next(&mut queue) else { break };
            let (group, last) = self.gather(first, &mut queue);
            self.commit(group);
            closing = last.and_then(|job| self.carry_out(job));
        }
        queue.close();
        let closed = self.checkpoint("TRUNCATE");
        tracing::info!(head = %self.known, "the journal is closed");
        if let Some(answer) = closing {
            let _ = answer.send(closed);
        }
    }

    /// The next job; while the disk fails, probes meanwhile.
    fn next(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while let Some(pause) = self.failing {
            match receive_within(queue, pause) {
                Ok(job) => return job,
                Err(_) => self.probe(),
            }
        }
        queue.blocking_recv()
    }

    /// The appends that wait already, up to the bound, and the job of another kind that ended them.
    fn gather(&self, first: Job, queue: &mut mpsc::Receiver<Job>) -> (Vec<(Append, Answer<Seq>)>, Option<Job>) {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Append(append, since, answer) => {
                    if group.is_empty() {
                        self.waiting.began(since, queue.len());
                    }
                    group.push((append, answer));
                }
                other => return (group, Some(other)),
            }
            next = if group.len() < self.commit_max { queue.try_recv().ok() } else { None };
        }
        (group, None)
    }

    fn commit(&mut self, group: Vec<(Append, Answer<Seq>)>) {
        if group.is_empty() {
            return;
        }
        let (appends, answers): (Vec<Append>, Vec<Answer<Seq>>) = group.into_iter().unzip();
        let claim_ms = self.claim_ms;
        let outcome = self.transact(|connection, head| store::append(connection, head, &appends, claim_ms));
        // Who went away does not need the answer.
        match outcome {
            Ok(places) => {
                self.metrics.claims_refused(
                    places.iter().filter(|place| matches!(place, Err(LedgerError::Claimed))).count() as u64,
                );
                answers.into_iter().zip(places).for_each(|(answer, place)| {
                    let _ = answer.send(place);
                });
            }
            Err(error) => answers.into_iter().for_each(|answer| {
                let _ = answer.send(Err(error.clone()));
            }),
        }
        self.waiting.ended();
        self.checkpoint_when_due();
    }

    /// A job that is no append; a close comes back.
    fn carry_out(&mut self, job: Job) -> Option<Answer<()>> {
        let claim_ms = self.claim_ms;
        match job {
            Job::Close(answer) => return Some(answer),
            Job::Purge(order, answer) => {
                let purged = self.transact(|connection, head| purge::purge(connection, head, &order));
                self.since_checkpoint += purged.as_ref().map_or(0, |purge| purge.entries);
                let _ = answer.send(purged);
                self.checkpoint_when_due();
            }
            Job::CompleteClaims(claims, answer) => {
                let _ = answer.send(store::complete_claims(&mut self.connection, &claims, claim_ms));
            }
            Job::ForgetClaims { after, now, answer } => {
                let _ = answer.send(store::forget_claims(&self.connection, after, now.minus(claim_ms)));
            }
            Job::Append(..) => unreachable!("gathered into a group"),
        }
        None
    }

    /// One transaction that adds to the journal, from the head that it has; told to whom it concerns.
    fn transact<T>(
        &mut self,
        transaction: impl FnOnce(&mut Connection, Head) -> Result<(Head, T), LedgerError>,
    ) -> Result<T, LedgerError> {
        let started = Instant::now();
        self.condition.begin(started);
        let head = self.head.map_or_else(|| store::head(&self.connection), Ok);
        let outcome = head.map_err(LedgerError::from).and_then(|head| transaction(&mut self.connection, head));
        match outcome {
            Ok((head, done)) => {
                let entries = head.seq.0 - self.known.seq.0;
                self.metrics.committed(entries, started.elapsed());
                self.since_checkpoint += entries;
                (self.head, self.known) = (Some(head), head);
                self.succeeded();
                Ok(done)
            }
            Err(error) => {
                self.metrics.failed(&error);
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn succeeded(&mut self) {
        self.failing = None;
        if self.condition.end(None) {
            self.metrics.takes_appends(true);
            tracing::info!(head = %self.known, "the journal takes appends");
        }
    }

    fn failed(&mut self, error: &LedgerError) {
        // The disk may have taken what it said that it did not: the journal is asked before it goes on.
        self.head = None;
        self.failing = Some(self.failing.unwrap_or(PROBE_MIN));
        if self.condition.end(Some(error)) {
            self.metrics.takes_appends(false);
            tracing::error!(%error, "the journal takes no appends");
        }
    }

    /// Whether the disk takes writes again. By a new connection, since the file that the old one holds may be gone for good.
    fn probe(&mut self) {
        self.condition.begin(Instant::now());
        let probed = self.try_probe();
        self.metrics.probed(probed.is_ok());
        match probed {
            Ok(()) => self.succeeded(),
            Err(error) => {
                self.failed(&error);
                self.failing = self.failing.map(|pause| (pause * 2).min(PROBE_MAX));
            }
        }
    }

    fn try_probe(&mut self) -> Result<(), LedgerError> {
        if self.failing.is_some() {
            self.connection = store::reopen_writer(&self.path, self.known)?;
        }
        store::probe(&self.connection)
    }

    fn checkpoint_when_due(&mut self) {
        if self.since_checkpoint < self.checkpoint_entries {
            return;
        }
        self.since_checkpoint = 0;
        if let Err(error) = self.checkpoint("PASSIVE") {
            tracing::warn!(%error, "the journal's checkpoint failed; the next one tries again");
        }
    }

    fn checkpoint(&self, mode: &str) -> Result<(), LedgerError> {
        self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?;
        Ok(())
    }
}

/// `None` when nobody can send any more.
fn receive_within(queue: &mut mpsc::Receiver<Job>, pause: Duration) -> Result<Option<Job>, Elapsed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a clock is all that it has");
    runtime.block_on(async { tokio::time::timeout(pause, queue.recv()).await })
}
