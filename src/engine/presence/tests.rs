use proptest::prelude::*;

use super::*;
use crate::engine::{
    batch::{self, Batch},
    code::Code,
};

const CAR: DeviceId = DeviceId(7);
const START: u64 = 1_800_000_000_000;
const STRONG: i8 = -55;
const WEAK: i8 = -95;
const CANOPY: ReceiverId = ReceiverId(0);
const PUMP_3: ReceiverId = ReceiverId(3);

/// A forecourt and a clock that starts at 0 seconds.
struct Forecourt {
    presence: Presence,
    changes: Vec<Change>,
}

impl Forecourt {
    fn new() -> Forecourt {
        let mut receivers = [None; RECEIVERS_MAX];
        receivers[0] = Some(Setup { pump: None, enter_dbm: -80 });
        receivers[3] = Some(Setup { pump: Some(PumpNumber(3)), enter_dbm: -80 });
        Forecourt { presence: Presence::new(Policy { receivers, ..Policy::DESIGN }), changes: Vec::new() }
    }

    fn hear(&mut self, receiver: ReceiverId, rssi: i8, seconds: f64) -> Heard {
        self.hear_late(receiver, rssi, seconds, seconds)
    }

    fn hear_late(&mut self, receiver: ReceiverId, rssi: i8, seconds: f64, now: f64) -> Heard {
        self.presence.observe(CAR, receiver, rssi, at(seconds), at(now), &mut self.changes)
    }

    fn stand(&mut self, receiver: ReceiverId, seconds: std::ops::RangeInclusive<u32>) {
        seconds.for_each(|second| {
            self.hear(receiver, STRONG, f64::from(second));
        });
    }

    fn wait_until(&mut self, seconds: f64) {
        self.presence.expire(at(seconds), &mut self.changes);
    }

    /// The states since the last call, with their seconds.
    fn told(&mut self) -> Vec<(State, u64)> {
        self.changes.drain(..).map(|change| (change.state, change.at.since(UnixMs(START)) / 1000)).collect()
    }
}

fn at(seconds: f64) -> UnixMs {
    UnixMs(START).plus((seconds * 1000.0) as u64)
}

#[test]
fn a_car_enters_stays_fades_and_leaves() {
    let mut forecourt = Forecourt::new();
    forecourt.stand(CANOPY, 0..=60);
    forecourt.wait_until(1_000.0);
    let told = forecourt.told();
    assert_eq!(told, [(State::Entered, 1), (State::Present, 11), (State::Fading, 90), (State::Left, 180)]);
    assert!(forecourt.presence.is_empty());
}

#[test]
fn a_car_that_drives_past_does_not_enter() {
    let mut forecourt = Forecourt::new();
    for second in 0..20 {
        forecourt.hear(CANOPY, WEAK, f64::from(second));
    }
    forecourt.hear(CANOPY, STRONG, 30.0);
    forecourt.wait_until(200.0);
    assert_eq!(forecourt.told(), []);
    assert!(forecourt.presence.is_empty(), "and its window is gone all the same");
}

#[test]
fn one_outlier_does_not_enter() {
    let mut forecourt = Forecourt::new();
    for second in 0..10 {
        forecourt.hear(CANOPY, if second == 5 { -84 + 12 } else { -84 }, f64::from(second));
    }
    assert_eq!(forecourt.told(), []);
}

#[test]
fn an_unavailable_rssi_counts_as_heard_and_does_not_help_to_enter() {
    let mut forecourt = Forecourt::new();
    for second in 0..10 {
        forecourt.hear(CANOPY, if second % 2 == 0 { 127 } else { 21 }, f64::from(second));
    }
    assert_eq!(forecourt.told(), []);
    let seen = forecourt.presence.seen(CAR).unwrap();
    assert_eq!((seen.hearings, seen.last, seen.strongest), (10, at(9.0), None));
}

#[test]
fn a_parked_car_is_held_for_fifteen_minutes() {
    let mut forecourt = Forecourt::new();
    forecourt.stand(PUMP_3, 0..=20);
    forecourt.wait_until(919.9);
    assert_eq!(forecourt.told(), [(State::Entered, 1), (State::Present, 11), (State::Parked, 50)]);
    let seen = forecourt.presence.seen(CAR).unwrap();
    assert_eq!((seen.state, seen.pump), (State::Parked, Some(PumpNumber(3))));
    forecourt.wait_until(920.0);
    assert_eq!(forecourt.told(), [(State::Left, 920)]);
}

#[test]
fn a_car_that_speaks_again_was_never_gone() {
    let mut forecourt = Forecourt::new();
    forecourt.stand(CANOPY, 0..=20);
    forecourt.wait_until(100.0);
    forecourt.hear(CANOPY, STRONG, 100.0);
    forecourt.wait_until(120.0);
    assert_eq!(forecourt.told()[2..], [(State::Fading, 50), (State::Present, 100)]);
}

#[test]
fn a_pinned_car_stays_until_it_is_unpinned() {
    let mut forecourt = Forecourt::new();
    forecourt.stand(CANOPY, 0..=20);
    forecourt.presence.pin(CAR, at(20.0));
    forecourt.wait_until(5_000.0);
    assert_eq!(forecourt.presence.seen(CAR).unwrap().state, State::Fading);
    forecourt.presence.unpin(CAR);
    forecourt.wait_until(5_000.0);
    assert!(forecourt.presence.seen(CAR).is_none());
}

#[test]
fn a_car_that_entered_elsewhere_leaves_after_thirty_seconds() {
    let mut forecourt = Forecourt::new();
    forecourt.stand(PUMP_3, 0..=20);
    forecourt.presence.entered_elsewhere(CAR);
    forecourt.wait_until(50.0);
    assert_eq!(forecourt.told()[2..], [(State::Parked, 50), (State::Left, 50)]);
}

#[test]
fn a_late_batch_never_moves_a_window_backwards() {
    let mut forecourt = Forecourt::new();
    forecourt.stand(CANOPY, 0..=20);
    forecourt.wait_until(60.0);
    forecourt.told();
    assert!(forecourt.hear_late(CANOPY, STRONG, 15.0, 60.0).window.is_some());
    assert_eq!(forecourt.presence.seen(CAR).unwrap().last, at(20.0));
    assert_eq!(forecourt.told(), [], "an old hearing does not wake a fading car");
    assert_eq!(forecourt.hear_late(CANOPY, STRONG, 20.0, 150.0).stale, 1);
}

#[test]
fn a_hearing_older_than_the_fade_opens_no_window() {
    let mut forecourt = Forecourt::new();
    assert_eq!(forecourt.hear_late(CANOPY, STRONG, 0.0, 31.0).stale, 1);
    assert!(forecourt.presence.is_empty());
}

#[test]
fn a_wrong_hint_finds_the_right_window() {
    let mut presence = Presence::new(Policy::DESIGN);
    let mut changes = Vec::new();
    let mut hear = |device, hint| {
        let hearing = [WireHearing::at_base(CANOPY, STRONG)];
        let heard = presence.observe_all(device, hint, Hearings::new(at(0.0), &hearing), at(0.0), &mut changes);
        heard.window.expect("there is room")
    };
    let one = hear(DeviceId(1), None);
    let other = hear(DeviceId(2), Some(one));
    assert_ne!(one, other);
    assert_eq!(hear(DeviceId(1), Some(other)), one);
}

#[test]
fn a_full_station_lets_the_stalest_passer_by_go() {
    let mut presence = Presence::new(Policy::DESIGN);
    let mut changes = Vec::new();
    for device in 0..=WINDOWS_MAX as u64 {
        let now = UnixMs(START + device);
        presence.observe(DeviceId(device), CANOPY, WEAK, now, now, &mut changes);
    }
    assert_eq!(presence.len(), WINDOWS_MAX);
    assert_eq!(presence.deadlines.len(), WINDOWS_MAX, "the newcomer took over the deadline as well");
    assert!(presence.seen(DeviceId(0)).is_none() && presence.seen(DeviceId(1)).is_some());
}

#[test]
fn a_station_full_of_cars_refuses_the_newcomer() {
    let mut presence = Presence::new(Policy::DESIGN);
    let mut changes = Vec::new();
    for device in 0..WINDOWS_MAX as u64 {
        for _ in 0..2 {
            presence.observe(DeviceId(device), CANOPY, STRONG, at(0.0), at(0.0), &mut changes);
        }
    }
    let newcomer = presence.observe(CAR_TOO_MANY, CANOPY, STRONG, at(0.0), at(0.0), &mut changes);
    assert_eq!(newcomer.full, 1);
}

const CAR_TOO_MANY: DeviceId = DeviceId(1 << 40);

#[test]
fn a_snapshot_brings_a_parked_car_back_while_its_time_runs() {
    let mut before = Forecourt::new();
    before.stand(PUMP_3, 0..=20);
    before.wait_until(60.0);
    let mut after = Forecourt::new();
    before.presence.records().into_iter().for_each(|record| after.presence.restore(record));
    after.wait_until(900.0);
    assert_eq!(after.presence.seen(CAR).unwrap().state, State::Parked);
    after.wait_until(920.0);
    assert!(after.presence.is_empty());
}

proptest! {
    /// I6: however a station was heard, nobody is selectable longer than the longest silence allows.
    #[test]
    fn presence_is_gone_when_its_time_is_up(
        hearings in prop::collection::vec((0_u64..5, 0_u8..6, any::<i8>(), 0_u64..40_000, 0_u64..200_000), 1..200),
    ) {
        let mut presence = Forecourt::new().presence;
        let mut changes = Vec::new();
        let mut now = UnixMs(START);
        let mut last = HashMap::new();
        for (device, receiver, rssi, step, age) in hearings {
            now = now.plus(step);
            let at = now.minus(age);
            let heard = presence.observe(DeviceId(device), ReceiverId(receiver), rssi, at, now, &mut changes);
            if heard.stale + heard.full == 0 {
                let last = last.entry(device).or_insert(at);
                *last = at.max(*last);
            }
            presence.expire(now, &mut changes);
            for seen in presence.selectable() {
                prop_assert_eq!(seen.last, last[&seen.device.0], "never moved backwards");
                prop_assert!(now.since(seen.last) < presence.policy().parked_for_ms);
            }
        }
        presence.expire(now.plus(900_000), &mut changes);
        prop_assert!(presence.is_empty());
        let entered = changes.iter().filter(|change| change.state == State::Entered).count();
        let left = changes.iter().filter(|change| change.state == State::Left).count();
        prop_assert_eq!(entered, left);
    }

    /// The shorter way of a dongle that has entered leads to the same window. Batches here begin with a period of the
    /// traces and end within it: hearings that come together all count for the period of the last one.
    #[test]
    fn hearings_together_come_to_the_same_as_one_by_one(
        batches in prop::collection::vec(
            (0_u64..10, prop::collection::vec((0_u64..2_048, 0_u8..6, any::<i8>()), 1..12)),
            1..40,
        ),
    ) {
        let (mut together, mut apart) = (Forecourt::new(), Forecourt::new());
        let (mut now, mut handle) = (UnixMs(START / 2_048 * 2_048), None);
        for (step, hearings) in batches {
            now = now.plus(step * 2_048);
            let mut hearings = hearings;
            hearings.sort_unstable_by_key(|(offset, ..)| *offset);
            let hearings: Vec<_> = hearings
                .iter()
                .map(|&(offset, receiver, rssi)| batch::Hearing { code: Code([1; 16]), receiver: ReceiverId(receiver), rssi, at: now.plus(offset) })
                .collect();
            let mut bytes = Vec::new();
            batch::Encoder::new().encode(1, &hearings, &mut bytes).unwrap();
            let read = Batch::read(&bytes[batch::PREFIX_BYTES..]).unwrap();
            let group = read.groups().next().unwrap().hearings;
            handle = together.presence.observe_all(CAR, handle, group, now, &mut together.changes).window;
            for hearing in group.each() {
                apart.presence.observe_all(CAR, None, hearing, now, &mut apart.changes);
            }
            prop_assert_eq!(together.presence.seen(CAR), apart.presence.seen(CAR));
            for forecourt in [&mut together, &mut apart] {
                forecourt.presence.expire(now, &mut forecourt.changes);
            }
        }
        prop_assert_eq!(together.changes, apart.changes);
    }
}

#[test]
fn a_car_that_entered_by_a_reflection_is_not_heard_as_one_that_is_here() {
    let mut forecourt = Forecourt::new();
    assert!(!forecourt.presence.is_heard_as_here(CAR), "nor one that was never heard");
    forecourt.stand(CANOPY, 0..=1);
    assert_eq!(forecourt.told(), [(State::Entered, 1)]);
    assert!(forecourt.presence.is_heard_as_here(CAR));
    (2..=6).for_each(|second| {
        forecourt.hear(CANOPY, WEAK, f64::from(second));
    });
    assert!(!forecourt.presence.is_heard_as_here(CAR), "it is still on the list by itself, and next door by this");
    forecourt.stand(PUMP_3, 7..=8);
    assert!(forecourt.presence.is_heard_as_here(CAR), "by any receiver");
}
