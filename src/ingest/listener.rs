//! Takes newcomers in, one task each, and sees all of them off at the end.

use std::{sync::Arc, time::Duration};

use actix::ArbiterHandle;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config,
    admission::{Admission, Limits, Verdict},
    connection,
    metrics::Metrics,
};
use crate::{
    engine::{control::Goodbye, time::SlotLength},
    station::Stations,
};

/// The time that all uplinks together have to take their goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

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
    config: Config,
    stations: Stations,
    slot: SlotLength,
    workers: Vec<ArbiterHandle>,
    shutdown: CancellationToken,
) {
    let admission = Admission::new(Limits {
        connections: config.connections_max,
        handshakes: config.handshakes_max,
        handshakes_per_source: config.handshakes_per_source_max,
        retry_from: config.retry_from,
    });
    let metrics = Metrics::new();
    let context = Arc::new(Context { config, stations, slot, metrics, shutdown });
    let connections = TaskTracker::new();
    let mut workers = workers.iter().cycle();
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            incoming = endpoint.accept() => match (incoming, workers.next()) {
                (Some(incoming), Some(worker)) => admit(incoming, &admission, &context, &connections, worker),
                _ => break,
            },
        }
    }
    see_off(endpoint, connections).await;
}

fn admit(
    incoming: Incoming,
    admission: &Admission,
    context: &Arc<Context>,
    connections: &TaskTracker,
    worker: &ArbiterHandle,
) {
    match admission.decide(incoming.remote_address().ip(), incoming.remote_address_validated()) {
        Verdict::Admit(seat) => {
            context.metrics.accepted.increment(1);
            // What quinn spawns for a connection it spawns where the connection is accepted, and so on the worker.
            worker.spawn(connections.track_future(connection::serve(incoming, seat, context.clone())));
        }
        Verdict::Retry => {
            context.metrics.retried.increment(1);
            // An address that proved itself is never asked again, so this cannot fail.
            let _ = incoming.retry();
        }
        Verdict::Refuse(full) => {
            context.metrics.refused(full);
            incoming.refuse();
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
