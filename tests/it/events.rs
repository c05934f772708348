//! What is told without being asked for, and the doors that need no token.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};

use crate::site::{Car, STATION, Site};

/// An event stream that is subscribed: its answer has begun.
async fn open(site: &Site, path: &str, token: &str) -> Response {
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
