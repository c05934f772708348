//! Keeps Redis a copy of the truth, and asks it for those who look something up.

use std::{sync::Arc, time::Duration};

use rusqlite::Connection;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Order, RedisUrl,
    link::{Bound, Changed, Link},
    lookups::{Fill, Find, Together},
    names::Names,
    record,
    state::{CacheState, State},
};
use crate::{
    engine::id::DeviceId,
    registration::{
        binding::Registration,
        envelope::Envelope,
        error::StartError,
        metrics::CacheMetrics,
        truth::{Moment, Truth, binding_of, changed_since, has_been_at, moment_of, revision},
    },
};

/// Changes in one step: at some 60 us to read each, look-ups wait 8 ms behind them.
const STEP: usize = 128;

/// Further behind than this it is cheaper to forget everything: a step takes 10 ms, so this is 4 s of them.
const BEHIND_MAX: u64 = 50_000;

/// Redis is looked at this often when nothing happens: one that was set back is found out within it, though no look-up
/// believes it before.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// Pauses between two tries to reach Redis.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why Redis is not a copy of the truth.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("registrations.db: {0}")]
    Truth(#[from] rusqlite::Error),
    #[error("no answer within {0:?}")]
    Slow(Duration),
}

pub(super) struct Keeper {
    client: redis::Client,
    wait: Duration,
    names: Names,
    db: Connection,
    envelope: Arc<Envelope>,
    moments: watch::Receiver<Moment>,
    /// What Redis is a copy of, as far as is known.
    at: Moment,
    state: Arc<State>,
    metrics: Arc<CacheMetrics>,
}

impl Keeper {
    pub(super) fn new(
        client: redis::Client,
        wait: Duration,
        truth: &Truth,
        state: &Arc<State>,
        metrics: &Arc<CacheMetrics>,
    ) -> Result<Keeper, StartError> {
        let db = truth.open_reader()?;
        let names = Names::of(&db)?;
        let (state, metrics) = (state.clone(), metrics.clone());
        let (envelope, moments) = (truth.envelope(), truth.moments());
        Ok(Keeper { client, wait, names, db, envelope, moments, at: Moment::default(), state, metrics })
    }

    /// For somebody who has no truth at work, but its store to read.
    pub(super) fn of(
        url: &RedisUrl,
        names: Names,
        db: Connection,
        envelope: Envelope,
        moments: watch::Receiver<Moment>,
    ) -> Result<Keeper, redis::RedisError> {
        let (envelope, state, metrics) = (Arc::new(envelope), Arc::default(), Arc::new(CacheMetrics::new()));
        let (client, wait, at) = (url.client()?, Duration::ZERO, Moment::default());
        Ok(Keeper { client, wait, names, db, envelope, moments, at, state, metrics })
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    /// Comes back to Redis for ever.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut pause = PAUSE_MIN;
        loop {
            let Err(error) = self.converse(&mut inbox).await else { return };
            pause = if self.was_current() { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            self.give_up(&error);
            sleep(pause).await;
            // Those who waited have gone to the truth.
            while inbox.try_recv().is_ok() {}
        }
    }

    fn was_current(&self) -> bool {
        self.state.get().is_current()
    }

    fn give_up(&self, error: &KeeperError) {
        // Once: it is tried again many times.
        if !matches!(self.state.get(), CacheState::Down(_)) {
            tracing::warn!(%error, "Redis is not asked any more; look-ups go to the store until it is back");
        }
        self.metrics.up.set(0.0);
        self.metrics.failures.increment(1);
        self.state.set(CacheState::Down(error.to_string()));
    }

    /// Ends in `Ok` when nobody can ask any more.
    async fn converse(&mut self, inbox: &mut mpsc::Receiver<Order>) -> Result<(), KeeperError> {
        let mut link = Link::open(&self.client, &self.names).await?;
        self.catch_up(&mut link).await?;
        tracing::info!(moment = %self.at, "Redis is a copy of the registrations");
        let mut look = interval(LOOK_EACH);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.serve(&mut link, Together::gather(order, inbox)).await?,
                    None => return Ok(()),
                },
                changed = self.moments.changed() => match changed {
                    Ok(()) => self.catch_up(&mut link).await?,
                    Err(_) => return Ok(()),
                },
                _ = look.tick() => self.catch_up(&mut link).await?,
            }
        }
    }

    async fn serve(&mut self, link: &mut Link, together: Together) -> Result<(), KeeperError> {
        if !together.finds.is_empty() {
            self.find(link, together.finds).await?;
        }
        self.fill(link, &together.fills).await
    }

    async fn find(&mut self, link: &mut Link, finds: Vec<Find>) -> Result<(), KeeperError> {
        let asked = link.records(finds.iter().map(|(device, _)| *device));
        let (held, records) = timeout(self.wait, asked).await.map_err(|_| KeeperError::Slow(self.wait))??;
        // Compared after the answer: what was changed meanwhile must not be answered with what it was before.
        if held != Some(*self.moments.borrow()) {
            self.metrics.stale.increment(finds.len() as u64);
            return if held == Some(self.at) { Ok(()) } else { self.catch_up(link).await };
        }
        for ((device, answer), bytes) in finds.into_iter().zip(records) {
            if let Some(registration) = self.read(device, bytes) {
                // Who has stopped waiting went to the truth.
                let _ = answer.send(registration);
            }
        }
        Ok(())
    }

    fn read(&self, device: DeviceId, bytes: Option<Vec<u8>>) -> Option<Registration> {
        let Some(bytes) = bytes else {
            self.metrics.misses.increment(1);
            return None;
        };
        match record::read(&self.envelope, device, &bytes) {
            Ok(registration) => {
                self.metrics.hits.increment(1);
                Some(registration)
            }
            Err(error) => {
                self.metrics.unreadable.increment(1);
                tracing::warn!(%device, %error, "the store is asked instead");
                None
            }
        }
    }

    async fn fill(&mut self, link: &mut Link, fills: &[Fill]) -> Result<(), KeeperError> {
        let at = self.at;
        let fresh = fills.iter().filter(|(_, read_at)| *read_at == at);
        self.fill_all(link, fresh.map(|(bound, _)| &**bound)).await.map(drop)
    }

    /// Keeps registrations that were read at the moment which Redis was last seen at; `false` when it has left that.
    pub(super) async fn fill_all(
        &mut self,
        link: &mut Link,
        bound: impl IntoIterator<Item = &Registration>,
    ) -> Result<bool, KeeperError> {
        let records = bound.into_iter().map(|bound| (bound.device, record::write(&self.envelope, bound)));
        let records: Vec<_> = records.collect();
        if records.is_empty() || !link.fill(self.at, &records).await? {
            return Ok(records.is_empty());
        }
        self.metrics.fills.increment(records.len() as u64);
        Ok(true)
    }

    /// Brings Redis to the moment of the truth, from wherever it is.
    pub(super) async fn catch_up(&mut self, link: &mut Link) -> Result<(), KeeperError> {
        loop {
            let goal = *self.moments.borrow_and_update();
            let held = link.moment().await?;
            let is_of_truth = held.map(|held| has_been_at(&self.db, held)).transpose()? == Some(true);
            let behind = goal.revision.0.saturating_sub(held.unwrap_or_default().revision.0);
            self.metrics.behind.set(behind as f64);
            match held {
                // Or ahead of what was told here: by another process, of a commit that is in the store already.
                Some(held) if is_of_truth && behind == 0 => {
                    self.at = held;
                    self.metrics.up.set(1.0);
                    self.state.set(CacheState::Current);
                    return Ok(());
                }
                Some(held) if is_of_truth && behind <= BEHIND_MAX => {
                    if held != self.at {
                        self.state.set(CacheState::Behind);
                    }
                    self.step(link, held).await?;
                }
                _ => self.begin_anew(link, held, goal).await?,
            }
        }
    }

    async fn step(&mut self, link: &mut Link, held: Moment) -> Result<(), KeeperError> {
        // Read before the changes: they may be newer than it, and never older.
        let newest = revision(&self.db)?;
        let devices = changed_since(&self.db, held.revision, STEP)?;
        let last = devices.last().map_or(held.revision, |(revision, _)| *revision);
        let to = if devices.len() < STEP { newest.max(last) } else { last };
        let to = moment_of(&self.db, to)?;
        let changes = devices.into_iter().map(|(_, device)| self.changed(device));
        let changes: Vec<Changed> = changes.collect::<rusqlite::Result<_>>()?;
        if link.advance(held, to, &changes).await? {
            self.at = to;
            self.metrics.changes.increment(changes.len() as u64);
        }
        Ok(())
    }

    fn changed(&self, device: DeviceId) -> rusqlite::Result<Changed> {
        let bound = binding_of(&self.db, device)?.map(|registration| Bound {
            record: record::write(&self.envelope, &registration),
            epoch: registration.epoch,
            status: registration.status,
        });
        Ok(Changed { device, bound })
    }

    /// Redis is empty, far behind, or of another life than this truth's.
    async fn begin_anew(&mut self, link: &mut Link, held: Option<Moment>, goal: Moment) -> Result<(), KeeperError> {
        self.state.set(CacheState::Behind);
        self.metrics.resets.increment(1);
        tracing::info!(held = held.map(tracing::field::display), %goal, "Redis begins anew");
        Ok(link.begin(goal).await?)
    }
}
