//! What the stations' gateways do in the peers' world: publish, over one connection as fast as it goes, or over a
//! thousand by the clock.
//!
//! Neither broker keeps a publisher from drowning its consumer at QoS 0: one throws the consumer out, the other drops
//! messages. A good build would hold the publishers back, so the sender never has more than [`WINDOW`] messages on
//! their way that no consumer has applied. What is lost all the same is counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::broker::{BrokerError, Outlet};

/// 5 MB of messages: enough to keep broker and consumer busy for some milliseconds.
const WINDOW: u64 = 8_192;

const MOMENT: Duration = Duration::from_millis(1);

/// Nothing was applied for so long: nothing more will be.
const STILLNESS: Duration = Duration::from_secs(2);

/// What all parts of a trial know of its messages.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) sent: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) frames: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sent_one(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn is_window_full(&self) -> bool {
        self.on_their_way() >= WINDOW
    }

    /// Messages that were sent and not applied.
    pub(super) fn on_their_way(&self) -> u64 {
        // What is read second has grown meanwhile.
        let applied = self.applied.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(applied)
    }

    /// Waits until all that was sent is applied, or nothing moves any more.
    async fn drained(&self) {
        let (mut left, mut since) = (self.on_their_way(), Instant::now());
        while left > 0 && since.elapsed() < STILLNESS {
            sleep(MOMENT).await;
            let now = self.on_their_way();
            if now != left {
                (left, since) = (now, Instant::now());
            }
        }
    }
}

/// A station's connection and what it says, over and over.
pub(super) struct Station {
    pub(super) outlet: Outlet,
    pub(super) messages: Vec<Bytes>,
}

impl Station {
    async fn publish(&self, nth: usize, progress: &Progress) -> Result<(), BrokerError> {
        self.outlet.publish(self.messages[nth % self.messages.len()].clone()).await?;
        progress.sent_one();
        Ok(())
    }
}

/// A task that sends until it is told to stop.
#[derive(Debug)]
pub(super) struct Sender {
    progress: Arc<Progress>,
    task: JoinHandle<Result<(), BrokerError>>,
}

impl Sender {
    /// So many messages a second of each station, in turns that are spread evenly; `None`: as fast as it goes.
    pub(super) fn start(stations: Vec<Station>, per_second: Option<f64>, progress: Arc<Progress>) -> Sender {
        let shared = progress.clone();
        let task = tokio::spawn(async move {
            match per_second {
                Some(rate) => send_by_the_clock(&stations, rate, &shared).await?,
                None => send_fast(&stations, &shared).await?,
            }
            // The connections outlive what is on its way.
            shared.drained().await;
            Ok(())
        });
        Sender { progress, task }
    }

    /// Ends it once all that it sent is applied.
    pub(super) async fn stop(self) -> Result<(), BrokerError> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a sender does not panic")
    }
}

async fn send_fast(stations: &[Station], progress: &Progress) -> Result<(), BrokerError> {
    let mut sent = 0;
    while !progress.is_stopped() {
        if progress.is_window_full() {
            sleep(MOMENT).await;
            continue;
        }
        stations[sent % stations.len()].publish(sent / stations.len(), progress).await?;
        sent += 1;
    }
    Ok(())
}

async fn send_by_the_clock(stations: &[Station], per_second: f64, progress: &Progress) -> Result<(), BrokerError> {
    let (start, count) = (Instant::now(), stations.len());
    let period = 1.0 / (per_second * count as f64);
    let mut sent = 0;
    while !progress.is_stopped() {
        let due = start + Duration::from_secs_f64(sent as f64 * period);
        if due > Instant::now() {
            sleep_until(due).await;
            continue;
        }
        if progress.is_window_full() {
            sleep(MOMENT).await;
            continue;
        }
        stations[sent % count].publish(sent / count, progress).await?;
        sent += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_window_closes_on_what_nobody_applied() {
        let progress = Progress::default();
        (0..WINDOW).for_each(|_| progress.sent_one());
        assert!(progress.is_window_full());
        progress.applied.store(1, Ordering::Relaxed);
        assert!(!progress.is_window_full());
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_waited_for() {
        let progress = Progress::default();
        progress.sent_one();
        let mut drained = pin!(progress.drained());
        assert!(timeout(5 * MOMENT, &mut drained).await.is_err());
        progress.applied.store(1, Ordering::Relaxed);
        drained.await;
    }
}
