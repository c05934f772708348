//! The oracle against what it should say.

use std::path::Path;

use forecourt::{engine::id::DeviceId, payment::SessionCharges};

use super::*;
use crate::{demo, fleet::Tick, scenario::Scenario};

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const SESSION: SessionId = SessionId([1; 16]);
const CAR: DeviceId = DeviceId(700_003);
const JUDGEMENT: Judgement = Judgement { late_ms: 1_000 };

fn fleet() -> Fleet {
    Fleet::new(demo::fleet_config(1, 2, 10, 300), NOW)
}

fn oracle() -> Oracle {
    Oracle::new(&fleet(), JUDGEMENT)
}

fn sold(minor: i64) -> Oracle {
    let mut oracle = oracle();
    oracle.opened(SESSION, CAR, CAR);
    oracle.sold(SESSION, minor);
    oracle
}

/// Runs until a customer stands at a pump; which, where, and when.
fn first_arrival(fleet: &mut Fleet, oracle: &mut Oracle) -> (CarId, SiteId, UnixMs) {
    fleet.open(NOW);
    let mut tick = Tick::default();
    for now in (1..).map(|step| NOW.plus(step * 50)) {
        fleet.advance(now, &mut tick);
        tick.frames().for_each(|(frame, hearings)| oracle.heard(frame, hearings));
        if let Some(arrival) = tick.arrived.first() {
            return (arrival.car, arrival.site, now);
        }
    }
    unreachable!("somebody comes")
}

#[test]
fn a_car_that_appears_where_it_never_was_is_a_ghost_and_an_unknown_plate_is_wrong() {
    let (fleet, mut oracle) = (fleet(), oracle());
    oracle.appeared(&fleet, SiteId(0), &masked(&fleet.cars[2]), NOW);
    oracle.appeared(&fleet, SiteId(0), "**x0000", NOW);
    assert_eq!((oracle.counts().ghost, oracle.counts().wrong), (1, 1));
}

#[test]
fn a_car_that_is_shown_in_time_is_neither_missed_nor_late() {
    let (mut fleet, mut oracle) = (fleet(), oracle());
    let (car, site, now) = first_arrival(&mut fleet, &mut oracle);
    let plate = masked(fleet.car(car));
    oracle.appeared(&fleet, site, &plate, now);
    oracle.look_for_missed(&fleet, now.plus(60_000));
    let counts = oracle.counts();
    assert_eq!((counts.ghost, counts.wrong, counts.vehicles_entered), (0, 0, 1));
    assert_eq!(oracle.visible().count(), 1);
    assert!(!oracle.missed_visits.contains(&(car, fleet.car(car).visit)));
}

#[test]
fn a_car_that_is_never_shown_is_missed_once() {
    let (mut fleet, mut oracle) = (fleet(), oracle());
    let (car, _, now) = first_arrival(&mut fleet, &mut oracle);
    oracle.look_for_missed(&fleet, now);
    assert_eq!(oracle.counts().missed, 0, "there is time yet");
    oracle.look_for_missed(&fleet, now.plus(MISSED_AFTER_MS));
    let missed = oracle.counts().missed;
    assert!(missed > 0);
    oracle.missed(&fleet, car, "its attendant did not see it either".into());
    assert_eq!(oracle.counts().missed, missed);
}

#[test]
fn one_request_with_two_sessions_is_a_duplicate() {
    let mut oracle = oracle();
    oracle.repeated(SESSION, SESSION);
    oracle.repeated(SESSION, SessionId([2; 16]));
    assert_eq!((oracle.counts().requests_repeated, oracle.counts().duplicate), (2, 1));
}

#[test]
fn another_vehicle_than_the_one_at_the_pump_is_wrong() {
    let mut oracle = oracle();
    oracle.opened(SESSION, CAR, DeviceId(1));
    assert_eq!(oracle.counts().wrong, 1);
}

#[test]
fn the_books_may_hold_one_charge_of_what_was_sold() {
    let mut oracle = sold(5_000);
    oracle.audit(&[SessionCharges { session: SESSION, net: 1, net_minor: 5_000 }]);
    assert_eq!((oracle.counts().wrong, oracle.counts().double_charged), (0, 0));
    oracle.audit(&[SessionCharges { session: SESSION, net: 1, net_minor: 5_001 }]);
    oracle.audit(&[SessionCharges { session: SESSION, net: 2, net_minor: 10_000 }]);
    assert_eq!((oracle.counts().wrong, oracle.counts().double_charged), (1, 1));
}

#[test]
fn a_sale_that_is_told_to_be_paid_is_in_the_books() {
    let mut oracle = sold(5_000);
    oracle.paid(SESSION);
    oracle.audit(&[]);
    assert_eq!(oracle.counts().wrong, 1);
}

#[test]
fn a_driver_is_asked_for_what_the_pump_shows() {
    let mut oracle = sold(5_000);
    assert!(oracle.is_asked_rightly(SESSION, CAR, 5_000));
    assert!(!oracle.is_asked_rightly(SESSION, CAR, 5_001));
    assert!(!oracle.is_asked_rightly(SessionId([2; 16]), CAR, 5_000));
    assert_eq!(oracle.counts().wrong, 2);
}

/// Stations, each with its share of the cars that stop in ten minutes and whose engines go off at once.
fn hasty(stations: usize, paired_share: f64) -> Fleet {
    let mut scenario = Scenario { seconds: 600, warm_up_seconds: 0, slot_seconds: 900, ..Scenario::default() };
    (scenario.stations.count, scenario.stations.paired_share) = (stations, paired_share);
    (scenario.traffic.cars, scenario.traffic.sales_per_day) = (0.0, 12_000.0);
    scenario.dongles.power_cut_share = 1.0;
    Fleet::new(scenario.plan(1.0, Path::new(".")).unwrap().fleet, NOW)
}

/// Runs the rule beside the fleet: which visits' cars entered their forecourt, which cars that of a neighbour, and which stood
/// at a pump and had not entered in time.
fn judge(mut fleet: Fleet) -> (HashSet<(CarId, u32)>, HashSet<CarId>, Vec<CarId>) {
    let (mut rules, mut tick) = (Rules::new(&fleet), Tick::default());
    let (mut entered, mut next_door, mut never) = (HashSet::new(), HashSet::new(), Vec::new());
    let mut stopped = VecDeque::new();
    fleet.open(NOW);
    for now in (1..6_000).map(|step| NOW.plus(step * 100)) {
        fleet.advance(now, &mut tick);
        for (frame, hearings) in tick.frames() {
            let Sender::Car(car, _) = frame.sender else { continue };
            if rules.entered(frame.site, car, hearings).is_some() {
                if frame.is_next_door {
                    next_door.insert(car);
                } else {
                    entered.insert((car, fleet.car(car).visit));
                }
            }
        }
        stopped.extend(tick.arrived.iter().map(|arrival| (now, arrival.car)));
        while let Some((_, car)) = stopped.pop_front_if(|(at, _)| now.since(*at) > MISSED_AFTER_MS) {
            never.extend((!entered.contains(&(car, fleet.car(car).visit))).then_some(car));
            fleet.depart(car, now);
        }
    }
    (entered, next_door, never)
}

#[test]
fn a_car_has_entered_its_forecourt_before_its_engine_is_off() {
    let (entered, _, never) = judge(hasty(100, 0.0));
    assert!(entered.len() > 10_000 && never.is_empty(), "{} entered, and not {never:?}", entered.len());
}

#[test]
fn a_car_does_not_enter_over_the_road() {
    let (entered, next_door, _) = judge(hasty(100, 1.0));
    assert!(
        entered.len() > 10_000 && next_door.is_empty(),
        "{} entered, and over the road {next_door:?}",
        entered.len()
    );
}
