//! Makes a fleet of a seed.

use forecourt::engine::{
    id::{DeviceId, StationId},
    time::{SlotLength, UnixMs},
};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Fleet,
    car::{Car, Enrolment, Role, SiteId, Trip},
    dongle::{Clock, Dongle},
    plates::Plates,
    site::Site,
};

/// Of ten registered cars, this many only ever drive past.
const PASSERS_OF_TEN: usize = 2;

/// Of a hundred cars, so many beacons more whose codes nobody knows.
const STRANGERS_OF_HUNDRED: usize = 8;

/// One customer in so many has a dongle that the phone couples; the others are imported.
const COUPLED_OF: usize = 5;

/// One customer in so many shares the last four digits with an earlier customer of the same station.
const TWIN_OF: usize = 3;

const DRIFT_PPM_MAX: i64 = 150;

/// A clock that was set at the factory and has run for weeks. Under a third of the shortest slot (15 s).
const OFFSET_MS_MAX: i64 = 4_000;

/// Customers begin to arrive within this time, so that a forecourt is neither empty nor stormed.
const FIRST_ARRIVALS_MS: u64 = 8_000;

const FIRST_DEVICE: u64 = 700_001;
const FIRST_STATION: u32 = 1;

#[derive(Debug, Clone, Copy)]
pub struct FleetConfig {
    pub seed: u64,
    pub stations: usize,
    pub pumps: u16,
    /// Registered cars, those that drive past included.
    pub cars: usize,
    pub slot: SlotLength,
}

impl Fleet {
    pub fn new(config: FleetConfig, now: UnixMs) -> Fleet {
        let mut maker = Maker { config, now, rng: StdRng::seed_from_u64(config.seed), plates: Plates::default() };
        let mut cars: Vec<Car> = Vec::new();
        for number in 0..config.cars {
            let car = maker.registered(number, &cars);
            cars.push(car);
        }
        for _ in 0..(config.cars * STRANGERS_OF_HUNDRED).div_ceil(100) {
            let stranger = maker.stranger(cars.len());
            cars.push(stranger);
        }
        let station = |number: usize| Site::new(StationId(FIRST_STATION + number as u32), config.pumps);
        Fleet {
            sites: (0..config.stations).map(station).collect(),
            cars,
            pumps: vec![vec![false; usize::from(config.pumps)]; config.stations],
            slot: config.slot,
            open: true,
            rng: maker.rng,
        }
    }
}

struct Maker {
    config: FleetConfig,
    now: UnixMs,
    rng: StdRng,
    plates: Plates,
}

impl Maker {
    fn registered(&mut self, number: usize, earlier: &[Car]) -> Car {
        let role = if number % 10 < PASSERS_OF_TEN { Role::Passer } else { Role::Customer };
        let home = SiteId(number % self.config.stations);
        let twin = earlier.iter().rev().find(|car| car.role == role && starts_at(car, home));
        let like = twin.filter(|_| number.is_multiple_of(TWIN_OF)).map(|car| car.plate.clone());
        let plate = self.plates.next(like.as_deref(), &mut self.rng);
        let enrolment = match role {
            Role::Customer if number.is_multiple_of(COUPLED_OF) => Enrolment::Coupled {
                activation_code: format!("FC-{number}-{:06}", self.rng.random_range(0..1_000_000)),
            },
            _ => Enrolment::Imported,
        };
        let until = self.now.plus(self.rng.random_range(0..FIRST_ARRIVALS_MS));
        self.car(number, role, plate, enrolment, Trip::Away { until, next: home })
    }

    fn stranger(&mut self, number: usize) -> Car {
        let site = SiteId(self.rng.random_range(0..self.config.stations));
        let trip = Trip::Standing { site, part: self.rng.random() };
        self.car(number, Role::Stranger, String::new(), Enrolment::Unknown, trip)
    }

    fn car(&mut self, number: usize, role: Role, plate: String, enrolment: Enrolment, trip: Trip) -> Car {
        let device = DeviceId(FIRST_DEVICE + number as u64);
        let clock = Clock {
            set_at: self.now,
            offset_ms: self.rng.random_range(-OFFSET_MS_MAX..=OFFSET_MS_MAX),
            drift_ppm: self.rng.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX),
        };
        Car {
            role,
            plate,
            fuel: if number.is_multiple_of(4) { "diesel" } else { "gasoline" },
            means: means(number),
            phone_seed: key(&mut self.rng),
            enrolment,
            dongle: Dongle::new(device, key(&mut self.rng), clock),
            trip,
            next_frame: self.now.plus(self.rng.random_range(0..200)),
        }
    }
}

fn starts_at(car: &Car, home: SiteId) -> bool {
    matches!(car.trip, Trip::Away { next, .. } if next == home)
}

/// Mostly one good card; some have a first card that is declined, and the answers about a few are lost on the way.
fn means(number: usize) -> Vec<String> {
    match number % 20 {
        7 | 14 => vec![format!("tok_decline_{number}"), format!("tok_ok_{number}")],
        11 => vec![format!("tok_lost_{number}")],
        _ => vec![format!("tok_ok_{number}")],
    }
}

fn key(rng: &mut impl Rng) -> [u8; 32] {
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    key
}
