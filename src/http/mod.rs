//! The HTTP surface: what terminals, phones and operators call. It decides nothing; it asks the stations, sessions
//! and registrations, and says what they answer.
//!
//! ```text
//! request -> count, time out -> who calls (auth) -> what is said (extract, idempotency) -> the stage -> answer
//!                                      \                    \                                \
//!                                       `--------------------`--------------------------------`--> problem
//! ```
//!
//! Rules:
//! - Every refusal is a [`problem`] with a stable code, whoever refuses: a stage, an extractor, the router.
//! - A write that must not happen twice takes an `Idempotency-Key` ([`idempotency`]).
//! - Connections, bodies, times, streams and writes under way are bounded by [`Config`].
//! - The OpenAPI document is read from the routes; what is not documented is not served.

mod answer;
mod auth;
mod beacons;
mod bindings;
mod driver;
mod events;
mod extract;
mod idempotency;
mod limits;
mod listener;
mod metrics;
mod open;
mod operator;
mod phone;
mod problem;
mod readiness;
mod reconciliations;
mod reload;
mod routes;
mod serve;
mod terminal;
mod tokens;
mod trace;
mod webhooks;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use limits::Limits;
pub use problem::{Code, Problem};
pub use readiness::{Part, PartReport, Readiness, ReloadReport, Report};
pub use reload::{ReloadOrder, Reloaded, Reloads};
use serve::serve;

use crate::{payment::Payments, registration::Registrations, session::Sessions, station::Stations};

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// TCP address and port of the API. Port 0 takes any free one. It speaks no TLS: put a proxy that does in front
    /// of it before it leaves the loopback.
    pub listen: SocketAddr,
    /// TCP address and port of `/metrics`. Port 0 takes any free one.
    pub metrics_listen: SocketAddr,
    /// Connections at a time; further ones wait in the kernel's queue. Each costs about 20 KB, event streams
    /// included.
    pub connections_max: usize,
    /// Bytes of a body. A completion has about 200.
    pub body_bytes_max: usize,
    /// Bytes of an import's body, held in memory while it runs. A dongle's line has about 150.
    pub import_body_bytes_max: usize,
    /// Milliseconds after which a call without an answer is given up. A hold may take 30 s; imports and event streams
    /// are not bounded by it.
    pub request_timeout_ms: u32,
    /// Milliseconds for a request's head to come, so that slow callers do not hold connections.
    pub head_timeout_ms: u32,
    /// Calls a second of one station's terminals; more are refused, past a burst of two seconds. 0: no limit. So the
    /// other three.
    pub terminal_calls_per_second: u32,
    /// Of one binding's phone.
    pub phone_calls_per_second: u32,
    /// Of one operator.
    pub operator_calls_per_second: u32,
    /// Of one address (IPv6: /64) without a token: couplings, logins, tokens that are none. Behind a proxy all
    /// strangers have its address.
    pub stranger_calls_per_second: u32,
    /// Event streams at a time. Each holds its connection.
    pub event_streams_max: usize,
    /// Writes under an idempotency key at a time, 32 bytes each; further ones are told to come again.
    pub writes_max: usize,
}

impl Config {
    /// Takes over of another what a running surface can: how often callers may call.
    pub fn adopt(&mut self, other: &Config) {
        self.terminal_calls_per_second = other.terminal_calls_per_second;
        self.phone_calls_per_second = other.phone_calls_per_second;
        self.operator_calls_per_second = other.operator_calls_per_second;
        self.stranger_calls_per_second = other.stranger_calls_per_second;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen for HTTP on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// What the surface serves.
#[derive(Clone)]
pub struct Surface {
    pub stations: Stations,
    pub registrations: Registrations,
    pub sessions: Sessions,
    pub payments: Payments,
    /// The folder of the reconciled days.
    pub reconciliations: PathBuf,
    /// Renders the metrics in Prometheus' text format.
    pub prometheus: Arc<dyn Fn() -> String + Send + Sync>,
    pub readiness: Readiness,
    /// Why the journal takes no appends at present.
    pub ledger_lack: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    pub reloads: Reloads,
}

/// What every handler may use.
#[derive(Clone)]
struct Shared {
    surface: Surface,
    events: events::Events,
    in_flight: idempotency::InFlight,
    limits: Arc<Limits>,
}

/// The running surface. Ends when the token given to [`start`] is cancelled: no connection is taken, event streams
/// end, calls under way are answered.
#[derive(Debug)]
pub struct Http {
    local_addr: SocketAddr,
    metrics_addr: SocketAddr,
    limits: Arc<Limits>,
    servers: [JoinHandle<()>; 2],
}

impl Http {
    /// The address of the API, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address of `/metrics`, with the port that was taken.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr
    }

    /// How often callers may call; takes other settings over.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.clone()
    }

    /// Waits until both listeners are closed, ten seconds at most after the cancellation.
    pub async fn stopped(self) {
        for server in self.servers {
            if let Err(error) = server.await {
                tracing::error!(%error, "an HTTP listener broke");
            }
        }
    }
}

/// Begins to serve. Must be called on the runtime that is to do the work.
pub fn start(config: &Config, surface: Surface, shutdown: CancellationToken) -> Result<Http, StartError> {
    let api = listener::bind(config.listen, config.connections_max)?;
    let metrics = listener::bind(config.metrics_listen, METRICS_CONNECTIONS_MAX)?;
    let (local_addr, metrics_addr) = (api.address(), metrics.address());
    let render = surface.prometheus.clone();
    let limits = Arc::new(Limits::new(config));
    let head_timeout = Duration::from_millis(config.head_timeout_ms.into());
    let shared = Shared {
        surface,
        events: events::Events::new(config.event_streams_max, shutdown.clone()),
        in_flight: idempotency::InFlight::new(config.writes_max),
        limits: limits.clone(),
    };
    let servers = [
        tokio::spawn(serve(api, routes::router(config, shared), head_timeout, shutdown.clone())),
        tokio::spawn(serve(metrics, open::metrics(render), head_timeout, shutdown)),
    ];
    tracing::info!(%local_addr, %metrics_addr, "listening for HTTP");
    Ok(Http { local_addr, metrics_addr, limits, servers })
}

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Streams::new();
    let _ = metrics::Group::ALL.map(metrics::Requests::new);
    let _ = metrics::CALLERS.map(metrics::limited);
}

/// Scrapers are few.
const METRICS_CONNECTIONS_MAX: usize = 16;
