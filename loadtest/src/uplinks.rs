//! The stations' gateways: one of the product's own uplinks each, over a few shared sockets.

use std::{io, path::Path, time::Duration};

use forecourt::{
    ingest::pki::{self, Authority, PkiError},
    telemetry::CoreOffers,
    uplink::{Identity, IdentityError, Stats, Uplink, UplinkConfig, UplinkHandle, client_endpoint},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{fleet::Tick, world::World};

/// How many connect at a time at first, so that nobody is turned away at the door.
const CONNECTING: usize = 200;

/// As many handshakes take a second on one core of a slow machine.
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// An uplink's last batches are acknowledged within this.
const FAREWELL: Duration = Duration::from_secs(3);

/// Stations that share a socket: a socket's receive buffer must hold the acknowledgements of all at once.
const STATIONS_A_SOCKET: usize = 500;

/// Frames after which the core is offered to the people, who share it and are timed: without the offer the kernel lets
/// them wait for the rest of a time slice, 2.5 ms in one case of a hundred.
const FRAMES_IN_A_ROW: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum UplinksError {
    #[error("the stations' certificates: {0}")]
    Pki(#[from] PkiError),
    #[error("the stations' certificates: {0}")]
    Identity(#[from] IdentityError),
    #[error("an uplink: {0}")]
    Socket(#[from] io::Error),
    #[error("the uplinks are not accepted: {0}")]
    NotConnected(String),
}

/// All uplinks together. Hearings unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub offered: u64,
    pub acknowledged: u64,
    pub dropped: u64,
    pub rejected: u64,
    pub in_flight: u64,
    pub batches_sent: u64,
    pub bytes_sent: u64,
    /// Uplinks.
    pub connected: usize,
    /// Connections.
    pub connects: u64,
    pub lost: u64,
    pub refused: u64,
    pub replaced: u64,
}

impl Totals {
    fn with(self, stats: Stats) -> Totals {
        Totals {
            offered: self.offered + stats.heard,
            acknowledged: self.acknowledged + stats.acknowledged,
            dropped: self.dropped + stats.dropped,
            rejected: self.rejected + stats.rejected,
            in_flight: self.in_flight + stats.waiting,
            batches_sent: self.batches_sent + stats.batches_sent,
            bytes_sent: self.bytes_sent + stats.bytes_sent,
            connected: self.connected + usize::from(stats.connected),
            connects: self.connects + stats.connects,
            lost: self.lost + stats.lost,
            refused: self.refused + stats.refused,
            replaced: self.replaced + stats.replaced,
        }
    }
}

pub struct Uplinks {
    handles: Vec<UplinkHandle>,
    offers: CoreOffers,
}

impl Uplinks {
    /// Connects every station, and waits until the engine has accepted them all.
    pub async fn open(server: std::net::SocketAddr, data: &Path, world: &World) -> Result<Uplinks, UplinksError> {
        let sites = world.fleet().sites.clone();
        let endpoints = (0..sites.len().div_ceil(STATIONS_A_SOCKET)).map(|_| client_endpoint(server));
        let endpoints: Vec<_> = endpoints.collect::<io::Result<_>>()?;
        let authority = Authority::open(data)?;
        let ca = pki::folder(data).join("ca.pem");
        let mut uplinks = Uplinks { handles: Vec::with_capacity(sites.len()), offers: CoreOffers::NONE };
        for (number, site) in sites.iter().enumerate() {
            let issued = authority.issue_station(site.station)?;
            let identity = Identity::read(&ca, &issued.certificate, &issued.key)?;
            let mut config = UplinkConfig::new(server, site.station, site.receivers(), identity);
            config.endpoint = Some(endpoints[number % endpoints.len()].clone());
            uplinks.handles.push(Uplink::start(config)?);
            if number % CONNECTING == CONNECTING - 1 {
                uplinks.connected().await?;
            }
        }
        uplinks.connected().await?;
        Ok(uplinks)
    }

    async fn connected(&self) -> Result<(), UplinksError> {
        let all = async {
            while self.totals().connected < self.handles.len() {
                sleep(POLL).await;
            }
        };
        timeout(CONNECTED_WITHIN, all).await.map_err(|_| {
            let end = self.handles.iter().find_map(UplinkHandle::last_end);
            UplinksError::NotConnected(end.map_or_else(|| "no answer".into(), |end| end.to_string()))
        })
    }

    pub fn hear(&mut self, tick: &Tick) {
        for (number, (frame, hearings)) in tick.frames().enumerate() {
            if number % FRAMES_IN_A_ROW == 0 {
                self.offers = self.offers.offer();
            }
            self.handles[frame.site.index()].hear_all(hearings);
        }
    }

    pub fn totals(&self) -> Totals {
        self.handles.iter().map(UplinkHandle::stats).fold(Totals::default(), Totals::with)
    }

    pub fn len(&self) -> usize {
        self.handles.len()
    }

    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Cuts every connection at once; the uplinks come back by themselves.
    pub fn cut(&self) {
        self.handles.iter().for_each(UplinkHandle::cut);
    }

    /// Sends what is left, says goodbye, and gives the last figures.
    pub async fn finish(self) -> Totals {
        let mut farewells = JoinSet::new();
        for uplink in self.handles {
            farewells.spawn(uplink.finish(FAREWELL));
        }
        farewells.join_all().await.into_iter().fold(Totals::default(), |totals, end| totals.with(end.stats))
    }
}
