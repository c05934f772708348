//! Plates typed by a clock of their own, whatever else goes on: `POST /v1/stations/{station}/sessions` with the last four
//! digits of a car that the terminal shows, timed from the moment at which it should have been sent. Both a session and
//! a list of several that fit are answers. What was opened is released again.
//!
//! They have a runtime and connections of their own, so that what is timed is the engine's answer, and not what thousands of other
//! terminals are told meanwhile; and a clock of their own, a plain thread that sleeps to some 50 us, while the runtime's ticks in
//! whole milliseconds and rounds up, which was a third of what an answer took. Neither yields to the radio as its own thread does:
//! a terminal that stands at a station waits for no simulated one.
//!
//! Only cars that nobody comes to serve are asked for, so that no attendant finds his customer taken.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use forecourt::session::SessionView;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{CarId, Role, plates::last_four},
    people::{CallError, Client, Terminal},
    report::Latencies,
    town::{Thread, Town},
    world::World,
};

/// Queries without an answer at a time; past it none is sent, and the schedule stands still, counted.
const OPEN_MAX: usize = 2_000;

/// Stations that are looked at for somebody to ask for.
const TRIES: usize = 20;

pub(super) type Shared = Arc<Mutex<Latencies>>;

pub(super) struct PlateQueries {
    seed: u64,
    latencies: Shared,
    /// Kept for those who are still answered when nobody is asked any more.
    _people: Thread,
    clock: mpsc::Sender<Asker>,
    end: CancellationToken,
}

impl PlateQueries {
    /// Starts the threads, which run at the niceness that the calling one has at this moment.
    pub(super) fn start(per_s: f64, seed: u64) -> io::Result<PlateQueries> {
        let people = Thread::start("plates")?;
        let (clock, begun) = mpsc::channel::<Asker>();
        let (handle, end) = (people.handle().clone(), CancellationToken::new());
        let ended = end.clone();
        let ask = move || {
            if let Ok(asker) = begun.recv()
                && per_s > 0.0
            {
                asker.ask(Duration::from_secs_f64(1.0 / per_s), &handle, &ended);
            }
        };
        thread::Builder::new().name("plates clock".into()).spawn(ask)?;
        let latencies = Arc::new(Mutex::new(Latencies::new("plate", "Plate query to answer")));
        Ok(PlateQueries { seed, latencies, _people: people, clock, end })
    }

    pub(super) fn latencies(&self) -> Shared {
        self.latencies.clone()
    }

    /// Asks from now on.
    pub(super) fn begin(&self, town: &Town) {
        let asker = Asker {
            world: town.world.clone(),
            terminals: town.terminals(),
            line: Client::new(String::new()),
            rng: SmallRng::seed_from_u64(self.seed),
            latencies: self.latencies.clone(),
            began: Instant::now(),
        };
        // The clock waits for this one.
        let _ = self.clock.send(asker);
    }

    /// Asks no more. Those on their way may still be answered, and count.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

struct Asker {
    world: Arc<World>,
    terminals: Vec<Arc<Terminal>>,
    /// Whose connections all queries take.
    line: Client,
    rng: SmallRng,
    latencies: Shared,
    began: Instant,
}

impl Asker {
    fn ask(mut self, every: Duration, people: &Handle, end: &CancellationToken) {
        let open = Arc::new(Semaphore::new(OPEN_MAX));
        for number in 0_u32.. {
            let due = self.began + every * number;
            // Whom to ask for is looked up before it is time: the radio may hold the fleet just then.
            sleep_until(due.checked_sub(every / 2).unwrap_or(due));
            let somebody = self.somebody();
            sleep_until(due);
            if end.is_cancelled() {
                return;
            }
            let Some((terminal, car, plate)) = somebody else { continue };
            let permit = people.block_on(open.clone().acquire_owned()).expect("nobody closes it");
            let (world, caller) = (self.world.clone(), terminal.caller.over(&self.line));
            let query = Query { world, terminal, caller, car, plate, name: format!("query-{number}") };
            people.spawn(query.answered(self.began, due, self.latencies.clone(), permit));
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

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// One plate that is typed.
struct Query {
    world: Arc<World>,
    terminal: Arc<Terminal>,
    caller: Client,
    car: CarId,
    plate: String,
    /// Tells its requests from those of all others.
    name: String,
}

/// The session that a query opened; `None` when several cars fitted.
type Opened = Option<SessionView>;

impl Query {
    /// From the moment at which the plate is typed to the end of what came of it.
    async fn answered(self, began: Instant, due: Instant, latencies: Shared, _permit: OwnedSemaphorePermit) {
        let answer = self.ask().await;
        let took = due.elapsed();
        let Some(opened) = self.judge(answer) else { return };
        latencies.lock().unwrap_or_else(PoisonError::into_inner).record(due - began, took);
        self.release(opened).await;
    }

    async fn ask(&self) -> Result<SessionView, CallError> {
        let path = format!("/v1/stations/{}/sessions", self.terminal.station);
        let body = json!({ "plate": last_four(&self.plate) });
        self.caller.post_once(&path, &self.name, &body).await
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
        let released = self.caller.post_once::<serde_json::Value>(&path, &key, &json!({})).await;
        if let Err(error) = released {
            tracing::warn!(session = %session.id, %error, "a session of a query stays open");
        }
    }
}
