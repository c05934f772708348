//! The edge where stations' uplinks come in over QUIC: from bytes of anybody to whole batches at the right station.
//!
//! Who gets how far: [`admission`] bounds who may try; TLS ([`tls`]) lets in only holders of a certificate of our
//! authority ([`pki`]); the hello ([`hello`]) only the station that the certificate names; [`connection`] cuts its
//! stream into whole batches and hands them to the station, which checks what is inside. Whatever a peer does wrong
//! ends its own connection with a stated code ([`ended`]), is counted, and reaches nobody else. After a crash the
//! uplinks of the process before are told at once ([`reset`]). New certificates and bounds are taken over while all of this
//! goes on ([`renewal`]).
//!
//! Connections live on current-thread runtimes, which serve small packets at 70 % less CPU than a multi-threaded one; a
//! station's actor runs where its uplink does.

mod admission;
mod connection;
mod ended;
mod hello;
mod listener;
mod metrics;
pub mod pki;
mod renewal;
mod reset;
mod socket;
mod tls;
mod waiting;

use std::{io, net::SocketAddr, path::Path};

use actix::ArbiterHandle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use renewal::{Certificates, Renewal};
pub use socket::receive_bytes_granted;
pub use tls::{TlsError, check as check_certificates};

use crate::{engine::time::SlotLength, station::Stations, telemetry};
use admission::Admission;
use renewal::InForce;
use tls::Tls;

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Metrics::new();
    let _ = metrics::Expiries::new();
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// UDP address and port on which uplinks are served. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Host names and addresses beside the local ones for which the server's certificate is made.
    pub names: Vec<String>,
    /// Connections at a time, those in their handshake included. Each costs about 63 KB with its
    /// station, and its stream window when that lags behind.
    pub connections_max: usize,
    /// Handshakes in flight at a time; each costs about a millisecond of CPU. Newcomers past it wait.
    pub handshakes_max: usize,
    /// Newcomers that wait for their handshake; each holds up to 8 KB.
    pub waiting_max: usize,
    /// Of these from one IPv4 address or IPv6 /64. Stations behind one carrier's NAT share it.
    pub waiting_per_source_max: usize,
    /// Handshakes in flight and waiting from which a newcomer must prove its address first, at the cost of a round trip.
    pub retry_from: usize,
    /// Milliseconds from a connection's first packet to its accepted hello.
    pub hello_timeout_ms: u32,
    /// Milliseconds of silence after which an uplink is given up. Uplinks send a sign of life each 10 s.
    pub idle_timeout_ms: u32,
    /// Bytes of batches that an uplink may have in flight: 64 KB costs 15 % of throughput, and every byte more can
    /// be taken by a peer whose station lags.
    pub stream_window_bytes: u32,
    /// Bytes that the kernel may hold for the socket; with its usual 200 KB it drops packets by the thousand.
    pub socket_receive_bytes: usize,
    /// Batches that one acknowledgement covers at most. Acknowledging each costs a third more CPU.
    pub ack_batches: u32,
    /// Milliseconds after which an applied batch is acknowledged at the latest.
    pub ack_ms: u32,
    /// Milliseconds between two tellings of the server's time to an uplink.
    pub time_ms: u32,
}

impl Config {
    /// Takes over of another what a running listener can: the bounds on newcomers.
    pub fn adopt(&mut self, other: &Config) {
        self.connections_max = other.connections_max;
        self.handshakes_max = other.handshakes_max;
        self.waiting_max = other.waiting_max;
        self.waiting_per_source_max = other.waiting_per_source_max;
        self.retry_from = other.retry_from;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen for uplinks on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// The running edge. Ends when the token given to [`start`] is cancelled: no newcomer is let in, every uplink is told
/// and acknowledged, then the socket closes.
#[derive(Debug)]
pub struct Ingest {
    local_addr: SocketAddr,
    end: oneshot::Receiver<()>,
}

impl Ingest {
    /// The address that uplinks reach, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until every uplink is told and the socket is closed; a few seconds at most after the cancellation.
    pub async fn stopped(self) {
        if self.end.await.is_err() {
            tracing::error!("the listener for uplinks broke");
        }
    }
}

/// Begins to serve uplinks: the socket on the first of `workers`, connections on all of them in turn. The certificates
/// lie in the data folder; those that are missing are made.
pub async fn start(
    config: Config,
    stations: Stations,
    data: &Path,
    slot: SlotLength,
    workers: Vec<ArbiterHandle>,
    shutdown: CancellationToken,
) -> Result<(Ingest, Renewal), StartError> {
    let listen = config.listen;
    let listen_error = move |source| StartError::Listen { address: listen, source };
    let (started, starting) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let (first, data) = (workers[0].clone(), data.to_owned());
    first.spawn(async move {
        // quinn's driver of the socket runs where the endpoint is made.
        let (renewal, endpoint, admission) = match open(&config, &data) {
            Ok(opened) => opened,
            Err(error) => return drop(started.send(Err(error))),
        };
        if started.send(endpoint.local_addr().map(|address| (address, renewal)).map_err(listen_error)).is_ok() {
            listener::run(endpoint, admission, config, stations, slot, workers, shutdown).await;
        }
        // Nobody waits for an ingest that was never told to stop.
        let _ = ended.send(());
    });
    let ended_worker = |_| listen_error(io::Error::other("the first worker has ended"));
    let (local_addr, renewal) = starting.await.map_err(ended_worker)??;
    tracing::info!(%local_addr, "listening for uplinks");
    Ok((Ingest { local_addr, end }, renewal))
}

/// The endpoint that uplinks reach, with nobody behind it: what the wire alone costs is measured with the same one.
pub fn endpoint(config: &Config, data: &Path) -> Result<quinn::Endpoint, StartError> {
    open(config, data).map(|(_, endpoint, _)| endpoint)
}

fn open(config: &Config, data: &Path) -> Result<(Renewal, quinn::Endpoint, Admission), StartError> {
    pki::ensure(data, &config.names).map_err(TlsError::from)?;
    let tls = tls::read(data)?;
    if let Err(error) = tls.validities.check(telemetry::now()) {
        tracing::error!(%error, "no uplink will trust this server");
    }
    let listen_error = |source| StartError::Listen { address: config.listen, source };
    let Tls { server, endpoint, validities, fingerprint } = tls;
    let server = socket::server(config, server);
    let endpoint = socket::endpoint(config, server.clone(), endpoint).map_err(listen_error)?;
    let admission = Admission::new(config.into());
    let in_force = InForce { server, fingerprint, validities };
    Ok((Renewal::new(endpoint.clone(), in_force, admission.clone(), data), endpoint, admission))
}
