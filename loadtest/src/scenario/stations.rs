//! Where the stations of a scenario are: from a list, or made up.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
};

use forecourt::engine::id::StationId;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::Stations;
use crate::fleet::{Station, site::Coordinates};

/// Made-up stations lie on a grid of this, with the south-western one here.
const GRID_DEGREES: f64 = 0.05;
const SOUTH_WEST: Coordinates = Coordinates { lat: 37.0, lon: 7.0 };

/// To the station over the road: 67 m.
const OVER_THE_ROAD_DEGREES: f64 = 0.0006;

#[derive(Debug, thiserror::Error)]
pub enum StationsError {
    #[error("{path}: {source}")]
    Csv { path: PathBuf, source: csv::Error },
    #[error("{path}: the columns are neither those of `import stations` nor those of the ministry's list")]
    Columns { path: PathBuf },
    #[error("{path}: no station of {brand}")]
    NoStation { path: PathBuf, brand: String },
    #[error("this run takes {registered} registered cars, and there are plates for {most}: fewer stations, or shorter")]
    TooManyCars { registered: u64, most: u64 },
}

/// The stations, and where they came from.
pub(super) fn of(said: &Stations, seed: u64, folder: &Path) -> Result<(Vec<Station>, String), StationsError> {
    let Some(csv) = &said.csv else {
        return Ok((made_up(said, seed), "made up".into()));
    };
    let Some(path) = find(csv, folder) else {
        eprintln!("{} is not there (set FORECOURT_DATA): stations are made up instead", csv.display());
        return Ok((made_up(said, seed), format!("made up, since {} is not there", csv.display())));
    };
    Ok((read(&path, said)?, format!("from {}", csv.display())))
}

fn find(csv: &Path, folder: &Path) -> Option<PathBuf> {
    let data = env::var_os("FORECOURT_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    [folder.join(csv), data.join(csv)].into_iter().find(|path| path.is_file())
}

/// Reads at most `count` stations, evenly spread over the list, of one brand.
fn read(path: &Path, said: &Stations) -> Result<Vec<Station>, StationsError> {
    let failed = |source| StationsError::Csv { path: path.into(), source };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(failed)?;
    let columns = Columns::of(reader.headers().map_err(failed)?);
    let columns = columns.ok_or_else(|| StationsError::Columns { path: path.into() })?;
    let mut stations = Vec::new();
    for row in reader.records() {
        stations.extend(columns.station(&row.map_err(failed)?, said.pumps));
    }
    let brand = said.brand.clone().unwrap_or_else(|| largest(&stations));
    stations.retain(|station| station.brand == brand);
    if stations.is_empty() {
        return Err(StationsError::NoStation { path: path.into(), brand });
    }
    let (all, wanted) = (stations.len(), said.count.min(stations.len()));
    let chosen = |number: usize| (number + 1) * wanted / all > number * wanted / all;
    Ok((0..).zip(stations).filter(|(number, _)| chosen(*number)).map(|(_, station)| station).collect())
}

/// The brand with most stations; the first by name among equals.
fn largest(stations: &[Station]) -> String {
    let mut brands: HashMap<&str, usize> = HashMap::new();
    for station in stations.iter().filter(|station| !station.brand.is_empty()) {
        *brands.entry(&station.brand).or_default() += 1;
    }
    let largest = brands.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)));
    largest.map(|(brand, _)| brand.to_owned()).unwrap_or_default()
}

/// Where a list has what we need.
struct Columns {
    id: usize,
    name: usize,
    brand: usize,
    lat: usize,
    lon: usize,
    pumps: Option<usize>,
}

impl Columns {
    fn of(header: &csv::StringRecord) -> Option<Columns> {
        let column = |name: &str| header.iter().position(|column| column == name);
        Some(Columns {
            id: column("station_id").or_else(|| column("ref:mise"))?,
            name: column("name").or_else(|| column("operator"))?,
            brand: column("brand")?,
            lat: column("lat")?,
            lon: column("lon")?,
            pumps: column("pumps"),
        })
    }

    /// `None` for a row without a number or a place: it can be no station of ours.
    fn station(&self, row: &csv::StringRecord, pumps: u16) -> Option<Station> {
        let degrees = |column: usize, bound: f64| {
            let degrees: f64 = row.get(column)?.trim().parse().ok()?;
            (degrees.abs() <= bound && degrees != 0.0).then_some(degrees)
        };
        let said = self.pumps.and_then(|column| row.get(column)?.trim().parse().ok()).filter(|pumps| *pumps > 0);
        Some(Station {
            id: StationId(row.get(self.id)?.trim().parse().ok()?),
            name: row.get(self.name)?.trim().to_owned(),
            brand: row.get(self.brand)?.trim().to_owned(),
            coordinates: Coordinates { lat: degrees(self.lat, 90.0)?, lon: degrees(self.lon, 180.0)? },
            pumps: said.unwrap_or(pumps),
        })
    }
}

/// On a grid, some of them over the road from the one before.
fn made_up(said: &Stations, seed: u64) -> Vec<Station> {
    let (mut rng, mut cells) = (SmallRng::seed_from_u64(seed), 0_u32);
    let side = (said.count as f64).sqrt().ceil() as u32;
    let mut before: Option<Coordinates> = None;
    let place = |number: usize| {
        let paired = before.take().filter(|_| rng.random_bool(said.paired_share));
        let coordinates = if let Some(beside) = paired {
            Coordinates { lat: beside.lat + OVER_THE_ROAD_DEGREES, ..beside }
        } else {
            let (row, column) = (cells / side, cells % side);
            cells += 1;
            let at = |from: f64, number: u32| from + f64::from(number) * GRID_DEGREES;
            let here = Coordinates { lat: at(SOUTH_WEST.lat, row), lon: at(SOUTH_WEST.lon, column) };
            before = Some(here);
            here
        };
        let id = StationId(number as u32 + 1);
        Station { id, name: format!("Station {id}"), brand: "Chain".into(), coordinates, pumps: said.pumps }
    };
    (0..said.count).map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MINISTRY: &str = "ref:mise,yes,operator,brand,lat,lon\n\
        1,yes,Rossi S.R.L.,Q8,45.1,9.1\n2,yes,\"Bar, Sole\",Eni,45.2,9.2\n3,,Verdi,Eni,45.3,9.3\n4,,Nowhere,Eni,,\n";
    const OURS: &str = "station_id,name,brand,lat,lon,pumps\n7,North,Ours,45.5,9.5,8\n8,South,Ours,45.4,9.4,\n";

    fn stations(text: &str, said: &Stations) -> Result<Vec<Station>, StationsError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("list.csv"), text).unwrap();
        let said = Stations { csv: Some("list.csv".into()), ..said.clone() };
        of(&said, 1, folder.path()).map(|(stations, _)| stations)
    }

    fn ids(stations: &[Station]) -> Vec<u32> {
        stations.iter().map(|station| station.id.0).collect()
    }

    #[test]
    fn the_ministrys_list_is_mapped_and_the_largest_chain_taken() {
        let found = stations(MINISTRY, &Stations::default()).unwrap();
        assert_eq!(ids(&found), [2, 3]);
        assert_eq!((found[0].name.as_str(), found[0].coordinates.lat, found[0].pumps), ("Bar, Sole", 45.2, 12));
        let q8 = Stations { brand: Some("Q8".into()), ..Stations::default() };
        assert_eq!(ids(&stations(MINISTRY, &q8).unwrap()), [1]);
    }

    #[test]
    fn our_own_columns_say_how_many_pumps() {
        let found = stations(OURS, &Stations::default()).unwrap();
        assert_eq!(found.iter().map(|station| station.pumps).collect::<Vec<_>>(), [8, 12]);
        let one = Stations { count: 1, ..Stations::default() };
        assert_eq!(stations(OURS, &one).unwrap().len(), 1);
    }

    #[test]
    fn a_list_that_nobody_knows_and_a_brand_that_is_not_in_it_are_refused() {
        let refusal = stations("a,b\n1,2\n", &Stations::default()).unwrap_err().to_string();
        assert!(refusal.contains("columns"), "{refusal}");
        let nobody = Stations { brand: Some("Nobody".into()), ..Stations::default() };
        assert!(stations(OURS, &nobody).unwrap_err().to_string().ends_with("no station of Nobody"));
    }

    #[test]
    fn made_up_stations_are_apart_but_for_the_pairs() {
        let said = Stations { count: 50, paired_share: 0.5, ..Stations::default() };
        let made = made_up(&said, 1);
        let near = |a: &Station| made.iter().filter(|b| a.coordinates.distance_m(b.coordinates) < 1_000.0).count() - 1;
        assert!(made.iter().any(|station| near(station) == 1));
        assert!(made.iter().all(|station| near(station) <= 1));
    }
}
