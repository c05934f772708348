//! A fuelling is one trace, over every actor and a restart, and a collector that fails harms nobody.

use std::{net::TcpListener, process::Stdio, time::Duration};

use forecourt::engine::id::SessionId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    collector::{Collector, Span, parents},
    engine::{Engine, PATIENCE, eventually},
    site::{Car, PUMP, Site, completion},
};

const OTHERS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Each span that a fuelling through the proof to the settlement leaves, below which it is. The calls come first.
const EXPECTED: [(&str, &str); 21] = [
    ("session", ""),
    ("POST /v1/stations/{station}/sessions", "session"),
    ("GET /v1/sessions/{id}", "session"),
    ("POST /v1/sessions/{id}/reservation", "session"),
    ("POST /v1/sessions/{id}/completion", "session"),
    ("POST /v1/sessions/{id}/proof", "session"),
    ("POST /v1/sessions/{id}/cleared", "session"),
    ("POST /v1/sessions/{id}/release", "session"),
    ("select", "POST /v1/stations/{station}/sessions"),
    ("open", "select"),
    ("journal", "open"),
    ("order", "POST /v1/sessions/{id}/proof"),
    ("registration", "order"),
    ("journal", "order"),
    ("instruct", "order"),
    ("charge", "instruct"),
    ("psp", "charge"),
    ("report", "session"),
    ("push", "session"),
    ("deadline", "session"),
    // Of the operator's settlement, which names many sessions.
    ("order", "session"),
];

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok_7")
}

/// Selected, completed and, after a power cut, proven and paid.
async fn sell(site: &mut Site, car: &Car, collector: &Collector) -> String {
    let selected = site.select("3456").await.is(201);
    let session = selected.text("id");
    assert!(selected.trace.expect("a trace").starts_with(&format!("00-{session}-")));
    site.order(&session, "reservation", json!({ "pump": PUMP })).await.is(200);
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let phone = car.phone_token(&site.engine).await;
    let waiting = site.until_state(&session, &phone, "AwaitingProof").await;
    for name in ["push", "deadline", "POST /v1/sessions/{id}/completion"] {
        collector.until(name).await;
    }
    site.engine.crash_and_restart().await;
    let proven = site.engine.post(&format!("/v1/sessions/{session}/proof"), &phone, car.proof(&waiting)).await;
    assert!(proven.status.is_success());
    site.until_state(&session, &site.terminal, "Paid").await;
    session
}

#[tokio::test]
async fn a_fuelling_is_one_trace_from_the_selection_to_the_settlement() {
    let (collector, car) = (Collector::start().await, car());
    let mut settings = collector.settings();
    settings.push(("PUSH_URL", "http://127.0.0.1:9/nobody".into()));
    settings.push(("PUSH_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()));
    settings.push(("PUSH_AFTER_MS", "10".into()));
    let mut site = Site::on(Engine::start_with(&settings).await, &[&car]).await;
    let session = sell(&mut site, &car, &collector).await;
    let refused = site.order(&session, "release", Value::Null).await.refused_as(409, "WRONG_STATE");
    assert_eq!(refused.text("trace"), session);
    site.order(&session, "cleared", Value::Null).await.is(200);
    let batch = json!({ "sessions": [session] });
    site.engine.post("/v1/settlements", site.engine.operator(), batch).await.is(200);
    look_with_a_trace_of_ones_own(&site, &session).await;
    for name in ["session", "POST /v1/sessions/{id}/cleared"] {
        collector.until(name).await;
    }
    let spans = eventually("spans of the trace", async || {
        let spans = collector.spans();
        let parents = parents(&spans);
        EXPECTED.iter().all(|expected| parents.contains(expected)).then_some(spans.clone())
    });
    let spans = tokio::time::timeout(PATIENCE / 2, spans).await.unwrap_or_else(|_| {
        let spans = collector.spans();
        let missing: Vec<_> = EXPECTED.iter().filter(|expected| !parents(&spans).contains(expected)).collect();
        panic!("{missing:?} of {:?}", parents(&spans))
    });
    assert!(spans.iter().all(|span| span.trace() == session), "and nothing else is told");
    assert!(parents(&spans).iter().all(|(_, parent)| *parent != "(none that was told)"), "{:?}", parents(&spans));
    assert_eq!(spans.iter().filter(|span| span.name() == "session").count(), 1);
    let events: Vec<&str> = spans.iter().filter_map(|span| span.attribute("event")).collect();
    for event in ["reservation_asked", "fuel_delivered", "proof_verified", "charge_concluded", "settled_in_batch"] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }
    let linked = spans.iter().filter(|span| span.links() == [OTHERS]).map(Span::name);
    assert_eq!(linked.collect::<Vec<_>>(), ["GET /v1/sessions/{id}"]);
    let own = spans.iter().find(|span| span.name() == "session").expect("looked for above");
    let calls = spans.iter().filter(|span| span.name() == "POST /v1/sessions/{id}/proof").map(Span::lasted_ms);
    assert!(own.attribute("state") == Some("Cleared") && calls.max() <= Some(own.lasted_ms()));
}

/// The caller's trace is linked, whatever it is: it makes no id here.
async fn look_with_a_trace_of_ones_own(site: &Site, session: &str) {
    let url = format!("http://{}/v1/sessions/{session}", site.engine.addresses().http);
    let look = reqwest::Client::new().get(url).bearer_auth(&site.terminal);
    let answer =
        look.header("traceparent", format!("00-{OTHERS}-00f067aa0ba902b7-01")).send().await.expect("it answers");
    let told = answer.headers()["traceresponse"].to_str().expect("ASCII").to_owned();
    assert!(told.starts_with(&format!("00-{session}-")) && told.ends_with("-01"), "{told}");
}

#[tokio::test]
async fn a_collector_that_never_answers_harms_nobody_and_holds_up_no_drain() {
    // Connections to it are made by the kernel, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let settings = [
        ("TRACE_EXPORT", "true".to_owned()),
        ("TRACE_ENDPOINT", format!("http://{}/", silent.local_addr().expect("it is bound"))),
        ("TRACE_EVERY_MS", "10".into()),
        ("TRACE_QUEUE_MAX", "8".into()),
        ("TRACE_BATCH_MAX", "4".into()),
        ("TRACE_TIMEOUT_MS", "500".into()),
        ("TRACE_DRAIN_MS", "200".into()),
    ];
    let mut engine = Engine::start_prepared(&settings, |command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    })
    .await;
    let log = engine.take_log();
    let car = car();
    let site = Site::on(engine, &[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let phone = car.phone_token(&site.engine).await;
    let waiting = site.until_state(&session, &phone, "AwaitingProof").await;
    site.engine.post(&format!("/v1/sessions/{session}/proof"), &phone, car.proof(&waiting)).await;
    site.until_state(&session, &site.terminal, "Paid").await;
    eventually("spans that were dropped and refused", async || {
        let spans = async |outcome| site.engine.metric("forecourt_trace_spans_total", &[outcome]).await;
        (spans("dropped").await > 0.0 && spans("refused").await >= 4.0).then_some(())
    })
    .await;
    site.engine.terminate();
    let log = tokio::time::timeout(Duration::from_secs(10), log).await.expect("it ends").expect("its log is read");
    let said = String::from_utf8_lossy(&log);
    assert!(said.contains("the collector takes no traces"), "{said}");
}

#[tokio::test]
async fn nothing_is_told_of_a_session_that_is_not_drawn() {
    let collector = Collector::start().await;
    let settings = [collector.settings(), vec![("TRACE_SAMPLE_PERMILLE", "1".into())]].concat();
    let car = car();
    let site = Site::on(Engine::start_with(&settings).await, &[&car]).await;
    // By the last 8 bytes of the id, of which a thousandth is drawn: not this one, or the test is vain.
    let selected = site.select("3456").await.is(201);
    let session: SessionId = selected.text("id").parse().expect("an id");
    let is_drawn = selected.trace.expect("a trace").ends_with("-01");
    let low = u64::from_be_bytes(*session.0.last_chunk().expect("16 bytes are more than 8"));
    assert_eq!(is_drawn, low < u64::MAX / 1_000, "{session}");
    site.engine.call(Method::GET, &format!("/v1/sessions/{session}"), &site.terminal, Value::Null).await.is(200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(collector.spans().is_empty(), !is_drawn);
}
