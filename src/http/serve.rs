//! Serving connections: HTTP/1.1 over each that the listener takes, until the drain.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::listener::Bounded;

/// How long a drain waits for calls that are being answered.
const DRAIN: Duration = Duration::from_secs(10);

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves `router` until `shutdown`, and then what is under way. `head_timeout` bounds the wait for a request's head: the
/// first one's from the connection's start, and a further one's from its first byte.
pub(super) async fn serve(mut listener: Bounded, router: Router, head_timeout: Duration, shutdown: CancellationToken) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let open = GracefulShutdown::new();
    while let Some((stream, peer)) = shutdown.run_until_cancelled(listener.accept()).await {
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), peer, request));
        let connection = open.watch(protocol.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection broke");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, open.shutdown()).await.is_err() {
        tracing::warn!("calls were still under way when the drain's time was up");
    }
}

async fn answer(
    mut router: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    request.extensions_mut().insert(Peer(peer));
    router.call(request.map(Body::new)).await
}
