//! What everybody outside the engine shares: the fleet, and the oracle that watches it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use forecourt::{
    engine::{id::DeviceId, time::UnixMs},
    telemetry,
};

use crate::{
    fleet::{Car, CarId, Fleet, Role, SiteId, Tick},
    oracle::{Judgement, Oracle},
};

/// Whoever takes both locks takes the fleet's first.
pub struct World {
    fleet: Mutex<Fleet>,
    oracle: Mutex<Oracle>,
}

impl World {
    pub fn new(fleet: Fleet, judgement: Judgement) -> World {
        World { oracle: Mutex::new(Oracle::new(&fleet, judgement)), fleet: Mutex::new(fleet) }
    }

    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass until `now`. The oracle hears of each frame before the engine can.
    pub fn advance(&self, now: UnixMs, tick: &mut Tick) {
        let mut fleet = self.fleet();
        fleet.advance(now, tick);
        let mut oracle = self.oracle();
        tick.frames().for_each(|(frame, hearings)| oracle.heard(frame, hearings));
        oracle.look_for_missed(&fleet, now);
    }

    pub fn appeared(&self, site: SiteId, plate: &str) {
        let fleet = self.fleet();
        self.oracle().appeared(&fleet, site, plate, telemetry::now());
    }

    pub fn disappeared(&self, site: SiteId, plate: &str) {
        self.oracle().disappeared(site, plate);
    }

    /// The car could not be seen or selected at the site where it stands.
    pub fn missed(&self, site: SiteId, car: CarId, reason: &str) {
        let fleet = self.fleet();
        let mut oracle = self.oracle();
        let by_rule = oracle.by_rule(site, car);
        oracle.missed(&fleet, car, format!("{reason}; by what its receivers heard, it is {by_rule:?}"));
    }

    pub fn device(&self, car: CarId) -> DeviceId {
        self.fleet().car(car).dongle.device
    }

    /// The stations whose terminal is watched; the oracle judges no other.
    pub fn watched(&self) -> Vec<SiteId> {
        let fleet = self.fleet();
        (0..fleet.sites.len() as u32).map(SiteId).filter(|site| fleet.is_watched(*site)).collect()
    }

    /// The cars whose drivers pay by phone at a station that is watched.
    pub fn customers(&self) -> Vec<CarId> {
        let fleet = self.fleet();
        let cars = (0..fleet.cars.len() as u32).map(CarId);
        let pays = |car: &Car| car.role == Role::Customer && fleet.is_watched(car.home);
        cars.filter(|car| pays(fleet.car(*car))).collect()
    }
}
