//! The model against its own promises.

use std::collections::HashMap;

use forecourt::engine::{
    presence::{Change, Policy, Presence, Setup, State},
    time::{SlotLength, UnixMs},
};

use super::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const STEP_MS: u64 = 50;

fn fleet(seed: u64) -> Fleet {
    let slot = SlotLength::from_seconds(15).expect("a slot may last 15 s");
    Fleet::new(FleetConfig { seed, stations: 4, pumps: 4, cars: 40, slot }, NOW)
}

/// Runs `seconds`, with cars leaving their pump five seconds after they came.
fn run(fleet: &mut Fleet, seconds: u64) -> Vec<Tick> {
    let mut leaving: Vec<(UnixMs, CarId)> = Vec::new();
    let mut ticks = Vec::new();
    for now in (0..seconds * 1000 / STEP_MS).map(|step| NOW.plus(step * STEP_MS)) {
        let tick = fleet.tick(now);
        leaving.extend(tick.arrived.iter().map(|arrival| (now.plus(5_000), arrival.car)));
        leaving.extract_if(.., |(at, _)| *at <= now).for_each(|(_, car)| fleet.depart(car, now));
        ticks.push(tick);
    }
    ticks
}

/// The engine's own rule over what the receivers heard, without any codes.
fn entered(fleet: &Fleet, ticks: &[Tick]) -> Vec<(SiteId, DeviceId, Role)> {
    let mut policy = Policy::DESIGN;
    for radio in &fleet.sites[0].radios {
        policy.receivers[usize::from(radio.receiver.id.0)] = Some(Setup { pump: None, enter_dbm: site::ENTER_DBM });
    }
    let mut stations: HashMap<SiteId, Presence> = HashMap::new();
    let mut entered = Vec::new();
    for heard in ticks.iter().flat_map(|tick| &tick.heard) {
        let station = stations.entry(heard.site).or_insert_with(|| Presence::new(policy.clone()));
        let mut changes: Vec<Change> = Vec::new();
        let Hearing { receiver, rssi, at, .. } = heard.hearing;
        station.observe(heard.device, receiver, rssi, at, at, &mut changes);
        if changes.iter().any(|change| change.state == State::Entered) {
            entered.push((heard.site, heard.device, heard.role));
        }
    }
    entered
}

#[test]
fn the_same_seed_gives_the_same_fleet() {
    let (mut one, mut same, mut other) = (fleet(7), fleet(7), fleet(8));
    let ticks = run(&mut one, 10);
    assert_eq!(ticks, run(&mut same, 10));
    assert_ne!(ticks, run(&mut other, 10));
}

#[test]
fn every_arrival_has_entered_and_no_car_on_the_road_has() {
    let mut fleet = fleet(7);
    let ticks = run(&mut fleet, 30);
    let entered = entered(&fleet, &ticks);
    let arrivals: Vec<Arrival> = ticks.iter().flat_map(|tick| tick.arrived.clone()).collect();
    assert!(arrivals.len() > 20, "{}", arrivals.len());
    for arrival in arrivals {
        let device = fleet.car(arrival.car).dongle.device;
        assert!(entered.iter().any(|(site, of, _)| (*site, *of) == (arrival.site, device)), "{arrival:?}");
    }
    assert!(entered.iter().all(|(_, _, role)| *role != Role::Passer));
}

#[test]
fn a_car_on_the_road_is_heard_below_the_threshold_on_average() {
    let ticks = run(&mut fleet(7), 60);
    let levels: Vec<f64> = ticks
        .iter()
        .flat_map(|tick| &tick.heard)
        .filter(|heard| heard.role == Role::Passer && heard.hearing.rssi != air::RSSI_NOT_AVAILABLE)
        .map(|heard| f64::from(heard.hearing.rssi))
        .collect();
    let mean = levels.iter().sum::<f64>() / levels.len() as f64;
    assert!(levels.len() > 100, "it is heard at all: {}", levels.len());
    assert!(mean < f64::from(site::ENTER_DBM) - 15.0, "{mean}");
}

#[test]
fn a_dongle_is_silent_while_its_engine_is_off() {
    let mut fleet = fleet(7);
    let silent = |fleet: &Fleet| fleet.cars.iter().position(|car| !car.dongle.powered).map(CarId);
    let (car, from) = (0..)
        .map(|step| NOW.plus(step * STEP_MS))
        .find_map(|now| {
            fleet.tick(now);
            silent(&fleet).map(|car| (car, now))
        })
        .expect("a driver turns the engine off");
    let device = fleet.car(car).dongle.device;
    let heard = fleet.tick(from.plus(1_000)).heard;
    assert!(heard.iter().all(|heard| heard.device != device));
    fleet.ignite(car);
    let heard = fleet.tick(from.plus(2_000)).heard;
    assert!(heard.iter().any(|heard| heard.device == device));
}

#[test]
fn customers_of_one_station_share_their_last_digits() {
    let fleet = fleet(7);
    let mut last: HashMap<&str, usize> = HashMap::new();
    for car in fleet.cars.iter().filter(|car| car.role == Role::Customer) {
        *last.entry(plates::last_four(&car.plate)).or_default() += 1;
    }
    assert!(last.values().any(|cars| *cars > 1));
}
