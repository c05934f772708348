//! Plates typed by a clock of their own, whatever else goes on: `POST /v1/stations/{station}/sessions` with the last four
//! digits of a car that the terminal shows, timed from the moment at which it should have been sent. Both a session and
//! a list of several that fit are answers. What was opened is released again.
//!
//! Only cars that nobody comes to serve are asked for, so that no attendant finds his customer taken.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forecourt::session::SessionView;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::{
    fleet::{CarId, Role, plates::last_four},
    people::{CallError, Terminal},
    report::Latencies,
    town::Town,
    world::World,
};

/// Queries without an answer at a time; past it none is sent, and the schedule stands still, counted.
const OPEN_MAX: usize = 2_000;

/// Stations that are looked at for somebody to ask for.
const TRIES: usize = 20;

pub(super) type Shared = Arc<Mutex<Latencies>>;

pub(super) struct PlateQueries {
    per_s: f64,
    seed: u64,
    latencies: Shared,
    asking: Option<AbortHandle>,
}

impl PlateQueries {
    pub(super) fn new(per_s: f64, seed: u64) -> PlateQueries {
        let latencies = Latencies::new("plate", "Plate query to answer");
        PlateQueries { per_s, seed, latencies: Arc::new(Mutex::new(latencies)), asking: None }
    }

    pub(super) fn latencies(&self) -> Shared {
        self.latencies.clone()
    }

    /// Asks from now on.
    pub(super) fn begin(&mut self, town: &Town) {
        if self.per_s <= 0.0 {
            return;
        }
        let asker = Asker {
            world: town.world.clone(),
            terminals: town.terminals(),
            rng: SmallRng::seed_from_u64(self.seed),
            latencies: self.latencies.clone(),
            began: Instant::now(),
        };
        let every = Duration::from_secs_f64(1.0 / self.per_s);
        self.asking = Some(town.people().spawn(asker.ask(every)).abort_handle());
    }

    /// Asks no more. Those on their way may still be answered, and count.
    pub(super) fn end(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
        }
    }
}

struct Asker {
    world: Arc<World>,
    terminals: Vec<Arc<Terminal>>,
    rng: SmallRng,
    latencies: Shared,
    began: Instant,
}

impl Asker {
    async fn ask(mut self, every: Duration) {
        let open = Arc::new(Semaphore::new(OPEN_MAX));
        for number in 0_u32.. {
            let due = self.began + every * number;
            // Whom to ask for is looked up before it is time: the radio may hold the fleet just then.
            sleep_until(due - every / 2).await;
            let Some((terminal, car, plate)) = self.somebody() else { continue };
            sleep_until(due).await;
            let permit = open.clone().acquire_owned().await.expect("nobody closes it");
            let (world, latencies, began) = (self.world.clone(), self.latencies.clone(), self.began);
            tokio::spawn(async move {
                let _permit = permit;
                let query = Query { world, terminal, car, plate, name: format!("query-{number}") };
                let answer = query.ask().await;
                let took = due.elapsed();
                let Some(opened) = query.judge(answer) else { return };
                latencies.lock().unwrap_or_else(PoisonError::into_inner).record(due - began, took);
                query.release(opened).await;
            });
        }
    }

    /// A car on some forecourt that is there for the shop.
    fn somebody(&mut self) -> Option<(Arc<Terminal>, CarId, String)> {
        (0..TRIES).find_map(|_| {
            let terminal = &self.terminals[self.rng.random_range(0..self.terminals.len().max(1))];
            let plates: Vec<String> = terminal.look(|board| board.free().map(str::to_owned).collect());
            let plate = plates.get(self.rng.random_range(0..plates.len().max(1)))?.clone();
            let car = self.world.oracle().car(&plate)?;
            let is_guest = self.world.fleet().car(car).role == Role::Guest;
            is_guest.then(|| (terminal.clone(), car, plate))
        })
    }
}

/// One plate that is typed.
struct Query {
    world: Arc<World>,
    terminal: Arc<Terminal>,
    car: CarId,
    plate: String,
    /// Tells its requests from those of all others.
    name: String,
}

/// The session that a query opened; `None` when several cars fitted.
type Opened = Option<SessionView>;

impl Query {
    async fn ask(&self) -> Result<SessionView, CallError> {
        let path = format!("/v1/stations/{}/sessions", self.terminal.station);
        let body = json!({ "plate": last_four(&self.plate) });
        self.terminal.caller.post_once(&path, &self.name, &body).await
    }

    /// `None` when there was no answer to the question: the car left in the meantime.
    fn judge(&self, answer: Result<SessionView, CallError>) -> Option<Opened> {
        match answer {
            Ok(opened) => {
                self.check(&opened);
                Some(Some(opened))
            }
            Err(error) if error.code() == "PLATE_AMBIGUOUS" => Some(None),
            Err(error) => {
                self.refused(&error);
                None
            }
        }
    }

    /// One car fitted, and it must be the one that was asked for.
    fn check(&self, opened: &SessionView) {
        let (device, session) = (self.world.device(self.car), opened.id);
        // Another car with these digits may have come when this one left.
        if opened.device != device && self.is_here() {
            let (plate, selected) = (&self.plate, opened.device);
            self.world.oracle().wrong(format!("{plate} was typed, and session {session} took dongle {selected}"));
        }
    }

    fn refused(&self, error: &CallError) {
        if matches!(error.code(), "PLATE_NO_MATCH" | "VEHICLE_NOT_PRESENT") && self.is_here() {
            let reason = format!("{} at {} was typed: {error}", self.plate, self.terminal.station);
            self.world.missed(self.terminal.site, self.car, &reason);
        }
    }

    fn is_here(&self) -> bool {
        self.world.fleet().car(self.car).trip.forecourt() == Some(self.terminal.site)
    }

    async fn release(&self, opened: Opened) {
        let Some(session) = opened else { return };
        let path = format!("/v1/sessions/{}/release", session.id);
        let key = format!("release-{}", self.name);
        let released = self.terminal.caller.post_once::<serde_json::Value>(&path, &key, &json!({})).await;
        if let Err(error) = released {
            tracing::warn!(session = %session.id, %error, "a session of a query stays open");
        }
    }
}
