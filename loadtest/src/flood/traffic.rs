//! What the receivers of one forecourt hear: who stands there, with which codes, and what a batch of it holds.
//!
//! Forty vehicles stand in reach of eight receivers. A batch of 25 frames holds about 12 of their codes, one of 250
//! all of them, as a gateway's batches do. Once in a while one vehicle drives off and another comes, and now and then
//! all codes change at once, as they do when a slot ends. Dongles are dealt out to the stations like cards, so that no
//! vehicle stands on two forecourts as long as there are enough of them.

use forecourt::engine::{
    batch::Hearing,
    code::{Code, Secret},
    id::ReceiverId,
    time::{Slot, UnixMs},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::dongles::Dongles;

/// From the first to the last hearing of a batch: the gateway's flush interval.
pub const SPAN_MS: u64 = 100;

/// Frames of 25 are of 12 codes: each vehicle is heard by about two receivers within a flush interval.
const FRAMES_PER_CODE: (usize, usize) = (25, 12);

const RSSI_DBM: std::ops::Range<i8> = -84..-45;

/// What one station's receivers have to hear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// In one batch.
    pub frames: usize,
    pub receivers: u8,
    /// That stand on a forecourt at a time.
    pub vehicles: usize,
    /// The part of the vehicles that nobody registered, 0 to 1.
    pub unknown_share: f64,
}

impl Mix {
    /// How many codes one batch holds.
    pub fn codes_per_batch(&self) -> usize {
        let (frames, codes) = FRAMES_PER_CODE;
        (self.frames * codes).div_ceil(frames).clamp(1, self.vehicles.max(1))
    }

    /// Batches after which every vehicle was heard at least once.
    pub fn batches_per_round(&self) -> usize {
        self.vehicles.div_ceil(self.codes_per_batch())
    }
}

/// Who is heard.
#[derive(Debug)]
enum Vehicle {
    Registered(Secret),
    /// A dongle of somebody else's, or noise: a code that no book knows.
    Stranger(Code),
}

impl Vehicle {
    fn code(&self, slot: Slot) -> Code {
        match self {
            Vehicle::Registered(secret) => secret.code(slot),
            Vehicle::Stranger(code) => *code,
        }
    }
}

/// One forecourt.
#[derive(Debug)]
pub struct Traffic {
    mix: Mix,
    dongles: Dongles,
    station: u64,
    stations: u64,
    /// Dongles of this station's share that drove onto the forecourt so far.
    arrived: u64,
    vehicles: Vec<Vehicle>,
    rng: StdRng,
}

impl Traffic {
    /// The forecourt of the `station`th of so many stations.
    pub fn new(mix: Mix, dongles: Dongles, station: usize, stations: usize) -> Traffic {
        let (station, stations) = (station as u64, stations.max(1) as u64);
        let rng = StdRng::seed_from_u64(dongles.seed.rotate_left(32) ^ station);
        let mut traffic = Traffic { mix, dongles, station, stations, arrived: 0, vehicles: Vec::new(), rng };
        let strangers = (mix.unknown_share * mix.vehicles as f64).round() as usize;
        for place in 0..mix.vehicles.max(1) {
            // Spread among the places, so that each batch has its part of them.
            let is_stranger = (place + 1) * strangers / mix.vehicles.max(1) > place * strangers / mix.vehicles.max(1);
            let vehicle = if is_stranger { traffic.stranger() } else { traffic.registered() };
            traffic.vehicles.push(vehicle);
        }
        traffic
    }

    pub fn mix(&self) -> Mix {
        self.mix
    }

    /// One vehicle drives off and another of its kind takes its place.
    pub fn turn_over(&mut self) {
        let place = self.rng.random_range(0..self.vehicles.len());
        self.vehicles[place] = match self.vehicles[place] {
            Vehicle::Registered(_) => self.registered(),
            Vehicle::Stranger(_) => self.stranger(),
        };
    }

    /// What the `number`th batch of a round holds, heard from `base` on with the codes of `slot`.
    pub fn batch(&mut self, number: usize, slot: Slot, base: UnixMs) -> Vec<Hearing> {
        let (codes, frames) = (self.mix.codes_per_batch(), self.mix.frames);
        let heard: Vec<Code> = (0..codes).map(|nth| self.at(number * codes + nth).code(slot)).collect();
        let hearing = |frame: usize| Hearing {
            code: heard[frame % codes],
            receiver: ReceiverId(self.rng.random_range(0..self.mix.receivers)),
            rssi: self.rng.random_range(RSSI_DBM),
            at: base.plus(frame as u64 * SPAN_MS / frames as u64),
        };
        (0..frames).map(hearing).collect()
    }

    fn at(&self, place: usize) -> &Vehicle {
        &self.vehicles[place % self.vehicles.len()]
    }

    fn registered(&mut self) -> Vehicle {
        let index = (self.station + self.stations * self.arrived) % self.dongles.count.max(1);
        self.arrived += 1;
        Vehicle::Registered(self.dongles.secret(index))
    }

    fn stranger(&mut self) -> Vehicle {
        Vehicle::Stranger(Code(self.rng.random()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SLOT: Slot = Slot(2_000_000);
    const BASE: UnixMs = UnixMs(1_800_000_000_000);

    fn mix(frames: usize, unknown_share: f64) -> Mix {
        Mix { frames, receivers: 8, vehicles: 40, unknown_share }
    }

    fn traffic(mix: Mix) -> Traffic {
        Traffic::new(mix, Dongles { seed: 7, count: 1_000 }, 1, 4)
    }

    fn codes(hearings: &[Hearing]) -> HashSet<Code> {
        hearings.iter().map(|hearing| hearing.code).collect()
    }

    #[test]
    fn the_same_seed_hears_the_same() {
        let heard = |seed| Traffic::new(mix(25, 0.1), Dongles { seed, count: 1_000 }, 1, 4).batch(0, SLOT, BASE);
        assert_eq!(heard(7), heard(7));
        assert_ne!(heard(7), heard(8));
    }

    #[test]
    fn a_small_batch_holds_a_dozen_codes_and_a_full_one_all_of_them() {
        assert_eq!(codes(&traffic(mix(25, 0.0)).batch(0, SLOT, BASE)).len(), 12);
        assert_eq!(codes(&traffic(mix(250, 0.0)).batch(0, SLOT, BASE)).len(), 40);
        assert_eq!(codes(&traffic(mix(1, 0.0)).batch(0, SLOT, BASE)).len(), 1);
    }

    #[test]
    fn a_round_hears_every_vehicle() {
        let mut traffic = traffic(mix(25, 0.0));
        let heard = (0..traffic.mix().batches_per_round()).flat_map(|number| codes(&traffic.batch(number, SLOT, BASE)));
        assert_eq!(heard.collect::<HashSet<_>>().len(), 40);
    }

    #[test]
    fn strangers_have_their_share_of_the_forecourt() {
        let strangers = |share| {
            let vehicles = traffic(mix(25, share)).vehicles;
            vehicles.iter().filter(|vehicle| matches!(vehicle, Vehicle::Stranger(_))).count()
        };
        assert_eq!([0.0, 0.1, 0.5, 1.0].map(strangers), [0, 4, 20, 40]);
    }

    #[test]
    fn one_vehicle_turns_over_and_all_codes_change_with_the_slot() {
        let mut traffic = traffic(mix(250, 0.0));
        let before = codes(&traffic.batch(0, SLOT, BASE));
        traffic.turn_over();
        let after = codes(&traffic.batch(0, SLOT, BASE));
        assert_eq!(before.intersection(&after).count(), 39);
        assert!(after.is_disjoint(&codes(&traffic.batch(0, Slot(SLOT.0 + 1), BASE))));
    }

    #[test]
    fn stations_do_not_share_vehicles_while_there_are_enough() {
        let dongles = Dongles { seed: 7, count: 1_000 };
        let of = |station| codes(&Traffic::new(mix(250, 0.0), dongles, station, 4).batch(0, SLOT, BASE));
        assert!(of(0).is_disjoint(&of(1)));
    }
}
