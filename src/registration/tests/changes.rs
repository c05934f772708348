//! What becomes of a binding after its coupling: by its driver, by an operator, and against a thief.

use super::*;

/// A phone of its own key.
fn phone(seed: u8) -> Phone {
    Phone(SigningKey::from_bytes(&[seed; 32]))
}

/// The terms of the bound phone's next change.
async fn terms(registrations: &Registrations) -> ChangeTerms {
    let known = registrations.find(DEVICE).await.unwrap().unwrap();
    let nonce = registrations.issue_nonce(known.binding, Purpose::Change).nonce;
    ChangeTerms { nonce, binding: known.binding, epoch: known.epoch }
}

async fn plate_change(registrations: &Registrations, plate: &str) -> DriverChange {
    let terms = terms(registrations).await;
    let signature = Phone::new().sign(&terms.plate_message(plate));
    DriverChange { terms, wish: Wish::Plate(plate.into()), signature }
}

async fn revocation(registrations: &Registrations, cause: Cause) -> DriverChange {
    let terms = terms(registrations).await;
    let signature = Phone::new().sign(&terms.revoke_message(cause));
    DriverChange { terms, wish: Wish::Revoke(cause), signature }
}

async fn history(registrations: &Registrations) -> Vec<(u64, String, String, String)> {
    let binding = registrations.find(DEVICE).await.unwrap().unwrap().binding;
    let rows = registrations.history(binding, None, 100).await.unwrap();
    rows.into_iter().map(|row| (row.epoch, row.who, row.what, row.why)).collect()
}

#[tokio::test]
async fn a_driver_changes_plate_and_means_and_each_change_has_its_epoch() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    couple(&registrations).await;
    let change = plate_change(&registrations, "AB124").await;
    assert_eq!(registrations.change_by_driver(change, None).await.unwrap().epoch, 2);
    let terms = terms(&registrations).await;
    let means = vec!["tok_c".to_owned(), "tok_b".to_owned(), "tok_a".to_owned()];
    let signature = Phone::new().sign(&terms.means_message(&means));
    let change = DriverChange { terms, wish: Wish::Means(means.clone()), signature };
    assert_eq!(registrations.change_by_driver(change, None).await.unwrap().means_count, 3);

    let known = registrations.cached(DEVICE).unwrap();
    assert_eq!((known.plate.as_str(), known.epoch, &known.means), ("AB124", 3, &means));
    let lines = history(&registrations).await;
    let expected = [(3, "payment means changed"), (2, "plate changed"), (1, "binding coupled")];
    let found: Vec<_> = lines.iter().map(|(epoch, _, what, _)| (*epoch, what.as_str())).collect();
    assert_eq!(found, expected);
    assert!(lines.iter().all(|(_, who, _, why)| who == "phone" && !why.is_empty()));
}

#[tokio::test]
async fn a_change_needs_the_phone_a_fresh_nonce_and_the_epoch_that_was_read() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    let refusal = async |change| registrations.change_by_driver(change, None).await.unwrap_err();

    let change = plate_change(&registrations, "AB124").await;
    let forged = DriverChange { signature: phone(9).sign(&change.terms.plate_message("AB124")), ..change.clone() };
    assert_eq!(refusal(forged).await, Error::BadSignature);
    assert_eq!(refusal(change).await, Error::BadNonce, "a nonce is used up by whoever names it");
    let other = DriverChange { wish: Wish::Plate("AB125".into()), ..plate_change(&registrations, "AB124").await };
    assert_eq!(refusal(other).await, Error::BadSignature);

    let stale = plate_change(&registrations, "AB124").await;
    amend(&registrations, binding, Amendment::plate("AB126").unwrap()).await.unwrap();
    assert_eq!(refusal(stale).await, Error::EpochChanged);
    let card = plate_change(&registrations, "4111111111111111").await;
    assert_eq!(refusal(card).await, Error::CardNumber);
    amend(&registrations, binding, Amendment::suspend()).await.unwrap();
    assert_eq!(refusal(plate_change(&registrations, "AB124").await).await, Error::Suspended);
    let way_out = revocation(&registrations, Cause::Ended).await;
    assert_eq!(refusal(way_out).await, Error::Suspended, "or a new claim would be the way around it");
}

#[tokio::test]
async fn a_plate_is_changed_to_a_free_one_only() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    let other = format!("device_id,scheme,key_hex,plate\n8,hmac,{},AB124\n", hex::encode([8; 32]));
    import(&registrations, other).await;
    let change = plate_change(&registrations, "AB124").await;
    assert_eq!(registrations.change_by_driver(change, None).await.unwrap_err(), Error::PlateTaken);
    let same = amend(&registrations, binding, Amendment::plate(PLATE).unwrap()).await.unwrap();
    assert_eq!(same.epoch, 1, "what changes nothing takes no epoch");
}

#[tokio::test]
async fn a_request_is_done_once_and_answered_the_same() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    couple(&registrations).await;
    let request = Request { key: [1; 32], body: [2; 32], parting: None };
    let change = plate_change(&registrations, "AB124").await;
    let first = registrations.change_by_driver(change.clone(), Some(request)).await.unwrap();
    amend(&registrations, first.binding, Amendment::suspend()).await.unwrap();
    assert_eq!(registrations.change_by_driver(change.clone(), Some(request)).await, Ok(first), "as it was then");
    let reused = Request { body: [3; 32], ..request };
    assert_eq!(registrations.change_by_driver(change, Some(reused)).await, Err(Error::KeyReused));
}

#[tokio::test]
async fn a_sold_car_leaves_plate_and_dongle_to_the_next_claim() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let seller = couple(&registrations).await;
    let buyer = phone(4);
    let claim = |plate: &str| Claim {
        phone_key: buyer.public(),
        signature: buyer.sign(&claim_message("label", &buyer.public(), plate)),
        ..buyer.claim("label", plate)
    };
    assert_eq!(registrations.claim(claim(PLATE)).await.unwrap_err(), Error::AlreadyBound);
    let sale = revocation(&registrations, Cause::Sold).await;
    assert_eq!(registrations.change_by_driver(sale, None).await.unwrap().status, BindingStatus::Revoked);
    assert_eq!(registrations.resolve(seller.token.reveal()).await, Ok(None));
    let claimed = registrations.claim(claim(PLATE)).await.unwrap();
    let terms = CoupleTerms { nonce: claimed.nonce, device: DEVICE, phone_key: buyer.public() };
    let (mac, signature) = buyer.prove(&terms, &dongle());
    let proof = CouplingProof { coupling: claimed.coupling, mac, signature };
    let bought = registrations.prove(proof).await.unwrap().registration;
    assert_ne!(bought.binding, seller.registration.binding);
    assert_eq!(bought.epoch, 3, "epochs of a dongle never repeat");
}

#[tokio::test]
async fn a_lost_dongle_is_not_coupled_until_it_is_freed_and_its_car_gets_another_one() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    couple(&registrations).await;
    let spare = format!("device_id,scheme,key_hex,activation_code\n8,hmac,{},spare\n", hex::encode([8; 32]));
    import(&registrations, spare).await;
    let loss = revocation(&registrations, Cause::Lost).await;
    registrations.change_by_driver(loss, None).await.unwrap();
    let driver = Phone::new();
    assert_eq!(registrations.claim(driver.claim("label", PLATE)).await.unwrap_err(), Error::DeviceLost);
    assert_eq!(import(&registrations, bound_row("AB124")).await.refused, 1);
    assert!(registrations.device(DEVICE).await.unwrap().lost_at.is_some());
    let claimed = registrations.claim(driver.claim("spare", PLATE)).await.unwrap();
    let spare = ProofKey::from_root(&[8; 32]);
    assert!(registrations.prove(driver.answer(&claimed, &spare)).await.is_ok());

    let freed = registrations.free_device(DEVICE, kim("found under the seat")).await.unwrap();
    assert_eq!(freed.lost_at, None);
    assert!(registrations.claim(driver.claim("label", "AB124")).await.is_ok());
    assert_eq!(registrations.free_device(DeviceId(99), kim("typo")).await.unwrap_err(), Error::UnknownDevice);
}

#[tokio::test]
async fn a_phone_hands_its_binding_to_another_one_and_is_out() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let coupled = couple(&registrations).await;
    let (old, new) = (Phone::new(), phone(4));
    let change = async |accepting: &Phone| {
        let terms = terms(&registrations).await;
        let acceptance = accepting.sign(&terms.accept_message(&new.public()));
        let wish = Wish::Phone { key: new.public(), acceptance };
        DriverChange { terms, wish, signature: old.sign(&terms.replace_message(&new.public())) }
    };
    let mistyped = change(&old).await;
    assert_eq!(registrations.change_by_driver(mistyped, None).await.unwrap_err(), Error::BadSignature);
    registrations.change_by_driver(change(&new).await, None).await.unwrap();
    assert_eq!(registrations.resolve(coupled.token.reveal()).await, Ok(None));
    let at = telemetry::now();
    let login = |phone: &Phone| PhoneTokenRequest {
        device: DEVICE,
        at,
        signature: phone.sign(&phone_token_message(DEVICE, at)),
    };
    assert_eq!(registrations.phone_token(login(&old)).await, Err(Error::BadSignature));
    assert!(registrations.phone_token(login(&new)).await.is_ok());
}

fn phone_claim(binding: BindingId, code: &str, phone: &Phone) -> PhoneClaim {
    let signature = phone.sign(&phone_claim_message(binding, code, &phone.public()));
    PhoneClaim { binding, code: code.into(), phone_key: phone.public(), signature }
}

fn phone_proof(claimed: &Claimed, phone: &Phone, dongle: &ProofKey) -> CouplingProof {
    let terms = CoupleTerms { nonce: claimed.nonce, device: claimed.device, phone_key: phone.public() };
    let (mac, signature) = phone.prove(&terms, dongle);
    CouplingProof { coupling: claimed.coupling, mac, signature }
}

#[tokio::test]
async fn a_lost_phone_is_out_at_once_and_another_one_comes_by_code_and_dongle() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let coupled = couple(&registrations).await;
    let (binding, new) = (coupled.registration.binding, phone(4));
    let permit = registrations.permit_phone(binding, kim("phone lost, passport seen")).await.unwrap();
    assert!(!permit.summary.has_phone);
    assert_eq!(registrations.cached(DEVICE).unwrap().phone, None, "no payment is proven by the lost one");
    assert_eq!(registrations.resolve(coupled.token.reveal()).await, Ok(None));

    let wrong = registrations.claim_phone(phone_claim(binding, "0123456789abcdef0123", &new)).await;
    assert_eq!(wrong.unwrap_err(), Error::UnknownPermit);
    let claimed = registrations.claim_phone(phone_claim(binding, &permit.code, &new)).await.unwrap();
    let without_dongle = phone_proof(&claimed, &new, &ProofKey::new([1; 32]));
    assert_eq!(registrations.prove(without_dongle).await.unwrap_err(), Error::BadProof);
    let replaced = registrations.prove(phone_proof(&claimed, &new, &dongle())).await.unwrap();
    let found = &replaced.registration;
    assert_eq!((found.binding, found.phone, found.epoch), (binding, Some(new.public()), 3));
    assert_eq!(found.means, coupled.registration.means);
    assert!(registrations.resolve(replaced.token.reveal()).await.unwrap().is_some());
    let again = registrations.claim_phone(phone_claim(binding, &permit.code, &new)).await;
    assert_eq!(again.unwrap_err(), Error::UnknownPermit, "a code is good once");
    let lines = history(&registrations).await;
    assert_eq!(lines[1].1, "operator kim");
    assert_eq!((lines[1].2.as_str(), lines[1].3.as_str()), ("phone taken away", "phone lost, passport seen"));
}

#[tokio::test]
async fn the_dongle_alone_moves_nothing_and_a_newer_code_voids_the_one_before() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let binding = couple(&registrations).await.registration.binding;
    let thief = phone(5);
    let claim = async |code: &str| registrations.claim_phone(phone_claim(binding, code, &thief)).await;
    assert_eq!(claim("label").await.unwrap_err(), Error::UnknownPermit, "the label is no permit");
    let first = registrations.permit_phone(binding, kim("lost")).await.unwrap();
    let open = claim(&first.code).await.unwrap();
    let second = registrations.permit_phone(binding, kim("code was overheard")).await.unwrap();
    assert_eq!(second.summary.epoch, first.summary.epoch, "there was no phone any more");
    let proof = phone_proof(&open, &thief, &dongle());
    assert_eq!(registrations.prove(proof).await.unwrap_err(), Error::UnknownCoupling);
    assert_eq!(claim(&first.code).await.unwrap_err(), Error::UnknownPermit);

    let open = claim(&second.code).await.unwrap();
    amend(&registrations, binding, Amendment::suspend()).await.unwrap();
    assert_eq!(claim(&second.code).await.unwrap_err(), Error::Suspended);
    let proof = phone_proof(&open, &thief, &dongle());
    assert_eq!(registrations.prove(proof).await.unwrap_err(), Error::Suspended);
    assert_eq!(registrations.permit_phone(binding, kim("lost")).await.unwrap_err(), Error::Suspended);
}

#[tokio::test]
async fn a_phone_that_an_import_brings_ends_the_wait_for_another_one() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, bound_row(PLATE)).await;
    let binding = registrations.find(DEVICE).await.unwrap().unwrap().binding;
    let permit = registrations.permit_phone(binding, kim("lost")).await.unwrap();
    import(&registrations, bound_row(PLATE)).await;
    assert_eq!(registrations.find(DEVICE).await.unwrap().unwrap().phone, Some(Phone::new().public()));
    let late = registrations.claim_phone(phone_claim(binding, &permit.code, &phone(4))).await;
    assert_eq!(late.unwrap_err(), Error::UnknownPermit);
}

#[tokio::test]
async fn the_history_of_an_import_begins_with_it_and_is_read_in_parts() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    import(&registrations, bound_row("AB123")).await;
    import(&registrations, bound_row("AB124")).await;
    let binding = registrations.find(DEVICE).await.unwrap().unwrap().binding;
    let newest = registrations.history(binding, None, 1).await.unwrap();
    assert_eq!((newest[0].plate_before.as_deref(), newest[0].plate.as_str()), (Some("AB123"), "AB124"));
    let rest = registrations.history(binding, Some(newest[0].epoch), 9).await.unwrap();
    assert_eq!((rest.len(), rest[0].who.as_str(), rest[0].plate_before.as_deref()), (1, "import", None));
    assert_eq!(rest[0].phone, Some(hex::encode(Phone::new().public())));
    assert_eq!(registrations.history(BindingId([0; 16]), None, 9).await.unwrap_err(), Error::UnknownBinding);
}

#[tokio::test]
async fn a_named_operators_token_is_taken_back_by_its_name() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let name = OperatorName::parse("lee").unwrap();
    let token = registrations.issue(Role::Operator(name), None, OWNER).await.unwrap();
    assert_eq!(registrations.resolve(token.reveal()).await, Ok(Some(Role::Operator(name))));
    assert_eq!(registrations.revoke_tokens(Role::Operator(name), kim("left the company")).await, Ok(true));
    assert_eq!(registrations.resolve(token.reveal()).await, Ok(None));
    assert_eq!(registrations.revoke_tokens(Role::Operator(name), kim("left the company")).await, Ok(false));
}
