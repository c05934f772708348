//! The key-encryption key is changed, cut off in the middle, and changed to the wrong one.

use super::*;

const DONGLES: u64 = 10;

fn root(device: u64) -> [u8; 32] {
    [device as u8; 32]
}

/// A folder with bound dongles, and the code that the first of them broadcasts.
async fn folder_with_dongles(config: &Config) -> TempDir {
    let folder = TempDir::new().unwrap();
    let registrations = Registrations::start(config.clone(), folder.path(), SLOT).unwrap();
    let row = |device: u64| format!("{device},hmac,{},AB{device:03}\n", hex::encode(root(device)));
    let csv = (1..=DONGLES).map(row).collect::<String>();
    assert_eq!(import(&registrations, format!("device_id,scheme,key_hex,plate\n{csv}")).await.accepted, DONGLES);
    registrations.stop();
    folder
}

fn given(byte: u8) -> NewKek {
    NewKek::Given(kek(byte))
}

fn kek(byte: u8) -> KekHex {
    KekHex::new(hex::encode([byte; 32]))
}

fn rotate(folder: &Path, settings: Option<&KekHex>, new: &NewKek) -> Result<Option<NextStep>, RotateError> {
    let Some(mut rotation) = Rotation::open(folder, settings, new)? else { return Ok(None) };
    while rotation.step(3)?.is_some() {}
    rotation.finish().map(Some)
}

/// Opens every dongle's keys.
async fn assert_all_open(config: Config, folder: &Path) {
    let registrations = Registrations::start(config, folder, SLOT).unwrap();
    let book = registrations.codebook();
    assert_eq!(book.len() as u64, DONGLES);
    for device in 1..=DONGLES {
        let code = Secret::from_root(&root(device)).code(SLOT.slot_at(telemetry::now()));
        assert_eq!(book.find(&code).map(|hit| hit.device), Some(DeviceId(device)));
        assert_eq!(registrations.proof_key(DeviceId(device)).await, Ok(Some(ProofKey::from_root(&root(device)))));
    }
    let again = format!("device_id,scheme,key_hex\n11,hmac,{}\n", hex::encode(root(1)));
    let report = import(&registrations, again).await;
    assert_eq!(report.refusals[0].reason, "the key is that of dongle 1", "marks outlive the key");
    registrations.stop();
}

#[tokio::test]
async fn every_key_is_under_the_new_one_and_the_old_one_is_refused() {
    let folder = folder_with_dongles(&config()).await;
    let file = folder.path().join(envelope::KEK_FILE);
    let old = std::fs::read_to_string(&file).unwrap();
    assert_eq!(rotate(folder.path(), None, &NewKek::Made).unwrap(), Some(NextStep::None));
    assert_ne!(std::fs::read_to_string(&file).unwrap(), old);
    assert_all_open(config(), folder.path()).await;
    let with_old = Config { kek_hex: Some(KekHex::new(old.trim())), ..config() };
    assert!(matches!(Registrations::start(with_old, folder.path(), SLOT), Err(StartError::WrongKek)));
    // And once more: the numbers of the keys go on.
    assert_eq!(rotate(folder.path(), None, &given(7)).unwrap(), Some(NextStep::None));
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), hex::encode([7; 32]));
    assert_all_open(config(), folder.path()).await;
}

#[tokio::test]
async fn a_rotation_that_was_killed_goes_on_where_it_was_whenever_that_was() {
    for batches in 0..=4 {
        let folder = folder_with_dongles(&config()).await;
        let mut rotation = Rotation::open(folder.path(), None, &given(7)).unwrap().unwrap();
        for _ in 0..batches {
            rotation.step(3).unwrap();
        }
        drop(rotation);
        let halfway = Registrations::start(config(), folder.path(), SLOT).err().map(|error| error.to_string());
        assert!(halfway.is_some_and(|error| error.contains("forecourt keys rotate")), "after {batches} batches");
        let other = Rotation::open(folder.path(), None, &given(8)).err();
        assert!(matches!(other, Some(RotateError::OtherNewKey)), "{other:?}");
        let rotation = Rotation::open(folder.path(), None, &given(7)).unwrap().unwrap();
        assert_eq!(rotation.extent().unwrap(), (DONGLES as usize, (3 * batches).min(DONGLES as usize)));
        drop(rotation);
        rotate(folder.path(), None, &given(7)).unwrap();
        assert_all_open(config(), folder.path()).await;
    }
}

#[tokio::test]
async fn a_rotation_that_was_killed_before_the_files_were_switched_is_ended_by_the_same_command() {
    let folder = folder_with_dongles(&config()).await;
    let file = folder.path().join(envelope::KEK_FILE);
    let old = std::fs::read_to_string(&file).unwrap();
    rotate(folder.path(), None, &NewKek::Made).unwrap();
    std::fs::rename(&file, folder.path().join("kek.next")).unwrap();
    std::fs::write(&file, old).unwrap();
    assert!(matches!(Registrations::start(config(), folder.path(), SLOT), Err(StartError::Rotating)));
    assert_eq!(rotate(folder.path(), None, &NewKek::Made).unwrap(), None);
    assert_all_open(config(), folder.path()).await;
}

#[tokio::test]
async fn a_key_of_the_settings_stays_with_them() {
    let with = |byte| Config { kek_hex: Some(kek(byte)), ..config() };
    let folder = folder_with_dongles(&with(5)).await;
    let wrong = rotate(folder.path(), Some(&kek(6)), &given(7)).err();
    assert!(matches!(wrong, Some(RotateError::Start(StartError::WrongKek))), "{wrong:?}");
    assert_eq!(rotate(folder.path(), Some(&kek(5)), &given(5)).unwrap(), None, "it is in force");
    assert_eq!(rotate(folder.path(), Some(&kek(5)), &given(7)).unwrap(), Some(NextStep::Set(None)));
    assert!(!folder.path().join(envelope::KEK_FILE).exists() && !folder.path().join("kek.next").exists());
    assert_all_open(with(7), folder.path()).await;
    let made = rotate(folder.path(), Some(&kek(7)), &NewKek::Made).unwrap();
    let file = folder.path().join("kek.next");
    assert_eq!(made, Some(NextStep::Set(Some(file.clone()))));
    let set = KekHex::new(std::fs::read_to_string(&file).unwrap().trim());
    rotate(folder.path(), Some(&set), &NewKek::Made).unwrap().expect("what is left of the last one is no new key");
    let set = KekHex::new(std::fs::read_to_string(&file).unwrap().trim());
    assert_all_open(Config { kek_hex: Some(set), ..config() }, folder.path()).await;
}

#[tokio::test]
async fn a_folder_without_a_key_has_none_to_rotate() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(rotate(folder.path(), None, &NewKek::Made), Err(RotateError::NoKey(_))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and none is made");
}
