//! A phone couples a dongle that came from its maker with an activation code on the label, and changes its binding.

use ed25519_dalek::{Signer, SigningKey};
use forecourt::{
    engine::{
        id::DeviceId,
        proof::{CoupleTerms, ProofKey, Terms},
    },
    registration::{Cause, ChangeTerms, claim_message, phone_claim_message, phone_token_message},
    telemetry::now,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    engine::{Answer, Engine},
    site::{Car, Site},
};

const DEVICE: DeviceId = DeviceId(7);
const ROOT: [u8; 32] = [7; 32];
const LABEL: &str = "LABEL-0001";
const PLATE: &str = "12가3456";

/// A driver's phone, as it speaks to the engine.
pub(crate) struct Phone(SigningKey);

impl Phone {
    pub(crate) fn new(seed: u8) -> Phone {
        Phone(SigningKey::from_bytes(&[seed; 32]))
    }

    fn key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> String {
        hex::encode(self.0.sign(message).to_bytes())
    }

    pub(crate) fn claim(&self, code: &str, plate: &str) -> Value {
        json!({
            "activation_code": code, "phone_key": hex::encode(self.key()), "plate": plate, "fuel": "gasoline",
            "means": ["tok_ok_1"], "signature": self.sign(&claim_message(code, &self.key(), plate)),
        })
    }

    /// What dongle and phone answer to a claim.
    pub(crate) fn proof(&self, claimed: &Answer, dongle: &ProofKey) -> Value {
        let device = DeviceId(claimed.body["device"].as_u64().expect("a device"));
        let terms = CoupleTerms { nonce: bytes(&claimed.text("nonce")), device, phone_key: self.key() };
        let mac = terms.mac(dongle);
        json!({ "mac": hex::encode(mac), "signature": self.sign(&terms.phone_message(&mac)) })
    }

    fn login(&self) -> Value {
        let at = now();
        json!({ "device": DEVICE, "at": at, "signature": self.sign(&phone_token_message(DEVICE, at)) })
    }

    /// What the next change of the binding is signed over.
    async fn terms(&self, engine: &Engine, token: &str) -> ChangeTerms {
        let mine = engine.get("/v1/phone/binding", token).await.is(200);
        let nonce = engine.post("/v1/phone/nonces", token, json!({ "purpose": "change" })).await.is(201).text("nonce");
        let binding = mine.text("binding").parse().expect("a binding");
        ChangeTerms { nonce: bytes(&nonce), binding, epoch: mine.body["epoch"].as_u64().expect("an epoch") }
    }

    fn signed(&self, terms: &ChangeTerms, message: &[u8]) -> Value {
        json!({ "nonce": hex::encode(terms.nonce), "epoch": terms.epoch, "signature": self.sign(message) })
    }
}

fn bytes(text: &str) -> [u8; 32] {
    hex::decode(text).expect("hexadecimal").try_into().expect("32 bytes")
}

fn dongle() -> ProofKey {
    ProofKey::from_root(&ROOT)
}

async fn with_a_dongle() -> Engine {
    let engine = Engine::start().await;
    let header = "device_id,scheme,key_hex,activation_code";
    engine.import("devices", format!("{header}\n{DEVICE},hmac,{},{LABEL}\n", hex::encode(ROOT))).await;
    engine
}

async fn couple(engine: &Engine, phone: &Phone) -> Answer {
    let claimed = engine.post("/v1/couplings", "", phone.claim(LABEL, PLATE)).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    engine.post(&path, "", phone.proof(&claimed, &dongle())).await.is(201)
}

async fn by_operator(engine: &Engine, binding: &str, change: &str, body: Value) -> Answer {
    engine.post(&format!("/v1/bindings/{binding}/{change}"), engine.operator(), body).await
}

#[tokio::test]
async fn a_phone_that_holds_the_dongle_gets_its_binding_and_a_token() {
    let engine = with_a_dongle().await;
    let phone = Phone::new(9);
    assert_eq!(engine.post("/v1/couplings", "", phone.claim("LABEL-0002", PLATE)).await.status.as_u16(), 404);

    let claimed = engine.post("/v1/couplings", "", phone.claim(LABEL, PLATE)).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    let stranger = phone.proof(&claimed, &ProofKey::from_root(&[8; 32]));
    engine.post(&path, "", stranger).await.refused_as(409, "PROOF_WRONG");
    let coupled = engine.post(&path, "", phone.proof(&claimed, &dongle())).await.is(201);
    assert_eq!(coupled.text("plate"), PLATE);

    let token = coupled.text("token");
    engine.post("/v1/phone/nonces", &token, json!({ "purpose": "clock" })).await.is(201);
    let again = engine.post(&path, "", phone.proof(&claimed, &dongle())).await;
    assert!(again.status.is_client_error(), "a nonce is good for one coupling: {again:?}");
    engine.post("/v1/couplings", "", phone.claim(LABEL, PLATE)).await.refused_as(409, "ALREADY_BOUND");
}

#[tokio::test]
async fn a_driver_changes_what_is_bound_by_signed_calls_that_count_once() {
    let engine = with_a_dongle().await;
    let phone = Phone::new(9);
    let token = couple(&engine, &phone).await.text("token");

    let terms = phone.terms(&engine, &token).await;
    let plate = |plate: &str, signed: &str| json!({ "plate": plate, "signed": phone.signed(&terms, &terms.plate_message(signed)) });
    let put =
        async |path: &str, body: Value, key: &str| engine.call_with_key(Method::PUT, path, &token, body, key).await;
    put("/v1/phone/plate", plate("34나1234", "other"), "a").await.refused_as(403, "SIGNATURE_WRONG");
    put("/v1/phone/plate", plate("34나1234", "34나1234"), "b").await.refused_as(409, "NONCE_INVALID");

    let terms = phone.terms(&engine, &token).await;
    let body = json!({ "plate": "34나1234", "signed": phone.signed(&terms, &terms.plate_message("34나1234")) });
    let first = put("/v1/phone/plate", body.clone(), "c").await.is(200);
    assert_eq!((first.text("plate"), first.body["epoch"].as_u64()), ("34나1234".into(), Some(2)));
    assert_eq!(put("/v1/phone/plate", body.clone(), "c").await, first, "sent again it has the same answer");
    let other = json!({ "plate": "34나1234", "signed": phone.signed(&terms, b"other") });
    put("/v1/phone/plate", other, "c").await.refused_as(422, "IDEMPOTENCY_KEY_REUSED");
    put("/v1/phone/plate", body, "").await.refused_as(400, "BAD_REQUEST");

    let terms = phone.terms(&engine, &token).await;
    let means = |tokens: &[&str]| {
        let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
        json!({ "signed": phone.signed(&terms, &terms.means_message(&tokens)), "means": tokens })
    };
    put("/v1/phone/means", means(&["4111111111111111"]), "d").await.refused_as(422, "CARD_NUMBER_REFUSED");
    let terms = phone.terms(&engine, &token).await;
    let tokens = ["tok_ok_2".to_owned(), "tok_ok_1".to_owned()];
    let body = json!({ "signed": phone.signed(&terms, &terms.means_message(&tokens)), "means": tokens });
    put("/v1/phone/means", body, "e").await.is(200);
    assert_eq!(engine.get("/v1/phone/binding", &token).await.body["means"], json!(tokens));
}

#[tokio::test]
async fn an_operator_says_why_and_the_history_says_who() {
    let engine = with_a_dongle().await;
    let binding = couple(&engine, &Phone::new(9)).await.text("binding");
    let operators = async |name: &str| {
        let body = json!({ "name": name });
        engine.post("/v1/operators", engine.operator(), body).await.is(201).text("token")
    };
    let kim = operators("kim").await;
    engine.post("/v1/operators", &kim, json!({ "name": "lee" })).await.refused_as(403, "FORBIDDEN");

    let path = format!("/v1/bindings/{binding}/suspension");
    engine.post(&path, &kim, Value::Null).await.refused_as(400, "REASON_REQUIRED");
    let card = json!({ "reason": "card 4111 1111 1111 1111 was stolen" });
    engine.post(&path, &kim, card).await.refused_as(422, "CARD_NUMBER_REFUSED");
    let suspended = engine.post(&path, &kim, json!({ "reason": "card stolen, case 7" })).await.is(200);
    assert_eq!((suspended.text("status"), suspended.body["epoch"].as_u64()), ("suspended".into(), Some(2)));
    by_operator(&engine, &binding, "restoration", json!({ "reason": "new card" })).await.is(200);
    let plate = format!("/v1/bindings/{binding}/plate");
    let body = json!({ "plate": "34나1234", "reason": "new plate at the office" });
    engine.call(Method::PUT, &plate, &kim, body).await.is(200);

    for query in ["plate=34나1234", "device=7"] {
        assert_eq!(engine.get(&format!("/v1/bindings?{query}"), &kim).await.is(200).text("binding"), binding);
    }
    engine.get("/v1/bindings", &kim).await.refused_as(400, "BAD_REQUEST");
    let history = engine.get(&format!("/v1/bindings/{binding}/history"), &kim).await.is(200);
    let lines: Vec<(&str, &str)> = history
        .body
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| (line["who"].as_str().expect("who"), line["why"].as_str().expect("why")))
        .collect();
    assert_eq!(
        lines[..3],
        [
            ("operator kim", "new plate at the office"),
            ("operator", "new card"),
            ("operator kim", "card stolen, case 7"),
        ]
    );
    assert_eq!(history.body[0]["plate_before"], PLATE);
    engine.get(&format!("/v1/bindings/{}/history", "0".repeat(32)), &kim).await.refused_as(404, "NOT_FOUND");

    let gone = json!({ "reason": "left the company" });
    engine.post("/v1/operators/kim/revocation", engine.operator(), gone).await.is(204);
    engine.get("/v1/bindings?device=7", &kim).await.refused_as(401, "UNAUTHORISED");
}

#[tokio::test]
async fn a_lost_phone_is_replaced_by_code_and_dongle_and_a_restart_changes_nothing_of_it() {
    let mut engine = with_a_dongle().await;
    let (old, new) = (Phone::new(9), Phone::new(10));
    let coupled = couple(&engine, &old).await;
    let binding = coupled.text("binding");
    let permit =
        by_operator(&engine, &binding, "phone-replacement", json!({ "reason": "passport seen" })).await.is(201);
    engine.get("/v1/phone/binding", &coupled.text("token")).await.refused_as(401, "UNAUTHORISED");
    engine.crash_and_restart().await;

    let claim = |code: &str| {
        let message = phone_claim_message(binding.parse().expect("a binding"), code, &new.key());
        json!({
            "binding": binding, "code": code, "phone_key": hex::encode(new.key()), "signature": new.sign(&message),
        })
    };
    engine.post("/v1/couplings/replacements", "", claim("0000")).await.refused_as(404, "NOT_FOUND");
    let claimed = engine.post("/v1/couplings/replacements", "", claim(&permit.text("code"))).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    let replaced = engine.post(&path, "", new.proof(&claimed, &dongle())).await.is(201);
    assert_eq!(replaced.text("binding"), binding);
    engine.get("/v1/phone/binding", &replaced.text("token")).await.is(200);
}

#[tokio::test]
async fn a_lost_dongle_waits_for_an_operator_and_a_sold_car_for_its_buyer() {
    let engine = with_a_dongle().await;
    let (driver, buyer) = (Phone::new(9), Phone::new(10));
    let coupled = couple(&engine, &driver).await;
    let body = json!({ "reason": "gone with the bag", "cause": "lost" });
    by_operator(&engine, &coupled.text("binding"), "revocation", body).await.is(200);
    engine.post("/v1/couplings", "", buyer.claim(LABEL, PLATE)).await.refused_as(409, "DEVICE_LOST");
    assert!(engine.get("/v1/devices/7", engine.operator()).await.is(200).body["lost_at"].is_u64());
    let found = json!({ "reason": "found" });
    engine.post("/v1/devices/7/release", engine.operator(), found).await.is(200);

    let again = couple(&engine, &driver).await;
    let token = again.text("token");
    let terms = driver.terms(&engine, &token).await;
    let sold: Cause = serde_json::from_value(json!("sold")).expect("a cause");
    let body = json!({ "cause": "sold", "signed": driver.signed(&terms, &terms.revoke_message(sold)) });
    engine.post("/v1/phone/revocation", &token, body).await.is(200);
    engine.get("/v1/phone/binding", &token).await.refused_as(401, "UNAUTHORISED");
    couple(&engine, &buyer).await;
}

#[tokio::test]
async fn a_phone_that_left_is_answered_again_when_it_sends_the_very_same_call() {
    let mut engine = with_a_dongle().await;
    let (old, new, thief) = (Phone::new(9), Phone::new(10), Phone::new(11));
    let old_token = couple(&engine, &old).await.text("token");
    let terms = old.terms(&engine, &old_token).await;
    let hand_over = |to: &Phone| {
        let signed = old.signed(&terms, &terms.replace_message(&to.key()));
        let acceptance = to.sign(&terms.accept_message(&to.key()));
        json!({ "phone_key": hex::encode(to.key()), "acceptance": acceptance, "signed": signed })
    };
    let path = "/v1/phone/replacement";
    let first = engine.call_with_key(Method::POST, path, &old_token, hand_over(&new), "k").await.is(200);
    let new_token = engine.post("/v1/phone/tokens", "", new.login()).await.is(201).text("token");
    engine.crash_and_restart().await;

    let send = async |path: &str, token: &str, body: Value, key: &str| {
        engine.call_with_key(Method::POST, path, token, body, key).await
    };
    assert_eq!(send(path, &old_token, hand_over(&new), "k").await, first);
    assert_eq!(engine.get("/v1/phone/binding", &new_token).await.is(200).body["epoch"], first.body["epoch"]);
    let stranger = format!("fcp_{}", "0".repeat(64));
    for (token, body, key) in
        [(&old_token, hand_over(&new), "l"), (&old_token, hand_over(&thief), "k"), (&stranger, hand_over(&new), "k")]
    {
        send(path, token, body, key).await.refused_as(401, "UNAUTHORISED");
    }
    engine.get("/v1/phone/binding", &old_token).await.refused_as(401, "UNAUTHORISED");

    let terms = new.terms(&engine, &new_token).await;
    let body = json!({ "signed": new.signed(&terms, &terms.revoke_message(Cause::default())) });
    let path = "/v1/phone/revocation";
    let first = send(path, &new_token, body.clone(), "k").await.is(200);
    assert_eq!(first.text("status"), "revoked");
    assert_eq!(send(path, &new_token, body, "k").await, first);
    engine.get("/v1/phone/binding", &new_token).await.refused_as(401, "UNAUTHORISED");
}

#[tokio::test]
async fn a_suspension_is_in_force_at_the_pump_when_it_is_answered() {
    let car = Car::new(7, PLATE, "tok_ok_1");
    let site = Site::with_cars(&[&car]).await;
    let engine = &site.engine;
    let found = engine.get("/v1/bindings?device=7", engine.operator()).await.is(200);
    let selected = site.select("3456").await.is(201).text("id");
    site.order(&selected, "release", json!({})).await.is(200);
    by_operator(engine, &found.text("binding"), "suspension", json!({ "reason": "stolen" })).await.is(200);
    site.select("3456").await.refused_as(423, "BINDING_SUSPENDED");
    by_operator(engine, &found.text("binding"), "revocation", json!({ "reason": "stolen", "cause": "lost" }))
        .await
        .is(200);
    assert_eq!(site.select("3456").await.status.as_u16(), 404);
    site.until_visible(0).await;
}
