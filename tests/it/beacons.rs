//! A radio that broadcasts Eddystone-EID is registered over HTTP, and its car is seen at the pump.

use std::time::Duration;

use forecourt::{
    engine::{
        batch::Hearing,
        code::Secret,
        id::ReceiverId,
        proof::ProofKey,
        time::{SlotLength, UnixMs},
    },
    telemetry::now,
};
use serde_json::{Value, json};

use crate::{
    couplings::Phone,
    engine::{Engine, eventually},
    site::{PUMP, STATION, import, terminal_token, uplink},
};

const EXPONENT: u8 = 10;

/// The beacon's side: its public key, and the identity key that it derives.
fn beacon(resolver: &str) -> ([u8; 32], [u8; 16]) {
    let resolver: [u8; 32] = hex::decode(resolver).expect("hexadecimal").try_into().expect("32 bytes");
    let ours = x25519_dalek::StaticSecret::from([9; 32]);
    let public = x25519_dalek::PublicKey::from(&ours).to_bytes();
    let shared = ours.diffie_hellman(&x25519_dalek::PublicKey::from(resolver));
    let mut identity_key = [0; 16];
    hkdf::Hkdf::<sha2::Sha256>::new(Some(&[resolver, public].concat()), shared.as_bytes())
        .expand(&[], &mut identity_key)
        .expect("16 bytes");
    (public, identity_key)
}

/// `at` is what the beacon's clock shows.
fn registration(public: [u8; 32], secret: &Secret, at: UnixMs) -> Value {
    let code = secret.code(secret.slot_at(SlotLength::DEFAULT, at)).0;
    json!({
        "device": 7, "beacon_key": hex::encode(public), "exponent": EXPONENT, "beacon_s": at.0 / 1000,
        "eid": hex::encode(&code[..8]), "activation_code": "LABEL-0001",
    })
}

#[tokio::test]
async fn a_registered_beacon_is_coupled_and_seen() {
    seen_by_its_clock(0).await;
}

#[tokio::test]
async fn a_beacon_that_counts_from_its_first_power_is_seen_too() {
    let an_hour_ago = now().0 - 3_600_000;
    seen_by_its_clock(an_hour_ago).await;
}

/// The beacon's clock was at zero at `zero_ms`.
async fn seen_by_its_clock(zero_ms: u64) {
    let clock = || UnixMs(now().0 - zero_ms);
    let engine = Engine::start().await;
    import(&engine, &[]).await;
    let resolver = engine.get("/v1/eid-resolver", engine.operator()).await.is(200).text("public_key");
    let (public, identity_key) = beacon(&resolver);
    let secret = Secret::EddystoneEid { identity_key, exponent: EXPONENT };
    let register = async |body: Value| engine.post("/v1/eid-registrations", engine.operator(), body).await;
    let wrong = Secret::EddystoneEid { identity_key: [1; 16], exponent: EXPONENT };
    register(registration(public, &wrong, clock())).await.refused_as(422, "EID_MISMATCH");
    register(registration([0; 32], &secret, clock())).await.refused_as(422, "BEACON_KEY_WEAK");
    let registered = register(registration(public, &secret, clock())).await.is(201);
    assert_eq!(registered.text("scheme"), "eddystone-eid/10");
    register(registration(public, &secret, clock())).await.is(201);

    let phone = Phone::new(9);
    let claimed = engine.post("/v1/couplings", "", phone.claim("LABEL-0001", "12가3456")).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    engine.post(&path, "", phone.proof(&claimed, &ProofKey::from_root(&identity_key))).await.is(201);

    let terminal = terminal_token(&engine, STATION).await;
    let uplink = uplink(&engine, STATION);
    eventually("the beacon's car", async || {
        let (at, code) = (now(), secret.code(secret.slot_at(SlotLength::DEFAULT, clock())));
        uplink.hear_all(&[Hearing { code, receiver: ReceiverId(PUMP as u8), rssi: -55, at }]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let vehicles = engine.get(&format!("/v1/stations/{STATION}/vehicles"), &terminal).await;
        (vehicles.body["vehicles"].as_array()?.len() == 1).then_some(())
    })
    .await;
}
