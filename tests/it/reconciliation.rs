//! `forecourt reconcile` beside a running engine, against the simulated PSP's own books.

use std::process::Command;

use forecourt::{payment::reconciliation::Day, telemetry::now};
use serde_json::{Value, json};

use crate::{
    engine::{Answer, FORECOURT},
    site::{Car, Site, completion},
};

async fn paid(site: &Site, car: &Car) -> String {
    let phone = car.phone_token(&site.engine).await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "completion", completion("T-1")).await.is(200);
    site.engine.post(&format!("/v1/sessions/{session}/notice"), &phone, Value::Null).await.is(200);
    let view = site.until_state(&session, &phone, "AwaitingProof").await;
    let proven: Answer = site.engine.post(&format!("/v1/sessions/{session}/proof"), &phone, car.proof(&view)).await;
    assert!(proven.status.is_success());
    site.until_state(&session, &site.terminal, "Paid").await;
    session
}

/// How it ends, and the kinds of the exceptions.
fn reconcile(site: &Site, day: Day) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(FORECOURT);
    command.args(["reconcile", "--json", "--date", &day.to_string(), "--data"]).arg(site.engine.folder());
    let output = command.output().expect("the forecourt binary is built with its tests");
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let exceptions = made["exceptions"].as_array().expect("a list");
    (output.status.code(), exceptions.iter().map(|exception| exception["kind"].clone()).collect())
}

#[tokio::test]
async fn a_day_is_reconciled_and_what_the_psp_lost_is_named() {
    let (car, day) = (Car::new(7, "AB3456", "tok_ok_7"), Day::of(now()));
    let site = Site::with_cars(&[&car]).await;
    let session = paid(&site, &car).await;
    assert_eq!(reconcile(&site, day), (Some(7), vec![json!("paid_not_cleared")]));
    site.order(&session, "cleared", Value::Null).await.is(200);
    assert_eq!(reconcile(&site, day), (Some(0), vec![]));
    let folder = site.engine.folder().join("reconciliation");
    for ending in ["csv", "json", "sha256"] {
        assert!(folder.join(format!("{day}.{ending}")).is_file(), "{ending}");
    }
    let books = rusqlite::Connection::open(site.engine.folder().join("psp-simulator.db")).expect("the PSP's books");
    books.execute("DELETE FROM operations", []).expect("they are ours to spoil");
    assert_eq!(reconcile(&site, day), (Some(7), vec![json!("missing_at_psp")]));
}
