//! What is told without being asked for, and the doors that need no token.

use std::{collections::BTreeMap, time::Duration};

use loadtest::people::events::{Event, Parser};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Response;
use serde_json::{Value, json};

use crate::{
    engine::{PATIENCE, eventually},
    site::{Car, STATION, Site, completion},
};

/// An event stream that is subscribed: its answer has begun.
pub(crate) async fn open(site: &Site, path: &str, token: &str) -> Response {
    let url = format!("http://{}{path}", site.engine.addresses().http);
    let stream = reqwest::Client::new().get(url).bearer_auth(token).send().await.expect("it answers");
    assert!(stream.status().is_success(), "{}", stream.status());
    stream
}

/// Reads a stream until all of `words` were in it.
async fn read_until(mut stream: Response, words: &[&str]) {
    let mut told = String::new();
    while !words.iter().all(|word| told.contains(word)) {
        let chunk = tokio::time::timeout(Duration::from_secs(30), stream.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("{words:?} not in {told}")).expect("it stays open");
        told += &String::from_utf8_lossy(&chunk.expect("it does not end"));
    }
}

#[tokio::test]
async fn terminal_and_phone_are_told_of_a_selection() {
    let car = Car::new(7, "12가3456", "tok_ok_7");
    let site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let terminal = open(&site, &format!("/v1/stations/{STATION}/events"), &site.terminal).await;
    let driver = open(&site, "/v1/phone/events", &phone).await;
    site.select("3456").await.is(201);
    read_until(terminal, &["event: snapshot", "event: session", "Selected"]).await;
    read_until(driver, &["event: snapshot", "event: session", "Selected"]).await;
}

#[tokio::test]
async fn a_terminal_is_told_when_a_car_that_stands_there_is_suspended_and_restored() {
    let car = Car::new(7, "12가3456", "tok_ok_7");
    let site = Site::with_cars(&[&car]).await;
    let vehicles = site.engine.get(&format!("/v1/stations/{STATION}/vehicles"), &site.terminal).await.is(200);
    let binding = vehicles.body["vehicles"][0]["binding"].as_str().expect("a binding").to_owned();
    let present = vehicles.body["vehicles"][0]["state"].as_str().expect("a state").to_owned();
    for (order, state) in [("suspension", "left"), ("restoration", present.as_str())] {
        let terminal = open(&site, &format!("/v1/stations/{STATION}/events"), &site.terminal).await;
        let path = format!("/v1/bindings/{binding}/{order}");
        site.engine.post(&path, site.engine.operator(), json!({ "reason": "a test" })).await.is(200);
        read_until(terminal, &["event: presence", &format!("\"state\":\"{state}\"")]).await;
    }
}

/// Somebody who shows sessions by their events, over streams that are cut.
#[derive(Default)]
struct Reader {
    sessions: BTreeMap<String, Value>,
    last: Option<String>,
}

impl Reader {
    /// Opens a stream that goes on after what was read.
    async fn come(&self, site: &Site, path: &str, token: &str) -> Response {
        let url = format!("http://{}{path}", site.engine.addresses().http);
        let mut request = reqwest::Client::new().get(url).bearer_auth(token);
        if let Some(last) = &self.last {
            request = request.header("Last-Event-ID", last);
        }
        request.send().await.expect("it answers")
    }

    /// Reads a stream's snapshot.
    async fn catch_up(&mut self, site: &Site, path: &str, token: &str) {
        let mut stream = self.come(site, path, token).await;
        let mut parser = Parser::default();
        let snapshot = loop {
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("a snapshot in time");
            parser.feed(&chunk.expect("it stays open").expect("it does not end"));
            if let Some(snapshot) = parser.next() {
                break snapshot;
            }
        };
        self.take(&snapshot);
    }

    /// Reads a stream until so many bytes of it have come, or none for so long. What is not whole by then is lost.
    async fn read(&mut self, site: &Site, path: &str, token: &str, bytes_max: usize, quiet: Duration) {
        let mut stream = self.come(site, path, token).await;
        let (mut parser, mut left) = (Parser::default(), bytes_max);
        while left > 0
            && let Ok(chunk) = tokio::time::timeout(quiet, stream.chunk()).await
        {
            let chunk = chunk.expect("it stays open").expect("it does not end");
            let come = &chunk[..chunk.len().min(left)];
            left -= come.len();
            parser.feed(come);
            parser.by_ref().for_each(|event| self.take(&event));
        }
    }

    /// Of two views of a session the one with the higher version is the later.
    fn take(&mut self, event: &Event) {
        self.last = event.id.clone().or(self.last.take());
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        let told = match event.name.as_str() {
            "snapshot" => data["sessions"].as_array().expect("sessions").clone(),
            "session" if data["session"].is_object() => vec![data["session"].clone()],
            "session" => vec![data],
            _ => Vec::new(),
        };
        for view in told {
            let id = view["id"].as_str().expect("an id").to_owned();
            let version = |view: &Value| view["version"].as_u64().expect("a version");
            if self.sessions.get(&id).is_none_or(|known| version(known) < version(&view)) {
                self.sessions.insert(id, view);
            }
        }
    }
}

/// A day at the pump: fuelled and paid, called off, not me, paid at the counter; each begins when the one before ends.
async fn live_through_a_day(site: &Site, car: &Car, phone: &str) {
    for visit in 0..8 {
        // Long enough for some cuts.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let session = eventually("a selection", async || {
            let selected = site.select("3456").await;
            (selected.status.as_u16() == 201).then(|| selected.text("id"))
        })
        .await;
        let order = async |order: &str, body: Value| {
            site.order(&session, order, body).await.is(200);
        };
        match visit % 4 {
            0 => order("release", Value::Null).await,
            1 => drop(site.engine.post(&format!("/v1/sessions/{session}/rejection"), phone, Value::Null).await.is(200)),
            2 => {
                order("completion", completion(&format!("T-{session}"))).await;
                order("paid-at-site", Value::Null).await;
            }
            _ => {
                order("completion", completion(&format!("T-{session}"))).await;
                let view = site.engine.get(&format!("/v1/sessions/{session}"), phone).await.is(200);
                let proof = car.proof(&view.body);
                site.engine.post(&format!("/v1/sessions/{session}/proof"), phone, proof).await;
                site.until_state(&session, phone, "Paid").await;
                order("cleared", Value::Null).await;
            }
        }
    }
}

/// What was told over cut streams is what there is.
#[tokio::test]
async fn streams_that_are_cut_anywhere_lose_nothing() {
    let seed = getrandom::u64().expect("randomness");
    eprintln!("seed {seed}");
    let car = Car::new(7, "12가3456", "tok_ok_7");
    let site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let at_station = format!("/v1/stations/{STATION}/events");
    let streams = [("/v1/phone/events", phone.as_str()), (at_station.as_str(), site.terminal.as_str())];
    let mut day = Box::pin(live_through_a_day(&site, &car, &phone));
    let mut random = StdRng::seed_from_u64(seed);
    let mut readers = [Reader::default(), Reader::default()];
    let mut is_over = false;
    for (reader, (path, token)) in readers.iter_mut().zip(streams) {
        reader.catch_up(&site, path, token).await;
    }
    let mut cuts = 0;
    while !is_over {
        let bytes: [usize; 2] = [random.random_range(1..6_000), random.random_range(1..6_000)];
        let [quiet, pause] = [(); 2].map(|()| Duration::from_millis(random.random_range(0..200)));
        let [driver, attendant] = &mut readers;
        let reading = async {
            futures_util::join!(
                driver.read(&site, streams[0].0, streams[0].1, bytes[0], quiet),
                attendant.read(&site, streams[1].0, streams[1].1, bytes[1], quiet),
            );
            tokio::time::sleep(pause).await;
        };
        tokio::pin!(reading);
        tokio::select! {
            () = &mut day, if !is_over => {
                is_over = true;
                reading.await;
            }
            () = &mut reading => {}
        }
        cuts += 1;
    }
    assert!(cuts >= 4, "{cuts} cuts in a day");
    for (reader, (path, token)) in readers.iter_mut().zip(streams) {
        reader.catch_up(&site, path, token).await;
        assert_eq!(reader.sessions.len(), 8, "{path}, {cuts} cuts, seed {seed}");
        for (id, told) in &reader.sessions {
            let is = site.engine.get(&format!("/v1/sessions/{id}"), token).await.body;
            assert_eq!(*told, is, "{path}, {cuts} cuts, seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_over_a_restart_and_an_id_of_another_journal_is_passed_over() {
    let car = Car::new(7, "12가3456", "tok_ok_7");
    let mut site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let mut reader = Reader::default();
    reader.catch_up(&site, "/v1/phone/events", &phone).await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let session = eventually("a selection", async || {
            let selected = site.select("3456").await;
            (selected.status.as_u16() == 201).then(|| selected.text("id"))
        })
        .await;
        site.order(&session, "release", Value::Null).await.is(200);
        ended.push(session);
    }
    site.engine.crash_and_restart().await;
    reader.catch_up(&site, "/v1/phone/events", &phone).await;
    ended.sort();
    assert!(reader.sessions.keys().eq(&ended), "{:?}", reader.sessions.keys());
    for foreign in ["999999999", "no id of ours"] {
        let mut stranger = Reader { last: Some(foreign.into()), ..Reader::default() };
        stranger.catch_up(&site, "/v1/phone/events", &phone).await;
        assert_eq!(stranger.sessions.len(), 1, "as one that comes for the first time");
    }
}

#[tokio::test]
async fn open_doors_need_no_token() {
    let site = Site::with_cars(&[]).await;
    site.engine.get("/health/live", "").await.is(204);
    site.engine.get("/health/ready", "").await.is(200);
    let document = site.engine.get("/openapi.json", "").await.is(200);
    assert!(document.text("openapi").starts_with("3.1"));
    let paths = document.body["paths"].as_object().map_or(0, serde_json::Map::len);
    assert!(paths > 25, "{paths} paths");
    assert!(matches!(document.body["paths"]["/v1/sessions/{id}/proof"], Value::Object(_)));
}
