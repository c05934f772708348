//! A phone couples a dongle that came from its maker with an activation code on the label.

use ed25519_dalek::{Signer, SigningKey};
use forecourt::{
    engine::{
        id::DeviceId,
        proof::{CoupleTerms, ProofKey, Terms},
    },
    registration::claim_message,
};
use serde_json::json;

use crate::engine::Engine;

const ROOT: [u8; 32] = [7; 32];
const LABEL: &str = "LABEL-0001";
const PLATE: &str = "12가3456";

#[tokio::test]
async fn a_phone_that_holds_the_dongle_gets_its_binding_and_a_token() {
    let engine = Engine::start().await;
    let header = "device_id,scheme,key_hex,activation_code";
    engine.import("devices", format!("{header}\n7,hmac,{},{LABEL}\n", hex::encode(ROOT))).await;
    let phone = SigningKey::from_bytes(&[9; 32]);
    let phone_key = phone.verifying_key().to_bytes();
    let claim = |code: &str| {
        let signature = phone.sign(&claim_message(code, &phone_key, PLATE)).to_bytes();
        json!({
            "activation_code": code, "phone_key": hex::encode(phone_key), "plate": PLATE, "fuel": "gasoline",
            "means": ["tok_ok_1"], "signature": hex::encode(signature),
        })
    };
    assert_eq!(engine.post("/v1/couplings", "", claim("LABEL-0002")).await.status.as_u16(), 404);

    let claimed = engine.post("/v1/couplings", "", claim(LABEL)).await.is(201);
    let mut nonce = [0; 32];
    hex::decode_to_slice(claimed.text("nonce"), &mut nonce).expect("32 bytes");
    let terms = CoupleTerms { nonce, device: DeviceId(7), phone_key };
    let proof = |key: &ProofKey| {
        let mac = terms.mac(key);
        let signature = phone.sign(&terms.phone_message(&mac)).to_bytes();
        json!({ "mac": hex::encode(mac), "signature": hex::encode(signature) })
    };
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    engine.post(&path, "", proof(&ProofKey::from_root(&[8; 32]))).await.refused_as(409, "PROOF_WRONG");
    let coupled = engine.post(&path, "", proof(&ProofKey::from_root(&ROOT))).await.is(201);
    assert_eq!(coupled.text("plate"), PLATE);

    let token = coupled.text("token");
    engine.post("/v1/phone/nonces", &token, json!({ "purpose": "clock" })).await.is(201);
    let again = engine.post(&path, "", proof(&ProofKey::from_root(&ROOT))).await;
    assert!(again.status.is_client_error(), "a nonce is good for one coupling: {again:?}");
    engine.post("/v1/couplings", "", claim(LABEL)).await.refused_as(409, "ALREADY_BOUND");
}
