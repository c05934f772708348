//! Learned clocks on their way to the store.

use std::fmt::Write as _;

use super::*;
use crate::engine::clock::ClockOffset;
use crate::registration::{
    clocks::UnsavedClocks,
    fleet::Fleet,
    truth::{Revision, Truth},
};

/// More than two commits take.
const DONGLES: u64 = 600;

fn bound_rows() -> String {
    let mut csv = "device_id,scheme,key_hex,plate,fuel\n".to_owned();
    for device in 1..=DONGLES {
        writeln!(csv, "{device},hmac,{device:064x},PL{device:06},diesel").unwrap();
    }
    csv
}

/// Each is heard by the code of the slot before, soon after that has ended.
fn hear_all(registrations: &Registrations) {
    let (slot, book) = (SLOT.slot_at(telemetry::now()), registrations.codebook());
    let late = SLOT.start_of(slot).plus(10_000);
    for device in 1..=DONGLES {
        let mut root = [0; 32];
        root[24..].copy_from_slice(&device.to_be_bytes());
        let hit = book.find(&Secret::from_root(&root).code(Slot(slot.0 - 1))).unwrap();
        registrations.heard(hit, late);
    }
}

fn saved(folder: &Path) -> i64 {
    let (db, _) = Truth::read_only(folder, None).unwrap();
    db.query_row("SELECT count(*) FROM devices WHERE clock_offset_s <> 0", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn clocks_that_were_learned_at_once_are_all_saved_when_it_is_time() {
    let folder = TempDir::new().unwrap();
    let config = Config { clock_save_seconds: 1, ..config() };
    let registrations = Registrations::start(config, folder.path(), SLOT).unwrap();
    import(&registrations, bound_rows()).await;
    book_of(&registrations, DONGLES as usize).await;
    hear_all(&registrations);
    while saved(folder.path()) < DONGLES as i64 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    registrations.stop();
}

#[tokio::test]
async fn clocks_that_were_learned_at_once_are_all_saved_at_the_end() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, bound_rows()).await;
    book_of(&registrations, DONGLES as usize).await;
    hear_all(&registrations);
    registrations.stop();
    assert_eq!(saved(folder.path()), DONGLES as i64);
}

#[tokio::test]
async fn a_dongle_that_is_read_again_keeps_the_clock_that_is_not_saved_yet() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, bound_row(PLATE)).await;
    registrations.stop();
    let (db, envelope) = Truth::read_only(folder.path(), None).unwrap();
    let mut unsaved = UnsavedClocks::default();
    unsaved.learn(DEVICE, ClockOffset(17));
    let clock = |fleet: &Fleet| fleet.keeper.dongles_after(None, 1)[0].offset;

    let mut fleet = Fleet::read(SLOT, &db, &envelope).unwrap();
    assert_eq!(clock(&fleet), ClockOffset(0));
    fleet.as_of.revision = Revision(0);
    assert!(fleet.catch_up(&db, &envelope, &unsaved).unwrap());
    assert_eq!(clock(&fleet), ClockOffset(17));
    assert!(!fleet.catch_up(&db, &envelope, &unsaved).unwrap(), "once for each change of the dongle");
}
