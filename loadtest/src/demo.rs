//! The demo: an engine, a fleet let loose on it, and an account of what came of it.
//!
//! ```text
//! fleet --tick--> oracle                  what is true
//!           |---> uplinks ==QUIC==> engine ==HTTP==> terminals, phones --> oracle: what is said
//!           '---> attendants ==HTTP==> engine
//! ```

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use forecourt::{
    engine::{batch::Hearing, time::SlotLength},
    ingest::pki::{self, Authority, PkiError},
    payment::Simulator,
    telemetry,
    uplink::{Identity, IdentityError, Uplink, UplinkConfig, UplinkHandle, client_endpoint},
};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    attendant::Visit,
    client::Client,
    engine::{Engine, EngineError},
    fleet::{Arrival, Fleet, FleetConfig, Site, Tick},
    outcome::Outcome,
    setup::{self, SetupError},
    terminal::Terminal,
    world::World,
};

/// Pumps of each station.
const PUMPS: u16 = 4;

/// Time passes in steps of this; a receiver's gateway sees frames no finer.
const STEP: Duration = Duration::from_millis(20);

const STATUS_EVERY: Duration = Duration::from_secs(3);

/// Cars that are being served when the time is over may finish within this.
const LAST_VISITS: Duration = Duration::from_secs(15);

/// A thousand handshakes on one core take a second.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// An uplink's last batches are acknowledged within this.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct DemoConfig {
    pub stations: usize,
    pub cars: usize,
    pub seed: u64,
    pub slot: SlotLength,
    pub data: PathBuf,
    /// Until somebody stops it, when there is none.
    pub lasts: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("setting up: {0}")]
    Setup(#[from] SetupError),
    #[error("the stations' certificates: {0}")]
    Pki(#[from] PkiError),
    #[error("the stations' certificates: {0}")]
    Identity(#[from] IdentityError),
    #[error("an uplink: {0}")]
    Uplink(#[from] io::Error),
    #[error("the uplinks are not accepted: {0}")]
    NotConnected(String),
    #[error("{} holds something already", .0.display())]
    DataInUse(PathBuf),
    #[error("the simulated PSP's books cannot be read: {0}")]
    Books(String),
    #[error("part of the demo broke: {0}")]
    Broken(#[from] JoinError),
}

/// Runs the demo to its end.
pub async fn run(config: DemoConfig) -> Result<Outcome, DemoError> {
    check_folder(&config)?;
    let engine = Engine::start(&config.data, config.slot.seconds()).await?;
    let fleet = FleetConfig {
        seed: config.seed,
        stations: config.stations,
        pumps: PUMPS,
        cars: config.cars,
        slot: config.slot,
    };
    let made = telemetry::now();
    let world = Arc::new(World::new(Fleet::new(fleet, made)));
    let mut town = Town::open(&config, &engine, world.clone()).await?;
    town.announce(&engine);
    world.fleet().postpone(telemetry::now().since(made));
    let began = Instant::now();
    town.live(config.lasts).await?;
    let ran = began.elapsed();
    let frames = town.close().await;
    engine.stop()?;
    audit(&config, &world)?;
    Ok(Outcome::new(&world.oracle(), config.seed, frames, ran))
}

/// The books of an earlier run would be held against this one.
fn check_folder(config: &DemoConfig) -> Result<(), DemoError> {
    let is_empty = match fs::read_dir(&config.data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_empty { Ok(()) } else { Err(DemoError::DataInUse(config.data.clone())) }
}

/// Asks the PSP, and not the engine, what was charged.
fn audit(config: &DemoConfig, world: &World) -> Result<(), DemoError> {
    let books = Simulator::open(&config.data, Duration::ZERO).and_then(|psp| psp.charges());
    world.oracle().audit(&books.map_err(|error| DemoError::Books(error.to_string()))?);
    Ok(())
}

/// Everybody outside the engine.
struct Town {
    world: Arc<World>,
    terminals: Vec<Arc<Terminal>>,
    uplinks: Vec<UplinkHandle>,
    /// Phones and terminals: they listen until the end.
    listeners: JoinSet<()>,
    visits: JoinSet<()>,
    visits_begun: u64,
    seed: u64,
}

impl Town {
    async fn open(config: &DemoConfig, engine: &Engine, world: Arc<World>) -> Result<Town, DemoError> {
        let client = Client::new(format!("http://{}", engine.addresses.http));
        let operator = client.with_token(engine.operator_token.clone());
        setup::import(&operator, &world).await?;
        let terminals = setup::terminals(&operator, &world).await?;
        let mut listeners = JoinSet::new();
        for terminal in &terminals {
            listeners.spawn(terminal.clone().watch(world.clone()));
        }
        for phone in setup::phones(&client, &world).await? {
            listeners.spawn(phone.live(world.clone()));
        }
        let uplinks = uplinks(engine, &world)?;
        connected(&uplinks).await?;
        let visits = JoinSet::new();
        Ok(Town { world, terminals, uplinks, listeners, visits, visits_begun: 0, seed: config.seed })
    }

    /// Where to look, on standard error: standard output is for the result.
    fn announce(&self, engine: &Engine) {
        let (http, metrics) = (engine.addresses.http, engine.addresses.metrics);
        let terminal = &self.terminals[0];
        eprintln!("uplinks (QUIC)  {}", engine.addresses.ingest);
        eprintln!("API             http://{http}   (document: http://{http}/openapi.json)");
        eprintln!("metrics         http://{metrics}/metrics");
        eprintln!("the vehicles on the forecourt of station {}:", terminal.station);
        let token = terminal.caller.token();
        eprintln!("  curl -H 'Authorization: Bearer {token}' http://{http}/v1/stations/{}/vehicles", terminal.station);
        eprintln!("what the engine counts:");
        eprintln!("  curl http://{metrics}/metrics");
    }

    /// Until the time is over or Ctrl-C is pressed, and then until the last car is served.
    async fn live(&mut self, lasts: Option<Duration>) -> Result<(), DemoError> {
        let over = async {
            let time = async { tokio::time::sleep(lasts.unwrap_or(Duration::MAX)).await };
            tokio::select! {
                () = time => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        tokio::pin!(over);
        let (mut step, mut status) = (interval(STEP), interval(STATUS_EVERY));
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut over => break,
                _ = step.tick() => self.step()?,
                _ = status.tick() => self.status(),
            }
        }
        self.world.fleet().close();
        if let Ok(finished) = timeout(LAST_VISITS, self.finish(step)).await {
            return finished;
        }
        self.world.oracle().unfinished(self.visits.len() as u64);
        Ok(())
    }

    /// Serves those who are at the pumps, or on their way there.
    async fn finish(&mut self, mut step: tokio::time::Interval) -> Result<(), DemoError> {
        while !self.visits.is_empty() || self.world.fleet().is_anybody_driving_in() {
            step.tick().await;
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), DemoError> {
        let Tick { heard, arrived } = self.world.tick();
        let mut by_site: Vec<Vec<Hearing>> = vec![Vec::new(); self.uplinks.len()];
        for heard in heard {
            by_site[heard.site.0].push(heard.hearing);
        }
        for (uplink, hearings) in self.uplinks.iter().zip(&by_site) {
            uplink.hear_all(hearings);
        }
        for arrival in arrived {
            self.begin_visit(arrival);
        }
        while let Some(visit) = self.visits.try_join_next() {
            visit?;
        }
        while let Some(listener) = self.listeners.try_join_next() {
            listener?;
        }
        Ok(())
    }

    fn begin_visit(&mut self, arrival: Arrival) {
        self.visits_begun += 1;
        let rng = StdRng::seed_from_u64(self.seed.wrapping_add(self.visits_begun));
        let terminal = self.terminals[arrival.site.0].clone();
        self.visits.spawn(Visit::new(self.world.clone(), terminal, arrival, rng).serve());
    }

    fn frames(&self) -> u64 {
        self.uplinks.iter().map(|uplink| uplink.stats().acknowledged).sum()
    }

    fn status(&self) {
        let counts = self.world.oracle().counts();
        eprintln!(
            "{} frames, {} vehicles entered, {} at the pumps, {} sessions, {} paid; missed {}, wrong {}",
            self.frames(),
            counts.vehicles_entered,
            self.visits.len(),
            counts.sessions_opened,
            counts.sessions_paid,
            counts.missed,
            counts.wrong,
        );
    }

    /// Ends everybody; the hearings that the engine acknowledged.
    async fn close(mut self) -> u64 {
        self.visits.shutdown().await;
        self.listeners.shutdown().await;
        let mut farewells = JoinSet::new();
        for uplink in self.uplinks {
            farewells.spawn(uplink.finish(FAREWELL));
        }
        farewells.join_all().await.iter().map(|end| end.stats.acknowledged).sum()
    }
}

/// Waits until the engine has accepted every uplink, so that nothing is measured against a handshake.
async fn connected(uplinks: &[UplinkHandle]) -> Result<(), DemoError> {
    let all = async {
        while !uplinks.iter().all(|uplink| uplink.stats().connected) {
            tokio::time::sleep(STEP).await;
        }
    };
    timeout(CONNECTED_WITHIN, all).await.map_err(|_| {
        let end = uplinks.iter().find_map(UplinkHandle::last_end);
        DemoError::NotConnected(end.map_or_else(|| "no answer".into(), |end| end.to_string()))
    })
}

/// One uplink a station, each with its own certificate, over one socket.
fn uplinks(engine: &Engine, world: &World) -> Result<Vec<UplinkHandle>, DemoError> {
    let server = engine.addresses.ingest;
    let endpoint = client_endpoint(server)?;
    let authority = Authority::open(engine.data())?;
    let ca = pki::folder(engine.data()).join("ca.pem");
    let sites = world.fleet().sites.clone();
    let uplink = |site: &Site| {
        let issued = authority.issue_station(site.station)?;
        let identity = Identity::read(&ca, &issued.certificate, &issued.key)?;
        let mut config = UplinkConfig::new(server, site.station, site.receivers(), identity);
        config.endpoint = Some(endpoint.clone());
        Ok(Uplink::start(config)?)
    };
    sites.iter().map(uplink).collect()
}
