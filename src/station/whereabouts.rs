//! At which stations a dongle has entered: one directory for all of them.
//!
//! Neighbouring forecourts hear each other's cars; the one that hears a car better has it. A dongle that enters two
//! stations faster than any car drives is being replayed at one of them, and nobody can tell at which: it is contested
//! at both until the phone proves its presence with a fresh nonce.
//!
//! Bound: an entry for each presence window that entered, so `WINDOWS_MAX` for each station; 72 bytes each.

use dashmap::DashMap;

use crate::engine::{
    id::{DeviceId, StationId},
    time::UnixMs,
};

/// Forecourts nearer than this hear each other's cars.
const NEIGHBOUR_KM: f64 = 1.0;

/// Faster than this on average, door to door, is no car.
const CAR_KM_PER_H: f64 = 200.0;

/// Stays are refreshed this often, so the last hearing may be this much later than the directory says.
pub(super) const REFRESH_MS: u64 = 10_000;

/// A neighbour that heard the dongle so much earlier than this station has lost it: two refreshes.
const LOST_MS: u64 = 2 * REFRESH_MS;

/// Degrees of latitude and longitude (WGS 84).
pub(super) type Place = (f64, f64);

#[derive(Debug, Clone, Copy)]
struct Stay {
    station: StationId,
    place: Option<Place>,
    last: UnixMs,
    dbm: i8,
    contested: bool,
}

/// Which stations have which dongle.
#[derive(Debug, Default)]
pub struct Whereabouts {
    stays: DashMap<DeviceId, Vec<Stay>>,
}

impl Whereabouts {
    /// The dongle has entered `station`. The answer names the stations that it must have left for that.
    pub fn entered(
        &self,
        device: DeviceId,
        station: StationId,
        place: Option<Place>,
        dbm: i8,
        now: UnixMs,
    ) -> Vec<StationId> {
        let mut stays = self.stays.entry(device).or_default();
        stays.retain(|stay| stay.station != station);
        let mut newcomer = Stay { station, place, last: now, dbm, contested: false };
        let mut left = Vec::new();
        for stay in stays.iter_mut() {
            match journey(stay, &newcomer) {
                Journey::Neighbours => {}
                Journey::Driven => left.push(stay.station),
                Journey::Impossible => {
                    stay.contested = true;
                    newcomer.contested = true;
                }
            }
        }
        stays.push(newcomer);
        left
    }

    /// What the station has heard of the dongle lately.
    pub fn refresh(&self, device: DeviceId, station: StationId, dbm: i8, last: UnixMs) {
        if let Some(mut stays) = self.stays.get_mut(&device)
            && let Some(stay) = stays.iter_mut().find(|stay| stay.station == station)
        {
            (stay.dbm, stay.last) = (dbm, last);
        }
    }

    pub fn left(&self, device: DeviceId, station: StationId) {
        self.stays.remove_if_mut(&device, |_, stays| {
            stays.retain(|stay| stay.station != station);
            // One that is left alone has nobody to be contested by.
            if let [last] = stays.as_mut_slice() {
                last.contested = false;
            }
            stays.is_empty()
        });
    }

    /// Where the dongle has entered.
    pub(super) fn stations_of(&self, device: DeviceId) -> Vec<StationId> {
        self.stays.get(&device).map_or_else(Vec::new, |stays| stays.iter().map(|stay| stay.station).collect())
    }

    /// The driver has proven to be at `station`: every other claim is void. The answer names those stations.
    pub fn proven(&self, device: DeviceId, station: StationId) -> Vec<StationId> {
        let Some(mut stays) = self.stays.get_mut(&device) else { return Vec::new() };
        let others = stays.iter().map(|stay| stay.station).filter(|other| *other != station).collect();
        stays.retain(|stay| stay.station == station);
        stays.iter_mut().for_each(|stay| stay.contested = false);
        others
    }

    pub fn is_contested(&self, device: DeviceId, station: StationId) -> bool {
        self.stays.get(&device).is_some_and(|stays| stays.iter().any(|stay| stay.station == station && stay.contested))
    }

    /// Whether a neighbour hears the dongle better than `dbm`. One that has lost it while it is still heard here does not:
    /// a car that drove over the road would stay hidden for as long as it counts as parked there.
    pub fn is_heard_better_elsewhere(&self, device: DeviceId, station: StationId, dbm: i8) -> bool {
        let Some(stays) = self.stays.get(&device) else { return false };
        let Some(own) = stays.iter().find(|stay| stay.station == station) else { return false };
        let neighbour = |stay: &&Stay| stay.station != station && matches!(journey(stay, own), Journey::Neighbours);
        let hears = |stay: &&Stay| own.last.since(stay.last) <= LOST_MS;
        stays.iter().filter(neighbour).filter(hears).any(|stay| stay.dbm > dbm)
    }
}

enum Journey {
    Neighbours,
    Driven,
    Impossible,
}

/// How a car that was heard at one station can be at the other. Stations without a place are taken to be far enough
/// apart to be driven between.
fn journey(from: &Stay, to: &Stay) -> Journey {
    let (Some(start), Some(end)) = (from.place, to.place) else { return Journey::Driven };
    let km = distance_km(start, end);
    let hours = (to.last.since(from.last) + REFRESH_MS) as f64 / 3_600_000.0;
    match km {
        _ if km < NEIGHBOUR_KM => Journey::Neighbours,
        _ if km / hours > CAR_KM_PER_H => Journey::Impossible,
        _ => Journey::Driven,
    }
}

/// Great-circle distance by the haversine formula, on a sphere of 6,371 km.
fn distance_km(from: Place, to: Place) -> f64 {
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let cosines = from.0.to_radians().cos() * to.0.to_radians().cos();
    2.0 * 6_371.0 * (half(to.0 - from.0) + cosines * half(to.1 - from.1)).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAR: DeviceId = DeviceId(7);
    const ROME: (StationId, Option<Place>) = (StationId(1), Some((41.9028, 12.4964)));
    const ROME_NEXT_DOOR: (StationId, Option<Place>) = (StationId(2), Some((41.9058, 12.4964)));
    const MILAN: (StationId, Option<Place>) = (StationId(3), Some((45.4642, 9.19)));

    fn enter(
        whereabouts: &Whereabouts,
        (station, place): (StationId, Option<Place>),
        dbm: i8,
        minutes: u64,
    ) -> Vec<u32> {
        let left = whereabouts.entered(CAR, station, place, dbm, UnixMs(1_800_000_000_000 + minutes * 60_000));
        left.into_iter().map(|station| station.0).collect()
    }

    #[test]
    fn rome_and_milan_are_477_km_apart() {
        assert!((distance_km(ROME.1.unwrap(), MILAN.1.unwrap()) - 477.0).abs() < 2.0);
    }

    #[test]
    fn a_car_that_drove_has_left_the_first_station() {
        let whereabouts = Whereabouts::default();
        enter(&whereabouts, ROME, -60, 0);
        assert_eq!(enter(&whereabouts, MILAN, -60, 300), [1]);
        assert!(!whereabouts.is_contested(CAR, MILAN.0));
    }

    #[test]
    fn a_car_that_flew_is_contested_at_both_until_it_is_proven() {
        let whereabouts = Whereabouts::default();
        enter(&whereabouts, ROME, -60, 0);
        assert!(enter(&whereabouts, MILAN, -60, 30).is_empty());
        assert!(whereabouts.is_contested(CAR, ROME.0) && whereabouts.is_contested(CAR, MILAN.0));
        assert_eq!(whereabouts.proven(CAR, MILAN.0), [ROME.0]);
        assert!(!whereabouts.is_contested(CAR, MILAN.0));
    }

    #[test]
    fn the_neighbour_that_hears_it_better_has_the_car() {
        let whereabouts = Whereabouts::default();
        enter(&whereabouts, ROME, -80, 0);
        assert!(enter(&whereabouts, ROME_NEXT_DOOR, -50, 0).is_empty());
        assert!(whereabouts.is_heard_better_elsewhere(CAR, ROME.0, -80));
        assert!(!whereabouts.is_heard_better_elsewhere(CAR, ROME_NEXT_DOOR.0, -50));
        whereabouts.left(CAR, ROME_NEXT_DOOR.0);
        assert!(!whereabouts.is_heard_better_elsewhere(CAR, ROME.0, -80));
    }

    #[test]
    fn a_neighbour_that_has_lost_the_car_has_it_no_more() {
        let whereabouts = Whereabouts::default();
        enter(&whereabouts, ROME_NEXT_DOOR, -50, 0);
        enter(&whereabouts, ROME, -80, 1);
        assert!(!whereabouts.is_heard_better_elsewhere(CAR, ROME.0, -80), "it drove over the road");
        whereabouts.refresh(CAR, ROME_NEXT_DOOR.0, -50, UnixMs(1_800_000_060_000));
        assert!(whereabouts.is_heard_better_elsewhere(CAR, ROME.0, -80));
    }
}
