//! What the engine says, at its most talkative: no secret, no token, no plate. In both forms of the log, in the traces,
//! and in the metrics.

use std::{net::TcpListener, process::Stdio};

use forecourt::engine::{code::Secret, proof::ProofKey};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    collector::Collector,
    couplings::Phone,
    engine::{Engine, PATIENCE, eventually},
    leaks::Planted,
    site::{Car, PUMP, STATION, Site, completion},
};

const PLATE: &str = "QXJ7VWK9";
const NEXT_PLATE: &str = "ZWX8KQV4";
const COUPLED_PLATE: &str = "98하8642";
const UNKNOWN_PLATE: &str = "VQZ5JXW3";
const MEANS: &str = "tok_ok_planted_means_of_a_driver";
const LOST_MEANS: &str = "tok_lost_planted_means_of_a_driver";
const PSP_MEANS: &str = "pm_planted0means0at0the0psp";
const LABEL: &str = "PLANTED-LABEL-0001";
const COUPLED_ROOT: [u8; 32] = *b"\x8b\x12root that a phone couples now\xfd";
const WRONG_TOKEN: &str = "fct_planted_token_that_is_nobodys";
const PUSH_SECRET: &str = "whsec_cGxhbnRlZCBrZXkgb2YgdGhlIHdlYmhvb2tzISEh";
const REDIS_PASSWORD: &str = "planted-password-of-redis";
const PSP_SECRET: &str = "sk_test_planted_secret_of_the_psp";
const PSP_WEBHOOKS: &str = "whsec_planted_secret_of_the_psp";

struct Spoken {
    log: Vec<u8>,
    traces: Vec<u8>,
    metrics: Vec<u8>,
    session: String,
    planted: Planted,
}

impl Spoken {
    fn assert_silent(&self) {
        let said = [("the log", &self.log), ("the traces", &self.traces), ("the metrics", &self.metrics)];
        for (place, bytes) in said {
            assert!(bytes.len() > 1_000, "{place} says {} bytes", bytes.len());
            self.planted.assert_not_in(place, bytes);
        }
    }

    /// That what is said would be found: the session is said, by its rule.
    fn assert_heard(&self) {
        let mut said = Planted::new();
        said.plant("the session", &hex::decode(&self.session).expect("an id"));
        assert_eq!((said.found_in(&self.log), said.found_in(&self.traces)), (Some("the session"), Some("the session")));
        let log = String::from_utf8_lossy(&self.log);
        let levels = ["TRACE", "DEBUG", "INFO", "WARN"];
        assert!(levels.iter().filter(|level| log.contains(*level)).count() >= 3, "it does not say much: {log}");
    }
}

fn planted(cars: &[&Car]) -> Planted {
    let mut planted = Planted::new();
    for car in cars {
        planted.plant("a root", &car.root());
        planted.plant("a proof key", ProofKey::from_root(&car.root()).bytes());
        let Secret::Hmac { code_key } = &Secret::from_root(&car.root()) else { unreachable!("made from a root") };
        planted.plant("a code key", code_key);
    }
    planted.plant("the coupled root", &COUPLED_ROOT);
    planted.plant("its proof key", ProofKey::from_root(&COUPLED_ROOT).bytes());
    // Of the phone that couples.
    planted.plant("a phone's key", &[9; 32]);
    for plate in [PLATE, NEXT_PLATE, COUPLED_PLATE, UNKNOWN_PLATE] {
        planted.plant_text("a plate", plate);
    }
    for (name, secret) in [
        ("a means of payment", MEANS),
        ("a means that is lost", LOST_MEANS),
        ("a means at the PSP", PSP_MEANS),
        ("an activation code", LABEL),
        ("a token of nobody", WRONG_TOKEN),
        ("the push service's secret", PUSH_SECRET),
        ("Redis' password", REDIS_PASSWORD),
        ("the PSP's secret", PSP_SECRET),
        ("the secret of its webhooks", PSP_WEBHOOKS),
    ] {
        planted.plant(name, secret.as_bytes());
    }
    planted
}

/// Everything that may be refused, done and amended, with the cars of which the first is sold to.
async fn live(log_format: &str, settings: Vec<(&'static str, String)>, cars: &[&Car], ends: &str) -> Spoken {
    let collector = Collector::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let settings = [
        collector.settings(),
        settings,
        vec![
            ("LOG_FORMAT", log_format.to_owned()),
            ("LOG_FILTER", "info,forecourt=trace".into()),
            ("PUSH_URL", format!("http://{nobody}/")),
            ("PUSH_SECRET", PUSH_SECRET.into()),
            ("PUSH_AFTER_MS", "10".into()),
            ("PAYMENT_ANSWER_MS", "1000".into()),
            ("REGISTRATION_REDIS_URL", format!("redis://:{REDIS_PASSWORD}@{nobody}")),
            ("PAYMENT_STRIPE_SECRET", PSP_SECRET.into()),
            ("PAYMENT_STRIPE_WEBHOOK_SECRET", PSP_WEBHOOKS.into()),
        ],
    ]
    .concat();
    let mut engine = Engine::start_prepared(&settings, |command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    })
    .await;
    let log = engine.take_log();
    let mut planted = planted(cars);
    planted.plant("the operator's token", engine.operator().as_bytes());
    let site = Site::on(engine, cars).await;
    planted.plant("the terminal's token", site.terminal.as_bytes());

    couple(&site.engine).await;
    malformed(&site).await;
    let session = sell(&site, cars[0], &mut planted, ends).await;
    if let Some(other) = cars.get(1) {
        amend(&site, other).await;
    }
    collector.until("push").await;
    let metrics = site.engine.metrics().await.into_bytes();
    site.engine.terminate();
    let log = tokio::time::timeout(PATIENCE, log).await.expect("it ends").expect("its log is read");
    Spoken { log, traces: collector.bytes(), metrics, session, planted }
}

async fn couple(engine: &Engine) {
    let header = "device_id,scheme,key_hex,activation_code";
    engine.import("devices", format!("{header}\n90,hmac,{},{LABEL}\n", hex::encode(COUPLED_ROOT))).await;
    engine.post_csv("devices", format!("{header},plate\n91,hmac,{LABEL},{PLATE},{PLATE}\n")).await;
    let phone = Phone::new(9);
    let unsigned = json!({ "activation_code": LABEL, "phone_key": hex::encode([9; 32]), "plate": COUPLED_PLATE });
    engine.post("/v1/couplings", "", unsigned).await.is(400);
    let claimed = engine.post("/v1/couplings", "", phone.claim(LABEL, COUPLED_PLATE)).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    engine.post(&path, "", phone.proof(&claimed, &ProofKey::from_root(&[1; 32]))).await;
    let claimed = engine.post("/v1/couplings", "", phone.claim(LABEL, COUPLED_PLATE)).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    engine.post(&path, "", phone.proof(&claimed, &ProofKey::from_root(&COUPLED_ROOT))).await.is(201);
}

/// Of what is refused, an answer may say what was sent; who listens to the engine does not hear it.
async fn malformed(site: &Site) {
    let engine = &site.engine;
    let sessions = format!("/v1/stations/{STATION}/sessions");
    site.select(UNKNOWN_PLATE).await.refused_as(404, "PLATE_NO_MATCH");
    engine.post(&sessions, &site.terminal, json!({ "plate": PLATE, "pump": "three" })).await.is(400);
    engine.post(&sessions, WRONG_TOKEN, json!({ "plate": PLATE })).await.is(401);
    engine.post(&format!("/v1/sessions/{PLATE}/proof"), &site.terminal, json!({ "mac": LABEL })).await;
    engine.get(&format!("/v1/bindings?plate={PLATE}"), engine.operator()).await.is(200);
    engine.get(&format!("/v1/bindings?plate={UNKNOWN_PLATE}"), engine.operator()).await.is(404);
    engine.get(&format!("/v1/{WRONG_TOKEN}"), WRONG_TOKEN).await.is(404);
    let grades = json!([{ "grade": PLATE, "unit_price_milli": PLATE }]);
    let prices = json!({ "currency": "EUR", "grades": grades });
    engine.call(Method::PUT, &format!("/v1/stations/{STATION}/prices"), &site.terminal, prices).await.is(400);
    let announced = json!({ "id": PSP_MEANS, "type": PSP_WEBHOOKS });
    engine.post("/v1/webhooks/stripe", WRONG_TOKEN, announced).await;
}

async fn sell(site: &Site, car: &Car, planted: &mut Planted, ends: &str) -> String {
    let phone = car.phone_token(&site.engine).await;
    planted.plant("the phone's token", phone.as_bytes());
    let session = site.select(&car.plate[2..]).await.is(201).text("id");
    site.order(&session, "reservation", json!({ "pump": PUMP })).await.is(200);
    let mut wrong = completion("T-1");
    wrong["amount"]["minor"] = json!(3_400);
    site.order(&session, "completion", wrong).await.refused_as(409, "AMOUNT_MISMATCH");
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let waiting = site.until_state(&session, &phone, "AwaitingProof").await;
    let forged = Car::new(8_888, "", "").proof(&waiting);
    let path = format!("/v1/sessions/{session}/proof");
    site.engine.post(&path, &phone, forged).await.refused_as(409, "PROOF_WRONG");
    let waiting = site.until_state(&session, &phone, "AwaitingProof").await;
    let proof = car.proof(&waiting);
    for part in ["mac", "signature"] {
        planted.plant("a proof", &hex::decode(proof[part].as_str().expect("hexadecimal")).expect("hexadecimal"));
    }
    site.engine.post(&path, &phone, proof).await;
    site.until_state(&session, &site.terminal, ends).await;
    eventually("an outcome of a call to the PSP", async || {
        (site.engine.metric("forecourt_payment_gateway_outcomes_total", &[]).await > 0.0).then_some(())
    })
    .await;
    site.engine.get(&format!("/v1/sessions/{session}/evidence"), site.engine.operator()).await.is(200);
    site.engine.get(&format!("/v1/sessions/{session}/receipt"), &phone).await;
    session
}

async fn amend(site: &Site, car: &Car) {
    let engine = &site.engine;
    let found = engine.get(&format!("/v1/bindings?device={}", car.device), engine.operator()).await.is(200);
    let binding = found.text("binding");
    let change = json!({ "plate": NEXT_PLATE, "reason": "a new plate" });
    let path = format!("/v1/bindings/{binding}/plate");
    engine.call(Method::PUT, &path, engine.operator(), change).await.is(200);
    let reason = json!({ "reason": "stolen" });
    engine.post(&format!("/v1/bindings/{binding}/suspension"), engine.operator(), reason.clone()).await.is(200);
    engine.post(&format!("/v1/bindings/{binding}/sign-out"), engine.operator(), reason).await;
    eventually("refusal", async || (site.select(NEXT_PLATE).await.code() == "BINDING_SUSPENDED").then_some(())).await;
}

#[tokio::test]
async fn a_log_for_people_says_no_secret_and_no_plate() {
    let (car, other) = (Car::new(7, PLATE, MEANS), Car::new(8, "WQK6XJZ2", LOST_MEANS));
    let spoken = live("text", Vec::new(), &[&car, &other], "Paid").await;
    spoken.assert_silent();
    spoken.assert_heard();
    let named = format!("order{{session={}", spoken.session);
    assert!(String::from_utf8_lossy(&spoken.log).contains(&named), "its lines name the session");
}

#[tokio::test]
async fn a_log_for_machines_and_the_errors_of_a_psp_say_no_secret_and_no_plate() {
    // It takes connections, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let psp = format!("http://{}", silent.local_addr().expect("it is bound"));
    let car = Car::new(7, PLATE, PSP_MEANS);
    let settings = vec![("PAYMENT_GATEWAY", "stripe".to_owned()), ("PAYMENT_STRIPE_URL", psp)];
    let spoken = live("json", settings, &[&car], "Paying").await;
    spoken.assert_silent();
    spoken.assert_heard();
    let log = String::from_utf8_lossy(&spoken.log);
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_session = |line: &&Value| {
        let spans = line["spans"].as_array().into_iter().flatten();
        spans.clone().any(|span| span["session"] == spoken.session.as_str())
    };
    assert!(lines.iter().filter(of_session).count() >= 3, "its lines name the session: {log}");
}
