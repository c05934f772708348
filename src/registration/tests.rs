//! The stage as its callers see it: a store in a folder, a simulated dongle and an Ed25519 phone.

use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use tempfile::TempDir;

use super::*;
use crate::engine::code::Secret;
use crate::engine::codebook::Codebook;
use crate::engine::id::{BindingId, CouplingId, DeviceId, StationId};
use crate::engine::proof::{ClockTerms, CoupleTerms, PresenceTerms, ProofKey, Terms};
use crate::engine::time::{Slot, SlotLength};
use crate::telemetry;

mod changes;
mod clocks;
mod eid;
mod rotation;

const FOLDER: Role = Role::Operator(OperatorName::FOLDER);
const OWNER: Who = Who::Operator(OperatorName::FOLDER);
const DEVICE: DeviceId = DeviceId(7);
const ROOT: [u8; 32] = [0x5a; 32];
const SLOT: SlotLength = SlotLength::DEFAULT;
const PLATE: &str = "12\u{ac00}3456";

/// The defaults as they are shipped, but that changes gather for no longer than a test wants to wait.
fn config() -> Config {
    let defaults: toml::Table = toml::from_str(include_str!("../default.toml")).unwrap();
    let config: Config = defaults["registration"].clone().try_into().unwrap();
    Config { rebuild_delay_ms: 0, ..config }
}

fn start(folder: &Path) -> Registrations {
    Registrations::start(config(), folder, SLOT).unwrap()
}

async fn import(registrations: &Registrations, csv: String) -> ImportReport {
    registrations.import_devices(std::io::Cursor::new(csv), |_| {}).await.unwrap()
}

/// A dongle that waits to be coupled under the activation code `label`.
fn unbound_row() -> String {
    format!("device_id,scheme,key_hex,activation_code\n7,hmac,{},label\n", hex::encode(ROOT))
}

fn bound_row(plate: &str) -> String {
    format!(
        "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means\n\
         7,hmac,{},,{plate},diesel,{},tok_a;tok_b\n",
        hex::encode(ROOT),
        hex::encode(Phone::new().public())
    )
}

struct Phone(SigningKey);

impl Phone {
    fn new() -> Phone {
        Phone(SigningKey::from_bytes(&[3; 32]))
    }

    fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn claim(&self, code: &str, plate: &str) -> Claim {
        Claim {
            activation_code: code.into(),
            phone_key: self.public(),
            plate: plate.into(),
            fuel: Some("diesel".into()),
            means: vec!["tok_a".into(), "tok_b".into()],
            signature: self.sign(&claim_message(code, &self.public(), plate)),
        }
    }

    fn answer(&self, claimed: &Claimed, dongle: &ProofKey) -> CouplingProof {
        let terms = CoupleTerms { nonce: claimed.nonce, device: claimed.device, phone_key: self.public() };
        let (mac, signature) = self.prove(&terms, dongle);
        CouplingProof { coupling: claimed.coupling, mac, signature }
    }

    fn prove(&self, terms: &impl Terms, dongle: &ProofKey) -> ([u8; 32], [u8; 64]) {
        let mac = terms.mac(dongle);
        (mac, self.sign(&terms.phone_message(&mac)))
    }
}

fn dongle() -> ProofKey {
    ProofKey::from_root(&ROOT)
}

fn kim(reason: &str) -> Mandate {
    Mandate::operator(OperatorName::parse("kim").unwrap(), reason).unwrap()
}

async fn amend(registrations: &Registrations, binding: BindingId, amendment: Amendment) -> Result<Summary, Error> {
    registrations.amend(binding, amendment, kim("a test"), None).await
}

async fn couple(registrations: &Registrations) -> Coupled {
    import(registrations, unbound_row()).await;
    let phone = Phone::new();
    let claimed = registrations.claim(phone.claim("label", PLATE)).await.unwrap();
    registrations.prove(phone.answer(&claimed, &dongle())).await.unwrap()
}

/// The codebook once it knows `dongles` dongles. The roller works on a thread of its own.
async fn book_of(registrations: &Registrations, dongles: usize) -> std::sync::Arc<Codebook> {
    loop {
        let book = registrations.codebook();
        if book.len() == dongles {
            return book;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

fn code_now() -> crate::engine::code::Code {
    Secret::from_root(&ROOT).code(SLOT.slot_at(telemetry::now()))
}

#[tokio::test]
async fn a_coupled_dongle_is_found_by_its_code_and_its_phone_by_its_token() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let coupled = couple(&registrations).await;

    let hit = book_of(&registrations, 1).await.find(&code_now()).unwrap();
    let found = registrations.cached(hit.device).unwrap();
    assert_eq!(found, coupled.registration);
    assert_eq!((found.plate.as_str(), found.epoch, found.provable), (PLATE, 1, true));
    assert_eq!(found.means, ["tok_a", "tok_b"]);
    assert_eq!(registrations.resolve(coupled.token.reveal()).await, Ok(Some(Role::Phone(found.binding))));
    assert_eq!(registrations.proof_key(DEVICE).await, Ok(Some(dongle())));
    assert!(registrations.claim(Phone::new().claim("label", "AB123")).await == Err(Error::AlreadyBound));
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let stations = "station_id,name,brand,lat,lon,pumps\n5,North,Brand,37.5,127.0,8\n";
    registrations.import_stations(stations.as_bytes(), |_| {}).await.unwrap();
    let coupled = couple(&registrations).await;
    let terminal = registrations.issue(Role::Terminal(StationId(5)), None, OWNER).await.unwrap();
    registrations.stop();
    drop(registrations);

    let registrations = start(folder.path());
    assert!(registrations.codebook().find(&code_now()).is_some(), "the first codebook is there at the start");
    assert_eq!(registrations.find(DEVICE).await, Ok(Some(coupled.registration.clone())));
    assert_eq!(registrations.station(StationId(5)).unwrap().pumps, 8);
    assert!(registrations.station_known(StationId(5)) && !registrations.station_known(StationId(6)));
    assert_eq!(registrations.resolve(terminal.reveal()).await, Ok(Some(Role::Terminal(StationId(5)))));
    assert!(registrations.resolve(coupled.token.reveal()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_proof_is_taken_once() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, unbound_row()).await;
    let phone = Phone::new();
    let claimed = registrations.claim(phone.claim("label", PLATE)).await.unwrap();
    let proof = phone.answer(&claimed, &dongle());
    let coupled = registrations.prove(proof.clone()).await.unwrap();
    assert_eq!(registrations.prove(proof.clone()).await.unwrap_err(), Error::UnknownCoupling);
    amend(&registrations, coupled.registration.binding, Amendment::revoke(Cause::Ended)).await.unwrap();
    assert_eq!(
        registrations.prove(proof).await.unwrap_err(),
        Error::UnknownCoupling,
        "free again, but the nonce is used"
    );
}

#[tokio::test]
async fn three_wrong_proofs_end_a_claim() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, unbound_row()).await;
    let phone = Phone::new();
    let claimed = registrations.claim(phone.claim("label", PLATE)).await.unwrap();
    let right = phone.answer(&claimed, &dongle());
    let stranger = phone.answer(&claimed, &ProofKey::new([1; 32]));
    let unsigned = CouplingProof { signature: [0; 64], ..right.clone() };
    assert_eq!(registrations.prove(stranger.clone()).await.unwrap_err(), Error::BadProof);
    assert_eq!(registrations.prove(unsigned).await.unwrap_err(), Error::BadSignature);
    assert_eq!(registrations.prove(stranger).await.unwrap_err(), Error::BadProof);
    assert_eq!(registrations.prove(right).await.unwrap_err(), Error::UnknownCoupling);
}

#[tokio::test]
async fn a_newer_claim_takes_the_place_of_the_open_one() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, unbound_row()).await;
    let phone = Phone::new();
    let first = registrations.claim(phone.claim("label", PLATE)).await.unwrap();
    let second = registrations.claim(phone.claim("label", PLATE)).await.unwrap();
    assert_eq!(registrations.prove(phone.answer(&first, &dongle())).await.unwrap_err(), Error::UnknownCoupling);
    assert!(registrations.prove(phone.answer(&second, &dongle())).await.is_ok());
}

#[tokio::test]
async fn a_claim_is_refused_for_its_reason() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, unbound_row()).await;
    let phone = Phone::new();
    let refusal = async |claim| registrations.claim(claim).await.unwrap_err();
    assert_eq!(refusal(phone.claim("other", PLATE)).await, Error::UnknownActivation);
    assert_eq!(refusal(Claim { signature: [0; 64], ..phone.claim("label", PLATE) }).await, Error::BadSignature);
    assert_eq!(refusal(Claim { plate: "AB124".into(), ..phone.claim("label", PLATE) }).await, Error::BadSignature);
    let card = Claim { means: vec!["4111111111111111".into()], ..phone.claim("label", PLATE) };
    assert_eq!(refusal(card).await, Error::CardNumber);
    assert!(matches!(refusal(phone.claim("label", "")).await, Error::Plate(_)));
    let unknown = CouplingProof { coupling: CouplingId([0; 16]), mac: [0; 32], signature: [0; 64] };
    assert_eq!(registrations.prove(unknown).await.unwrap_err(), Error::UnknownCoupling);
}

#[tokio::test]
async fn a_plate_has_one_live_binding() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, unbound_row()).await;
    let other = format!("device_id,scheme,key_hex,plate\n8,hmac,{},{PLATE}\n", hex::encode([8; 32]));
    assert_eq!(import(&registrations, other).await.accepted, 1);
    let phone = Phone::new();
    assert_eq!(registrations.claim(phone.claim("label", PLATE)).await.unwrap_err(), Error::PlateTaken);
    let holder = registrations.find(DeviceId(8)).await.unwrap().unwrap();
    amend(&registrations, holder.binding, Amendment::revoke(Cause::Sold)).await.unwrap();
    assert!(registrations.claim(phone.claim("label", PLATE)).await.is_ok());
}

#[tokio::test]
async fn a_revocation_is_effective_at_once_and_leaves_the_codebook() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let coupled = couple(&registrations).await;
    let generation = book_of(&registrations, 1).await.generation();
    let mut changes = registrations.changes();
    assert!(registrations.resolve(coupled.token.reveal()).await.unwrap().is_some());

    let binding = coupled.registration.binding;
    let revoked = amend(&registrations, binding, Amendment::revoke(Cause::Ended)).await.unwrap();
    assert_eq!((revoked.status, revoked.epoch), (BindingStatus::Revoked, 2));
    let cached = registrations.cached(DEVICE).unwrap();
    assert_eq!(Summary::from(&*cached), revoked);
    assert_eq!(changes.try_recv().unwrap(), cached.change());
    assert_eq!(registrations.resolve(coupled.token.reveal()).await, Ok(None));
    assert!(book_of(&registrations, 0).await.generation() > generation);
    assert_eq!(amend(&registrations, binding, Amendment::restore()).await.unwrap_err(), Error::Revoked);
    let audit = registrations.audit(1).await.unwrap();
    assert_eq!((audit[0].who.as_str(), audit[0].what.as_str()), ("operator kim", "binding revoked"));
    assert_eq!(audit[0].why, "a test");
}

#[tokio::test]
async fn a_suspension_raises_the_epoch_once_and_is_taken_back() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    for _ in 0..2 {
        let suspended = amend(&registrations, binding, Amendment::suspend()).await.unwrap();
        assert_eq!((suspended.status, suspended.epoch), (BindingStatus::Suspended, 2));
    }
    assert_eq!(amend(&registrations, binding, Amendment::restore()).await.unwrap().epoch, 3);
    let unknown = amend(&registrations, BindingId([0; 16]), Amendment::suspend()).await;
    assert_eq!(unknown.unwrap_err(), Error::UnknownBinding);
}

#[tokio::test]
async fn an_imported_phone_gets_a_token_and_a_replay_gets_none() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, bound_row(PLATE)).await;
    let phone = Phone::new();
    let request =
        |at| PhoneTokenRequest { device: DEVICE, at, signature: phone.sign(&phone_token_message(DEVICE, at)) };
    let now = telemetry::now();
    let first = registrations.phone_token(request(now)).await.unwrap();
    assert!(registrations.resolve(first.reveal()).await.unwrap().is_some());
    assert_eq!(registrations.phone_token(request(now)).await, Err(Error::Expired));
    assert_eq!(registrations.phone_token(request(now.minus(120_000))).await, Err(Error::Expired));
    let forged = PhoneTokenRequest { at: now.plus(1), ..request(now) };
    assert_eq!(registrations.phone_token(forged).await, Err(Error::BadSignature));
    let second = registrations.phone_token(request(now.plus(1))).await.unwrap();
    assert!(registrations.resolve(second.reveal()).await.unwrap().is_some());
    assert_eq!(registrations.resolve(first.reveal()).await, Ok(None), "one token a phone");
}

#[tokio::test]
async fn presence_is_proven_over_a_fresh_nonce_once() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    let station = StationId(5);
    let nonce = registrations.issue_nonce(binding, Purpose::Presence).nonce;
    let (mac, signature) = Phone::new().prove(&PresenceTerms { nonce, device: DEVICE, station }, &dongle());
    let proof = PresenceProof { binding, nonce, station, mac, signature };
    assert_eq!(registrations.phone_presence(proof.clone()).await.unwrap().device, DEVICE);
    assert_eq!(registrations.phone_presence(proof).await.unwrap_err(), Error::BadNonce);
}

#[tokio::test]
async fn a_proven_clock_brings_back_a_dongle_whose_clock_was_lost() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    book_of(&registrations, 1).await;
    let slot = Slot(SLOT.slot_at(telemetry::now()).0 - 500);
    let code = Secret::from_root(&ROOT).code(slot);
    assert_eq!(registrations.codebook().find(&code), None);

    let nonce = registrations.issue_nonce(binding, Purpose::Clock).nonce;
    let (mac, signature) = Phone::new().prove(&ClockTerms { nonce, device: DEVICE, slot: slot.0 }, &dongle());
    registrations.phone_clock(ClockProof { binding, nonce, slot: slot.0, mac, signature }).await.unwrap();
    while registrations.codebook().find(&code).is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    registrations.stop();
    drop(registrations);
    assert!(start(folder.path()).codebook().find(&code).is_some(), "the learned clock is in the store");
}

#[tokio::test]
async fn a_hearing_that_is_late_by_a_slot_is_learned_and_kept() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    couple(&registrations).await;
    book_of(&registrations, 1).await;
    let now = telemetry::now();
    let behind = Slot(SLOT.slot_at(now).0 - 1);
    // Learned is the nearest offset, which puts the dongle at the end of its slot late in ours: it is 250 s behind, and
    // in the slot before ours when ours is half over.
    let late = SLOT.start_of(SLOT.slot_at(now)).plus(250_000);
    let hit = registrations.codebook().find(&Secret::from_root(&ROOT).code(behind)).unwrap();
    registrations.heard(hit, late);
    registrations.stop();
    drop(registrations);
    let two_behind = Secret::from_root(&ROOT).code(Slot(behind.0 - 1));
    assert!(start(folder.path()).codebook().find(&two_behind).is_some());
}

#[tokio::test]
async fn no_key_and_no_token_is_in_the_files_of_the_store_or_in_the_snapshot() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let coupled = couple(&registrations).await;
    let Secret::Hmac { code_key } = Secret::from_root(&ROOT).clone() else { unreachable!("made from a root") };
    let token = hex::decode(&coupled.token.reveal()[4..]).unwrap();
    let needles = [ROOT.to_vec(), code_key.to_vec(), dongle().bytes().to_vec(), token, coupled.token.reveal().into()];
    registrations.stop();
    assert!(folder.path().join(snapshot::CODEBOOK_FILE).exists());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with(STORE_FILE) || name == snapshot::CODEBOOK_FILE {
            let bytes = std::fs::read(file.path()).unwrap();
            for needle in &needles {
                assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{:?}", file.file_name());
                let text = hex::encode(needle);
                assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()));
            }
        }
    }
}

#[tokio::test]
async fn the_operator_token_of_the_folder_stays_until_it_is_taken_back() {
    let folder = TempDir::new().unwrap();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let registrations = start(folder.path());
        let token = registrations.ensure_operator_token(folder.path()).unwrap();
        assert_eq!(registrations.resolve(token.reveal()).await, Ok(Some(FOLDER)));
        registrations.stop();
        tokens.push(token);
    }
    assert_eq!(tokens[0], tokens[1]);

    std::fs::remove_file(folder.path().join(OPERATOR_TOKEN_FILE)).unwrap();
    let registrations = start(folder.path());
    let renewed = registrations.ensure_operator_token(folder.path()).unwrap();
    assert_eq!(registrations.resolve(tokens[0].reveal()).await, Ok(None), "the removed one is void");
    assert_eq!(registrations.revoke_tokens(Role::Operator(OperatorName::FOLDER), kim("left")).await, Ok(true));
    assert_eq!(registrations.resolve(renewed.reveal()).await, Ok(None));
}

#[tokio::test]
async fn a_token_whose_time_is_up_is_nobodys() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let token = registrations.issue(Role::Terminal(StationId(1)), Some(0), OWNER).await.unwrap();
    assert_eq!(registrations.resolve(token.reveal()).await, Ok(None));
    assert_eq!(registrations.resolve(&format!("fct_{}", "0".repeat(64))).await, Ok(None));
}

#[tokio::test]
async fn an_import_changes_a_known_binding_in_effect_at_once() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let first = import(&registrations, bound_row("AB123")).await;
    assert_eq!((first.accepted, first.unchanged, first.refused), (1, 0, 0));
    let before = registrations.find(DEVICE).await.unwrap().unwrap();
    assert_eq!(import(&registrations, bound_row("AB123")).await.unchanged, 1);
    assert_eq!(registrations.find(DEVICE).await.unwrap().unwrap(), before);

    let mut changes = registrations.changes();
    import(&registrations, bound_row("AB124")).await;
    let after = registrations.cached(DEVICE).unwrap();
    assert_eq!((after.plate.as_str(), after.epoch), ("AB124", 2));
    assert_eq!(after.binding, before.binding);
    assert_eq!(changes.try_recv().unwrap(), after.change());
}

#[tokio::test]
async fn a_store_is_not_opened_with_another_key() {
    let folder = TempDir::new().unwrap();
    start(folder.path()).stop();
    let other = Config { kek_hex: Some(KekHex::new("00".repeat(32))), ..config() };
    assert!(matches!(Registrations::start(other, folder.path(), SLOT), Err(StartError::WrongKek)));
}

#[tokio::test]
async fn a_stopped_store_says_that_it_is_not_available() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    registrations.stop();
    assert_eq!(registrations.issue(FOLDER, None, OWNER).await, Err(Unavailable));
}

/// A second dongle, bound as the first one is.
async fn import_another(registrations: &Registrations) {
    let row = format!("device_id,scheme,key_hex,plate,fuel\n8,hmac,{},AB124,diesel\n", "a7".repeat(32));
    assert_eq!(import(registrations, row).await.accepted, 1);
}

/// A binding ends without the store's own count of it, as no engine does it: what still knows the dongle did not read
/// the store.
fn revoke_behind_its_back(folder: &Path) {
    let db = rusqlite::Connection::open(folder.join(STORE_FILE)).unwrap();
    assert_eq!(db.execute("UPDATE bindings SET status = 'revoked' WHERE device_id = 7", []).unwrap(), 1);
}

#[tokio::test]
async fn a_start_takes_the_dongles_from_the_snapshot_and_without_one_from_the_store() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    couple(&registrations).await;
    registrations.stop();
    revoke_behind_its_back(folder.path());
    let again = start(folder.path());
    assert!(again.codebook().find(&code_now()).is_some(), "from the snapshot");
    again.stop();
    let path = folder.path().join(snapshot::CODEBOOK_FILE);
    let mut damaged = std::fs::read(&path).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, damaged).unwrap();
    assert!(start(folder.path()).codebook().is_empty(), "from the store");
}

#[tokio::test]
async fn what_was_revoked_after_the_snapshot_does_not_come_back_with_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(snapshot::CODEBOOK_FILE);
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    registrations.stop();
    let old = std::fs::read(&path).unwrap();

    let registrations = start(folder.path());
    amend(&registrations, binding, Amendment::revoke(Cause::default())).await.unwrap();
    import_another(&registrations).await;
    registrations.stop();
    // A crash leaves the snapshot of before.
    std::fs::write(&path, old).unwrap();
    let registrations = start(folder.path());
    let book = registrations.codebook();
    assert_eq!((book.find(&code_now()), book.len()), (None, 1));
}

/// As somebody does who has a copy of the store, and no engine at work.
fn put_back(folder: &Path, backup: &[u8]) {
    for of_the_log in ["registrations.db-wal", "registrations.db-shm"] {
        let _ = std::fs::remove_file(folder.join(of_the_log));
    }
    std::fs::write(folder.join(STORE_FILE), backup).unwrap();
}

/// A store with one coupling, of which no engine is at work, and a copy of it.
async fn backed_up(folder: &Path) -> (BindingId, Vec<u8>) {
    let registrations = start(folder);
    let binding = couple(&registrations).await.registration.binding;
    registrations.stop();
    drop(registrations);
    (binding, std::fs::read(folder.join(STORE_FILE)).unwrap())
}

#[tokio::test]
async fn a_snapshot_that_is_ahead_of_a_restored_store_is_not_used() {
    let folder = TempDir::new().unwrap();
    let (_, backup) = backed_up(folder.path()).await;

    let registrations = start(folder.path());
    import_another(&registrations).await;
    registrations.stop();
    drop(registrations);
    put_back(folder.path(), &backup);
    let book = start(folder.path()).codebook();
    assert_eq!((book.len(), book.find(&code_now()).is_some()), (1, true));
}

#[tokio::test]
async fn a_snapshot_of_after_the_backup_is_not_used_when_the_restored_store_comes_to_its_revision() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(snapshot::CODEBOOK_FILE);
    let (binding, backup) = backed_up(folder.path()).await;

    let registrations = start(folder.path());
    import_another(&registrations).await;
    amend(&registrations, binding, Amendment::suspend()).await.unwrap();
    registrations.stop();
    drop(registrations);
    let (snapshot, as_of) = (std::fs::read(&path).unwrap(), Truth::look(folder.path(), None).unwrap());

    put_back(folder.path(), &backup);
    let registrations = start(folder.path());
    amend(&registrations, binding, Amendment::suspend()).await.unwrap();
    amend(&registrations, binding, Amendment::revoke(Cause::default())).await.unwrap();
    registrations.stop();
    drop(registrations);
    assert_eq!(Truth::look(folder.path(), None).unwrap(), as_of, "or this shows nothing");
    // As when this engine crashed before it wrote one of its own.
    std::fs::write(&path, snapshot).unwrap();
    assert!(start(folder.path()).codebook().is_empty(), "one dongle was revoked, and the other never came");
}
