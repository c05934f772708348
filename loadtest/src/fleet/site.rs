//! A station as the radio sees it: where its receivers hang, where its pumps are, and how a car drives through.
//!
//! ```text
//!   y
//!  10    |  entrance                                  exit
//!   2    |     pump 2    pump 4    pump 6                   waiting cars stand behind, at 4
//!   0    |    [island]  [island]  [island]                  pump receivers on the islands, canopy above the middle
//!  -2    |     pump 1    pump 3    pump 5
//!        |
//! -60  ==|==== road ===================================
//!        0 ---------------------------------------------> x, metres
//! ```
//!
//! Stations of one shape share a [`Layout`]: the level of every place that a car takes on it at every receiver,
//! worked out once, so that a frame costs no logarithm.

use std::sync::Arc;

use forecourt::engine::{
    control::{Receiver, Role},
    id::{PumpNumber, ReceiverId, StationId},
};

use super::air::Level;

/// Metres between two islands, as two lanes of cars need them.
const ISLAND_GAP_M: f64 = 6.0;

/// A car stands this far beside the middle of its island, and its pump's receiver hangs on its side.
const LANE_Y_M: f64 = 2.0;
const POST_Y_M: f64 = 0.5;

const WAITING_Y_M: f64 = 4.0;

/// The service area lies this far off its road, so that a receiver hears passing cars at the edge of its hearing.
const ROAD_Y_M: f64 = -60.0;

/// A receiver's height above the dongles: on a post.
const POST_M: f64 = 1.5;
const CANOPY_M: f64 = 5.0;

/// From this level on a car is on the forecourt, as a survey of the site would set it: ten dB below a car at the pump that is
/// worst heard (-70 dBm). Of a hundred thousand cars whose engine goes off one to three seconds after the stop, all have
/// entered by then.
const ENTER_DBM: i8 = -80;

/// Where a neighbour is so near that its cars would enter by a reflection now and then, as much higher as the survey dares:
/// six dB below the worst pump one in 13,000 of those cars has not entered, of the full station's last pump one in 800.
const ENTER_DBM_MAX: i8 = -76;

/// The loudest car that is elsewhere stays so far below: more than the largest outlier, and one in fourteen thousand of those
/// that drive past a neighbour 67 m away still entered at 12.5 dB.
const BELOW_ENTER_DB: f64 = 15.0;

/// Places that a moving car takes one after the other: at 8 m/s one of them is half a metre.
const PLACES_OF_A_DRIVE: u16 = 40;

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

/// How a station is built. An entrance and an exit receiver are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub pumps: u16,
    /// Receivers under the canopy.
    pub canopies: u8,
    /// Receivers at pumps; fewer than pumps stand between those that they share.
    pub pump_receivers: u8,
    /// Places where a car waits, or stands while its driver is in the shop.
    pub waiting: u8,
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

/// Where a car stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    Pump(PumpNumber),
    Waiting(u8),
}

/// A way over the forecourt, or one place of it: rows of the layout's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    pub first: u16,
    pub rows: u16,
}

/// Everything that stations of one shape have in common.
#[derive(Debug)]
pub struct Layout {
    pub shape: Shape,
    pub radios: Vec<Radio>,
    /// For each place, the level at each radio.
    levels: Vec<Level>,
    /// At, to and from each spot: the pumps, then the places to wait.
    spots: Vec<[Path; 3]>,
    passing: Path,
}

impl Layout {
    pub fn new(shape: Shape) -> Layout {
        let radios = radios(shape);
        let passing = Path { first: 0, rows: 0 };
        let mut layout = Layout { shape, radios, levels: Vec::new(), spots: Vec::new(), passing };
        let pumps = (1..=shape.pumps).map(|pump| Spot::Pump(PumpNumber(pump)));
        for spot in pumps.chain((0..shape.waiting).map(Spot::Waiting)) {
            let (stand, width) = (layout.place(spot), width_m(shape));
            let (gate, gone) = (Point { x: -14.0, y: 9.0 }, Point { x: width + 30.0, y: 9.0 });
            let drives = [(stand, stand, 1), (gate, stand, PLACES_OF_A_DRIVE), (stand, gone, PLACES_OF_A_DRIVE)];
            let paths = drives.map(|(from, to, rows)| layout.drive(from, to, rows));
            layout.spots.push(paths);
        }
        let (from, to) = (Point { x: -80.0, y: ROAD_Y_M }, Point { x: width_m(shape) + 80.0, y: ROAD_Y_M });
        layout.passing = layout.drive(from, to, PLACES_OF_A_DRIVE);
        layout
    }

    /// The levels at all radios from this row's place.
    pub fn levels(&self, row: u16) -> &[Level] {
        let radios = self.radios.len();
        &self.levels[usize::from(row) * radios..][..radios]
    }

    /// Standing there.
    pub fn at(&self, spot: Spot) -> Path {
        self.paths(spot)[0]
    }

    /// From the entrance to there.
    pub fn way_to(&self, spot: Spot) -> Path {
        self.paths(spot)[1]
    }

    /// From there past the exit.
    pub fn way_from(&self, spot: Spot) -> Path {
        self.paths(spot)[2]
    }

    /// On the road, from one end of what the receivers could hear to the other.
    pub fn passing(&self) -> Path {
        self.passing
    }

    fn paths(&self, spot: Spot) -> &[Path; 3] {
        let place = match spot {
            Spot::Pump(pump) => usize::from(pump.0) - 1,
            Spot::Waiting(place) => usize::from(self.shape.pumps) + usize::from(place),
        };
        &self.spots[place]
    }

    fn place(&self, spot: Spot) -> Point {
        match spot {
            Spot::Pump(pump) => Point { x: pump_x(pump.0), y: side(pump.0) * LANE_Y_M },
            Spot::Waiting(place) => {
                // Near a pump receiver, one after the other, two metres on with each round.
                let posts = usize::from(self.shape.pump_receivers.max(1));
                let (round, post) = (usize::from(place) / posts, usize::from(place) % posts);
                let beside = if round.is_multiple_of(2) { 1.0 } else { -1.0 };
                let post = self.radios[self.radios.len() - posts + post].place;
                Point { x: post.x + beside * (1.0 + (round / 2 % 2) as f64), y: WAITING_Y_M }
            }
        }
    }

    fn drive(&mut self, from: Point, to: Point, rows: u16) -> Path {
        let first = (self.levels.len() / self.radios.len()) as u16;
        for row in 0..rows {
            let place = from.toward(to, (f64::from(row) + 0.5) / f64::from(rows));
            self.levels.extend(self.radios.iter().map(|radio| Level::at(radio.distance_m(place))));
        }
        Path { first, rows }
    }
}

fn radios(shape: Shape) -> Vec<Radio> {
    let width = width_m(shape);
    let mut radios = vec![
        radio(0, Role::Entrance, Point { x: -9.0, y: 8.0 }, POST_M),
        radio(1, Role::Exit, Point { x: width + 9.0, y: 8.0 }, POST_M),
    ];
    for canopy in 0..shape.canopies {
        let x = width * (f64::from(canopy) + 0.5) / f64::from(shape.canopies);
        radios.push(radio(radios.len() as u8, Role::Canopy, Point { x, y: 0.0 }, CANOPY_M));
    }
    for number in 0..u16::from(shape.pump_receivers) {
        let of = |receiver: u16| receiver * shape.pumps / u16::from(shape.pump_receivers);
        let pumps: Vec<u16> = (of(number) + 1..=of(number + 1)).collect();
        let mean = |of: &dyn Fn(u16) -> f64| pumps.iter().map(|pump| of(*pump)).sum::<f64>() / pumps.len() as f64;
        let place = Point { x: mean(&pump_x), y: mean(&side) * POST_Y_M };
        radios.push(radio(radios.len() as u8, Role::Pump(PumpNumber(pumps[0])), place, POST_M));
    }
    radios
}

fn width_m(shape: Shape) -> f64 {
    f64::from(shape.pumps.div_ceil(2)) * ISLAND_GAP_M
}

fn pump_x(pump: u16) -> f64 {
    (f64::from((pump - 1) / 2) + 0.5) * ISLAND_GAP_M
}

/// Of its island.
fn side(pump: u16) -> f64 {
    if pump.is_multiple_of(2) { 1.0 } else { -1.0 }
}

fn radio(id: u8, role: Role, place: Point, height: f64) -> Radio {
    Radio { receiver: Receiver { id: ReceiverId(id), role, enter_dbm: None }, place, height }
}

/// Degrees of latitude and longitude (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinates {
    pub lat: f64,
    pub lon: f64,
}

impl Coordinates {
    /// Metres as the crow flies, by the equirectangular approximation: good to a promille over the few kilometres at
    /// which anybody asks.
    pub fn distance_m(self, to: Coordinates) -> f64 {
        let (north, east) = (to.lat - self.lat, (to.lon - self.lon) * self.lat.to_radians().cos());
        north.hypot(east).to_radians() * 6_371_000.0
    }
}

/// Another station whose receivers hear this one's cars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    pub site: super::SiteId,
    /// There, of a car here.
    pub level: Level,
}

/// One station of the fleet.
#[derive(Debug, Clone)]
pub struct Site {
    pub station: StationId,
    pub name: String,
    pub brand: String,
    pub coordinates: Coordinates,
    pub layout: Arc<Layout>,
    pub neighbours: Vec<Neighbour>,
}

impl Site {
    pub fn pumps(&self) -> u16 {
        self.layout.shape.pumps
    }

    pub fn receivers(&self) -> Vec<Receiver> {
        let enter_dbm = Some(self.enter_dbm());
        self.layout.radios.iter().map(|radio| Receiver { enter_dbm, ..radio.receiver }).collect()
    }

    /// What the site's survey found.
    pub fn enter_dbm(&self) -> i8 {
        let loudest = self.neighbours.iter().map(|neighbour| neighbour.level).max();
        let needed = loudest.map_or(ENTER_DBM, |level| (level.dbm() + BELOW_ENTER_DB).round() as i8);
        needed.clamp(ENTER_DBM, ENTER_DBM_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::SiteId;

    const SHAPE: Shape = Shape { pumps: 4, canopies: 1, pump_receivers: 4, waiting: 4 };

    #[test]
    fn a_car_is_loudest_at_the_receiver_of_its_pump() {
        let layout = Layout::new(SHAPE);
        for pump in (1..=4).map(PumpNumber) {
            let levels = layout.levels(layout.at(Spot::Pump(pump)).first);
            let loudest = levels.iter().zip(&layout.radios).max_by_key(|(level, _)| **level);
            assert_eq!(loudest.expect("a site has radios").1.receiver.role, Role::Pump(pump));
        }
    }

    #[test]
    fn every_spot_is_well_over_the_threshold_and_the_road_far_below() {
        for shape in [SHAPE, Shape { pumps: 12, canopies: 1, pump_receivers: 3, waiting: 16 }] {
            let layout = Layout::new(shape);
            let loudest = |path: Path| layout.levels(path.first + path.rows / 2).iter().max().unwrap().dbm();
            let spots = (1..=shape.pumps).map(|pump| Spot::Pump(PumpNumber(pump)));
            for spot in spots.chain((0..shape.waiting).map(Spot::Waiting)) {
                assert!(loudest(layout.at(spot)) > f64::from(ENTER_DBM) + 6.0, "{spot:?}");
            }
            assert!(loudest(layout.passing()) < f64::from(ENTER_DBM) - 18.0);
        }
    }

    #[test]
    fn a_survey_keeps_the_neighbours_cars_out_as_far_as_it_loses_none_of_its_own() {
        let enter_dbm = |neighbour_m: Option<f64>| {
            let neighbour = |metres| Neighbour { site: SiteId(1), level: Level::in_the_open(metres) };
            let neighbours = neighbour_m.map(neighbour).into_iter().collect();
            let (layout, coordinates) = (Arc::new(Layout::new(SHAPE)), Coordinates { lat: 45.0, lon: 9.0 });
            let (name, brand, station) = (String::new(), String::new(), StationId(1));
            Site { station, name, brand, coordinates, layout, neighbours }.enter_dbm()
        };
        assert_eq!([None, Some(900.0), Some(67.0), Some(50.0), Some(10.0)].map(enter_dbm), [-80, -80, -77, -76, -76]);
    }

    #[test]
    fn a_hundredth_of_a_degree_of_latitude_is_1_1_km() {
        let (here, north) = (Coordinates { lat: 45.0, lon: 9.0 }, Coordinates { lat: 45.01, lon: 9.0 });
        assert!((here.distance_m(north) - 1_112.0).abs() < 1.0);
    }
}
