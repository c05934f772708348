//! The station's side of the wire: sends what receivers heard, and lives with servers and networks that go away.
//!
//! [`Uplink::start`] gives a handle whose `hear` never waits. Behind it an [`outbox::Outbox`] fills batches and keeps
//! them until they are acknowledged, [`sender`] holds a connection up, and [`link`] is one connection. What decides
//! (outbox, backoff, clock) knows no socket and is tested without one.
//!
//! [`capture`] reads recorded Bluetooth logs; [`receiver`] plays one as a live receiver, and
//! [`replay`] runs the engine over some without any network.

pub mod advertising;
mod backoff;
pub mod btsnoop;
pub mod capture;
mod clock;
mod ended;
mod identity;
mod link;
mod outbox;
pub mod receiver;
pub mod replay;
mod sender;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub use ended::Ended;
pub use identity::{Identity, IdentityError};

use crate::{
    engine::{
        batch::{self, Hearing},
        control::{self, Hello},
        id::{SpoolId, StationId},
        time::UnixMs,
    },
    telemetry,
};
use outbox::{Outbox, Wake};
use sender::{Shared, State};

/// A hearing waits no longer than this for company.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Hearings kept while the server is away: ten minutes of a busy station (250 a second), 5 MB.
const SPOOL_HEARINGS_MAX: usize = 150_000;

/// The time that the last packet of an endpoint of our own has to leave.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct UplinkConfig {
    pub server: SocketAddr,
    /// The name that the server's certificate must carry.
    pub server_name: String,
    pub station: StationId,
    pub receivers: Vec<control::Receiver>,
    pub identity: Identity,
    /// A socket shared with other uplinks of the process; `None` opens one.
    pub endpoint: Option<quinn::Endpoint>,
    /// How long a hearing waits for company in its batch.
    pub flush_after: Duration,
    /// Hearings kept while they are not acknowledged; past it the oldest go.
    pub spool_hearings_max: usize,
}

impl UplinkConfig {
    /// With a socket of its own and the usual bounds, for a server that is known as `localhost`.
    pub fn new(
        server: SocketAddr,
        station: StationId,
        receivers: Vec<control::Receiver>,
        identity: Identity,
    ) -> UplinkConfig {
        UplinkConfig {
            server,
            server_name: "localhost".into(),
            station,
            receivers,
            identity,
            endpoint: None,
            flush_after: FLUSH_AFTER,
            spool_hearings_max: SPOOL_HEARINGS_MAX,
        }
    }
}

/// What happened so far. Hearings unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    pub heard: u64,
    /// With a receiver number out of bounds.
    pub rejected: u64,
    /// Left the spool unacknowledged.
    pub dropped: u64,
    pub acknowledged: u64,
    pub waiting: u64,
    pub batches_acknowledged: u64,
    /// Batches encoded, those sent again included.
    pub batches_sent: u64,
    pub bytes_sent: u64,
    pub connected: bool,
    /// Connections whose hello was accepted.
    pub connects: u64,
    /// Connections that a newer uplink of the station ended.
    pub replaced: u64,
    /// Hellos that the server refused.
    pub refused: u64,
    /// Connections that broke, or were closed with an error.
    pub lost: u64,
}

/// The end of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FinalStats {
    #[serde(flatten)]
    pub stats: Stats,
    /// Everything that was kept is acknowledged.
    pub settled: bool,
}

/// A station's sender.
#[derive(Debug)]
pub struct Uplink;

impl Uplink {
    /// Begins to connect, on the runtime that this is called on; returns at once.
    pub fn start(config: UplinkConfig) -> io::Result<UplinkHandle> {
        let own_endpoint = config.endpoint.is_none();
        let endpoint = match config.endpoint {
            Some(endpoint) => endpoint,
            None => client_endpoint(config.server)?,
        };
        let spool = getrandom::u64().map_err(io::Error::from)?;
        let shared = Arc::new(Shared {
            endpoint,
            identity: config.identity,
            server_name: config.server_name,
            hello: Hello {
                versions: vec![batch::VERSION],
                station: config.station,
                spool: SpoolId(spool),
                receivers: config.receivers,
                software: concat!("forecourt ", env!("CARGO_PKG_VERSION")).into(),
            },
            wake: Notify::new(),
            cut: Notify::new(),
            finishing: CancellationToken::new(),
            state: Mutex::new(State::new(Outbox::new(config.flush_after, config.spool_hearings_max))),
        });
        let task = tokio::spawn(sender::run(shared.clone(), config.server));
        Ok(UplinkHandle { shared, task, own_endpoint })
    }
}

/// An endpoint for uplinks to a server of this address family, to be shared among as many as one likes.
pub fn client_endpoint(server: SocketAddr) -> io::Result<quinn::Endpoint> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    quinn::Endpoint::client(SocketAddr::new(any, 0))
}

/// A running uplink; dropping it cuts the connection off.
pub struct UplinkHandle {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    own_endpoint: bool,
}

impl std::fmt::Debug for UplinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UplinkHandle").field("station", &self.shared.hello.station).finish_non_exhaustive()
    }
}

impl UplinkHandle {
    /// Takes a hearing, timed by this machine's clock; the uplink puts the server's time on it. Never waits: past the
    /// spool's bound the oldest hearings go, and are counted.
    pub fn hear(&self, hearing: Hearing) {
        self.hear_all(&[hearing]);
    }

    /// As [`UplinkHandle::hear`], for many at once.
    pub fn hear_all(&self, hearings: &[Hearing]) {
        let now = Instant::now();
        let mut wake = false;
        let mut state = self.shared.state();
        for &hearing in hearings {
            wake |= state.outbox.hear(hearing, now) == Wake::Yes;
        }
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        }
    }

    /// Drops the present connection, as a network that goes away does; the uplink comes back by itself.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    pub fn stats(&self) -> Stats {
        self.shared.state().stats()
    }

    /// The server's time now, as far as it is known.
    pub fn server_now(&self) -> UnixMs {
        self.shared.state().clock.on_server(telemetry::now())
    }

    /// The slot length that the server told at its last welcome.
    pub fn slot_seconds(&self) -> Option<u16> {
        self.shared.state().slot_seconds
    }

    /// Why the last connection ended; `None` while the first one holds.
    pub fn last_end(&self) -> Option<Ended> {
        self.shared.state().last_end.clone()
    }

    /// Sends what is left and waits for its acknowledgement, but no longer than `within`.
    pub async fn finish(mut self, within: Duration) -> FinalStats {
        self.shared.finishing.cancel();
        let _ = timeout(within, &mut self.task).await;
        self.task.abort();
        if self.own_endpoint {
            self.shared.endpoint.close(quinn::VarInt::from_u32(0), b"");
            let _ = timeout(FAREWELL, self.shared.endpoint.wait_idle()).await;
        }
        let state = self.shared.state();
        FinalStats { stats: state.stats(), settled: state.outbox.is_settled() }
    }
}

impl Drop for UplinkHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
