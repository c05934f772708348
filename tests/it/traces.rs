//! The noise of the simulated fleet against traces of real receivers.

use std::{collections::BTreeMap, fs, path::Path};

use loadtest::fleet::air::NOISE;

use crate::data::data;

/// Measurements further apart say nothing of each other: the beacon has moved on.
const APART_S_MAX: f64 = 1.5;

/// Measurements of one receiver in one trace: seconds and dBm.
type Trace = Vec<(f64, f64)>;

#[test]
fn the_fleets_noise_is_that_of_real_receivers() {
    let Some(folder) = data("rssi/danis_12sensor_tracks") else { return };
    let mut noise: Vec<f64> = traces(&folder).iter().flat_map(deviations).collect();
    noise.sort_by(f64::total_cmp);
    assert!(noise.len() > 10_000, "only {} measurements", noise.len());
    for (share, expected) in NOISE.iter().filter(|(share, _)| (0.01..=0.99).contains(share)) {
        let found = noise[(noise.len() as f64 * share) as usize];
        assert!((found - expected).abs() < 0.1, "{share}: {found} dB, and {expected} in the model");
    }
}

/// The lines are `seconds,receiver,beacon,RSSI,...`, in the order of time.
fn traces(folder: &Path) -> Vec<Trace> {
    let mut traces: BTreeMap<(String, String), Trace> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_none_or(|extension| extension != "mbd") {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        for line in fs::read_to_string(entry.path()).unwrap().lines() {
            let fields: Vec<&str> = line.split(',').collect();
            let measured = (fields[0].parse().unwrap(), fields[3].parse().unwrap());
            traces.entry((name.clone(), fields[1].to_owned())).or_default().push(measured);
        }
    }
    traces.into_values().collect()
}

fn deviations(trace: &Trace) -> Vec<f64> {
    let triples = trace.windows(3).filter(|triple| triple[2].0 - triple[0].0 < APART_S_MAX);
    triples.map(|triple| (triple[1].1 - f64::midpoint(triple[0].1, triple[2].1)) * (2.0_f64 / 3.0).sqrt()).collect()
}
