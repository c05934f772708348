use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::*;
use crate::engine::clock::ClockOffset;
use crate::engine::codebook::{Codebook, Keeper, Reading, RosterBuilder};
use crate::engine::time::DAY_MS;

const CHAIN: SlotLength = SlotLength::DEFAULT;
const NOW: UnixMs = UnixMs(1_800_000_123_456);
const STATION: StationId = StationId(1);

fn secret(device: u64) -> Secret {
    Secret::from_root(&[device as u8 + 1; 32])
}

fn dongle(device: u64) -> Dongle {
    Dongle { device: DeviceId(device), secret: secret(device), offset: ClockOffset(0) }
}

fn fleet(count: u64) -> Vec<Dongle> {
    (0..count).map(dongle).collect()
}

/// Those of a list after one, as a keeper gives them.
fn after(fleet: &[Dongle], after: Option<DeviceId>, count: usize) -> Vec<Dongle> {
    let start = after.map_or(0, |after| fleet.partition_point(|dongle| dongle.device.0 <= after.0));
    fleet[start..].iter().take(count).cloned().collect()
}

/// Sweeps until nothing is looked for any more.
fn sweep_out(sweep: &mut Sweep, fleet: &[Dongle], now: UnixMs) -> Swept {
    let mut all = Swept::default();
    while sweep.due().is_some() {
        let swept = sweep.step(CHAIN, now, |last, count| after(fleet, last, count));
        all.found.extend(swept.found);
        all.recorded += swept.recorded;
        all.given_up += swept.given_up;
    }
    all
}

#[test]
fn a_dongle_is_found_by_a_code_of_any_error_that_is_guessed() {
    let fleet = fleet(40);
    let believed = CHAIN.slot_at(NOW).0;
    for slot in [believed + 2, believed + 17, believed - 2, believed, believed - 128, believed + 127, 0, 15, 16, 287] {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.add(secret(31).code(Slot(slot)), STATION, NOW), Offer::Taken);
        let reading = Reading { device: DeviceId(31), slot: Slot(slot) };
        assert_eq!(sweep_out(&mut sweep, &fleet, NOW).found, [Found { reading, at: NOW }], "slot {slot}");
    }
}

#[test]
fn a_strangers_code_is_tried_with_everything_and_given_up() {
    let fleet = fleet(40);
    let mut sweep = Sweep::default();
    sweep.add(Code([9; 16]), STATION, NOW);
    sweep.add(secret(1).code(Slot(CHAIN.slot_at(NOW).0 + 128)), STATION, NOW);
    let swept = sweep_out(&mut sweep, &fleet, NOW);
    assert_eq!((swept.found.len(), swept.given_up, sweep.waiting()), (0, 2, 0));
}

#[test]
fn a_code_is_tried_again_with_a_dongle_that_was_bound_meanwhile() {
    let mut sweep = Sweep::default();
    sweep.add(secret(1).code(Slot(3)), STATION, NOW);
    let mut steps = 0;
    while sweep.due().is_some_and(|due| due <= NOW) {
        assert_eq!(sweep.step(CHAIN, NOW, |_, _| Vec::new()), Swept::default());
        steps += 1;
    }
    assert_eq!((steps, sweep.due()), (GUESSES.len(), Some(NOW.plus(ROUND_EACH_MS))));
    let found = sweep_out(&mut sweep, &fleet(3), NOW.plus(ROUND_EACH_MS)).found;
    assert_eq!(found.len(), 1);
}

#[test]
fn more_dongles_than_one_step_takes_are_swept_too() {
    let fleet: Vec<Dongle> =
        (0..STEP as u64 + 5).map(|device| Dongle { device: DeviceId(device), ..dongle(device % 200) }).collect();
    let last = fleet.last().unwrap().clone();
    let own = Secret::from_root(&[0xee; 32]);
    let mut fleet = fleet;
    fleet.last_mut().unwrap().secret = own.clone();
    let mut sweep = Sweep::default();
    sweep.add(own.code(Slot(CHAIN.slot_at(NOW).0 + 3)), STATION, NOW);
    let mut found = Vec::new();
    for _ in 0..2 {
        found.extend(sweep.step(CHAIN, NOW, |last, count| after(&fleet, last, count)).found);
    }
    assert_eq!(found.iter().map(|found| found.reading.device).collect::<Vec<_>>(), [last.device]);
}

#[test]
fn an_eid_beacon_is_found_and_a_fixed_code_is_not_swept() {
    let eid = Secret::EddystoneEid { identity_key: [5; 16], exponent: 10 };
    let fixed = Secret::Fixed { code: Code([6; 16]) };
    let fleet = [
        Dongle { device: DeviceId(1), secret: eid.clone(), offset: ClockOffset(0) },
        Dongle { device: DeviceId(2), secret: fixed, offset: ClockOffset(0) },
    ];
    let slot = Slot(eid.slot_at(CHAIN, NOW).0 - 9);
    let mut sweep = Sweep::default();
    sweep.add(eid.code(slot), STATION, NOW);
    sweep.add(Code([6; 16]), STATION, NOW);
    let swept = sweep_out(&mut sweep, &fleet, NOW);
    assert_eq!(
        swept.found.iter().map(|found| found.reading).collect::<Vec<_>>(),
        [Reading { device: DeviceId(1), slot }]
    );
    assert_eq!(swept.given_up, 1);
}

#[test]
fn a_code_of_yesterday_moves_no_clock_of_a_dongle_that_was_heard_today() {
    let fleet = fleet(3);
    let recorded = secret(1).code(Slot(CHAIN.slot_at(NOW).0 - 20));
    let mut sweep = Sweep::default();
    sweep.heard(DeviceId(1), NOW);
    sweep.add(recorded, STATION, NOW);
    let swept = sweep_out(&mut sweep, &fleet, NOW);
    assert_eq!((swept.found.len(), swept.recorded), (0, 1));
    let next_day = NOW.plus(2 * LATELY_MS + 1);
    sweep.add(secret(1).code(Slot(CHAIN.slot_at(next_day).0 - 20)), STATION, next_day);
    assert_eq!(sweep_out(&mut sweep, &fleet, next_day).found.len(), 1, "silent for a day, it may have lost its clock");
}

#[test]
fn what_waits_stays_within_its_bounds() {
    let code = |number: u64| Code([number.to_be_bytes(), [7; 8]].as_flattened().try_into().unwrap());
    let mut sweep = Sweep::default();
    let offers = |sweep: &mut Sweep, station, numbers: std::ops::Range<u64>| {
        numbers.map(|number| sweep.add(code(number), StationId(station), NOW)).filter(|o| *o == Offer::Taken).count()
    };
    assert_eq!(offers(&mut sweep, 0, 0..100), MISSED_PER_STATION_MAX);
    assert_eq!(sweep.add(code(0), StationId(9), NOW), Offer::Known);
    let stations = 1..200_u64;
    let taken: usize = stations.map(|s| offers(&mut sweep, s as u32, s * 1000..s * 1000 + 64)).sum();
    assert_eq!(taken + MISSED_PER_STATION_MAX, MISSED_MAX);
    let swept = sweep.step(CHAIN, NOW.plus(MISSED_MS), |_, _| Vec::new());
    assert_eq!((swept.given_up, sweep.waiting()), (MISSED_MAX as u64, 0));
    assert!(sweep.of_station.is_empty() && sweep.order.is_empty());
}

/// A dongle's crystal and its power, as they are.
#[derive(Clone, Copy)]
struct Crystal {
    /// When it last began to count, and from where.
    began: UnixMs,
    from: UnixMs,
    drift_ppm: i64,
}

impl Crystal {
    fn shows(&self, now: UnixMs) -> UnixMs {
        let elapsed = now.since(self.began);
        self.from.plus(elapsed.saturating_add_signed(elapsed as i64 / 1_000_000 * self.drift_ppm))
    }
}

/// How the visits were recognised.
#[derive(Default, Debug)]
struct Visits {
    at_once: u32,
    by_sweep: u32,
    by_phone: u32,
    /// Of a clock that nobody set, silent for less than a slot's worth of drift, and not in the book all the same.
    surprises: u32,
    /// Hearings after the first of a visit, and those of them that the book did not have: what is believed of a clock
    /// may be half a slot off, and a roll comes once a slot.
    hearings: u32,
    gaps: u32,
}

/// Two years of cars that come now and then, with clocks that drift, stop, begin at zero and jump.
#[test]
fn over_years_of_drift_and_power_cuts_every_dongle_is_recognised_again() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut world = World::new(12);
    while world.now.since(NOW) < 2 * 365 * DAY_MS {
        world.now = world.now.plus(rng.random_range(1..4 * DAY_MS));
        let who = rng.random_range(0..world.crystals.len());
        let shows = world.crystals[who].shows(world.now);
        let set = match rng.random_range(0..10) {
            // Plugged in again some minutes to hours ago.
            0 => Some((UnixMs(world.now.0 - rng.random_range(60_000..DAY_MS)), UnixMs(0))),
            1 => Some((world.now, shows.plus(rng.random_range(0..9 * 3_600_000)))),
            _ => None,
        };
        if let Some((began, from)) = set {
            world.crystals[who] = Crystal { began, from, ..world.crystals[who] };
        }
        world.visit(who, rng.random_range(60..500), set.is_some());
    }
    let Visits { at_once, by_sweep, by_phone, surprises, hearings, gaps } = world.visits;
    assert!(at_once > 200 && by_sweep > 50, "{:?}", world.visits);
    assert!(by_phone * 100 < at_once, "the sweep finds nearly all: {:?}", world.visits);
    assert!(surprises * 50 < at_once, "drift alone seldom needs the sweep: {:?}", world.visits);
    assert!(gaps * 500 < hearings, "known again, a dongle stays so: {:?}", world.visits);
}

struct World {
    keeper: Keeper,
    book: Codebook,
    rolled: Slot,
    sweep: Sweep,
    crystals: Vec<Crystal>,
    seen: Vec<UnixMs>,
    now: UnixMs,
    visits: Visits,
}

impl World {
    /// Drifts from -150 to 150 ppm.
    fn new(dongles: u64) -> World {
        let mut roster = RosterBuilder::new(dongles as usize);
        for dongle in fleet(dongles) {
            roster.push(&dongle);
        }
        let drift = |nth| nth * 300 / (dongles as i64 - 1) - 150;
        World {
            keeper: Keeper::new(CHAIN, roster.finish()),
            book: Codebook::empty(),
            rolled: Slot(0),
            sweep: Sweep::default(),
            crystals: (0..dongles as i64).map(|nth| Crystal { began: NOW, from: NOW, drift_ppm: drift(nth) }).collect(),
            seen: vec![NOW; dongles as usize],
            now: NOW,
            visits: Visits::default(),
        }
    }

    /// The car is recognised, and is in every book from then on until it leaves.
    fn visit(&mut self, who: usize, stays_s: u64, was_set: bool) {
        let is_surprise = !was_set && self.now.since(self.seen[who]) < 23 * DAY_MS;
        self.roll();
        let slot = CHAIN.slot_at(self.crystals[who].shows(self.now));
        let reading = Reading { device: DeviceId(who as u64), slot };
        if self.look(who) == Some(reading) {
            self.visits.at_once += 1;
        } else {
            self.visits.surprises += u32::from(is_surprise);
            let is_found = self.search(reading);
            self.visits.by_sweep += u32::from(is_found);
            self.visits.by_phone += u32::from(!is_found);
        }
        self.learn(reading);
        for _ in 0..stays_s / 10 {
            self.now = self.now.plus(10_000);
            self.roll();
            self.hear(who);
        }
        self.seen[who] = self.now;
    }

    /// As the engine does, once a slot.
    fn roll(&mut self) {
        let slot = CHAIN.slot_at(self.now);
        if std::mem::replace(&mut self.rolled, slot) != slot {
            self.keeper.begin_roll(self.now);
            while self.keeper.step() {}
            self.book = self.keeper.book();
        }
    }

    fn learn(&mut self, reading: Reading) {
        if self.keeper.learn(reading, self.now).is_some_and(|learned| learned.is_moved) {
            self.book = self.keeper.book();
        }
    }

    fn look(&self, who: usize) -> Option<Reading> {
        let slot = CHAIN.slot_at(self.crystals[who].shows(self.now));
        let hit = self.book.find(&secret(who as u64).code(slot))?;
        self.keeper.reading(hit)
    }

    /// Once more, ten seconds later.
    fn hear(&mut self, who: usize) {
        let slot = CHAIN.slot_at(self.crystals[who].shows(self.now));
        let reading = Reading { device: DeviceId(who as u64), slot };
        self.visits.hearings += 1;
        if self.look(who) != Some(reading) {
            self.visits.gaps += 1;
            assert!(self.search(reading), "what the book has lost, the sweep finds");
        }
        self.learn(reading);
    }

    /// Whether the sweep finds it, and nobody else.
    fn search(&mut self, reading: Reading) -> bool {
        self.sweep.add(secret(reading.device.0).code(reading.slot), STATION, self.now);
        while self.sweep.due().is_some() {
            let keeper = &mut self.keeper;
            let swept = self.sweep.step(CHAIN, self.now, |after, count| keeper.dongles_after(after, count));
            if let Some(found) = swept.found.first() {
                assert_eq!(found.reading, reading);
                return true;
            }
        }
        false
    }
}
