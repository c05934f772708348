use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;

use super::*;
use crate::engine::clock::ClockOffset;
use crate::engine::code::Secret;

const LENGTH: SlotLength = SlotLength::DEFAULT;
const NOW: UnixMs = UnixMs(1_800_000_123_456);

/// Who was found, and of which slot.
fn found(book: &Codebook, code: &Code) -> Option<(DeviceId, Phase)> {
    book.find(code).map(|hit| (hit.device, hit.phase))
}

fn secret(device: u64) -> Secret {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&device.to_be_bytes());
    Secret::from_root(&root)
}

fn book_of(devices: u64) -> Codebook {
    let mut builder = Builder::new(LENGTH, NOW, devices as usize);
    for device in 0..devices {
        builder.add(DeviceId(device), &secret(device), ClockOffset::default()).unwrap();
    }
    builder.finish(1)
}

#[test]
fn every_dongle_is_found_by_the_codes_of_three_slots_and_no_others() {
    let book = book_of(1_000);
    let now = LENGTH.slot_at(NOW);
    for device in 0..1_000 {
        for (shift, known) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let slot = Slot(now.0.saturating_add_signed(shift));
            let expected = known.then_some((DeviceId(device), Phase::of(slot)));
            assert_eq!(found(&book, &secret(device).code(slot)), expected);
        }
    }
}

#[test]
fn a_drifted_dongle_has_the_codes_of_its_own_clock() {
    let mut builder = Builder::new(LENGTH, NOW, 1);
    let hour_ahead = ClockOffset(3_600);
    builder.add(DeviceId(1), &secret(1), hour_ahead).unwrap();
    let slot = LENGTH.slot_at(hour_ahead.dongle_time(NOW));
    assert_eq!(found(&builder.finish(1), &secret(1).code(slot)), Some((DeviceId(1), Phase::of(slot))));
}

#[test]
fn the_second_dongle_with_a_code_is_refused_whole() {
    let mut builder = Builder::new(LENGTH, NOW, 2);
    let secret = Secret::Fixed { code: Code([1; 16]) };
    assert_eq!(builder.add(DeviceId(1), &secret, ClockOffset::default()), Ok(()));
    assert_eq!(builder.add(DeviceId(2), &secret, ClockOffset::default()), Err(AddError::Duplicate));
    let book = builder.finish(1);
    assert_eq!((book.len(), book.find(&Code([1; 16])).unwrap().device), (1, DeviceId(1)));
}

#[test]
fn no_more_dongles_go_in_than_were_announced() {
    let mut builder = Builder::new(LENGTH, NOW, 0);
    assert_eq!(builder.add(DeviceId(1), &secret(1), ClockOffset::default()), Err(AddError::Full));
}

/// The row of the second is before that of the first, which has the codes.
#[test]
fn who_has_a_code_keeps_it_over_rolls_whatever_the_order() {
    for scheme in 0..4 {
        let model: Model = (0..200).map(|device| (device, dongle_of(device, scheme, 0))).collect();
        let mut ids: Vec<u64> = model.keys().copied().collect();
        ids.sort_by_key(|id| model[id].device.0.cast_signed());
        let mut keeper = keeper_of(&model, NOW);
        // All of the first half want what the second half has.
        let (wanting, having) = ids.split_at(100);
        let wants = |nth: usize| Dongle { device: model[&wanting[nth]].device, ..model[&having[nth]].clone() };
        for nth in 0..100 {
            keeper.change(model[&wanting[nth]].device, Some(wants(nth)));
        }
        let has: Model = having.iter().map(|id| (*id, model[id].clone())).collect();
        let mut now = NOW;
        for _ in 0..4 {
            assert_eq!(keeper.left_out(), 100);
            check(&keeper.book(), &has, &Model::new(), now).unwrap();
            now = now.plus(LENGTH.ms());
            roll(&mut keeper, now);
        }
        for id in having {
            assert!(keeper.change(model[id].device, None));
        }
        now = now.plus(LENGTH.ms());
        roll(&mut keeper, now);
        let has: Model = (0..100).map(|nth| (wanting[nth], wants(nth))).collect();
        check(&keeper.book(), &has, &Model::new(), now).unwrap();
    }
}

/// The phases of its codes would be taken for those of the moment long before that the old table is of.
#[test]
fn who_comes_while_a_clock_was_set_teaches_nothing_wrong() {
    let mut keeper = keeper_of(&Model::new(), NOW);
    let now = NOW.plus(1_003 * LENGTH.ms());
    keeper.begin_roll(now);
    let dongle = dongle_of(7, 3, 0);
    keeper.change(dongle.device, Some(dongle.clone()));
    let slot = LENGTH.slot_at(now);
    assert_eq!(keeper.book().find(&dongle.secret.code(slot)), None);
    while keeper.step() {}
    let hit = keeper.book().find(&dongle.secret.code(slot)).unwrap();
    assert_eq!(keeper.reading(hit), Some(Reading { device: dongle.device, slot }));
}

/// Its row is behind those that the roll goes through, and its codes come into a table that is still being cleared.
#[test]
fn who_comes_at_the_very_start_of_a_roll_is_there_when_it_is_over() {
    let mut keeper = keeper_of(&Model::new(), NOW);
    let now = NOW.plus(LENGTH.ms());
    keeper.begin_roll(now);
    let model = Model::from([(24, dongle_of(24, 3, 0))]);
    keeper.change(model[&24].device, Some(model[&24].clone()));
    while keeper.step() {}
    check_present(&keeper.book(), &model, now).unwrap();
}

/// Of a code that goes on to a part of the table that is cleared already, the marks were taken away where the clearing comes
/// later, and nobody would find it any more to take it out.
#[test]
fn what_changes_while_a_roll_clears_is_gone_when_it_goes() {
    let (now, slot) = (NOW.plus(LENGTH.ms()), LENGTH.slot_at(NOW));
    let mut keeper = keeper_of(&Model::new(), NOW);
    let coming = |device: u64| dongle_of(device, 3, 0).secret.code(Slot(slot.0 + 2));
    let four_of = |keeper: &Keeper, code: &Code, nth: usize| keeper.table().way_of(code).nth(4 * nth).unwrap() / 4;
    let last = keeper.table().lines() / 4;
    let is_suited = |device: &u64| {
        four_of(&keeper, &coming(*device), 0) > last / 2 && four_of(&keeper, &coming(*device), 1) < 1_000
    };
    let device = (0..10_000).find(is_suited).unwrap();
    let full = four_of(&keeper, &coming(device), 0);
    let fills = |code: &Code| four_of(&keeper, code, 0) == full;
    let codes = (1..).map(|nth: u128| Code(nth.wrapping_mul(0x9E37_79B9_7F4A_7C15_C2B2_AE3D_27D4_EB4F).to_le_bytes()));
    let fillers: Vec<Dongle> = (1..17)
        .zip(codes.filter(fills))
        .map(|(nth, code)| Dongle { device: DeviceId(nth), secret: Secret::Fixed { code }, offset: ClockOffset(0) })
        .collect();
    for filler in &fillers {
        assert!(keeper.change(filler.device, Some(filler.clone())));
    }
    keeper.begin_roll(now);
    keeper.step();
    let dongle = dongle_of(device, 3, 0);
    keeper.change(dongle.device, Some(dongle.clone()));
    while keeper.is_preparing() {
        keeper.step();
    }
    keeper.change(fillers[0].device, None);
    while keeper.step() {}
    assert!(keeper.book().find(&coming(device)).is_some());
    keeper.change(dongle.device, None);
    assert!(!keeper.table().has(dongle.device));
}

#[test]
fn what_waits_to_be_put_in_changes_with_its_dongle() {
    let mut model: Model = (0..6).map(|device| (device, dongle_of(device, 3, 0))).collect();
    let old = model.clone();
    let mut keeper = keeper_of(&model, NOW);
    let now = NOW.plus(LENGTH.ms());
    keeper.begin_roll(now);
    while keeper.is_preparing() {
        keeper.step();
    }
    assert!(keeper.step(), "all codes are computed, and wait");
    assert!(keeper.book().find(&old[&0].secret.code(Slot(LENGTH.slot_at(now).0 + 1))).is_none());
    keeper.change(old[&1].device, None);
    model.remove(&1);
    let other_key = Dongle { device: old[&2].device, ..dongle_of(12, 3, 0) };
    keeper.change(other_key.device, Some(other_key.clone()));
    model.insert(2, other_key);
    hear(&mut keeper, &mut model, 3, 1, now);
    hear(&mut keeper, &mut model, 4, -1, now);
    while keeper.step() {}
    let strangers = [1, 2].map(|device| (device, old[&device].clone())).into();
    check(&keeper.book(), &model, &strangers, now).unwrap();
    // What has the number of another slot than its own would go with that one, or stay when its own goes.
    let now = now.plus(LENGTH.ms());
    roll(&mut keeper, now);
    check(&keeper.book(), &model, &strangers, now).unwrap();
}

/// Dongles with all schemes and clocks: what the keeper is to know.
type Model = BTreeMap<u64, Dongle>;

fn roster_of(model: &Model) -> Roster {
    let mut dongles: Vec<&Dongle> = model.values().collect();
    dongles.sort_by_key(|dongle| dongle.device.0.cast_signed());
    let mut roster = RosterBuilder::new(dongles.len());
    for dongle in dongles {
        roster.push(dongle);
    }
    roster.finish()
}

fn keeper_of(model: &Model, now: UnixMs) -> Keeper {
    let mut keeper = Keeper::new(LENGTH, roster_of(model));
    roll(&mut keeper, now);
    keeper
}

fn roll(keeper: &mut Keeper, now: UnixMs) {
    keeper.begin_roll(now);
    while keeper.step() {}
}

/// The code of each slot around now, and whose it is, by the definition.
fn expected(model: &Model, now: UnixMs) -> Vec<(Code, (DeviceId, Phase))> {
    let at = LENGTH.start_of(LENGTH.slot_at(now)).plus(LENGTH.ms() / 2);
    let of = |dongle: &Dongle| {
        let middle = dongle.secret.slot_at(LENGTH, dongle.offset.dongle_time(at)).0;
        let is_fixed = matches!(dongle.secret, Secret::Fixed { .. });
        let slots = if is_fixed { 0..=0 } else { middle.saturating_sub(1)..=middle + 1 };
        let (device, secret) = (dongle.device, dongle.secret.clone());
        slots.map(move |slot| (secret.code(Slot(slot)), (device, Phase::of(Slot(slot)))))
    };
    model.values().flat_map(of).collect()
}

/// The book knows every dongle by its codes, and the dongles that it does not know by none of theirs.
fn check(book: &Codebook, model: &Model, strangers: &Model, now: UnixMs) -> Result<(), TestCaseError> {
    let known = expected(model, now);
    let unknown = expected(strangers, now);
    prop_assert_eq!(book.len(), model.len());
    let asked: Vec<Code> = known.iter().chain(&unknown).map(|(code, _)| *code).collect();
    let answers: Vec<Option<(DeviceId, Phase)>> =
        known.iter().map(|(_, hit)| Some(*hit)).chain(unknown.iter().map(|_| None)).collect();
    for (code, answer) in asked.iter().zip(&answers) {
        prop_assert_eq!(found(book, code), *answer);
    }
    let mut told = Vec::new();
    book.find_all(&asked, |nth, hit| told.push((nth, hit.map(|hit| (hit.device, hit.phase)))));
    told.sort_by_key(|(nth, _)| *nth);
    prop_assert_eq!(told, answers.into_iter().enumerate().collect::<Vec<_>>());
    Ok(())
}

/// Each dongle is found by the code that it shows, however far a roll is. An EID may be shorter than a slot.
fn check_present(book: &Codebook, model: &Model, now: UnixMs) -> Result<(), TestCaseError> {
    let at = LENGTH.start_of(LENGTH.slot_at(now)).plus(LENGTH.ms() / 2);
    for dongle in model.values().filter(|dongle| matches!(dongle.secret, Secret::Hmac { .. })) {
        let slot = dongle.secret.slot_at(LENGTH, dongle.offset.dongle_time(at));
        prop_assert_eq!(found(book, &dongle.secret.code(slot)), Some((dongle.device, Phase::of(slot))));
    }
    Ok(())
}

fn dongle_of(device: u64, scheme: u8, offset: i32) -> Dongle {
    let Secret::Hmac { code_key } = secret(device * 7 + u64::from(scheme)) else { unreachable!("made from a root") };
    let half: [u8; 16] = code_key[..16].try_into().unwrap();
    let secret = match scheme {
        0 => Secret::EddystoneEid { identity_key: half, exponent: 10 },
        1 => Secret::Fixed { code: Code(half) },
        2 => Secret::EddystoneEid { identity_key: half, exponent: 7 },
        _ => Secret::Hmac { code_key },
    };
    // Ids on both sides of the middle, where the store's order has its seam.
    Dongle { device: DeviceId(device.wrapping_mul(0x9E37_79B9_7F4A_7C15)), secret, offset: ClockOffset(offset) }
}

#[derive(Debug, Clone)]
enum Event {
    Come(u64, u8, i32),
    Go(u64),
    /// Heard in a slot that is so many from the one where it is believed to be.
    Hear(u64, i64),
    Roll,
    /// A roll, and what comes in between some of its steps.
    Begin,
    Steps(u8),
    /// All dongles are read anew.
    Replace,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..40_u64, 0..6_u8, -900..900).prop_map(|(device, scheme, offset)| Event::Come(device, scheme, offset)),
        3 => (0..40_u64).prop_map(Event::Go),
        3 => (0..40_u64, -5..6_i64).prop_map(|(device, slots)| Event::Hear(device, slots)),
        2 => Just(Event::Roll),
        2 => Just(Event::Begin),
        3 => (1..45_u8).prop_map(Event::Steps),
        1 => Just(Event::Replace),
    ];
    prop::collection::vec(event, 1..40)
}

proptest! {
    #[test]
    fn a_random_code_belongs_to_nobody(code: [u8; 16]) {
        prop_assert_eq!(book_of(20).find(&Code(code)), None);
        prop_assert_eq!(Codebook::empty().find(&Code(code)), None);
    }

    #[test]
    fn after_any_rolls_and_changes_a_book_is_as_if_built_from_nothing(events in events()) {
        let all: Model = (0..40).map(|device| (device, dongle_of(device, 3, 0))).collect();
        let (mut now, mut model) = (NOW, Model::new());
        let mut keeper = keeper_of(&model, now);
        for event in events {
            match event {
                Event::Come(device, scheme, offset) => {
                    let dongle = dongle_of(device, scheme, offset);
                    keeper.change(dongle.device, Some(dongle.clone()));
                    model.insert(device, dongle);
                }
                Event::Go(device) => {
                    keeper.change(all[&device].device, None);
                    model.remove(&device);
                }
                Event::Hear(device, slots) => hear(&mut keeper, &mut model, device, slots, now),
                Event::Roll => {
                    now = now.plus(LENGTH.ms());
                    roll(&mut keeper, now);
                }
                Event::Begin => {
                    now = now.plus(LENGTH.ms());
                    keeper.begin_roll(now);
                }
                Event::Steps(count) => {
                    for _ in 0..count {
                        keeper.step();
                    }
                }
                Event::Replace => keeper.replace(roster_of(&model)),
            }
            // What is gone is unknown at once, and nothing waits for the roll to be over.
            let book = keeper.book();
            let gone = all.iter().filter(|(device, _)| !model.contains_key(device));
            for (code, _) in gone.flat_map(|(_, dongle)| expected(&[(0, dongle.clone())].into(), now)) {
                prop_assert_eq!(book.find(&code), None);
            }
            if !keeper.wants_roll() {
                check_present(&book, &model, now)?;
            }
        }
        roll(&mut keeper, now);
        let strangers = all.into_iter().filter(|(device, _)| !model.contains_key(device)).collect();
        check(&keeper.book(), &model, &strangers, now)?;
        let kept: Vec<Dongle> = std::iter::successors(Some(keeper.dongles_after(None, 3)), |last| {
            last.last().map(|dongle| keeper.dongles_after(Some(dongle.device), 3))
        }).flatten().collect();
        let mut wanted: Vec<Dongle> = model.into_values().collect();
        wanted.sort_by_key(|dongle| dongle.device.0.cast_signed());
        prop_assert_eq!(kept, wanted);
    }

    #[test]
    fn changes_between_rolls_are_in_the_next_book_as_a_roll_would_have_them(
        before in prop::collection::btree_map(0..40_u64, (0..6_u8, -900_000..900_000), 0..30),
        changes in prop::collection::vec((0..40_u64, prop::option::of((0..6_u8, -90_000_000..90_000_000))), 0..30),
    ) {
        let mut model: Model =
            before.into_iter().map(|(device, (scheme, offset))| (device, dongle_of(device, scheme, offset))).collect();
        let mut keeper = keeper_of(&model, NOW);
        for (device, change) in changes {
            let dongle = change.map(|(scheme, offset)| dongle_of(device, scheme, offset));
            keeper.change(dongle_of(device, 3, 0).device, dongle.clone());
            model.remove(&device);
            model.extend(dongle.map(|dongle| (device, dongle)));
        }
        let strangers = (0..40).filter(|device| !model.contains_key(device)).map(|device| (device, dongle_of(device, 3, 0)));
        check(&keeper.book(), &model, &strangers.collect(), NOW)?;
    }
}

fn hear(keeper: &mut Keeper, model: &mut Model, device: u64, slots: i64, now: UnixMs) {
    let Some(dongle) = model.get_mut(&device) else { return };
    let middle = dongle.secret.slot_at(LENGTH, dongle.offset.dongle_time(now));
    let slot = Slot(middle.0.saturating_add_signed(slots));
    let learned = keeper.learn(Reading { device: dongle.device, slot }, now);
    if let Some(learned) = learned {
        dongle.offset = learned.offset;
    }
    assert!(!matches!(dongle.secret, Secret::Fixed { .. }) || learned.is_none());
}

#[test]
fn a_clock_that_was_caught_up_is_in_the_next_book() {
    let mut keeper = keeper_of(&(0..5).map(|device| (device, dongle_of(device, 3, 0))).collect(), NOW);
    let dongle = dongle_of(2, 3, 0);
    let slot = Slot(LENGTH.slot_at(NOW).0 - 500);
    let learned = keeper.learn(Reading { device: dongle.device, slot }, NOW).unwrap();
    assert!(learned.is_moved);
    let hit = keeper.book().find(&dongle.secret.code(slot)).unwrap();
    assert_eq!(keeper.reading(hit), Some(Reading { device: dongle.device, slot }));
}

#[test]
fn what_was_found_says_the_same_up_to_two_rolls_later() {
    let mut keeper = keeper_of(&(0..5).map(|device| (device, dongle_of(device, 3, 0))).collect(), NOW);
    let (dongle, middle) = (dongle_of(2, 3, 0), LENGTH.slot_at(NOW));
    let slots = [middle.0 - 1, middle.0, middle.0 + 1].map(Slot);
    let hits = slots.map(|slot| keeper.book().find(&dongle.secret.code(slot)).unwrap());
    let readings = slots.map(|slot| Some(Reading { device: dongle.device, slot }));
    for rolls in 1..=2 {
        keeper.begin_roll(NOW.plus(rolls * LENGTH.ms()));
        assert_eq!(hits.map(|hit| keeper.reading(hit)), readings, "in roll {rolls}");
        while keeper.step() {}
        assert_eq!(hits.map(|hit| keeper.reading(hit)), readings, "after roll {rolls}");
    }
}

#[test]
fn what_was_found_in_a_table_that_is_no_more_says_nothing() {
    let mut keeper = keeper_of(&(0..5).map(|device| (device, dongle_of(device, 3, 0))).collect(), NOW);
    let (dongle, slot) = (dongle_of(2, 3, 0), LENGTH.slot_at(NOW));
    let hit = keeper.book().find(&dongle.secret.code(slot)).unwrap();
    keeper.begin_roll(NOW.plus(1_003 * LENGTH.ms()));
    let reading = Some(Reading { device: dongle.device, slot });
    assert_eq!(keeper.reading(hit), reading, "readers have the table while another one is made");
    while keeper.step() {}
    assert_eq!(keeper.reading(hit), None);
}

#[test]
fn a_change_during_a_roll_waits_for_nothing() {
    let model: Model = (0..500).map(|device| (device, dongle_of(device, 3, 0))).collect();
    let mut keeper = keeper_of(&model, NOW);
    let next = NOW.plus(LENGTH.ms());
    keeper.change(model[&1].device, None);
    keeper.begin_roll(next);
    keeper.step();
    keeper.change(model[&2].device, None);
    let book = keeper.book();
    let code = |device: u64| model[&device].secret.code(LENGTH.slot_at(next));
    assert_eq!([1, 2, 3].map(|device| book.find(&code(device)).is_some()), [false, false, true]);
    while keeper.step() {}
    let book = keeper.book();
    assert_eq!([1, 2, 3].map(|device| book.find(&code(device)).is_some()), [false, false, true]);
    assert_eq!(book.len(), 498);
}

#[test]
fn a_hearing_at_the_start_of_a_roll_teaches_by_what_the_dongle_is_now() {
    let mut keeper = keeper_of(&(0..5).map(|device| (device, dongle_of(device, 3, 0))).collect(), NOW);
    let is_fixed = dongle_of(2, 1, 0);
    keeper.change(is_fixed.device, Some(is_fixed.clone()));
    keeper.begin_roll(NOW);
    let slot = Slot(LENGTH.slot_at(NOW).0 + 1);
    assert_eq!(
        keeper.learn(Reading { device: is_fixed.device, slot }, NOW),
        None,
        "a fixed code says nothing of a clock"
    );
}

#[test]
fn of_two_dongles_with_one_code_the_first_is_in_the_book_and_the_other_comes_when_it_goes() {
    let same = |device| Dongle { secret: Secret::Fixed { code: Code([5; 16]) }, ..dongle_of(device, 3, 0) };
    let mut model: Model = (0..3_000).map(|device| (device, dongle_of(device, 3, 0))).collect();
    model.extend([(10, same(10)), (20, same(20))]);
    let first = [10, 20].into_iter().min_by_key(|device| same(*device).device.0.cast_signed()).unwrap();
    let other = if first == 10 { 20 } else { 10 };
    let mut keeper = keeper_of(&model, NOW);
    let book = keeper.book();
    assert_eq!((book.len(), book.left_out()), (2_999, 1));
    assert_eq!(book.find(&Code([5; 16])).unwrap().device, same(first).device);
    keeper.change(same(first).device, None);
    roll(&mut keeper, NOW);
    assert_eq!(keeper.book().find(&Code([5; 16])).unwrap().device, same(other).device);
}

#[test]
fn a_roster_in_place_of_the_last_one_is_due_a_roll_and_keeps_nothing_of_it() {
    let of = |range: std::ops::Range<u64>, scheme| range.map(|device| (device, dongle_of(device, scheme, 0))).collect();
    let (before, after): (Model, Model) = (of(0..50, 3), of(25..75, 4));
    let mut keeper = keeper_of(&before, NOW);
    let generation = keeper.book().generation();
    assert!(!keeper.wants_roll());
    keeper.replace(roster_of(&after));
    assert!(keeper.wants_roll());
    roll(&mut keeper, NOW);
    let book = keeper.book();
    assert!(!keeper.wants_roll() && book.generation() > generation);
    check(&book, &after, &before, NOW).unwrap();
}

#[test]
fn shares_of_a_roll_come_to_what_its_steps_do() {
    let model: Model = (0..20_000).map(|device| (device, dongle_of(device, 3, device as i32 * 100))).collect();
    let mut keeper = Keeper::new(LENGTH, roster_of(&model));
    keeper.begin_roll(NOW);
    let (shares, mut sink) = keeper.shares(3).unwrap();
    for share in shares {
        share.compute(|codes| sink.take(&codes));
    }
    while keeper.step() {}
    check(&keeper.book(), &model, &Model::new(), NOW).unwrap();
}

#[test]
fn a_dongle_costs_at_most_120_bytes_with_its_key_and_200_while_a_table_is_made() {
    let dongles = 200_000;
    let mut roster = RosterBuilder::new(dongles);
    for device in 0..dongles as u64 {
        let secret = Secret::Hmac { code_key: [device.to_be_bytes(); 4].as_flattened().try_into().unwrap() };
        roster.push(&Dongle { device: DeviceId(device), secret, offset: ClockOffset::default() });
    }
    let mut keeper = Keeper::new(LENGTH, roster.finish());
    roll(&mut keeper, NOW);
    let book = keeper.book();
    assert!(keeper.bytes() <= 120 * dongles, "{} bytes of {}", keeper.bytes(), dongles);
    assert_eq!(book.len(), dongles);
    keeper.begin_roll(NOW.plus(LENGTH.ms()));
    assert!(keeper.bytes() <= 120 * dongles, "{} bytes of {} in a roll", keeper.bytes(), dongles);
    // A roll that follows none makes another.
    keeper.begin_roll(NOW.plus(5 * LENGTH.ms()));
    assert!(keeper.bytes() <= 200 * dongles, "{} bytes of {} with two tables", keeper.bytes(), dongles);
}

/// Where one code in ten lies elsewhere than in its own line.
#[test]
fn a_full_table_neither_loses_nor_keeps_a_code_over_rolls_and_changes() {
    let dongles = 66_000;
    let mut model: Model = (0..dongles).map(|device| (device, dongle_of(device, 3, 0))).collect();
    let mut keeper = keeper_of(&model, NOW);
    let (mut now, mut device) = (NOW, 0);
    for _ in 0..4 {
        now = now.plus(LENGTH.ms());
        keeper.begin_roll(now);
        while keeper.step() {
            // Others come, and some go on by another clock or scheme.
            device = (device + 7_919) % dongles;
            let changed = dongle_of(device, (device % 6) as u8, device as i32 % 900);
            keeper.change(changed.device, None);
            keeper.change(changed.device, Some(changed.clone()));
            model.insert(device, changed);
        }
    }
    check(&keeper.book(), &model, &Model::new(), now).unwrap();
    let over: Vec<(Code, _)> = expected(&model, now.minus(3 * LENGTH.ms()));
    let known: HashSet<[u8; 16]> = expected(&model, now).into_iter().map(|(code, _)| code.0).collect();
    let book = keeper.book();
    assert!(over.iter().all(|(code, _)| known.contains(&code.0) || book.find(code).is_none()));
}

/// Slots that the table goes through while others read it.
const SLOTS: u64 = 24;

/// Dongles that stay, and dongles that go and come again all the time.
const STAYING: u64 = 400;
const FICKLE: u64 = 40;

/// What readers and the writer of the test share.
struct Stage {
    book: Mutex<Codebook>,
    /// The slot that it is.
    slot: AtomicU64,
    /// Of each fickle dongle: odd from when it is gone until before it comes again.
    gone: Vec<AtomicU64>,
    is_over: AtomicBool,
    /// Of each dongle, from the slot of [`NOW`] on.
    codes: Vec<Vec<Code>>,
}

impl Stage {
    fn code(&self, device: u64, slot: u64) -> &Code {
        &self.codes[device as usize][(slot - LENGTH.slot_at(NOW).0) as usize]
    }

    /// Reads until it is over, and answers how many look-ups it made.
    fn read(&self, find: impl Fn(&Codebook, &Code) -> Option<Hit>) -> u64 {
        let mut count = 0;
        while !self.is_over.load(Acquire) {
            for device in (0..STAYING + FICKLE).map(|nth| nth * 7 % (STAYING + FICKLE)) {
                let slot = self.slot.load(Acquire);
                let fickle = device.checked_sub(STAYING).map(|nth| &self.gone[nth as usize]);
                let before = fickle.map(|gone| gone.load(Acquire));
                // As a station does it: the book of now, and after the time was read.
                let book = self.book.lock().unwrap().clone();
                let hit = find(&book, self.code(device, slot)).map(|hit| (hit.device, hit.phase));
                let is_same = fickle.map(|gone| gone.load(Acquire)) == before && self.slot.load(Acquire) == slot;
                let answer = (DeviceId(device), Phase::of(Slot(slot)));
                match before {
                    None => assert!(hit == Some(answer) || !is_same, "{device} was not found in slot {slot}: {hit:?}"),
                    Some(gone) if is_same && gone % 2 == 1 => assert_eq!(hit, None, "{device} is gone"),
                    Some(_) => assert!(hit.is_none_or(|hit| hit == answer), "{hit:?} is not {answer:?}"),
                }
                count += 1;
            }
        }
        count
    }

    /// Rolls from slot to slot; dongles go and come between the steps, and so many come that the table has to grow.
    /// Answers how many there are in the end.
    fn write(&self, keeper: &mut Keeper) -> u64 {
        let mut newcomers = STAYING + FICKLE..;
        for nth in 1..SLOTS {
            let now = NOW.plus(LENGTH.ms() * nth);
            self.slot.store(LENGTH.slot_at(now).0, Release);
            keeper.begin_roll(now);
            let mut goes_on = true;
            while goes_on {
                for (device, gone) in (STAYING..).zip(&self.gone) {
                    keeper.change(DeviceId(device), None);
                    gone.fetch_add(1, Release);
                    let newcomer = newcomers.next().unwrap();
                    keeper.change(DeviceId(newcomer), Some(dongle_with(newcomer)));
                    gone.fetch_add(1, Release);
                    keeper.change(DeviceId(device), Some(dongle_with(device)));
                }
                goes_on = keeper.step();
            }
            *self.book.lock().unwrap() = keeper.book();
        }
        newcomers.start
    }
}

fn dongle_with(device: u64) -> Dongle {
    Dongle { device: DeviceId(device), secret: secret(device), offset: ClockOffset::default() }
}

#[test]
fn readers_beside_the_writer_find_who_is_there_never_who_is_gone_and_nobody_else() {
    let first = LENGTH.slot_at(NOW).0;
    let codes_of = |device| (first..first + SLOTS).map(|slot| secret(device).code(Slot(slot))).collect();
    let model: Model = (0..STAYING + FICKLE).map(|device| (device, dongle_with(device))).collect();
    let mut keeper = keeper_of(&model, NOW);
    let stage = Stage {
        book: Mutex::new(keeper.book()),
        slot: AtomicU64::new(first),
        gone: (0..FICKLE).map(|_| AtomicU64::new(0)).collect(),
        is_over: AtomicBool::new(false),
        codes: (0..STAYING + FICKLE).map(codes_of).collect(),
    };
    std::thread::scope(|scope| {
        let one = scope.spawn(|| stage.read(Codebook::find));
        let many = scope.spawn(|| {
            stage.read(|book, code| {
                let mut found = None;
                book.find_all(&[*code], |_, hit| found = hit);
                found
            })
        });
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.write(&mut keeper)));
        stage.is_over.store(true, Release);
        assert_eq!(keeper.len() as u64, written.unwrap());
        for reader in [one, many] {
            assert!(reader.join().unwrap() > STAYING);
        }
    });
}

#[test]
fn a_thousand_rolls_and_their_changes_leave_a_table_as_it_was() {
    let mut keeper = keeper_of(&(0..60).map(|device| (device, dongle_with(device))).collect(), NOW);
    let bytes = keeper.bytes();
    let mut now = NOW;
    for nth in 0..1_000 {
        now = now.plus(LENGTH.ms());
        keeper.change(DeviceId(nth % 60), None);
        roll(&mut keeper, now);
        for _ in 0..3 {
            keeper.change(DeviceId(nth % 60), Some(dongle_with(nth % 60)));
            keeper.change(DeviceId(nth % 60), None);
        }
        keeper.change(DeviceId(nth % 60), Some(dongle_with(nth % 60)));
    }
    assert_eq!((keeper.bytes(), keeper.len()), (bytes, 60));
}
