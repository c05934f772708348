//! The demo: an embedded engine, a small town let loose on it, and an account of what came of it.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use forecourt::{
    engine::{id::StationId, time::SlotLength},
    payment::Simulator,
    telemetry,
};
use tokio::{
    task::JoinError,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    engine::{Engine, EngineError},
    fleet::{Away, Fleet, FleetConfig, Flood, SiteId, Station, Traffic, site::Coordinates},
    oracle::Judgement,
    outcome::Outcome,
    people::Habits,
    town::{Doors, Town, TownError},
    world::World,
};

/// Pumps of each station, each with its receiver.
const PUMPS: u8 = 4;

/// Of ten registered cars, this many only ever drive past.
const PASSERS_OF_TEN: f64 = 2.0;

/// Of a hundred cars, so many beacons more whose codes nobody knows.
const STRANGERS_OF_HUNDRED: f64 = 8.0;

/// Nobody waits long for his turn: the forecourt of a demo is to be seen busy.
const TURN_S: f64 = 25.0;

/// The stations lie in a row along a meridian: a hundredth of a degree of latitude is 1.1 km.
const SOUTHMOST_DEGREES: f64 = 37.0;
const APART_DEGREES: f64 = 0.0117;
const LONGITUDE_DEGREES: f64 = 127.0;

/// Fuelling is quick here, so that a short run shows whole visits.
pub(crate) const HABITS: Habits =
    Habits { litres: [4.0, 22.0, 36.0, 114.0], litres_per_minute: 300.0, fuelling_ms: (3_000, 6_000) };

pub(crate) const JUDGEMENT: Judgement = Judgement { late_ms: 1_000 };

/// Time passes in steps of this; a receiver's gateway sees frames no finer.
const STEP: Duration = Duration::from_millis(20);

const STATUS_EVERY: Duration = Duration::from_secs(3);

/// Cars that are being served when the time is over may finish within this.
const LAST_VISITS: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct DemoConfig {
    pub stations: u16,
    pub cars: u16,
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
    #[error(transparent)]
    Town(#[from] TownError),
    #[error("the machine: {0}")]
    Machine(#[from] io::Error),
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
    let fleet = fleet_config(config.seed, config.stations, config.cars, config.slot.seconds());
    let world = Arc::new(World::new(Fleet::new(fleet, telemetry::now()), JUDGEMENT));
    let doors = Doors {
        addresses: engine.addresses,
        operator_token: engine.operator_token.clone(),
        data: engine.data().into(),
    };
    let mut town = Town::open(&doors, world.clone(), HABITS, config.seed, |_| {}).await?;
    announce(&town, &doors);
    let began = Instant::now();
    live(&mut town, config.lasts).await?;
    let ran = began.elapsed();
    let frames = town.close().await.acknowledged;
    engine.stop()?;
    audit(&config, &world)?;
    Ok(Outcome::new(&world.oracle(), config.seed, frames, ran))
}

/// The demo's town: a row of stations, each with its share of the cars.
pub fn fleet_config(seed: u64, stations: u16, cars: u16, slot_seconds: u32) -> FleetConfig {
    let each = f64::from(cars) / f64::from(stations);
    let (passers, customers) = (each * PASSERS_OF_TEN / 10.0, each * (1.0 - PASSERS_OF_TEN / 10.0));
    let traffic = Traffic {
        customers_per_s: customers / TURN_S,
        guests_per_s: 0.0,
        passers_per_s: passers / TURN_S,
        guest_stays_ms: 1_000,
        customers,
        guests: 0.0,
        passers,
        guests_at_once: 0.0,
        strangers: each * STRANGERS_OF_HUNDRED / 100.0,
    };
    FleetConfig {
        seed,
        slot: SlotLength::from_seconds(slot_seconds).expect("the caller checked the range"),
        stations: (0..u32::from(stations)).map(station).collect(),
        canopies: 1,
        pump_receivers: PUMPS,
        waiting: 4,
        advertisements_per_s: 5.0,
        traffic,
        away: Away { ms: 8_000..40_000, moves_on: 0.5 },
        flood: Flood { stations: 0, frames_per_s: 0.0 },
        neighbours_within_m: 1_000.0,
        power_cut_share: 1.0,
        coupled_share: 0.2,
        twin_share: 0.3,
        watched_share: 1.0,
        drift_ppm_max: 150,
        // Under a third of the shortest slot.
        offset_ms_max: 4_000,
    }
}

fn station(number: u32) -> Station {
    let lat = SOUTHMOST_DEGREES + f64::from(number) * APART_DEGREES;
    let id = StationId(number + 1);
    let coordinates = Coordinates { lat, lon: LONGITUDE_DEGREES };
    Station { id, name: format!("Service area {id}"), brand: "Demo".into(), coordinates, pumps: PUMPS.into() }
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

/// Where to look, on standard error: standard output is for the result.
fn announce(town: &Town, doors: &Doors) {
    let (http, metrics) = (doors.addresses.http, doors.addresses.metrics);
    eprintln!("uplinks (QUIC)  {}", doors.addresses.ingest);
    eprintln!("API             http://{http}   (document: http://{http}/openapi.json)");
    eprintln!("metrics         http://{metrics}/metrics");
    if let Some(terminal) = town.terminal(SiteId(0)) {
        let (station, token) = (terminal.station, terminal.caller.token());
        eprintln!("the vehicles on the forecourt of station {station}:");
        eprintln!("  curl -H 'Authorization: Bearer {token}' http://{http}/v1/stations/{station}/vehicles");
    }
    eprintln!("what the engine counts:");
    eprintln!("  curl http://{metrics}/metrics");
}

/// Until the time is over or Ctrl-C is pressed, and then until the last car is served.
pub(crate) async fn live(town: &mut Town, lasts: Option<Duration>) -> Result<(), DemoError> {
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
    let opened = telemetry::now();
    town.world.fleet().open(opened);
    town.world.oracle().measure_from(opened);
    loop {
        tokio::select! {
            () = &mut over => break,
            _ = step.tick() => town.step(telemetry::now())?,
            _ = status.tick() => tell(town),
        }
    }
    town.world.fleet().close();
    match timeout(LAST_VISITS, finish(town, step)).await {
        Ok(finished) => finished,
        Err(_) => Ok(()),
    }
}

/// Serves those who are at the pumps, or on their way there.
async fn finish(town: &mut Town, mut step: Interval) -> Result<(), DemoError> {
    while town.is_busy() {
        step.tick().await;
        town.step(telemetry::now())?;
    }
    Ok(())
}

fn tell(town: &Town) {
    let counts = town.world.oracle().counts();
    eprintln!(
        "{} frames, {} vehicles entered, {} at the pumps, {} sessions, {} paid; missed {}, wrong {}",
        town.uplinks.totals().acknowledged,
        counts.vehicles_entered,
        town.visits(),
        counts.sessions_opened,
        counts.sessions_paid,
        counts.missed,
        counts.wrong,
    );
}
