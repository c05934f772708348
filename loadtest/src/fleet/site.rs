//! A station as the radio sees it: where its receivers hang, where its pumps are, and how a car drives through.
//!
//! ```text
//!   y
//!  10      |  entrance                                   exit
//!   0      |     pump 1    pump 2    pump 3    pump 4          canopy above the middle
//!          |
//! -60    ==|==== road ====================================
//!          0 ---------------------------------------------> x, metres
//! ```

use forecourt::engine::{
    control::{Receiver, Role},
    id::{PumpNumber, ReceiverId, StationId},
};

/// Metres between two pumps, as two lanes of cars need them.
const PUMP_GAP_M: f64 = 6.0;

/// The service area lies this far off its road, so that a receiver hears passing cars at the edge of its hearing.
const ROAD_Y_M: f64 = -60.0;

/// A receiver's height above the dongles: on a post.
const POST_M: f64 = 1.5;
const CANOPY_M: f64 = 5.0;

/// From this level on a car is on the forecourt: a survey of such a site would set it between the -62 dBm of a car at
/// its pump and the -99 dBm of one on the road.
pub const ENTER_DBM: i8 = -76;

/// Metres in the station's own plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

impl Point {
    /// The point that lies `part` (0 to 1) of the way to `to`.
    fn toward(self, to: Point, part: f64) -> Point {
        Point { x: self.x + (to.x - self.x) * part, y: self.y + (to.y - self.y) * part }
    }
}

/// One radio and its place.
#[derive(Debug, Clone, Copy)]
pub struct Radio {
    pub receiver: Receiver,
    place: Point,
    height: f64,
}

impl Radio {
    pub fn distance_m(&self, from: Point) -> f64 {
        (self.place.x - from.x).hypot(self.place.y - from.y).hypot(self.height)
    }
}

/// A station with its pumps in a row.
#[derive(Debug, Clone)]
pub struct Site {
    pub station: StationId,
    pub pumps: u16,
    pub radios: Vec<Radio>,
}

impl Site {
    pub fn new(station: StationId, pumps: u16) -> Site {
        let width = f64::from(pumps) * PUMP_GAP_M;
        let mut radios = vec![
            radio(0, Role::Entrance, Point { x: -9.0, y: 8.0 }, POST_M),
            radio(1, Role::Exit, Point { x: width + 9.0, y: 8.0 }, POST_M),
            radio(2, Role::Canopy, Point { x: width / 2.0, y: 0.0 }, CANOPY_M),
        ];
        for pump in 1..=pumps {
            let place = Point { x: pump_x(pump), y: 0.0 };
            radios.push(radio(2 + pump as u8, Role::Pump(PumpNumber(pump)), place, POST_M));
        }
        Site { station, pumps, radios }
    }

    pub fn receivers(&self) -> Vec<Receiver> {
        self.radios.iter().map(|radio| radio.receiver).collect()
    }

    /// Where a car stands at a pump: beside it.
    pub fn at_pump(&self, pump: PumpNumber) -> Point {
        Point { x: pump_x(pump.0), y: 1.5 }
    }

    /// On the way from the entrance to a pump.
    pub fn driving_in(&self, pump: PumpNumber, part: f64) -> Point {
        Point { x: -14.0, y: 9.0 }.toward(self.at_pump(pump), part)
    }

    /// On the way from a pump past the exit.
    pub fn driving_out(&self, pump: PumpNumber, part: f64) -> Point {
        let gone = Point { x: f64::from(self.pumps) * PUMP_GAP_M + 30.0, y: 9.0 };
        self.at_pump(pump).toward(gone, part)
    }

    /// On the road, from one end of what the receivers could hear to the other.
    pub fn passing(&self, part: f64) -> Point {
        let (from, to) = (-80.0, f64::from(self.pumps) * PUMP_GAP_M + 80.0);
        Point { x: from, y: ROAD_Y_M }.toward(Point { x: to, y: ROAD_Y_M }, part)
    }

    /// Before the shop, `part` of its length along.
    pub fn before_the_shop(&self, part: f64) -> Point {
        Point { x: f64::from(self.pumps) * PUMP_GAP_M * part, y: 14.0 }
    }
}

fn pump_x(pump: u16) -> f64 {
    (f64::from(pump) - 0.5) * PUMP_GAP_M
}

fn radio(id: u8, role: Role, place: Point, height: f64) -> Radio {
    Radio { receiver: Receiver { id: ReceiverId(id), role, enter_dbm: Some(ENTER_DBM) }, place, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_car_stands_nearest_to_the_receiver_of_its_pump() {
        let site = Site::new(StationId(1), 4);
        for pump in 1..=4 {
            let stand = site.at_pump(PumpNumber(pump));
            let nearest = site.radios.iter().min_by(|a, b| a.distance_m(stand).total_cmp(&b.distance_m(stand)));
            assert_eq!(nearest.expect("a site has radios").receiver.role, Role::Pump(PumpNumber(pump)));
        }
    }
}
