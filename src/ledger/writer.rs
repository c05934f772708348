//! The writer thread: takes what waits, commits it in one transaction, answers.

use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Config, Entry, LedgerError, Seq, metrics::Metrics, store};

pub(super) enum Job {
    Append { entries: Vec<Entry>, answer: oneshot::Sender<Result<Seq, LedgerError>> },
    Close { answer: oneshot::Sender<Result<(), LedgerError>> },
}

type Append = (Vec<Entry>, oneshot::Sender<Result<Seq, LedgerError>>);

pub(super) struct Writer {
    connection: Connection,
    commit_max: usize,
    checkpoint_entries: u64,
    since_checkpoint: u64,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(connection: Connection, config: &Config) -> Writer {
        Writer {
            connection,
            commit_max: config.commit_max.max(1),
            checkpoint_entries: config.checkpoint_entries.max(1),
            since_checkpoint: 0,
            metrics: Metrics::new(),
        }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = queue.blocking_recv() else { break };
            let (group, close) = self.gather(first, &mut queue);
            self.commit(group);
            closing = close;
        }
        queue.close();
        let closed = self.checkpoint("TRUNCATE");
        if let Some(answer) = closing {
            let _ = answer.send(closed);
        }
    }

    /// What waits already, up to the bound; a close ends the group.
    fn gather(
        &self,
        first: Job,
        queue: &mut mpsc::Receiver<Job>,
    ) -> (Vec<Append>, Option<oneshot::Sender<Result<(), LedgerError>>>) {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Append { entries, answer } => group.push((entries, answer)),
                Job::Close { answer } => return (group, Some(answer)),
            }
            next = if group.len() < self.commit_max { queue.try_recv().ok() } else { None };
        }
        (group, None)
    }

    fn commit(&mut self, group: Vec<Append>) {
        if group.is_empty() {
            return;
        }
        let appends: Vec<&[Entry]> = group.iter().map(|(entries, _)| entries.as_slice()).collect();
        let count = appends.iter().map(|entries| entries.len() as u64).sum();
        let started = Instant::now();
        let outcome = store::append(&mut self.connection, &appends);
        match &outcome {
            Ok(_) => self.metrics.committed(count, started.elapsed()),
            Err(error) => {
                self.metrics.failed(error);
                tracing::error!(%error, appends = group.len(), "the journal did not take a transaction");
            }
        }
        for (place, (_, answer)) in group.into_iter().enumerate() {
            // Who went away does not need the answer.
            let _ = answer.send(outcome.as_ref().map(|places| places[place]).map_err(LedgerError::clone));
        }
        self.since_checkpoint += count;
        if self.since_checkpoint >= self.checkpoint_entries {
            self.since_checkpoint = 0;
            if let Err(error) = self.checkpoint("PASSIVE") {
                tracing::warn!(%error, "the journal's checkpoint failed; the next one tries again");
            }
        }
    }

    fn checkpoint(&self, mode: &str) -> Result<(), LedgerError> {
        self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?;
        Ok(())
    }
}
