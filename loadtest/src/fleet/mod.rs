//! A fleet and its stations, as the radio hears them: pure, seeded, under a virtual clock.
//!
//! [`Fleet::advance`] moves the cars to a moment and tells what the receivers heard on the way; [`Fleet::depart`] and
//! [`Fleet::ignite`] are what people do to a car. The same seed and the same calls give the same fleet. What is true
//! of it (who stands where) is there to be asked, so that an oracle can compare it with what the engine says.
//!
//! The same model makes the demo's sixty cars and a nation's forty thousand, so a car costs something only while it is
//! near a station: its next frame lies in an [`agenda`], all that a frame needs is in one small [`Beacon`], and the
//! level at each receiver is read from its station's [`site::Layout`].

mod agenda;
pub mod air;
pub mod car;
pub mod dongle;
mod make;
pub mod plates;
pub mod site;

use std::{collections::VecDeque, ops::Range};

use forecourt::engine::{
    batch::Hearing,
    code::Code,
    id::{PumpNumber, ReceiverId},
    time::UnixMs,
};
use rand::{Rng as _, RngExt as _, rngs::SmallRng};

use agenda::{Agenda, Event};
use air::{DRAW_BITS, Level, Noise};
pub use car::{Car, CarId, Enrolment, Role, SiteId, Trip};
use car::{DRIVE_IN_MS, DRIVE_OUT_MS, PASS_MS};
pub use make::{Away, FleetConfig, Flood, Station, Traffic};
use site::{Neighbour, Path};
pub use site::{Site, Spot};

/// The jitter that Bluetooth demands of each advertisement.
const FRAME_JITTER_MS: u64 = 10;

/// How long a driver lets the engine run at the pump.
const ENGINE_RUNS_MS: Range<u64> = 1_000..3_000;

/// From one station of the row to the next: 1.3 km at 65 km/h.
const NEXT_STATION_MS: Range<u64> = 72_000..144_000;

/// A driver who finds all pumps taken looks again.
const QUEUE_MS: u64 = 500;

/// Floods are sent in bursts this far apart.
const FLOOD_MS: u64 = 20;

/// Who sent a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Car(CarId, Role),
    /// Somebody who makes codes up.
    Flood,
}

/// One frame, and its hearings at one station: a range of [`Tick::hearings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub site: SiteId,
    pub sender: Sender,
    /// The car is at a neighbour of the station that heard it.
    pub is_next_door: bool,
    hearings: Range<usize>,
}

/// A customer's car stopped at a pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub car: CarId,
    pub site: SiteId,
    pub pump: PumpNumber,
}

/// What happened up to a moment. Kept by the caller, so that its memory is used again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tick {
    frames: Vec<Frame>,
    hearings: Vec<Hearing>,
    pub arrived: Vec<Arrival>,
}

impl Tick {
    /// Each frame with its hearings, in the order in which they were sent.
    pub fn frames(&self) -> impl Iterator<Item = (&Frame, &[Hearing])> {
        self.frames.iter().map(|frame| (frame, &self.hearings[frame.hearings.clone()]))
    }

    pub fn hearings(&self) -> usize {
        self.hearings.len()
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.hearings.clear();
        self.arrived.clear();
    }
}

/// All that a frame needs to know of its car: a cache line.
#[derive(Debug, Clone, Copy)]
struct Beacon {
    code: Code,
    code_until: UnixMs,
    /// The way that the car is on, since when, and how long it takes.
    since: UnixMs,
    lasts_ms: u32,
    path: Path,
    site: SiteId,
    role: Role,
    near: bool,
    powered: bool,
    /// Its next frame is in the agenda.
    scheduled: bool,
}

/// The cars that may come to a station, those longest away first.
#[derive(Debug, Clone, Default)]
struct Pools {
    customers: VecDeque<CarId>,
    guests: VecDeque<CarId>,
    passers: VecDeque<CarId>,
}

pub struct Fleet {
    pub sites: Vec<Site>,
    pub cars: Vec<Car>,
    config: FleetConfig,
    beacons: Vec<Beacon>,
    pools: Vec<Pools>,
    /// Whether each pump of each site is taken.
    pumps: Vec<Vec<bool>>,
    agenda: Agenda,
    noise: Noise,
    /// All before this has happened.
    done: UnixMs,
    frame_ms: u64,
    is_open: bool,
    driving_in: usize,
    rng: SmallRng,
}

impl Fleet {
    /// Opens the stations: the first cars come.
    pub fn open(&mut self, now: UnixMs) {
        self.done = now;
        self.is_open = true;
        for site in (0..self.sites.len() as u32).map(SiteId) {
            for role in [Role::Customer, Role::Guest, Role::Passer] {
                self.expect_next(site, role, now);
            }
            if self.is_flooded(site) {
                self.agenda.at(now, Event::Flood(site));
            }
        }
        self.settle_in(now);
    }

    /// Moves everybody to `now` and lets the radios send until then.
    pub fn advance(&mut self, now: UnixMs, tick: &mut Tick) {
        tick.clear();
        for ms in self.done.0 + 1..=now.0 {
            let at = UnixMs(ms);
            while let Some(event) = self.agenda.next_event(at) {
                self.happen(event, at, tick);
            }
            let due = self.agenda.frames(at);
            for &car in &due {
                self.broadcast(car, at, tick);
            }
            self.agenda.give_back(at, due);
        }
        self.done = self.done.max(now);
    }

    /// The driver turns the key: radio and two-way link work again.
    pub fn ignite(&mut self, car: CarId) {
        self.set_power(car, true);
    }

    /// The car leaves the place where it stands.
    pub fn depart(&mut self, car: CarId, now: UnixMs) {
        self.ignite(car);
        let Trip::Stopped { site, spot } = self.cars[car.index()].trip else { return };
        let path = self.sites[site.index()].layout.way_from(spot);
        self.go(car, Trip::DrivingOut { site, spot }, path, DRIVE_OUT_MS, now);
        self.agenda.at(now.plus(DRIVE_OUT_MS), Event::Gone(car));
    }

    /// The car leaves when this long has passed, unless somebody lets it go before.
    pub fn depart_after(&mut self, car: CarId, ms: u64) {
        let visit = self.cars[car.index()].visit;
        self.agenda.at(self.done.plus(ms), Event::Leave(car, visit));
    }

    /// Nobody drives onto a forecourt any more; who is there is served.
    pub fn close(&mut self) {
        self.is_open = false;
    }

    pub fn is_anybody_driving_in(&self) -> bool {
        self.driving_in > 0
    }

    pub fn car(&self, car: CarId) -> &Car {
        &self.cars[car.index()]
    }

    pub fn site(&self, site: SiteId) -> &Site {
        &self.sites[site.index()]
    }

    /// Whether somebody floods the station with codes that he makes up.
    pub fn is_flooded(&self, site: SiteId) -> bool {
        let flooded = self.config.flood.stations;
        flooded > 0 && site.index().is_multiple_of(self.sites.len().div_ceil(flooded))
    }

    /// Whether somebody works at the station's terminal: a share of all, spread evenly.
    pub fn is_watched(&self, site: SiteId) -> bool {
        make::share_of(self.config.watched_share, site) > 0
    }

    /// Whether the car is on this forecourt, or left it so lately that it may still be shown there.
    pub fn may_be_shown(&self, car: CarId, site: SiteId, now: UnixMs, shown_for_ms: u64) -> bool {
        let car = self.car(car);
        let lately = |(left, at): (SiteId, UnixMs)| left == site && now.since(at) <= shown_for_ms;
        car.trip.forecourt() == Some(site) || car.left.is_some_and(lately)
    }

    fn happen(&mut self, event: Event, now: UnixMs, tick: &mut Tick) {
        match event {
            Event::Arrival(site, role) => {
                self.come(site, role, now);
                self.expect_next(site, role, now);
            }
            Event::Queue(car, site) => self.queue(car, site, now),
            Event::Stop(car) => tick.arrived.extend(self.stop(car, now)),
            Event::EngineOff(car) => self.set_power(car, !matches!(self.car(car).trip, Trip::Stopped { .. })),
            Event::Leave(car, visit) if self.car(car).visit == visit => self.depart(car, now),
            Event::Leave(..) => {}
            Event::Gone(car) => self.gone(car, now),
            Event::Back(car, site) => self.pool(site, self.car(car).role).push_back(car),
            Event::Flood(site) => {
                self.flood(site, now, tick);
                self.agenda.at(now.plus(FLOOD_MS), Event::Flood(site));
            }
        }
    }

    /// Arrivals are a Poisson process: the next one forgets the last.
    fn expect_next(&mut self, site: SiteId, role: Role, now: UnixMs) {
        let per_s = self.config.traffic.arrivals_per_s(role);
        if per_s > 0.0 && self.is_open {
            let seconds = -(1.0 - self.rng.random::<f64>()).ln() / per_s;
            self.agenda.at(now.plus((seconds * 1000.0) as u64 + 1), Event::Arrival(site, role));
        }
    }

    /// A car of this kind comes, if there is one that is not somewhere already.
    fn come(&mut self, site: SiteId, role: Role, now: UnixMs) {
        if !self.is_open {
            return;
        }
        let Some(car) = self.pool(site, role).pop_front() else { return };
        self.cars[car.index()].visit += 1;
        match role {
            Role::Customer => self.queue(car, site, now),
            Role::Guest => {
                let spot = self.waiting_place(site);
                self.drive_in(car, site, spot, now);
            }
            Role::Passer => {
                let path = self.sites[site.index()].layout.passing();
                self.go(car, Trip::Passing { site }, path, PASS_MS, now);
                self.agenda.at(now.plus(PASS_MS), Event::Gone(car));
            }
            Role::Stranger => {}
        }
    }

    fn queue(&mut self, car: CarId, site: SiteId, now: UnixMs) {
        if !self.is_open {
            return;
        }
        match self.take_pump(site) {
            Some(pump) => self.drive_in(car, site, Spot::Pump(pump), now),
            None => self.agenda.at(now.plus(QUEUE_MS), Event::Queue(car, site)),
        }
    }

    fn drive_in(&mut self, car: CarId, site: SiteId, spot: Spot, now: UnixMs) {
        let path = self.sites[site.index()].layout.way_to(spot);
        self.driving_in += usize::from(self.car(car).role == Role::Customer);
        self.go(car, Trip::DrivingIn { site, spot }, path, DRIVE_IN_MS, now);
        self.agenda.at(now.plus(DRIVE_IN_MS), Event::Stop(car));
    }

    /// The car stands. A guest leaves by itself; of a customer somebody has to be told.
    fn stop(&mut self, car: CarId, now: UnixMs) -> Option<Arrival> {
        let Trip::DrivingIn { site, spot } = self.car(car).trip else { return None };
        let path = self.sites[site.index()].layout.at(spot);
        self.go(car, Trip::Stopped { site, spot }, path, 1, now);
        let Spot::Pump(pump) = spot else {
            let stay = self.stay_ms();
            self.depart_after(car, stay);
            return None;
        };
        self.driving_in -= 1;
        if self.rng.random_bool(self.config.power_cut_share) {
            self.agenda.at(now.plus(self.rng.random_range(ENGINE_RUNS_MS)), Event::EngineOff(car));
        }
        Some(Arrival { car, site, pump })
    }

    /// The car is out of reach; it comes again some time, to this station or to the next one of the row.
    fn gone(&mut self, id: CarId, now: UnixMs) {
        let car = &mut self.cars[id.index()];
        let Some(site) = car.trip.site() else { return };
        if let Some(forecourt) = car.trip.forecourt() {
            car.left = Some((forecourt, now));
        }
        if let Some(pump) = car.trip.pump() {
            self.pumps[site.index()][usize::from(pump.0) - 1] = false;
        }
        car.trip = Trip::Away;
        self.beacons[id.index()].near = false;
        let beside = SiteId((site.0 + 1) % self.sites.len() as u32);
        let away = self.config.away.clone();
        let (next, ms) = if self.rng.random_bool(away.moves_on) && beside != site {
            (beside, self.rng.random_range(NEXT_STATION_MS))
        } else {
            (site, self.rng.random_range(away.ms))
        };
        self.agenda.at(now.plus(ms), Event::Back(id, next));
    }

    /// Before the first arrival: those who came before it, and the strangers who never leave.
    fn settle_in(&mut self, now: UnixMs) {
        for site in (0..self.sites.len() as u32).map(SiteId) {
            for _ in 0..self.config.traffic.guests_at(site) {
                let Some(car) = self.pool(site, Role::Guest).pop_front() else { break };
                let spot = self.waiting_place(site);
                self.stand(car, site, spot, now);
                let stay = self.stay_ms() * u64::from(self.rng.random::<u16>()) / u64::from(u16::MAX);
                self.depart_after(car, stay);
            }
        }
        for car in (0..self.cars.len() as u32).map(CarId) {
            if self.car(car).role == Role::Stranger {
                let home = self.car(car).home;
                let spot = self.waiting_place(home);
                self.stand(car, home, spot, now);
            }
        }
    }

    fn stand(&mut self, car: CarId, site: SiteId, spot: Spot, now: UnixMs) {
        let path = self.sites[site.index()].layout.at(spot);
        self.go(car, Trip::Stopped { site, spot }, path, 1, now);
    }

    fn go(&mut self, id: CarId, trip: Trip, path: Path, lasts_ms: u64, now: UnixMs) {
        self.cars[id.index()].trip = trip;
        let site = trip.site().expect("a car on its way is at some station");
        let beacon = &mut self.beacons[id.index()];
        (beacon.site, beacon.path, beacon.since, beacon.lasts_ms) = (site, path, now, lasts_ms as u32);
        beacon.near = true;
        self.schedule(id, now);
    }

    fn set_power(&mut self, id: CarId, powered: bool) {
        self.cars[id.index()].dongle.powered = powered;
        self.beacons[id.index()].powered = powered;
        if powered {
            self.schedule(id, self.done);
        }
    }

    /// A car that is on the air and has no frame to come gets one.
    fn schedule(&mut self, id: CarId, now: UnixMs) {
        let beacon = &mut self.beacons[id.index()];
        if beacon.near && beacon.powered && !beacon.scheduled {
            beacon.scheduled = true;
            // A frame that were due now might lie in a bucket that was emptied already.
            let first = now.max(self.done).plus(1 + self.rng.random_range(0..self.frame_ms));
            self.agenda.frame(first, id);
        }
    }

    fn stay_ms(&mut self) -> u64 {
        let mean = self.config.traffic.guest_stays_ms;
        self.rng.random_range(mean / 2..=mean + mean / 2)
    }

    fn waiting_place(&mut self, site: SiteId) -> Spot {
        Spot::Waiting(self.rng.random_range(0..self.sites[site.index()].layout.shape.waiting))
    }

    /// A free pump, now taken.
    fn take_pump(&mut self, site: SiteId) -> Option<PumpNumber> {
        let pumps = &mut self.pumps[site.index()];
        let free = pumps.iter().position(|taken| !taken)?;
        pumps[free] = true;
        Some(PumpNumber(free as u16 + 1))
    }

    fn pool(&mut self, site: SiteId, role: Role) -> &mut VecDeque<CarId> {
        let pools = &mut self.pools[site.index()];
        match role {
            Role::Customer => &mut pools.customers,
            Role::Guest => &mut pools.guests,
            Role::Passer | Role::Stranger => &mut pools.passers,
        }
    }

    fn broadcast(&mut self, id: CarId, now: UnixMs, tick: &mut Tick) {
        let beacon = &mut self.beacons[id.index()];
        beacon.scheduled = beacon.near && beacon.powered;
        if !beacon.scheduled {
            return;
        }
        if beacon.code_until <= now {
            let (slot, dongle) = (self.config.slot, &self.cars[id.index()].dongle);
            (beacon.code, beacon.code_until) = (dongle.code(slot, now), dongle.code_until(slot, now));
        }
        let beacon = *beacon;
        let part = now.since(beacon.since) * u64::from(beacon.path.rows) / u64::from(beacon.lasts_ms);
        let row = beacon.path.first + (part as u16).min(beacon.path.rows - 1);
        let jitter = self.rng.random_range(0..=FRAME_JITTER_MS);
        self.agenda.frame(now.plus(self.frame_ms - FRAME_JITTER_MS / 2 + jitter), id);
        self.sound(beacon, id, row, now, tick);
    }

    /// Who hears the frame: the station's own receivers, and its neighbours'.
    fn sound(&mut self, beacon: Beacon, id: CarId, row: u16, now: UnixMs, tick: &mut Tick) {
        let sender = Sender::Car(id, beacon.role);
        let site = &self.sites[beacon.site.index()];
        let mut air = Air { code: beacon.code, sender, is_next_door: false, now, noise: &self.noise };
        air.heard(beacon.site, site.layout.levels(row).iter().copied(), &mut self.rng, tick);
        air.is_next_door = true;
        for &Neighbour { site, level } in &site.neighbours {
            let radios = self.sites[site.index()].layout.radios.len();
            air.heard(site, std::iter::repeat_n(level, radios), &mut self.rng, tick);
        }
    }

    /// Codes that nobody has, each heard once.
    fn flood(&mut self, site: SiteId, now: UnixMs, tick: &mut Tick) {
        let first = tick.hearings.len();
        let radios = self.sites[site.index()].layout.radios.len();
        let due = self.config.flood.frames_per_s * FLOOD_MS as f64 / 1000.0;
        let count = due as usize + usize::from(self.rng.random_bool(due.fract()));
        for _ in 0..count {
            let mut code = Code([0; 16]);
            self.rng.fill_bytes(&mut code.0);
            let receiver = ReceiverId(self.rng.random_range(0..radios) as u8);
            tick.hearings.push(Hearing { code, receiver, rssi: self.rng.random_range(-80..-50), at: now });
        }
        let hearings = first..tick.hearings.len();
        tick.frames.push(Frame { site, sender: Sender::Flood, is_next_door: false, hearings });
    }
}

/// A frame on its way.
struct Air<'a> {
    code: Code,
    sender: Sender,
    is_next_door: bool,
    now: UnixMs,
    noise: &'a Noise,
}

impl Air<'_> {
    fn heard(&self, site: SiteId, levels: impl Iterator<Item = Level>, rng: &mut SmallRng, tick: &mut Tick) {
        let first = tick.hearings.len();
        let mut draw = 0;
        for (receiver, level) in levels.enumerate() {
            // One draw serves four receivers.
            draw = if receiver.is_multiple_of(4) { rng.random::<u64>() } else { draw >> DRAW_BITS };
            if let Some(rssi) = self.noise.hear(level, draw) {
                let receiver = ReceiverId(receiver as u8);
                tick.hearings.push(Hearing { code: self.code, receiver, rssi, at: self.now });
            }
        }
        if tick.hearings.len() > first {
            let (sender, is_next_door) = (self.sender, self.is_next_door);
            tick.frames.push(Frame { site, sender, is_next_door, hearings: first..tick.hearings.len() });
        }
    }
}

#[cfg(test)]
mod tests;
