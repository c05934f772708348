//! The second channel: what no phone shows in time reaches the chain's push service, signed, once it answers.
//!
//! Signatures are judged by the reference library of Standard Webhooks, as a push service would.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    engine::{Engine, eventually},
    site::{Car, Site, completion},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How the push service treats a message.
#[derive(Clone, Copy)]
enum Mood {
    Says(u16),
    /// It keeps silent for longer than the engine waits.
    Silent,
}

/// A push service that treats its first messages as told, and takes the others.
#[derive(Clone)]
struct PushService {
    url: String,
    moods: Arc<Mutex<VecDeque<Mood>>>,
    messages: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

async fn take(State(service): State<PushService>, headers: HeaderMap, body: Bytes) -> StatusCode {
    service.messages.lock().expect("no panic").push((headers, body));
    let mood = service.moods.lock().expect("no panic").pop_front();
    match mood.unwrap_or(Mood::Says(204)) {
        Mood::Says(status) => StatusCode::from_u16(status).expect("a status"),
        Mood::Silent => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::NO_CONTENT
        }
    }
}

impl PushService {
    async fn start(moods: &[Mood]) -> PushService {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        let moods = Arc::new(Mutex::new(moods.iter().copied().collect()));
        let service = PushService { url, moods, messages: Arc::default() };
        let router = Router::new().route("/hook", post(take)).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        service
    }

    async fn engine(&self, after_ms: u32) -> Engine {
        let settings = [
            ("PUSH_URL", self.url.clone()),
            ("PUSH_SECRET", SECRET.to_owned()),
            ("PUSH_AFTER_MS", after_ms.to_string()),
            ("PUSH_TIMEOUT_MS", "1000".into()),
            ("PUSH_RETRY_MS_MIN", "50".into()),
        ];
        Engine::start_with(&settings).await
    }

    /// The messages so far, each verified, as their ids and what they say.
    fn verified(&self) -> Vec<(String, Value)> {
        let verifier = Webhook::new(SECRET).expect("a secret of the standard");
        let messages = self.messages.lock().expect("no panic");
        let read = |(headers, body): &(HeaderMap, Bytes)| {
            verifier.verify(body, headers).expect("a signature of the standard");
            let id = headers["webhook-id"].to_str().expect("ASCII").to_owned();
            (id, serde_json::from_slice(body).expect("JSON"))
        };
        messages.iter().map(read).collect()
    }

    async fn until(&self, count: usize) -> Vec<(String, Value)> {
        eventually("pushed messages", async || {
            let messages = self.verified();
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// The kinds of message that came, once it has been quiet for longer than any message takes.
    async fn kinds_after_a_while(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.verified().iter().map(|(_, body)| body["type"].as_str().expect("a type").to_owned()).collect()
    }
}

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok_7")
}

#[tokio::test]
async fn a_word_that_no_phone_shows_is_pushed_under_one_id_until_the_service_takes_it() {
    let service = PushService::start(&[Mood::Says(503), Mood::Silent, Mood::Says(301)]).await;
    let car = car();
    let site = Site::on(service.engine(200).await, &[&car]).await;
    let session = site.select("3456").await.is(201);
    let pushed = service.until(4).await;
    let id = format!("{}_1_selected", session.text("id"));
    assert!(pushed.iter().all(|(pushed, _)| *pushed == id), "{pushed:?}");
    let expected = json!({
        "session": session.body["id"], "binding": session.body["binding"], "notice": "selected", "version": 1,
        "path": format!("/v1/sessions/{}", session.text("id")),
    });
    assert!(pushed.iter().all(|(_, body)| body["data"] == expected && body["type"] == "session.selected"));
    assert!(!pushed[0].1.to_string().contains("3456"), "no plate");
    assert_eq!(service.kinds_after_a_while().await.len(), 4, "it was taken");
    let tries = async |outcome| site.engine.metric("forecourt_push_tries_total", &[outcome]).await;
    assert_eq!((tries("refused").await, tries("timed_out").await, tries("delivered").await), (2.0, 1.0, 1.0));
    site.order(&session.text("id"), "completion", completion("T-1")).await.is(200);
    let pushed = service.until(5).await;
    assert_eq!(pushed[4].1["type"], "session.please_prove");
}

#[tokio::test]
async fn a_word_that_the_phone_shows_in_time_is_not_pushed() {
    let service = PushService::start(&[]).await;
    let car = car();
    let site = Site::on(service.engine(1_500).await, &[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let session = site.select("3456").await.is(201).text("id");
    let notice = format!("/v1/sessions/{session}/notice");
    site.engine.post(&notice, &phone, json!({ "version": 1 })).await.is(200);
    assert!(service.kinds_after_a_while().await.is_empty());
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let late = site.engine.post(&notice, &phone, json!({ "version": 1 })).await.is(200);
    assert_eq!(late.body["unseen"]["notice"], "please_prove", "the phone shows an older one");
    assert_eq!(service.until(1).await[0].1["type"], "session.please_prove");
}

#[tokio::test]
async fn after_a_restart_only_what_no_phone_has_shown_is_pushed() {
    let service = PushService::start(&[]).await;
    let (seen, unseen) = (car(), Car::new(8, "98나7777", "tok_ok_8"));
    let mut site = Site::on(service.engine(3_000).await, &[&seen, &unseen]).await;
    let phone = seen.phone_token(&site.engine).await;
    let shown = site.select("3456").await.is(201).text("id");
    site.engine.post(&format!("/v1/sessions/{shown}/notice"), &phone, Value::Null).await.is(200);
    let waiting = site.select("7777").await.is(201).text("id");
    site.engine.crash_and_restart().await;
    assert_eq!(service.until(1).await[0].0, format!("{waiting}_1_selected"));
    assert_eq!(service.kinds_after_a_while().await.len(), 1);
}

#[tokio::test]
async fn a_service_that_is_gone_gets_nothing_more() {
    let service = PushService::start(&[Mood::Says(410)]).await;
    let car = car();
    let site = Site::on(service.engine(100).await, &[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    service.until(1).await;
    site.order(&session, "completion", completion("T-1")).await.is(200);
    assert_eq!(service.kinds_after_a_while().await.len(), 1);
    assert!(site.engine.metric("forecourt_push_disabled", &[]).await > 0.0);
}
