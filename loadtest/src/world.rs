//! What everybody in the demo shares: the fleet, and the oracle that watches it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use forecourt::{engine::id::DeviceId, telemetry};

use crate::{
    fleet::{CarId, Fleet, Role, SiteId, Tick},
    oracle::Oracle,
};

/// Whoever takes both locks takes the fleet's first.
pub struct World {
    fleet: Mutex<Fleet>,
    oracle: Mutex<Oracle>,
}

impl World {
    pub fn new(fleet: Fleet) -> World {
        World { oracle: Mutex::new(Oracle::new(&fleet)), fleet: Mutex::new(fleet) }
    }

    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass until now. The oracle hears of each frame before the engine can.
    pub fn tick(&self) -> Tick {
        let tick = self.fleet().tick(telemetry::now());
        let mut oracle = self.oracle();
        tick.heard.iter().for_each(|heard| oracle.heard(heard));
        tick
    }

    pub fn appeared(&self, site: SiteId, plate: &str) {
        let fleet = self.fleet();
        self.oracle().appeared(&fleet, site, plate, telemetry::now());
    }

    pub fn device(&self, car: CarId) -> DeviceId {
        self.fleet().car(car).dongle.device
    }

    /// The cars that somebody registered.
    pub fn registered(&self) -> Vec<CarId> {
        let fleet = self.fleet();
        let cars = fleet.cars.iter().enumerate();
        cars.filter(|(_, car)| car.role != Role::Stranger).map(|(number, _)| CarId(number)).collect()
    }
}
