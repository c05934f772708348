//! Takes newcomers in, one task each, and sees all of them off at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::ArbiterHandle;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config,
    admission::{Admission, Verdict},
    connection,
    metrics::Metrics,
    waiting::Waiting,
};
use crate::{
    address::source_of,
    engine::{control::Goodbye, time::SlotLength},
    station::Stations,
};

/// The time that all uplinks together have to take their goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// Uplinks wait for a connection for 30 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// What every connection shares.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) stations: Stations,
    pub(super) slot: SlotLength,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
}

pub(super) async fn run(
    endpoint: Endpoint,
    admission: Admission,
    config: Config,
    stations: Stations,
    slot: SlotLength,
    workers: Vec<ArbiterHandle>,
    shutdown: CancellationToken,
) {
    let context = Arc::new(Context { config, stations, slot, metrics: Metrics::new(), shutdown });
    let mut door =
        Door { admission, waiting: Waiting::new(), context, connections: TaskTracker::new(), workers, next: 0 };
    loop {
        tokio::select! {
            () = door.context.shutdown.cancelled() => break,
            () = door.admission.freed() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => door.receive(incoming),
                None => break,
            },
        }
        door.let_in();
    }
    see_off(endpoint, door.connections).await;
}

/// Between the socket and the connections.
struct Door {
    admission: Admission,
    waiting: Waiting<(Incoming, Instant)>,
    context: Arc<Context>,
    connections: TaskTracker,
    workers: Vec<ArbiterHandle>,
    /// The worker whose turn it is.
    next: usize,
}

impl Door {
    fn receive(&mut self, incoming: Incoming) {
        let source = source_of(incoming.remote_address().ip());
        match self.admission.decide(source, incoming.remote_address_validated(), &self.waiting) {
            Verdict::Wait => self.waiting.push(source, (incoming, Instant::now())),
            Verdict::Retry => {
                self.context.metrics.retried.increment(1);
                // An address that proved itself is never asked again, so this cannot fail.
                let _ = incoming.retry();
            }
            Verdict::Refuse(full) => {
                self.context.metrics.refused(full);
                incoming.refuse();
            }
        }
    }

    /// Those who wait, as far as there are places.
    fn let_in(&mut self) {
        while self.waiting.count() > 0
            && let Some(seat) = self.admission.seat()
            && let Some((_, (incoming, since))) = self.waiting.pop()
        {
            if since.elapsed() > PATIENCE {
                // It has given up; if it has not, it knocks again.
                incoming.ignore();
                continue;
            }
            self.context.metrics.accepted.increment(1);
            let connection = connection::serve(incoming, seat, self.context.clone());
            // What quinn spawns for a connection it spawns where the connection is accepted, and so on the worker.
            self.workers[self.next % self.workers.len()].spawn(self.connections.track_future(connection));
            self.next += 1;
        }
    }
}

/// Each connection says goodbye by itself; those that do not manage it in time are cut off.
async fn see_off(endpoint: Endpoint, connections: TaskTracker) {
    endpoint.set_server_config(None);
    connections.close();
    if timeout(FAREWELL, connections.wait()).await.is_err() {
        tracing::warn!("some uplinks did not take their goodbye in time");
    }
    endpoint.close(VarInt::from_u32(Goodbye::Drain.close_code()), b"drain");
    let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
}
