//! The cache in Redis: registrations that some look-up has paid for already, and word of every change.
//!
//! ```text
//! find(): near cache --miss--> Redis (MGET, all who wait at once) --miss, stale, slow, dead--> truth --fill--> Redis
//! truth: a commit raises the revision --> keeper: what changed since, and the moment, in one step --> Redis
//!                                                                  '--> stream of changes --> feed: near cache
//! ```
//!
//! The cache may be slow, dead, emptied or set back at any time, and decides nothing:
//! - Redis holds the [`Moment`] of the truth that it is a copy of. A look-up reads it together with the records, in one
//!   command, and believes them only if the truth itself is at that moment. So neither a write that did not get through
//!   nor an old dump brings a revoked binding back.
//! - A moment is a revision in one life of the store: what was written after the backup that the store was put back from
//!   is of another life, and Redis begins anew ([`has_been_at`](super::truth::has_been_at)).
//! - Every write names the moment that it expects to find there, and is refused by a script in Redis when there is
//!   another one: what is written to a Redis that was set back cannot pass for the newest.
//! - A record is authenticated under a key that follows from the key-encryption key: who can write to Redis can make the
//!   engine forget, and not make it believe.
//! - A look-up waits `redis_wait_ms` at most; after a failure Redis is not asked again before the keeper has spoken to it.
//!
//! One thread with a runtime of its own does all of it. Names in Redis begin with `{forecourt:v1:<store>}`; `<store>`
//! tells two stores (or one under two keys) from each other, and the braces keep a cluster from parting what a script
//! writes together. A format that changes takes a new `v`.

mod condition;
mod feed;
mod keeper;
mod link;
mod lookups;
mod names;
mod record;
mod state;
mod warm;

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use condition::RedisCondition;
pub(super) use names::Names;
pub use state::CacheState;
pub use warm::{Operator, Verified, WarmError, Warmed};

use super::{
    binding::Registration,
    effects::Effects,
    error::StartError,
    metrics::CacheMetrics,
    truth::{Moment, Truth, spawn},
};
use crate::{engine::id::DeviceId, secret::Secret};
use keeper::Keeper;
use state::State;

/// Look-ups and fills that wait for the thread, about 100 bytes each. Past it a look-up goes to the truth.
const ORDERS_MAX: usize = 4_096;

/// Where Redis is: `redis://[user:password@]host:port[/database]`. Never shown, since it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct RedisUrl(Secret);

impl RedisUrl {
    pub fn new(text: impl Into<String>) -> RedisUrl {
        RedisUrl(Secret::new(text))
    }

    pub fn is_valid(&self) -> bool {
        self.client().is_ok()
    }

    pub(super) fn client(&self) -> Result<redis::Client, redis::RedisError> {
        redis::Client::open(self.0.reveal())
    }
}

impl RedisUrl {
    /// Looks at the Redis that it leads to.
    pub async fn look(&self) -> Result<RedisCondition, redis::RedisError> {
        condition::look(&self.client()?).await
    }
}

/// What the thread is asked to do.
enum Order {
    Find { device: DeviceId, answer: oneshot::Sender<Registration> },
    Fill { registration: Arc<Registration>, read_at: Moment },
}

/// The handle; the thread ends with [`Cache::stop`].
pub(super) struct Cache {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
    metrics: Arc<CacheMetrics>,
    wait: Duration,
    stop: CancellationToken,
}

impl Cache {
    /// Answers at once: whether Redis is there shows later.
    pub(super) fn start(
        url: &RedisUrl,
        wait_ms: u32,
        truth: &Truth,
        effects: &Arc<Effects>,
    ) -> Result<Cache, StartError> {
        let client = url.client().map_err(|error| StartError::Unfit(format!("registration.redis_url: {error}")))?;
        let wait = Duration::from_millis(wait_ms.into());
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (state, metrics, stop) = (Arc::new(State::default()), CacheMetrics::new(), CancellationToken::new());
        let metrics = Arc::new(metrics);
        let keeper = Keeper::new(client.clone(), wait, truth, &state, &metrics)?;
        let feed = feed::Feed::new(client, keeper.names().clone(), effects, &metrics);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let stopped = stop.clone();
        spawn("registration-cache", move || {
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = keeper.run(inbox) => {}
                    () = feed.run() => {}
                }
            });
        })?;
        Ok(Cache { orders, state, metrics, wait, stop })
    }

    /// `None` when Redis does not have it, is not to be believed, or takes too long: the truth knows.
    pub(super) async fn find(&self, device: DeviceId) -> Option<Registration> {
        if !self.state.get().is_current() {
            self.metrics.bypassed.increment(1);
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.orders.try_send(Order::Find { device, answer }).ok()?;
        let Ok(found) = tokio::time::timeout(self.wait, answered).await else {
            self.metrics.timeouts.increment(1);
            return None;
        };
        found.ok()
    }

    /// Has Redis keep what a look-up found in the truth, which was at `read_at` before.
    pub(super) fn fill(&self, registration: &Arc<Registration>, read_at: Moment) {
        if self.state.get().is_current() {
            // A full queue says that there is more to do than to remember this.
            let _ = self.orders.try_send(Order::Fill { registration: registration.clone(), read_at });
        }
    }

    pub(super) fn state(&self) -> CacheState {
        self.state.get()
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}
