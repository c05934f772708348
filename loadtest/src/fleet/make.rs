//! Makes a fleet of a seed.

use std::{collections::HashMap, ops::Range, sync::Arc};

use forecourt::engine::{
    code::Code,
    id::{DeviceId, StationId},
    time::{SlotLength, UnixMs},
};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{
    Beacon, Fleet, Pools,
    agenda::Agenda,
    air::{Level, Noise},
    car::{Car, Enrolment, Role, SiteId, Trip},
    dongle::{Clock, Dongle},
    plates::Plates,
    site::{Coordinates, Layout, Neighbour, Path, Shape, Site},
};

const FIRST_DEVICE: u64 = 700_001;

/// Two stations in one place are on both sides of a road.
const NEIGHBOUR_M_MIN: f64 = 50.0;

/// Cells of the search for neighbours are this high, in degrees: 1.1 km, and no neighbour is further.
const CELL_DEGREES: f64 = 0.01;

/// One station to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Station {
    pub id: StationId,
    pub name: String,
    pub brand: String,
    pub coordinates: Coordinates,
    pub pumps: u16,
}

/// How many cars there are, and how often they come. All per station, and means.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    pub customers_per_s: f64,
    pub guests_per_s: f64,
    pub passers_per_s: f64,
    /// How long a guest stays.
    pub guest_stays_ms: u64,
    /// Cars that come by turns.
    pub customers: f64,
    pub guests: f64,
    pub passers: f64,
    /// Guests that are there from the start.
    pub guests_at_once: f64,
    /// Beacons that stand there all the time and whose codes nobody knows.
    pub strangers: f64,
}

impl Traffic {
    pub(super) fn arrivals_per_s(&self, role: Role) -> f64 {
        match role {
            Role::Customer => self.customers_per_s,
            Role::Guest => self.guests_per_s,
            Role::Passer => self.passers_per_s,
            Role::Stranger => 0.0,
        }
    }

    pub(super) fn guests_at(&self, site: SiteId) -> usize {
        share_of(self.guests_at_once, site)
    }

    fn cars_of(&self, role: Role, site: SiteId) -> usize {
        let mean = match role {
            Role::Customer => self.customers,
            Role::Guest => self.guests,
            Role::Passer => self.passers,
            Role::Stranger => self.strangers,
        };
        share_of(mean, site)
    }
}

/// A station's part of a mean that need not be whole: over all stations it comes out.
pub(super) fn share_of(mean: f64, site: SiteId) -> usize {
    let up_to = |sites: u32| (f64::from(sites) * mean).floor();
    (up_to(site.0 + 1) - up_to(site.0)) as usize
}

/// What a car does between two visits.
#[derive(Debug, Clone, PartialEq)]
pub struct Away {
    /// Before it comes to the same station again.
    pub ms: Range<u64>,
    /// The share that drives on to the next station of the list.
    pub moves_on: f64,
}

/// Somebody who sends made-up codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flood {
    pub stations: usize,
    /// At each of them.
    pub frames_per_s: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FleetConfig {
    pub seed: u64,
    pub slot: SlotLength,
    pub stations: Vec<Station>,
    pub canopies: u8,
    /// At most; a station has no more than pumps.
    pub pump_receivers: u8,
    pub waiting: u8,
    pub advertisements_per_s: f64,
    pub traffic: Traffic,
    pub away: Away,
    pub flood: Flood,
    /// Stations nearer than this hear each other's cars, as far as the radio reaches.
    pub neighbours_within_m: f64,
    /// Visits on which the socket has no power while the engine is off.
    pub power_cut_share: f64,
    /// Customers whose phone couples the dongle; the others are imported.
    pub coupled_share: f64,
    /// Cars that share the last four digits with another car of their station.
    pub twin_share: f64,
    /// Stations at whose terminal somebody works.
    pub watched_share: f64,
    pub drift_ppm_max: i64,
    /// A clock that was set at the factory and has run for weeks.
    pub offset_ms_max: i64,
}

impl Fleet {
    /// All cars are away, and come once it is opened.
    pub fn new(config: FleetConfig, now: UnixMs) -> Fleet {
        let mut maker =
            Maker { config, now, rng: SmallRng::seed_from_u64(0), plates: Plates::default(), cars: Vec::new() };
        maker.rng = SmallRng::seed_from_u64(maker.config.seed);
        let sites = sites(&maker.config);
        let mut pools = vec![Pools::default(); sites.len()];
        for site in (0..sites.len() as u32).map(SiteId) {
            maker.people(site, &mut pools[site.index()]);
        }
        let Maker { config, mut rng, cars, .. } = maker;
        Fleet {
            beacons: cars.iter().map(|car| beacon(car, now)).collect(),
            pumps: sites.iter().map(|site| vec![false; usize::from(site.pumps())]).collect(),
            sites,
            cars,
            pools,
            agenda: Agenda::new(),
            noise: Noise::new(&mut rng),
            done: now,
            frame_ms: (1000.0 / config.advertisements_per_s) as u64,
            is_open: false,
            driving_in: 0,
            config,
            rng,
        }
    }
}

fn beacon(car: &Car, now: UnixMs) -> Beacon {
    Beacon {
        code: Code([0; 16]),
        code_until: UnixMs(0),
        since: now,
        lasts_ms: 1,
        path: Path { first: 0, rows: 1 },
        site: car.home,
        role: car.role,
        near: false,
        powered: true,
        scheduled: false,
    }
}

fn sites(config: &FleetConfig) -> Vec<Site> {
    let mut layouts: HashMap<Shape, Arc<Layout>> = HashMap::new();
    let site = |station: &Station| {
        let pump_receivers = u8::try_from(station.pumps).unwrap_or(u8::MAX).min(config.pump_receivers);
        let shape = Shape { pumps: station.pumps, canopies: config.canopies, pump_receivers, waiting: config.waiting };
        let layout = layouts.entry(shape).or_insert_with(|| Arc::new(Layout::new(shape))).clone();
        let Station { id, name, brand, coordinates, .. } = station.clone();
        Site { station: id, name, brand, coordinates, layout, neighbours: Vec::new() }
    };
    let mut sites: Vec<Site> = config.stations.iter().map(site).collect();
    introduce(&mut sites, config.neighbours_within_m);
    sites
}

/// Lets stations hear the cars of those nearby.
fn introduce(sites: &mut [Site], within_m: f64) {
    let cell = |degrees: f64| (degrees / CELL_DEGREES).floor() as i32;
    let mut rows: HashMap<i32, Vec<SiteId>> = HashMap::new();
    for (number, site) in sites.iter().enumerate() {
        rows.entry(cell(site.coordinates.lat)).or_default().push(SiteId(number as u32));
    }
    for number in 0..sites.len() {
        let here = sites[number].coordinates;
        let row = cell(here.lat);
        let near = (row - 1..=row + 1).flat_map(|row| rows.get(&row).into_iter().flatten());
        let neighbour = |&site: &SiteId| {
            let metres = here.distance_m(sites[site.index()].coordinates);
            let level = Level::in_the_open(metres.max(NEIGHBOUR_M_MIN));
            let hears = site.index() != number && metres <= within_m && level.is_audible();
            hears.then_some(Neighbour { site, level })
        };
        sites[number].neighbours = near.filter_map(neighbour).collect();
    }
}

struct Maker {
    config: FleetConfig,
    now: UnixMs,
    rng: SmallRng,
    plates: Plates,
    cars: Vec<Car>,
}

impl Maker {
    /// The cars of one station.
    fn people(&mut self, site: SiteId, pools: &mut Pools) {
        let mut twin: Option<String> = None;
        for role in [Role::Customer, Role::Guest, Role::Passer, Role::Stranger] {
            for _ in 0..self.config.traffic.cars_of(role, site) {
                let car = self.car(site, role, twin.as_deref());
                twin = Some(car.plate.clone()).filter(|plate| !plate.is_empty());
                let id = super::CarId(self.cars.len() as u32);
                match role {
                    Role::Customer => pools.customers.push_back(id),
                    Role::Guest => pools.guests.push_back(id),
                    Role::Passer => pools.passers.push_back(id),
                    Role::Stranger => {}
                }
                self.cars.push(car);
            }
        }
    }

    fn car(&mut self, home: SiteId, role: Role, twin: Option<&str>) -> Car {
        let number = self.cars.len();
        let like = twin.filter(|_| self.rng.random_bool(self.config.twin_share));
        let plate = match role {
            Role::Stranger => String::new(),
            _ => self.plates.next(like, &mut self.rng),
        };
        Car {
            role,
            home,
            plate,
            fuel: if number.is_multiple_of(4) { "diesel" } else { "gasoline" },
            means: means(number),
            phone_seed: key(&mut self.rng),
            enrolment: self.enrolment(role, number),
            dongle: self.dongle(number),
            trip: Trip::Away,
            visit: 0,
            left: None,
        }
    }

    fn enrolment(&mut self, role: Role, number: usize) -> Enrolment {
        match role {
            Role::Stranger => Enrolment::Unknown,
            Role::Customer if self.rng.random_bool(self.config.coupled_share) => Enrolment::Coupled {
                activation_code: format!("FC-{number}-{:06}", self.rng.random_range(0..1_000_000)),
            },
            Role::Customer | Role::Guest | Role::Passer => Enrolment::Imported,
        }
    }

    fn dongle(&mut self, number: usize) -> Dongle {
        let (offset, drift) = (self.config.offset_ms_max, self.config.drift_ppm_max);
        let clock = Clock {
            set_at: self.now,
            offset_ms: self.rng.random_range(-offset..=offset),
            drift_ppm: self.rng.random_range(-drift..=drift),
        };
        Dongle::new(DeviceId(FIRST_DEVICE + number as u64), key(&mut self.rng), clock)
    }
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
