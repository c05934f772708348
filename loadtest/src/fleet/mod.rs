//! A fleet and its stations, as the radio hears them: pure, seeded, under a virtual clock.
//!
//! [`Fleet::tick`] moves the cars to a moment and tells what the receivers heard on the way; [`Fleet::depart`] and
//! [`Fleet::ignite`] are what people do to a car. The same seed and the same calls give the same fleet. What is true
//! of it (who stands where) is there to be asked, so that an oracle can compare it with what the engine says.

pub mod air;
pub mod car;
pub mod dongle;
mod make;
pub mod plates;
pub mod site;

use forecourt::engine::{
    batch::Hearing,
    id::{DeviceId, PumpNumber},
    time::{SlotLength, UnixMs},
};
use rand::{RngExt as _, rngs::StdRng};

pub use car::{Car, CarId, Enrolment, Role, SiteId, Trip};
use car::{DRIVE_IN_MS, DRIVE_OUT_MS, PASS_MS};
pub use make::FleetConfig;
pub use site::Site;

/// Five advertisements a second, and the jitter that Bluetooth demands of each.
const FRAME_MS: u64 = 195;
const FRAME_JITTER_MS: u64 = 10;

/// How long a driver lets the engine run at the pump.
const ENGINE_RUNS_MS: std::ops::Range<u64> = 1_000..3_000;

/// From one station of the row to the next: 1.3 km at 65 km/h.
const NEXT_STATION_MS: u64 = 72_000;

/// A driver who forgot something is back after this.
const ROUND_THE_BLOCK_MS: std::ops::Range<u64> = 8_000..40_000;

/// Cars on the road pass the next station of the row after this.
const ROAD_MS: std::ops::Range<u64> = 4_000..20_000;

/// A driver who finds all pumps taken looks again.
const QUEUE_MS: u64 = 500;

/// One frame at one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub site: SiteId,
    pub device: DeviceId,
    pub role: Role,
    pub hearing: Hearing,
}

/// A customer's car stopped at a pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub car: CarId,
    pub site: SiteId,
    pub pump: PumpNumber,
}

/// What happened up to a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tick {
    pub heard: Vec<Heard>,
    pub arrived: Vec<Arrival>,
}

pub struct Fleet {
    pub sites: Vec<Site>,
    pub cars: Vec<Car>,
    /// Whether each pump of each site is taken.
    pumps: Vec<Vec<bool>>,
    slot: SlotLength,
    open: bool,
    rng: StdRng,
}

impl Fleet {
    /// Moves everybody to `now` and lets the radios send until then.
    pub fn tick(&mut self, now: UnixMs) -> Tick {
        let mut tick = Tick::default();
        for car in (0..self.cars.len()).map(CarId) {
            tick.arrived.extend(self.travel(car, now));
            self.broadcast(car, now, &mut tick.heard);
        }
        tick
    }

    /// Puts everything off: what the fleet was made for begins later than it was made.
    pub fn postpone(&mut self, ms: u64) {
        for car in &mut self.cars {
            car.next_frame = car.next_frame.plus(ms);
            if let Trip::Away { until, .. } = &mut car.trip {
                *until = until.plus(ms);
            }
        }
    }

    /// The driver turns the key: radio and two-way link work again.
    pub fn ignite(&mut self, car: CarId) {
        self.cars[car.0].dongle.powered = true;
    }

    /// The car leaves its pump.
    pub fn depart(&mut self, car: CarId, now: UnixMs) {
        self.ignite(car);
        if let Trip::AtPump { site, pump, .. } = self.cars[car.0].trip {
            self.cars[car.0].trip = Trip::DrivingOut { site, pump, since: now };
        }
    }

    /// Nobody drives onto a forecourt any more; who is there is served.
    pub fn close(&mut self) {
        self.open = false;
    }

    pub fn is_anybody_driving_in(&self) -> bool {
        self.cars.iter().any(|car| matches!(car.trip, Trip::DrivingIn { .. }))
    }

    pub fn car(&self, car: CarId) -> &Car {
        &self.cars[car.0]
    }

    /// Takes the car to the next leg of its trip when this one is over.
    fn travel(&mut self, car: CarId, now: UnixMs) -> Option<Arrival> {
        match self.cars[car.0].trip {
            Trip::Away { until, next } if until <= now => self.begin_visit(car, next, now),
            Trip::DrivingIn { site, pump, since } if now.since(since) >= DRIVE_IN_MS => {
                let engine_off_at = now.plus(self.rng.random_range(ENGINE_RUNS_MS));
                self.cars[car.0].trip = Trip::AtPump { site, pump, engine_off_at };
                return Some(Arrival { car, site, pump });
            }
            Trip::AtPump { site, pump, engine_off_at } if engine_off_at <= now => {
                self.cars[car.0].dongle.powered = false;
                self.cars[car.0].trip = Trip::AtPump { site, pump, engine_off_at: UnixMs(u64::MAX) };
            }
            Trip::DrivingOut { site, pump, since } if now.since(since) >= DRIVE_OUT_MS => {
                self.pumps[site.0][usize::from(pump.0) - 1] = false;
                self.cars[car.0].trip = self.go_away(site, now);
            }
            Trip::Passing { site, since } if now.since(since) >= PASS_MS => {
                let until = now.plus(self.rng.random_range(ROAD_MS));
                self.cars[car.0].trip = Trip::Away { until, next: SiteId((site.0 + 1) % self.sites.len()) };
            }
            _ => {}
        }
        None
    }

    fn begin_visit(&mut self, car: CarId, site: SiteId, now: UnixMs) {
        self.cars[car.0].trip = match self.cars[car.0].role {
            Role::Passer => Trip::Passing { site, since: now },
            Role::Customer | Role::Stranger => match self.take_pump(site) {
                Some(pump) => Trip::DrivingIn { site, pump, since: now },
                None => Trip::Away { until: now.plus(QUEUE_MS), next: site },
            },
        };
    }

    /// A free pump, now taken.
    fn take_pump(&mut self, site: SiteId) -> Option<PumpNumber> {
        let pumps = &mut self.pumps[site.0];
        let free = pumps.iter().position(|taken| !taken).filter(|_| self.open)?;
        pumps[free] = true;
        Some(PumpNumber(free as u16 + 1))
    }

    /// Round the block to this station again, or to the next one, no faster than a car drives.
    fn go_away(&mut self, site: SiteId, now: UnixMs) -> Trip {
        let beside = SiteId((site.0 + 1).min(self.sites.len() - 1));
        let (next, away_ms) = if self.rng.random_bool(0.5) {
            (site, self.rng.random_range(ROUND_THE_BLOCK_MS))
        } else {
            (beside, NEXT_STATION_MS + self.rng.random_range(0..NEXT_STATION_MS))
        };
        Trip::Away { until: now.plus(away_ms), next }
    }

    fn broadcast(&mut self, car: CarId, now: UnixMs, heard: &mut Vec<Heard>) {
        let car = &mut self.cars[car.0];
        while car.next_frame <= now {
            let at = car.next_frame;
            car.next_frame = at.plus(FRAME_MS + self.rng.random_range(0..=FRAME_JITTER_MS));
            let Some((site, place)) = car.trip.place(&self.sites, at).filter(|_| car.dongle.powered) else { continue };
            let code = car.dongle.code(self.slot, at);
            for radio in &self.sites[site.0].radios {
                if let Some(rssi) = air::hear(radio.distance_m(place), &mut self.rng) {
                    let hearing = Hearing { code, receiver: radio.receiver.id, rssi, at };
                    heard.push(Heard { site, device: car.dongle.device, role: car.role, hearing });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
