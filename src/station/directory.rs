//! All stations of this node: who runs where, and the way to each.

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use actix::prelude::*;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use futures_util::future::join_all;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    oneshot,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    Config,
    actor::{AttachUplink, Begun, BindingChanged, EnteredElsewhere, Feed, Health, StationActor, Watch},
    error::{AttachError, SelectError, StationError},
    forecourt::Forecourt,
    health::StationHealth,
    intake::{Applied, BatchStream, IntakeEnd},
    metrics::Metrics,
    scene::SharedScene,
    selection::{Chosen, Select, Selection},
    snapshot,
    survey::{Ailment, Survey},
    view::{StationEvent, VehicleView},
    whereabouts::Whereabouts,
};
use crate::{
    engine::{
        control::Receiver,
        id::{DeviceId, SpoolId, StationId},
        presence::{Record, Seen},
    },
    registration::{Registration, Registrations},
    session::Sessions,
    telemetry::{now, trace::session_span, yield_to_others},
};

/// Turns in which all stations are surveyed. An answer takes some 40 us of a thread that frames wait for, at forty vehicles:
/// of a thousand stations at once 40 ms, by turns less than one.
const SURVEY_TURNS: u32 = 100;

/// Stations whose windows are copied for a snapshot before others have the core: some 100 us at a dozen vehicles each. All of
/// thousands at once, or asked one after the other of their actors, kept the core for 25 to 50 ms; the kernel's own thread
/// that hands a flush to the disk stood behind that, and with it every commit of the journal.
const SNAPSHOT_TURN: usize = 64;

/// Between two such turns: 3,500 stations take 0.3 s.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(5);

/// Of the thread that writes the snapshot down, some 10 ms for 3 MB: behind the stations, which run at 5.
const SNAPSHOT_NICENESS: i32 = 10;

/// A station's uplink, after its hello was accepted.
#[derive(Debug)]
pub struct Attach {
    pub station: StationId,
    pub spool: SpoolId,
    pub receivers: Vec<Receiver>,
    /// Batches after which the connection wants to hear, to acknowledge them.
    pub acknowledge_each: u32,
}

#[derive(Debug)]
pub struct Attached {
    pub link: UplinkLink,
    /// The highest sequence that was applied of this spool before.
    pub before: Option<u64>,
}

/// The way of one uplink's batches to its station.
#[derive(Debug)]
pub struct UplinkLink {
    actor: Addr<StationActor>,
    applied: Arc<Applied>,
}

impl UplinkLink {
    /// Hands the stream of batches over: the station reads it from now on, to its end.
    pub async fn feed(&self, stream: BatchStream) {
        let feed = Feed { applied: self.applied.clone(), stream };
        if self.actor.send(feed).await.is_err() {
            self.applied.finish(IntakeEnd::Gone);
        }
    }

    /// How far the station is.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }
}

/// The directory of stations; cheap to clone.
#[derive(Clone)]
pub struct Stations(Arc<Directory>);

struct Directory {
    config: Config,
    registrations: Registrations,
    sessions: Sessions,
    whereabouts: Whereabouts,
    metrics: Metrics,
    arbiters: Vec<ArbiterHandle>,
    running: DashMap<StationId, Running>,
    /// Windows of the last run whose station has not been asked for yet.
    restored: DashMap<StationId, Vec<Record>>,
    snapshot: PathBuf,
    survey: ArcSwap<Survey>,
}

/// A station that runs; cheap to clone.
#[derive(Clone)]
struct Running {
    actor: Addr<StationActor>,
    scene: SharedScene,
}

impl Stations {
    /// Actors run on `arbiters`, of which there is at least one. `snapshot` is the file in which presence outlives a
    /// restart.
    pub fn start(
        config: Config,
        registrations: Registrations,
        sessions: Sessions,
        arbiters: Vec<ArbiterHandle>,
        snapshot: PathBuf,
    ) -> Stations {
        let restored = snapshot::read(&snapshot).unwrap_or_else(|error| {
            tracing::warn!(path = %snapshot.display(), %error, "presence starts empty: its snapshot cannot be used");
            snapshot::Windows::new()
        });
        Stations(Arc::new(Directory {
            config,
            registrations,
            sessions,
            whereabouts: Whereabouts::default(),
            metrics: Metrics::new(),
            arbiters,
            running: DashMap::new(),
            restored: restored.into_iter().collect(),
            snapshot,
            survey: ArcSwap::default(),
        }))
    }

    /// Whether the chain has this station.
    pub fn known(&self, station: StationId) -> bool {
        self.0.registrations.station_known(station)
    }

    /// A station that does not run yet is started on the arbiter that this is called on.
    pub async fn attach(&self, attach: Attach) -> Result<Attached, AttachError> {
        let here = Arbiter::try_current().unwrap_or_else(|| self.arbiter_of(attach.station));
        let Running { actor, .. } = self.running_at(attach.station, &here).ok_or(AttachError::Unknown)?;
        let applied = Arc::new(Applied::new(attach.acknowledge_each, attach.station));
        let Attach { spool, receivers, .. } = attach;
        let attach = AttachUplink { spool, receivers, applied: applied.clone() };
        let before = actor.send(attach).await.map_err(|_| AttachError::Gone)?;
        Ok(Attached { link: UplinkLink { actor, applied }, before })
    }

    /// The vehicles that may be selected.
    pub async fn vehicles(&self, station: StationId) -> Result<Vec<VehicleView>, StationError> {
        let scene = self.scene(station).await?;
        self.seen_at(&scene).await
    }

    /// The vehicles that may be selected, and every change from then on. A receiver that lags asks anew.
    pub async fn watch(
        &self,
        station: StationId,
    ) -> Result<(Vec<VehicleView>, broadcast::Receiver<StationEvent>), StationError> {
        let Running { actor, scene } = self.running(station).ok_or(StationError::UnknownStation)?;
        // Subscribed first: a change between the two is told twice rather than never.
        let events = actor.send(Watch).await.map_err(|_| StationError::Unavailable)?;
        Ok((self.seen_at(&scene).await?, events))
    }

    async fn seen_at(&self, scene: &SharedScene) -> Result<Vec<VehicleView>, StationError> {
        let known = self.known_at(scene).await?;
        let active = known.iter().filter(|(_, registration)| registration.is_active());
        Ok(active.map(|(seen, registration)| VehicleView::new(seen, registration)).collect())
    }

    /// Finds the vehicle that the attendant means and opens its session.
    pub async fn select(&self, station: StationId, select: Select) -> Result<Selection, SelectError> {
        let (session, request) = (select.session, select.request);
        let span = session_span!("select", session);
        let selected = self.choose_and_open(station, select).instrument(span).await;
        // A repetition is answered as the first was, though its vehicle be gone, or taken, by that very session too.
        if !matches!(selected, Ok(Selection::Opened(_)))
            && let Some(view) = self.0.sessions.repeated(session, request).await?
        {
            return Ok(Selection::Opened(Box::new(view)));
        }
        selected
    }

    /// Here it is only looked who is there: it is the desk that gives a vehicle to one session and no other, and that has the
    /// scene follow before this answers.
    async fn choose_and_open(&self, station: StationId, select: Select) -> Result<Selection, SelectError> {
        match self.choose(station, &select).await? {
            Chosen::One(open) => Ok(Selection::Opened(Box::new(self.0.sessions.open(*open).await?))),
            Chosen::Several(candidates) => Ok(Selection::Ambiguous(candidates)),
        }
    }

    async fn choose(&self, station: StationId, select: &Select) -> Result<Chosen, SelectError> {
        let scene = self.scene(station).await?;
        let known = self.known_at(&scene).await?;
        scene.lock().choose(select, known, now(), self.whereabouts())
    }

    /// Those who may be selected, with their registrations from the near cache or the truth. Dongles that have none are left
    /// out.
    async fn known_at(&self, scene: &SharedScene) -> Result<Vec<(Seen, Arc<Registration>)>, StationError> {
        let here = scene.lock().selectable(now(), self.whereabouts());
        let mut known = Vec::with_capacity(here.len());
        for seen in here {
            let registration = match self.registrations().cached(seen.device) {
                Some(registration) => Some(registration),
                None => self.registrations().find(seen.device).await.map_err(|_| StationError::Unavailable)?,
            };
            known.extend(registration.map(|registration| (seen, registration)));
        }
        Ok(known)
    }

    /// What is to be seen at the station, once its open sessions are known.
    async fn scene(&self, station: StationId) -> Result<SharedScene, StationError> {
        let Running { actor, scene } = self.running(station).ok_or(StationError::UnknownStation)?;
        let has_begun = scene.lock().has_begun();
        if !has_begun {
            actor.send(Begun).await.map_err(|_| StationError::Unavailable)?;
        }
        Ok(scene)
    }

    /// The driver has proven, with dongle and phone, to be at `station`.
    pub fn presence_proven(&self, station: StationId, device: DeviceId) {
        for other in self.0.whereabouts.proven(device, station) {
            self.tell(other, EnteredElsewhere(device));
        }
    }

    /// Tells the stations at which a vehicle stands of each change of its binding, until `shutdown` comes.
    pub async fn follow_bindings(self, shutdown: CancellationToken) {
        let mut changes = self.0.registrations.changes();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = shutdown.cancelled() => return,
            };
            match change {
                Ok(change) => {
                    for station in self.0.whereabouts.stations_of(change.device) {
                        self.tell(station, BindingChanged(change.device));
                    }
                }
                // A selection looks the binding up; only what stands on a screen is older for a while.
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "screens were not told of changed bindings"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// The stations that were worst in something at the last survey, the worst first.
    pub fn worst(&self, ailment: Ailment) -> Vec<StationHealth> {
        self.0.survey.load().worst(ailment).to_vec()
    }

    /// Asks every station how it does, one after the other and again and again until `shutdown` comes.
    pub async fn keep_surveyed(self, shutdown: CancellationToken) {
        let period_s = u64::from(self.0.config.survey_s.max(1));
        while let Some(health) = shutdown.run_until_cancelled(self.ask_all(Duration::from_secs(period_s))).await {
            let survey = Survey::of(&health, period_s);
            self.0.metrics.surveyed(&survey, self.0.registrations.stations().len());
            self.0.survey.store(Arc::new(survey));
        }
    }

    /// Takes all of the period, a turn of the stations at a time.
    async fn ask_all(&self, period: Duration) -> Vec<StationHealth> {
        let actors: Vec<_> = self.0.running.iter().map(|entry| entry.actor.clone()).collect();
        let mut stations = Vec::with_capacity(actors.len());
        for turn in 0..SURVEY_TURNS {
            tokio::time::sleep(period / SURVEY_TURNS).await;
            let asked = actors.iter().skip(turn as usize).step_by(SURVEY_TURNS as usize);
            let answers = join_all(asked.map(|actor| actor.send(Health))).await;
            // One that has just ended has nothing to say.
            stations.extend(answers.into_iter().flatten());
        }
        stations
    }

    /// Writes the presence windows down now and then, and once more when `shutdown` comes.
    pub async fn keep_snapshots(self, shutdown: CancellationToken) {
        let period = Duration::from_secs(self.0.config.snapshot_s.max(1).into());
        loop {
            let is_last = tokio::select! {
                () = tokio::time::sleep(period) => false,
                () = shutdown.cancelled() => true,
            };
            let windows = self.windows(&shutdown).await;
            self.write_snapshot(windows).await;
            if is_last {
                return;
            }
        }
    }

    /// The windows of all stations, those of the last run included that were not asked for yet; at once when the engine drains.
    async fn windows(&self, shutdown: &CancellationToken) -> snapshot::Windows {
        let scenes: Vec<_> = self.0.running.iter().map(|entry| (*entry.key(), entry.scene.clone())).collect();
        let mut windows: snapshot::Windows =
            self.0.restored.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        for turn in scenes.chunks(SNAPSHOT_TURN) {
            let records = turn.iter().map(|(station, scene)| (*station, scene.lock().records(now())));
            windows.extend(records.filter(|(_, records)| !records.is_empty()));
            shutdown.run_until_cancelled(tokio::time::sleep(SNAPSHOT_PAUSE)).await;
        }
        windows
    }

    async fn write_snapshot(&self, windows: snapshot::Windows) {
        let path = self.0.snapshot.clone();
        let (written, outcome) = oneshot::channel();
        let write = move || {
            yield_to_others(SNAPSHOT_NICENESS);
            // Who stopped waiting does not need the answer.
            let _ = written.send(snapshot::write(&path, &windows));
        };
        if let Err(error) = thread::Builder::new().name("presence".into()).spawn(write) {
            return tracing::error!(%error, "the writer of presence windows has no thread");
        }
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "presence windows cannot be written down"),
            Err(error) => tracing::error!(%error, "the writer of presence windows broke"),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(super) fn registrations(&self) -> &Registrations {
        &self.0.registrations
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(super) fn whereabouts(&self) -> &Whereabouts {
        &self.0.whereabouts
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Tells a station, if its actor runs; one that does not has nothing to forget.
    pub(super) fn tell<M>(&self, station: StationId, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        StationActor: Handler<M>,
    {
        if let Some(running) = self.0.running.get(&station)
            && running.actor.try_send(message).is_err()
        {
            self.0.metrics.mailbox_full.increment(1);
        }
    }

    /// The station, started when it does not run.
    fn running(&self, station: StationId) -> Option<Running> {
        self.running_at(station, &self.arbiter_of(station))
    }

    fn running_at(&self, station: StationId, arbiter: &ArbiterHandle) -> Option<Running> {
        if let Some(running) = self.0.running.get(&station)
            && running.actor.connected()
        {
            return Some(running.clone());
        }
        if !self.known(station) {
            return None;
        }
        let mut entry = self.0.running.entry(station).or_insert_with(|| self.start_station(station, arbiter));
        if !entry.actor.connected() {
            *entry = self.start_station(station, arbiter);
        }
        Some(entry.clone())
    }

    fn arbiter_of(&self, station: StationId) -> ArbiterHandle {
        self.0.arbiters[station.0 as usize % self.0.arbiters.len()].clone()
    }

    fn start_station(&self, station: StationId, arbiter: &ArbiterHandle) -> Running {
        let windows = self.0.restored.remove(&station).map(|(_, windows)| windows).unwrap_or_default();
        let config = self.config();
        let forecourt = Forecourt::new(config.policy(), config.hearings_per_receiver_s);
        let scene = SharedScene::new(station, forecourt, windows);
        let (stations, shared) = (self.clone(), scene.clone());
        let actor = StationActor::start_in_arbiter(arbiter, move |_| StationActor::new(station, shared, stations));
        Running { actor, scene }
    }
}
