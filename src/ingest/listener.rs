//! Takes newcomers in, one task each, and sees all of them off at the end.

use std::{sync::Arc, time::Duration};

use quinn::{Endpoint, Incoming, VarInt};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

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
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(incoming, &admission, &context, &mut connections),
                None => break,
            },
        }
    }
    see_off(endpoint, connections).await;
}

fn admit(incoming: Incoming, admission: &Admission, context: &Arc<Context>, connections: &mut JoinSet<()>) {
    match admission.decide(incoming.remote_address().ip(), incoming.remote_address_validated()) {
        Verdict::Admit(seat) => {
            context.metrics.accepted.increment(1);
            connections.spawn(connection::serve(incoming, seat, context.clone()));
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
async fn see_off(endpoint: Endpoint, mut connections: JoinSet<()>) {
    endpoint.set_server_config(None);
    let all_left = async { while connections.join_next().await.is_some() {} };
    if timeout(FAREWELL, all_left).await.is_err() {
        tracing::warn!("some uplinks did not take their goodbye in time");
    }
    endpoint.close(VarInt::from_u32(Goodbye::Drain.close_code()), b"drain");
    let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
}
