//! A scenario against the real engine's process: open loop, on an absolute schedule.
//!
//! Every step of the run has its moment from the start on. A generator that falls behind makes its steps up one after
//! the other, with the times that they should have had, so that what it is late is in every latency; and the run says
//! that it was so ([`pace`]).

mod account;
mod pace;
mod plates;
mod progress;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forecourt::{engine::time::UnixMs, payment::Simulator, telemetry};
use tokio::{
    task::JoinError,
    time::{Instant, sleep_until},
};

use crate::{
    fleet::Fleet,
    process::{Serve, ServeError, ServeOptions, Usage, placement, usage},
    report::Run,
    scenario::{Plan, Scenario, ScenarioError, StationsError},
    town::{Doors, Town, TownError},
    uplinks::Totals,
    world::World,
};
use account::Account;
use pace::Pace;
use plates::PlateQueries;
use progress::Progress;

/// Time passes in steps of this; a receiver's gateway sees frames no finer.
const STEP: Duration = Duration::from_millis(2);

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Cars that are being served when the time is over may finish within this.
const LAST_VISITS: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Options {
    /// As it was typed, for the report.
    pub command: String,
    pub scenario: PathBuf,
    /// Of the scenario's cars.
    pub rate_share: f64,
    /// The engine's data folder.
    pub data: PathBuf,
    /// The engine's cores; wherever the system likes without them.
    pub engine_cores: Option<Vec<usize>>,
    /// Ours, that the calling thread was put on.
    pub generator_cores: Option<Vec<usize>>,
    /// The engine's program; without it, the one beside our own.
    pub engine: Option<PathBuf>,
    /// More settings of the engine.
    pub settings: Vec<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum NationError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Stations(#[from] StationsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Town(#[from] TownError),
    #[error("the machine: {0}")]
    Machine(#[from] io::Error),
    #[error("the simulated PSP's books cannot be read: {0}")]
    Books(String),
    #[error("part of the run broke: {0}")]
    Broken(#[from] JoinError),
}

/// Runs a scenario to its end.
pub async fn run(options: &Options) -> Result<Run, NationError> {
    let scenario = Scenario::read(&options.scenario)?;
    let folder = options.scenario.parent().unwrap_or(Path::new("."));
    let plan = scenario.plan(options.rate_share, folder)?;
    let engine = Serve::start(serve_options(options, &scenario, &plan)).await?;
    let world = Arc::new(World::new(Fleet::new(plan.fleet.clone(), telemetry::now()), plan.judgement));
    let doors = Doors {
        addresses: engine.addresses(),
        operator_token: engine.operator_token().into(),
        data: engine.data().into(),
    };
    let town = Town::open(&doors, world.clone(), plan.habits, scenario.seed, |step| eprintln!("{step}")).await?;
    let plates = PlateQueries::start(scenario.people.plate_queries_per_s, scenario.seed)?;
    // The people have threads of their own: what they wait for is the engine, and not our radio.
    placement::yield_to_others()?;
    let mut nation = Nation::new(&scenario, &engine, town, plates);
    let account = nation.live().await?;
    let metrics = engine.metrics().await?;
    let Nation { town, .. } = nation;
    let totals = town.close().await;
    engine.stop().await?;
    audit(&options.data, &world)?;
    Ok(account.report(options, &scenario, &plan, &world.oracle(), totals, &metrics))
}

/// Asks the PSP, and not the engine, what was charged.
fn audit(data: &Path, world: &World) -> Result<(), NationError> {
    let books = Simulator::open(data, Duration::ZERO).and_then(|psp| psp.charges());
    world.oracle().audit(&books.map_err(|error| NationError::Books(error.to_string()))?);
    Ok(())
}

/// The engine's own bounds stay, but for those that see one machine where there are thousands of stations.
fn serve_options(options: &Options, scenario: &Scenario, plan: &Plan) -> ServeOptions {
    let stations = plan.fleet.stations.len();
    let set = |name: &str, value: &dyn ToString| (format!("FORECOURT_{name}"), value.to_string());
    let mut settings = vec![
        set("LOG_FILTER", &"warn"),
        set("ENGINE_SLOT_SECONDS", &scenario.slot_seconds),
        set("INGEST_WAITING_PER_SOURCE_MAX", &stations.max(4_096)),
        set("INGEST_CONNECTIONS_MAX", &(stations * 2 + 1_000)),
        set("HTTP_EVENT_STREAMS_MAX", &(stations * 2 + 10_000)),
        set("HTTP_CONNECTIONS_MAX", &(stations * 4 + 20_000)),
        // Answers of the PSP that are lost on purpose are looked up within a short run.
        set("PAYMENT_ANSWER_MS", &1_000),
    ];
    settings.extend(options.settings.clone());
    ServeOptions {
        data: options.data.clone(),
        settings,
        cores: options.engine_cores.clone(),
        binary: options.engine.clone(),
    }
}

/// What one look at everything shows.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Since the measured time began; before it, negative.
    at_s: f64,
    totals: Totals,
    engine: Usage,
    generator: Usage,
}

struct Nation<'a> {
    engine: &'a Serve,
    town: Town,
    plates: PlateQueries,
    pace: Pace,
    warm_up: Duration,
    lasts: Duration,
    storm_at: Option<Duration>,
}

impl Nation<'_> {
    fn new<'a>(scenario: &Scenario, engine: &'a Serve, town: Town, plates: PlateQueries) -> Nation<'a> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let warm_up = seconds(scenario.warm_up_seconds);
        Nation {
            engine,
            plates,
            town,
            pace: Pace::default(),
            warm_up,
            lasts: warm_up + seconds(scenario.seconds),
            storm_at: (scenario.storm.at_s > 0).then(|| warm_up + seconds(scenario.storm.at_s)),
        }
    }

    /// Opens the stations, runs to the end of the time, and serves those who are still there.
    async fn live(&mut self) -> Result<Account, NationError> {
        let (began, opened) = (Instant::now(), telemetry::now());
        self.town.world.fleet().open(opened);
        let measured_from = opened.plus(self.warm_up.as_millis() as u64);
        self.town.world.oracle().measure_from(measured_from);
        let mut account = Account::new(self.plates.latencies());
        let mut progress = Progress::default();
        let (mut next_sample, mut is_measured) = (Duration::ZERO, false);
        for step in 1_u32.. {
            let due = STEP * step;
            if due > self.lasts {
                break;
            }
            self.pace.wait(began + due).await;
            self.town.step(opened.plus(due.as_millis() as u64))?;
            if !is_measured && due >= self.warm_up {
                is_measured = true;
                self.pace.begin();
                self.plates.begin(&self.town);
            }
            self.storm(due, &mut account);
            if due >= next_sample {
                next_sample += SAMPLE_EVERY;
                let sample = self.sample(due)?;
                progress.tell(&sample, &self.pace, &self.town);
                account.take(sample);
            }
        }
        account.pace = self.pace.clone();
        self.plates.end();
        self.finish(began, opened).await?;
        Ok(account)
    }

    /// Cuts all uplinks when their time has come, and sees how long they are away.
    fn storm(&mut self, due: Duration, account: &mut Account) {
        if self.storm_at.is_some_and(|at| at <= due) {
            self.storm_at = None;
            account.storm.began(due, self.town.uplinks.totals().connects);
            self.town.uplinks.cut();
            eprintln!("cut all {} uplinks", self.town.uplinks.len());
        } else if account.storm.is_on() {
            let totals = self.town.uplinks.totals();
            account.storm.look(due, totals.connected, totals.connects, self.town.uplinks.len());
        }
    }

    fn sample(&self, due: Duration) -> io::Result<Sample> {
        Ok(Sample {
            at_s: due.as_secs_f64() - self.warm_up.as_secs_f64(),
            totals: self.town.uplinks.totals(),
            engine: self.engine.usage()?,
            generator: usage::of_self()?,
        })
    }

    /// Nobody comes any more; who is at a pump, or on the way there, is served.
    async fn finish(&mut self, began: Instant, opened: UnixMs) -> Result<(), NationError> {
        self.town.world.fleet().close();
        let (patience, mut due) = (Instant::now() + LAST_VISITS, began.elapsed());
        while self.town.is_busy() && Instant::now() < patience {
            due += STEP;
            sleep_until(began + due).await;
            self.town.step(opened.plus(due.as_millis() as u64))?;
        }
        Ok(())
    }
}
