//! Keeps one connection after the other alive, for as long as there is something to say.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Ended, Identity, Stats, backoff::Backoff, clock::ServerClock, link, outbox::Outbox};
use crate::{
    engine::control::{Hello, Welcome},
    telemetry,
};

/// What the handle and the sender have in common.
pub(super) struct Shared {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) identity: Identity,
    pub(super) server_name: String,
    pub(super) hello: Hello,
    /// There is something to send, or another time to send it.
    pub(super) wake: Notify,
    /// The present connection is to be dropped.
    pub(super) cut: Notify,
    /// Send what is left, wait for its acknowledgement, and end.
    pub(super) finishing: CancellationToken,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) outbox: Outbox,
    pub(super) clock: ServerClock,
    pub(super) batches_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) slot_seconds: Option<u16>,
    pub(super) last_end: Option<Ended>,
    connected: bool,
    connects: u64,
    replaced: u64,
    refused: u64,
    lost: u64,
}

impl Shared {
    /// Usable after a panic elsewhere: each change of the state is whole.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn new(outbox: Outbox) -> State {
        State {
            outbox,
            clock: ServerClock::default(),
            batches_sent: 0,
            bytes_sent: 0,
            slot_seconds: None,
            last_end: None,
            connected: false,
            connects: 0,
            replaced: 0,
            refused: 0,
            lost: 0,
        }
    }

    pub(super) fn connected(&mut self, welcome: &Welcome, round_trip: Duration) {
        self.connected = true;
        self.connects += 1;
        self.slot_seconds = Some(welcome.slot_seconds);
        self.clock.restart();
        self.clock.learn(welcome.now, round_trip, telemetry::now());
        self.outbox.reconnected(welcome.applied);
    }

    pub(super) fn disconnected(&mut self, ended: &Ended) {
        self.connected = false;
        self.last_end = Some(ended.clone());
        match ended {
            Ended::Replaced => self.replaced += 1,
            Ended::Refused(_) => self.refused += 1,
            Ended::Closed(_) | Ended::Lost(_) => self.lost += 1,
            Ended::Finished | Ended::Drain | Ended::Moved { .. } => {}
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let counts = self.outbox.counts();
        Stats {
            heard: counts.heard,
            rejected: counts.rejected,
            dropped: counts.dropped,
            acknowledged: counts.acknowledged,
            waiting: self.outbox.waiting() as u64,
            batches_acknowledged: counts.batches_acknowledged,
            batches_sent: self.batches_sent,
            bytes_sent: self.bytes_sent,
            connected: self.connected,
            connects: self.connects,
            replaced: self.replaced,
            refused: self.refused,
            lost: self.lost,
        }
    }
}

/// Ends when finishing was asked for and nothing is left to send.
pub(super) async fn run(shared: Arc<Shared>, server: SocketAddr) {
    let station = shared.hello.station;
    let mut backoff = Backoff::default();
    let mut address = server;
    loop {
        let before = shared.state().outbox.counts().batches_acknowledged;
        let ended = link::run(&shared, address).await;
        if ended == Ended::Finished {
            return;
        }
        if shared.state().outbox.counts().batches_acknowledged > before {
            backoff.succeeded();
        }
        address = match &ended {
            Ended::Moved { address } => resolve(address).await.unwrap_or(server),
            // Where it was told to go may be gone; the address it was started with is kept up.
            _ => server,
        };
        let wait = backoff.after(&ended, getrandom::u64().unwrap_or_default());
        tracing::info!(%station, reason = %ended, wait_ms = wait.as_millis() as u64, "uplink ended, will come back");
        if stay_away(&shared, wait).await {
            return;
        }
    }
}

async fn resolve(address: &str) -> Option<SocketAddr> {
    tokio::net::lookup_host(address).await.ok()?.next()
}

/// Waits; true when meanwhile nothing is left to come back for.
async fn stay_away(shared: &Shared, wait: Duration) -> bool {
    let settled = || shared.finishing.is_cancelled() && shared.state().outbox.is_settled();
    let asleep = tokio::time::sleep(wait);
    tokio::pin!(asleep);
    while !settled() {
        tokio::select! {
            () = &mut asleep => return false,
            () = shared.finishing.cancelled(), if !shared.finishing.is_cancelled() => {}
        }
    }
    true
}
