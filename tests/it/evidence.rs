//! What an auditor is shown of a session, and that it says who did it and nothing secret.

use forecourt::engine::proof::ProofKey;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, eventually},
    site::{Car, PUMP, STATION, Site, completion},
};

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok_visa_4242")
}

async fn evidence(engine: &Engine, session: &str) -> Value {
    engine.get(&format!("/v1/sessions/{session}/evidence"), engine.operator()).await.is(200).body
}

/// What happened, in order.
fn story(evidence: &Value) -> Vec<&str> {
    let timeline = evidence["timeline"].as_array().expect("a timeline");
    timeline.iter().map(|line| line["what"].as_str().expect("what happened")).collect()
}

fn find<'a>(evidence: &'a Value, what: &str) -> &'a Value {
    let timeline = evidence["timeline"].as_array().expect("a timeline");
    timeline.iter().find(|line| line["what"] == what).unwrap_or_else(|| panic!("no {what} in {evidence:#}"))
}

#[tokio::test]
async fn the_evidence_of_a_sale_says_who_heard_selected_proved_and_charged() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let session = site.select("가3456").await.is(201).text("id");
    let sold = site.order(&session, "completion", completion("T-1")).await.is(200);
    let binding = &sold.body["binding"];
    let waiting = site.engine.get(&format!("/v1/sessions/{session}"), &phone).await.is(200);
    let proof = car.proof(&waiting.body);
    let answer = site.engine.post(&format!("/v1/sessions/{session}/proof"), &phone, proof.clone()).await;
    assert!(answer.status.is_success(), "{answer:?}");
    site.until_state(&session, &phone, "Paid").await;
    site.order(&session, "cleared", Value::Null).await.is(200);
    let receipt = site.engine.get(&format!("/v1/sessions/{session}/receipt"), &phone).await.is(200);
    let told = evidence(&site.engine, &session).await;

    let heard = &told["heard"];
    assert_eq!(heard["receivers"][0]["receiver"], PUMP);
    assert!(heard["receivers"][0]["rssi_dbm"].as_i64().is_some_and(|dbm| (-70..=-50).contains(&dbm)), "{heard}");
    assert!(heard["first"].as_u64() <= heard["last"].as_u64() && heard["hearings"].as_u64() >= Some(2), "{heard}");
    assert_eq!(heard["matched"], json!({ "query": "***56", "fit": "end", "picked": false }));

    let selected = find(&told, "selected");
    assert_eq!((&selected["by"], &selected["state"]), (&json!({ "terminal": STATION }), &json!("Selected")));
    let proven = find(&told, "proof_verified");
    assert_eq!(proven["by"], json!({ "phone": binding }));
    for field in ["nonce", "amount", "epoch", "pump", "station", "binding", "session", "device"] {
        assert_eq!(proven["terms"][field], waiting.body["challenge"][field], "{field}");
    }
    let steps = ["selected", "fuel_delivered", "proof_verified", "intended", "answered", "site_cleared"];
    let at = |what: &&str| story(&told).iter().position(|other| other == what);
    assert!(steps.iter().map(at).is_sorted() && steps.iter().all(|step| at(step).is_some()), "{:?}", story(&told));
    let seqs: Vec<u64> =
        told["timeline"].as_array().expect("lines").iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");

    let instruction = &told["instructions"][0];
    assert_eq!((&instruction["operation"], &instruction["means"]), (&json!("charge"), &json!("****4242")));
    assert_eq!(instruction["amount"], json!({ "minor": 3_300, "currency": "EUR" }));
    assert_eq!(instruction["outcome"]["succeeded"]["reference"], receipt.body["reference"]);
    assert_eq!((&told["state"], &told["is_end"]), (&json!("Cleared"), &json!(true)));

    let text = told.to_string();
    let key = hex::encode(ProofKey::from_root(&car.root()).bytes());
    let mac = proof["mac"].as_str().expect("a MAC");
    for secret in ["tok_ok_visa", key.as_str(), mac] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn the_evidence_is_the_operators_and_survives_a_restart() {
    let car = car();
    let mut site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "release", Value::Null).await.is(200);
    let before = evidence(&site.engine, &session).await;
    assert_eq!(story(&before), ["selected", "release_asked"]);
    let path = format!("/v1/sessions/{session}/evidence");
    site.engine.get(&path, &site.terminal).await.refused_as(403, "FORBIDDEN");
    let nobody = format!("/v1/sessions/{}/evidence", "00".repeat(16));
    site.engine.get(&nobody, site.engine.operator()).await.refused_as(404, "NOT_FOUND");
    site.engine.crash_and_restart().await;
    assert_eq!(evidence(&site.engine, &session).await, before);
}

#[tokio::test]
async fn the_evidence_of_a_hold_that_was_let_go_shows_its_void() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    let hold = json!({ "pump": PUMP, "hold": true, "preset": { "minor": 5_000, "currency": "EUR" } });
    let reserved = site.order(&session, "reservation", hold).await.is(200);
    assert_eq!(reserved.body["held"]["minor"], 5_000);
    site.order(&session, "release", Value::Null).await.is(200);
    let told = eventually("a void that went through", async || {
        let told = evidence(&site.engine, &session).await;
        told["instructions"][1]["outcome"]["succeeded"].is_object().then_some(told)
    })
    .await;
    let (hold, void) = (&told["instructions"][0], &told["instructions"][1]);
    assert_eq!((&hold["operation"], &void["operation"]), (&json!("hold"), &json!("void")));
    assert_eq!(void["of"], hold["key"]);
}
