//! Everybody outside the engine, at work: stations' gateways, attendants at their terminals, drivers with their phones.
//!
//! ```text
//! fleet --tick--> oracle                  what is true
//!           |---> uplinks ==QUIC==> engine ==HTTP==> terminals, phones --> oracle: what is said
//!           '---> attendants ==HTTP==> engine
//! ```
//!
//! The gateways run where [`Town::step`] is called. The people have a thread of their own, so that a terminal's answer
//! is timed when it comes, and not when ten thousand batches have been sent.

use std::{io, path::PathBuf, sync::Arc, thread};

use forecourt::{app::Addresses, engine::time::UnixMs};
use rand::{SeedableRng as _, rngs::SmallRng};
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    task::{JoinError, JoinSet},
};

use crate::{
    fleet::{Arrival, CarId, SiteId, Tick},
    people::{
        Client, Habits, Phone, Terminal, Visit,
        setup::{self, SetupError},
    },
    uplinks::{Totals, Uplinks, UplinksError},
    world::World,
};

/// A car that nobody serves stands at its pump for so long.
const UNATTENDED_MS: u64 = 90_000;

#[derive(Debug, thiserror::Error)]
pub enum TownError {
    #[error("setting up: {0}")]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Uplinks(#[from] UplinksError),
    #[error("the machine gives the people no thread: {0}")]
    Thread(#[from] io::Error),
    #[error("somebody broke: {0}")]
    Broken(#[from] JoinError),
}

/// Where the engine is reached, and what its operator knows.
#[derive(Debug, Clone)]
pub struct Doors {
    pub addresses: Addresses,
    pub operator_token: String,
    /// The data folder, where a machine that may read it finds the development authority.
    pub data: PathBuf,
}

pub struct Town {
    pub world: Arc<World>,
    pub uplinks: Uplinks,
    /// Of each station that is watched.
    terminals: Vec<Option<Arc<Terminal>>>,
    /// Of each car whose driver pays by phone.
    phones: Vec<Option<Arc<Phone>>>,
    /// Terminals: they listen until the end.
    listeners: JoinSet<()>,
    visits: JoinSet<()>,
    visits_begun: u64,
    habits: Habits,
    seed: u64,
    tick: Tick,
    people: Thread,
}

impl Town {
    /// Registers, logs in and connects everybody. `say` hears of each step.
    pub async fn open(
        doors: &Doors,
        world: Arc<World>,
        habits: Habits,
        seed: u64,
        say: impl Fn(&str),
    ) -> Result<Town, TownError> {
        let people = Thread::start("people")?;
        let client = Client::new(format!("http://{}", doors.addresses.http));
        let operator = client.with_token(doors.operator_token.clone());
        let (sites, cars) = (world.watched(), world.customers());
        let (stations, cars_made) = {
            let fleet = world.fleet();
            (fleet.sites.len(), fleet.cars.len())
        };
        say(&format!("importing {stations} stations and {cars_made} cars"));
        let setup = (operator.clone(), world.clone());
        people.run(async move { setup::import(&setup.0, &setup.1).await }).await??;
        say(&format!("logging in {} terminals and {} phones", sites.len(), cars.len()));
        let setup = (operator, client, world.clone());
        let logged_in = people.run(async move {
            let terminals = setup::terminals(&setup.0, &setup.2, sites).await?;
            let phones = setup::phones(&setup.1, &setup.2, cars).await?;
            Ok::<_, SetupError>((terminals, phones))
        });
        let (terminals, phones) = logged_in.await??;
        say("connecting the uplinks");
        let uplinks = Uplinks::open(doors.addresses.ingest, &doors.data, &world).await?;
        let mut town = Town {
            terminals: vec![None; stations],
            phones: vec![None; cars_made],
            uplinks,
            listeners: JoinSet::new(),
            visits: JoinSet::new(),
            visits_begun: 0,
            habits,
            seed,
            tick: Tick::default(),
            people,
            world,
        };
        town.seat(terminals, phones);
        Ok(town)
    }

    fn seat(&mut self, terminals: Vec<Arc<Terminal>>, phones: Vec<Arc<Phone>>) {
        for terminal in terminals {
            self.listeners.spawn_on(terminal.clone().watch(self.world.clone()), self.people.handle());
            let site = terminal.site.index();
            self.terminals[site] = Some(terminal);
        }
        for phone in phones {
            let car = phone.car.index();
            self.phones[car] = Some(phone);
        }
    }

    /// Lets time pass until `now`.
    pub fn step(&mut self, now: UnixMs) -> Result<(), JoinError> {
        let mut tick = std::mem::take(&mut self.tick);
        self.world.advance(now, &mut tick);
        self.uplinks.hear(&tick);
        for arrival in tick.arrived.drain(..) {
            self.begin_visit(arrival);
        }
        self.tick = tick;
        while let Some(visit) = self.visits.try_join_next() {
            visit?;
        }
        while let Some(listener) = self.listeners.try_join_next() {
            listener?;
        }
        Ok(())
    }

    fn begin_visit(&mut self, arrival: Arrival) {
        let Arrival { car, site, .. } = arrival;
        let (Some(terminal), Some(phone)) = (self.terminal(site), self.phone(car)) else {
            return self.world.fleet().depart_after(car, UNATTENDED_MS);
        };
        self.visits_begun += 1;
        let rng = SmallRng::seed_from_u64(self.seed.wrapping_add(self.visits_begun));
        let visit = Visit::new(self.world.clone(), terminal, phone, self.habits, arrival, rng);
        self.visits.spawn_on(visit.serve(), self.people.handle());
    }

    pub fn terminal(&self, site: SiteId) -> Option<Arc<Terminal>> {
        self.terminals[site.index()].clone()
    }

    fn phone(&self, car: CarId) -> Option<Arc<Phone>> {
        self.phones[car.index()].clone()
    }

    /// The terminals of all stations that are watched.
    pub fn terminals(&self) -> Vec<Arc<Terminal>> {
        self.terminals.iter().flatten().cloned().collect()
    }

    /// Cars that are being served.
    pub fn visits(&self) -> usize {
        self.visits.len()
    }

    /// Whether somebody is at a pump, or on the way there.
    pub fn is_busy(&self) -> bool {
        !self.visits.is_empty() || self.world.fleet().is_anybody_driving_in()
    }

    /// Ends everybody; what the uplinks came to.
    pub async fn close(mut self) -> Totals {
        self.world.oracle().unfinished(self.visits.len() as u64);
        self.visits.shutdown().await;
        self.listeners.shutdown().await;
        self.uplinks.finish().await
    }
}

/// A thread with a runtime on it, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Thread {
    pub(crate) fn start(name: &str) -> io::Result<Thread> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name(name.into()).spawn(move || {
            // The other end is only ever dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Thread { handle, _stop: stop })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
        self.handle.spawn(work).await
    }
}
