//! Scenarios: what a TOML file says of a national run, checked, and what it means for the fleet.
//!
//! Every key has its meaning here and its default in [`defaults`]; a key that does not exist is refused. A wrong file
//! is refused with the line that is wrong, and before anything starts.

mod defaults;
mod plan;
mod stations;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::report::Bound;
pub use plan::Plan;
pub use stations::StationsError;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    pub title: String,
    /// The same seed makes the same fleet.
    pub seed: u64,
    /// Seconds that are measured.
    pub seconds: u32,
    /// Seconds before them that are kept out of the latencies and rates; what must never happen counts in them too.
    pub warm_up_seconds: u32,
    /// Seconds for which a dongle broadcasts one code, 15 to 900; the engine is told the same.
    pub slot_seconds: u32,
    pub stations: Stations,
    pub traffic: Traffic,
    pub dongles: Dongles,
    pub people: People,
    /// Somebody who sends made-up codes.
    pub flood: Flood,
    pub storm: Storm,
    /// Keys of the summary, and what each must come to: `missed = { at_most = 0 }`.
    pub thresholds: BTreeMap<String, Threshold>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stations {
    /// Made up, or at most so many of the file.
    pub count: usize,
    /// A list of stations: the columns of `forecourt import stations`, or those of the Italian ministry's list. Looked
    /// for beside the scenario, then in the folder that FORECOURT_DATA names (else `../shared/data`). Without the file
    /// the stations are made up, and the report says so.
    pub csv: Option<PathBuf>,
    /// Only this brand of the file; without it, the largest.
    pub brand: Option<String>,
    /// Fuelling points of each station for which the file does not say.
    pub pumps: u16,
    /// Receivers under the canopy.
    pub canopy_receivers: u8,
    /// Receivers at pumps, which share them where there are more pumps. Entrance and exit have one each besides.
    pub pump_receivers: u8,
    /// Stations nearer than this hear each other's cars, as far as the radio reaches; at most 1,100.
    pub neighbours_within_m: f64,
    /// Of the stations that are made up, the share that has a neighbour over the road.
    pub paired_share: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// The hour of the day that is run, 0 to 23.
    pub hour: usize,
    /// How the day's purchases are spread over its hours: 24 weights.
    pub by_hour: Vec<f64>,
    /// Cars on the air on one forecourt in the day's busiest hour, strangers included.
    pub cars: f64,
    /// Of those who come, so many a day fuel at a station; the others are in the shop.
    pub sales_per_day: f64,
    /// How long somebody who does not fuel stays, on average.
    pub dwell_s: f64,
    /// Registered cars that pass a station in the day's busiest hour without turning in.
    pub drive_by_per_hour: f64,
    /// The share of the cars on a forecourt whose codes nobody knows.
    pub strangers_share: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dongles {
    /// 1 to 50.
    pub advertisements_per_s: f64,
    /// Clocks drift by up to so many millionths, either way.
    pub drift_ppm: u32,
    /// And were off by up to this when they were set.
    pub offset_ms: u32,
    /// The share of fuellings on which the socket is dead while the engine is off.
    pub power_cut_share: f64,
    /// The share of cars that have the last four digits of another car of their station.
    pub same_digits_share: f64,
    /// The share of customers who coupled their dongle by phone; the others are imported.
    pub coupled_share: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct People {
    /// The share of stations with an attendant at the terminal and customers with phones. The oracle judges these.
    pub share: f64,
    /// Litres of a sale: what 10, 50, 90 and 99 % of all stay under.
    pub litres: [f64; 4],
    /// How fast a pump gives it.
    pub litres_per_minute: f64,
    /// Seconds that a fuelling lasts at least and at most, whatever the litres.
    pub fuelling_s: [f64; 2],
    /// Plates typed each second, all stations together, by a clock of their own: what `plate_p99_ms` is of.
    pub plate_queries_per_s: f64,
    /// A car that is shown later than this after it entered is late.
    pub late_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// Stations that are flooded; 0 for none. Cars that these miss are not counted.
    pub stations: usize,
    /// Made-up codes a second at each.
    pub frames_per_s: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storm {
    /// Seconds into the measured time at which every uplink's connection is cut; 0, the default, for never.
    pub at_s: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    AtMost(f64),
    AtLeast(f64),
}

impl From<Threshold> for Bound {
    fn from(threshold: Threshold) -> Bound {
        match threshold {
            Threshold::AtMost(most) => Bound::AtMost(most),
            Threshold::AtLeast(least) => Bound::AtLeast(least),
        }
    }
}

/// A file that is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    /// The parser names line and key itself.
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path}, line {line}: {key} {reason}")]
    Meaning { path: PathBuf, line: usize, key: &'static str, reason: String },
    #[error(transparent)]
    Stations(#[from] StationsError),
}

impl Scenario {
    pub fn read(path: &Path) -> Result<Scenario, ScenarioError> {
        let text = fs::read_to_string(path).map_err(|source| ScenarioError::File { path: path.into(), source })?;
        Scenario::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text)
            .map_err(|source| ScenarioError::Toml { path: path.into(), source: Box::new(source) })?;
        match scenario.first_wrong() {
            None => Ok(scenario),
            Some((key, reason)) => {
                Err(ScenarioError::Meaning { path: path.into(), line: line_of(text, key), key, reason: reason.into() })
            }
        }
    }

    /// The first key whose value makes no sense, and why.
    fn first_wrong(&self) -> Option<(&'static str, &'static str)> {
        let Scenario { stations, traffic, dongles, people, .. } = self;
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        let radios = 2 + u32::from(stations.canopy_receivers) + u32::from(stations.pump_receivers);
        let ascends = |values: &[f64]| values.is_sorted() && values.iter().all(|value| *value > 0.0);
        let checks = [
            ("seconds", self.seconds > 0, "must be at least 1"),
            ("slot_seconds", (15..=900).contains(&self.slot_seconds), "is 15 to 900"),
            ("stations.count", (1..=20_000).contains(&stations.count), "is 1 to 20000"),
            ("stations.pumps", (1..=64).contains(&stations.pumps), "is 1 to 64"),
            ("stations.pump_receivers", stations.pump_receivers > 0, "must be at least 1"),
            ("stations.pump_receivers", radios <= 32, "makes more than 32 receivers at a station"),
            ("stations.neighbours_within_m", (0.0..=1_100.0).contains(&stations.neighbours_within_m), "is 0 to 1100"),
            ("stations.paired_share", is_share(stations.paired_share), "is a share: 0 to 1"),
            ("traffic.hour", traffic.hour < 24, "is 0 to 23"),
            ("traffic.by_hour", traffic.by_hour.len() == 24, "has one weight for each of 24 hours"),
            (
                "traffic.by_hour",
                traffic.by_hour.iter().all(|weight| *weight >= 0.0) && traffic.by_hour.iter().sum::<f64>() > 0.0,
                "has weights of at least 0, and not only zeros",
            ),
            ("traffic.cars", (0.0..=500.0).contains(&traffic.cars), "is 0 to 500"),
            ("traffic.sales_per_day", (0.0..=1e6).contains(&traffic.sales_per_day), "is 0 to 1000000"),
            ("traffic.dwell_s", (1.0..=86_400.0).contains(&traffic.dwell_s), "is 1 to 86400"),
            ("traffic.drive_by_per_hour", (0.0..=1e6).contains(&traffic.drive_by_per_hour), "is 0 to 1000000"),
            ("traffic.strangers_share", is_share(traffic.strangers_share), "is a share: 0 to 1"),
            ("dongles.advertisements_per_s", (1.0..=50.0).contains(&dongles.advertisements_per_s), "is 1 to 50"),
            ("dongles.drift_ppm", dongles.drift_ppm <= 200, "is at most 200"),
            (
                "dongles.offset_ms",
                u64::from(dongles.offset_ms) < u64::from(self.slot_seconds) * 1000,
                "is less than a slot: a clock further off has to be caught up by phone",
            ),
            ("dongles.power_cut_share", is_share(dongles.power_cut_share), "is a share: 0 to 1"),
            ("dongles.same_digits_share", (0.0..=0.9).contains(&dongles.same_digits_share), "is 0 to 0.9"),
            ("dongles.coupled_share", is_share(dongles.coupled_share), "is a share: 0 to 1"),
            ("people.share", is_share(people.share), "is a share: 0 to 1"),
            ("people.litres", ascends(&people.litres), "ascends, from more than 0"),
            ("people.litres_per_minute", people.litres_per_minute > 0.0, "must be more than 0"),
            ("people.fuelling_s", ascends(&people.fuelling_s), "ascends, from more than 0"),
            ("people.plate_queries_per_s", (0.0..=10_000.0).contains(&people.plate_queries_per_s), "is 0 to 10000"),
            ("flood.stations", self.flood.stations <= stations.count, "is at most stations.count"),
            ("flood.frames_per_s", (0.0..=50_000.0).contains(&self.flood.frames_per_s), "is 0 to 50000"),
            ("storm.at_s", self.storm.at_s < self.seconds, "is before the end of the measured seconds"),
        ];
        checks.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, reason)| (key, reason))
    }
}

/// The line on which the key stands, or its section; 1 when neither does and a default is at odds with another key.
fn line_of(text: &str, key: &str) -> usize {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let (mut current, mut header) = ("", 1);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            current = name;
            header = if current == section { number } else { header };
        }
        if current == section && line.split('=').next().map(str::trim) == Some(name) {
            return number;
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse(text, Path::new("x.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse("").unwrap(), Scenario::default());
    }

    #[test]
    fn what_is_said_takes_the_place_of_a_default_key_by_key() {
        let scenario = parse("seconds = 7\n[traffic]\nhour = 8\n[thresholds]\nmissed = { at_most = 0 }\n").unwrap();
        assert_eq!((scenario.seconds, scenario.traffic.hour), (7, 8));
        assert_eq!(scenario.stations, Scenario::default().stations);
        assert_eq!(scenario.thresholds["missed"], Threshold::AtMost(0.0));
    }

    #[test]
    fn a_misspelt_key_and_a_wrong_type_are_named_with_their_line() {
        let refusal = parse("seconds = 7\n[traffic]\nhours = 8\n").unwrap_err();
        assert!(refusal.contains("line 3") && refusal.contains("`hours`"), "{refusal}");
        let refusal = parse("seconds = \"long\"\n").unwrap_err();
        assert!(refusal.contains("line 1") && refusal.contains("seconds"), "{refusal}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named_with_its_line() {
        let refusal = parse("seconds = 7\n\n[traffic]\ncars = 3\nhour = 24\n").unwrap_err();
        assert_eq!(refusal, "x.toml, line 5: traffic.hour is 0 to 23");
        let refusal = parse("[people]\nshare = 1.5\n").unwrap_err();
        assert_eq!(refusal, "x.toml, line 2: people.share is a share: 0 to 1");
    }

    #[test]
    fn the_scenarios_that_come_with_it_read_and_have_thresholds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for name in ["morning-peak", "highway", "storm", "strangers", "small"] {
            let scenario = Scenario::read(&folder.join(format!("{name}.toml"))).unwrap();
            for key in ["missed", "ghost", "wrong", "duplicate", "double_charged"] {
                assert_eq!(scenario.thresholds.get(key), Some(&Threshold::AtMost(0.0)), "{name}: {key}");
            }
        }
    }
}
