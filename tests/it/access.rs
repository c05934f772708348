//! Who may call, how often, and for how long.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    engine::{Engine, PATIENCE},
    events::open,
    site::{Car, OTHER_STATION, STATION, Site, import, terminal_token},
};

const LOST: &str = "the device was lost";

#[tokio::test]
async fn a_token_that_is_taken_back_is_void_at_once_and_others_hold() {
    let car = Car::new(7, "12가3456", "tok_ok_7");
    let site = Site::with_cars(&[&car]).await;
    let (engine, operator) = (&site.engine, site.engine.operator());
    let (phone, elsewhere) = (car.phone_token(engine).await, terminal_token(engine, OTHER_STATION).await);
    let vehicles = |station| format!("/v1/stations/{station}/vehicles");
    let binding = engine.get("/v1/phone/binding", &phone).await.is(200).text("binding");
    let (board, app) = (
        open(&site, &format!("/v1/stations/{STATION}/events"), &site.terminal).await,
        open(&site, "/v1/phone/events", &phone).await,
    );

    let revocation = format!("/v1/stations/{STATION}/terminals/revocation");
    engine.post(&revocation, operator, json!({})).await.refused_as(400, "REASON_REQUIRED");
    engine.post(&revocation, &phone, json!({ "reason": LOST })).await.refused_as(403, "FORBIDDEN");
    engine.post(&revocation, operator, json!({ "reason": LOST })).await.is(204);
    engine.get(&vehicles(STATION), &site.terminal).await.refused_as(401, "UNAUTHORISED");
    engine.post(&revocation, operator, json!({ "reason": LOST })).await.refused_as(404, "NOT_FOUND");

    engine.post(&format!("/v1/bindings/{binding}/sign-out"), operator, json!({ "reason": LOST })).await.is(204);
    engine.get("/v1/phone/binding", &phone).await.refused_as(401, "UNAUTHORISED");
    for stream in [board, app] {
        let ended = tokio::time::timeout(PATIENCE, stream.text()).await;
        ended.expect("a stream ends with its token").expect("it ends in order");
    }
    let again = car.phone_token(engine).await;
    engine.get("/v1/phone/binding", &again).await.is(200);
    engine.get(&vehicles(OTHER_STATION), &elsewhere).await.is(200);

    let audit = engine.get("/v1/audit", operator).await.is(200);
    let rows = audit.body.as_array().expect("rows");
    assert!(rows.iter().any(|row| row.to_string().contains(LOST)), "{:#}", audit.body);
}

#[tokio::test]
async fn a_phone_sees_its_own_sessions_only() {
    let (mine, other) = (Car::new(7, "12가3456", "tok_ok_7"), Car::new(8, "12가9999", "tok_ok_8"));
    let site = Site::with_cars(&[&mine, &other]).await;
    let session = site.select("9999").await.is(201).text("id");
    let phone = mine.phone_token(&site.engine).await;
    let path = format!("/v1/sessions/{session}");
    site.engine.get(&path, &phone).await.refused_as(404, "NOT_FOUND");
    for order in ["notice", "rejection"] {
        site.engine.post(&format!("{path}/{order}"), &phone, json!({})).await.refused_as(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again_and_nobody_else_is_kept() {
    let (one, other) = (Car::new(7, "12가3456", "tok_ok_7"), Car::new(8, "12가9999", "tok_ok_8"));
    let engine = Engine::start_with(&[("HTTP_PHONE_CALLS_PER_SECOND", "1".into())]).await;
    import(&engine, &[&one, &other]).await;
    let (phone, neighbour) = (one.phone_token(&engine).await, other.phone_token(&engine).await);
    let url = format!("http://{}/v1/phone/binding", engine.addresses().http);
    let client = reqwest::Client::new();
    let mut refused = None;
    for _ in 0..20 {
        let answer = client.get(&url).bearer_auth(&phone).send().await.expect("it answers");
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty calls in a row are more than two a second");
    assert!(refused.headers()["retry-after"].to_str().is_ok_and(|seconds| seconds.parse::<u64>().is_ok()));
    assert!(refused.text().await.expect("a body").contains("TOO_MANY_CALLS"));
    engine.get("/v1/phone/binding", &neighbour).await.is(200);
    assert!(engine.metric("forecourt_http_limited_total", &["group=\"phone\""]).await >= 1.0);
}

#[tokio::test]
async fn who_guesses_tokens_is_slowed_down() {
    let engine = Engine::start_with(&[("HTTP_STRANGER_CALLS_PER_SECOND", "1".into())]).await;
    let guess = format!("fct_{}", "0".repeat(64));
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(engine.get("/v1/phone/binding", &guess).await.code().to_owned());
    }
    assert_eq!(codes[0], "UNAUTHORISED");
    assert!(codes.contains(&"TOO_MANY_CALLS".to_owned()), "{codes:?}");
    engine.get("/v1/stations", engine.operator()).await.is(200);
}

#[tokio::test]
async fn who_sends_his_request_slowly_loses_the_connection() {
    let engine = Engine::start_with(&[("HTTP_HEAD_TIMEOUT_MS", "300".into())]).await;
    let mut slow = TcpStream::connect(engine.addresses().http).await.expect("it listens");
    slow.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.expect("it listens");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut answer)).await;
    assert!(closed.expect("it is closed in time").is_ok());
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    engine.get("/health/live", "").await.is(204);
}
