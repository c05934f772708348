//! The money, through HTTP: from selection to settlement, with repeats, refusals and power cuts on the way.

use std::time::Duration;

use forecourt::payment::Simulator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, eventually},
    site::{Car, OTHER_STATION, PUMP, STATION, Site, completion, import, terminal_token, uplink},
};

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok_7")
}

/// The PSP's own books: net charges and their sum for the session.
fn charged(site: &Site, session: &str) -> (u32, i64) {
    let books = Simulator::open(site.engine.folder(), Duration::ZERO).expect("the PSP's books");
    let charges = books.charges().expect("they read");
    let of = charges.iter().find(|charge| charge.session.to_string() == session);
    of.map_or((0, 0), |charge| (charge.net, charge.net_minor))
}

/// Selected, completed, and waiting for the driver: the session's id and its phone's token.
async fn until_awaiting_proof(site: &Site, car: &Car) -> (String, String) {
    let phone = car.phone_token(&site.engine).await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "completion", completion(&format!("T-{session}"))).await.is(200);
    site.engine.post(&format!("/v1/sessions/{session}/notice"), &phone, Value::Null).await.is(200);
    site.until_state(&session, &phone, "AwaitingProof").await;
    (session, phone)
}

async fn prove(site: &Site, car: &Car, session: &str, phone: &str) -> crate::engine::Answer {
    let view = site.engine.get(&format!("/v1/sessions/{session}"), phone).await.is(200);
    site.engine.post(&format!("/v1/sessions/{session}/proof"), phone, car.proof(&view.body)).await
}

#[tokio::test]
async fn a_sale_runs_from_the_forecourt_to_the_receipt() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    assert!(prove(&site, &car, &session, &phone).await.status.is_success());
    let paid = site.until_state(&session, &site.terminal, "Paid").await;
    assert_eq!(paid["paid"], json!({ "minor": 3_300, "currency": "EUR" }));
    assert!(paid.get("challenge").is_none(), "the terminal sees no challenge");
    let receipt = site.engine.get(&format!("/v1/sessions/{session}/receipt"), &phone).await.is(200);
    assert_eq!(receipt.body["amount"]["minor"], 3_300);
    site.order(&session, "cleared", Value::Null).await.is(200);
    site.until_state(&session, &site.terminal, "Cleared").await;
    assert_eq!(charged(&site, &session), (1, 3_300));
}

#[tokio::test]
async fn the_list_says_who_is_in_a_session_as_soon_as_the_order_is_answered() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let is_selected = async || {
        let list = site.engine.get(&format!("/v1/stations/{STATION}/vehicles"), &site.terminal).await.is(200);
        list.body["vehicles"][0]["selected"].clone()
    };
    assert_eq!(is_selected().await, json!(false));
    for _ in 0..10 {
        let session = site.select("3456").await.is(201).text("id");
        assert_eq!(is_selected().await, json!(true));
        site.order(&session, "release", Value::Null).await.is(200);
        assert_eq!(is_selected().await, json!(false));
    }
}

#[tokio::test]
async fn a_request_sent_again_does_nothing_again() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let path = format!("/v1/stations/{STATION}/sessions");
    let ask = async |plate: &str| {
        let body = json!({ "plate": plate, "pump": PUMP });
        site.engine.call_with_key(Method::POST, &path, &site.terminal, body, "one-key").await
    };
    let first = ask("3456").await.is(201);
    assert_eq!(ask("3456").await.is(201).text("id"), first.text("id"));
    ask("가3456").await.refused_as(422, "IDEMPOTENCY_KEY_REUSED");
    let other_key = site.select("3456").await;
    assert_eq!(other_key.status.as_u16(), 409, "the vehicle is in a session: {other_key:?}");
    let session = first.text("id");
    let report = completion("T-1");
    site.order(&session, "completion", report.clone()).await.is(200);
    site.order(&session, "completion", report).await.is(200);
    let mut other = completion("T-1");
    other["volume_ml"] = json!(10_000);
    other["amount"]["minor"] = json!(1_650);
    assert_eq!(site.order(&session, "completion", other).await.status.as_u16(), 409);
}

#[tokio::test]
async fn a_selection_sent_again_takes_no_other_vehicle_that_fits_by_now() {
    let (first, second) = (Car::new(7, "12가3456", "tok_ok_7"), Car::new(8, "34나3456", "tok_ok_8"));
    let engine = Engine::start().await;
    import(&engine, &[&second]).await;
    let site = Site::on(engine, &[&first]).await;
    let path = format!("/v1/stations/{STATION}/sessions");
    let select = async || {
        let body = json!({ "plate": "3456", "pump": PUMP });
        site.engine.call_with_key(Method::POST, &path, &site.terminal, body, "once").await.is(201).text("id")
    };
    let session = select().await;
    site.radio.abort();
    let both = [&first, &second];
    let uplink = uplink(&site.engine, STATION);
    eventually("the second car", async || {
        uplink.hear_all(&both.map(|car| car.hearing(-55)));
        let answer = site.engine.get(&format!("/v1/stations/{STATION}/vehicles"), &site.terminal).await;
        (answer.body["vehicles"].as_array()?.len() == both.len()).then_some(())
    })
    .await;
    assert_eq!(select().await, session);
    let other = site.select("3456").await.is(201);
    assert_eq!(other.body["device"], json!(second.device));
}

#[tokio::test]
async fn a_power_cut_between_any_two_steps_loses_nothing() {
    let car = car();
    let mut site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    site.engine.crash_and_restart().await;
    site.until_visible(1).await;
    let session = site.select("3456").await.is(201).text("id");
    site.engine.crash_and_restart().await;
    site.order(&session, "reservation", json!({ "pump": PUMP })).await.is(200);
    site.engine.crash_and_restart().await;
    site.order(&session, "fuelling", json!({ "pump": PUMP })).await.is(200);
    site.engine.crash_and_restart().await;
    site.order(&session, "completion", completion("T-1")).await.is(200);
    site.engine.crash_and_restart().await;
    let waiting = site.until_state(&session, &phone, "AwaitingProof").await;
    let proof = car.proof(&waiting);
    site.engine.crash_and_restart().await;
    let path = format!("/v1/sessions/{session}/proof");
    assert!(site.engine.post(&path, &phone, proof).await.status.is_success());
    site.engine.crash_and_restart().await;
    site.until_state(&session, &site.terminal, "Paid").await;
    site.engine.crash_and_restart().await;
    site.order(&session, "cleared", Value::Null).await.is(200);
    assert_eq!(charged(&site, &session), (1, 3_300));
}

#[tokio::test]
async fn three_wrong_proofs_end_the_attempt_and_charge_nothing() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    let stranger = Car::new(8, "", "");
    for _ in 0..3 {
        let view = site.engine.get(&format!("/v1/sessions/{session}"), &phone).await.is(200);
        let forged = stranger.proof(&view.body);
        let refused = site.engine.post(&format!("/v1/sessions/{session}/proof"), &phone, forged).await;
        assert_eq!(refused.code(), "PROOF_WRONG", "{refused:?}");
    }
    site.until_state(&session, &site.terminal, "ProofFailed").await;
    assert_eq!(charged(&site, &session), (0, 0));
}

#[tokio::test]
async fn an_amount_that_is_not_volume_times_price_is_refused() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    let mut wrong = completion("T-1");
    wrong["amount"]["minor"] = json!(3_400);
    site.order(&session, "completion", wrong).await.refused_as(409, "AMOUNT_MISMATCH");
    site.order(&session, "completion", completion("T-1")).await.is(200);
}

#[tokio::test]
async fn a_plate_may_fit_nobody_one_or_several() {
    let (one, other, third) = (car(), Car::new(8, "98나3456", "tok_ok_8"), Car::new(9, "34다7777", "tok_ok_9"));
    let site = Site::with_cars(&[&one, &other, &third]).await;
    site.select("0000").await.refused_as(404, "PLATE_NO_MATCH");
    assert_eq!(site.select("7").await.status.as_u16() / 100, 4);
    let ambiguous = site.select("3456").await.refused_as(409, "PLATE_AMBIGUOUS");
    let candidates = ambiguous.body["candidates"].as_array().expect("candidates").clone();
    assert_eq!(candidates.len(), 2);
    assert!(!ambiguous.body.to_string().contains("98나3456"), "plates are masked");
    let picked = &candidates[1]["candidate"];
    let body = json!({ "plate": "3456", "pump": PUMP, "candidate": picked });
    let path = format!("/v1/stations/{STATION}/sessions");
    let session = site.engine.post(&path, &site.terminal, body).await.is(201);
    assert_eq!(&session.body["binding"], picked);
    site.select("7777").await.is(201);
}

#[tokio::test]
async fn a_declined_payment_is_collected_at_the_counter() {
    let car = Car::new(7, "12가3456", "tok_decline_1");
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    prove(&site, &car, &session, &phone).await;
    site.until_state(&session, &site.terminal, "CollectAtSite").await;
    site.order(&session, "paid-at-site", Value::Null).await.is(200);
    site.until_state(&session, &site.terminal, "PaidElsewhere").await;
    assert_eq!(charged(&site, &session), (0, 0));
}

#[tokio::test]
async fn a_declined_means_gives_way_to_the_next() {
    let car = Car::new(7, "12가3456", "tok_decline_1;tok_ok_2");
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    prove(&site, &car, &session, &phone).await;
    site.until_state(&session, &site.terminal, "Paid").await;
    assert_eq!(charged(&site, &session), (1, 3_300));
}

#[tokio::test]
async fn a_lost_answer_of_the_psp_is_looked_up_and_never_charged_again() {
    let car = Car::new(7, "12가3456", "tok_lost_1");
    let mut site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    prove(&site, &car, &session, &phone).await;
    site.engine.crash_and_restart().await;
    site.until_state(&session, &site.terminal, "Paid").await;
    assert_eq!(charged(&site, &session), (1, 3_300));
}

#[tokio::test]
async fn the_driver_can_say_not_me() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let session = site.select("3456").await.is(201).text("id");
    site.engine.post(&format!("/v1/sessions/{session}/rejection"), &phone, Value::Null).await.is(200);
    site.until_state(&session, &site.terminal, "Rejected").await;
    site.order(&session, "completion", completion("T-1")).await.is(200);
    site.until_state(&session, &site.terminal, "CollectAtSite").await;
}

#[tokio::test]
async fn a_suspended_binding_is_refused_by_name() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let vehicles = site.engine.get(&format!("/v1/stations/{STATION}/vehicles"), &site.terminal).await.is(200);
    let binding = vehicles.body["vehicles"][0]["binding"].as_str().expect("a binding").to_owned();
    let suspend = format!("/v1/bindings/{binding}/suspension");
    site.engine.post(&suspend, site.engine.operator(), json!({ "reason": "stolen" })).await.is(200);
    eventually("refusal", async || (site.select("3456").await.code() == "BINDING_SUSPENDED").then_some(())).await;
}

#[tokio::test]
async fn a_payment_is_refunded_in_parts_and_no_more_than_it_was() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    let receipt = format!("/v1/sessions/{session}/receipt");
    site.engine.get(&receipt, &phone).await.refused_as(409, "NOT_PAID");
    prove(&site, &car, &session, &phone).await;
    site.until_state(&session, &site.terminal, "Paid").await;
    let refund = async |body: Value| {
        site.engine.post(&format!("/v1/sessions/{session}/refunds"), site.engine.operator(), body).await
    };
    let refunded = async |minor: i64| {
        eventually("refund", async || {
            let receipt = site.engine.get(&receipt, &phone).await.is(200);
            (receipt.body["refunded"]["minor"] == minor).then_some(())
        })
        .await;
    };
    refund(json!({ "amount": { "minor": 300, "currency": "EUR" } })).await.is(200);
    refunded(300).await;
    refund(json!({ "amount": { "minor": 3_001, "currency": "EUR" } })).await.refused_as(400, "BAD_REQUEST");
    refund(json!({})).await.is(200);
    refunded(3_300).await;
    assert_eq!(charged(&site, &session).1, 0);
    let view = site.engine.get(&format!("/v1/sessions/{session}"), &phone).await.is(200);
    assert_eq!(view.body["unseen"]["notice"], "refunded");
}

#[tokio::test]
async fn a_nozzle_that_is_hung_up_again_ends_the_session() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    let mut nothing = completion("T-1");
    nothing["volume_ml"] = json!(0);
    nothing["amount"]["minor"] = json!(0);
    let released = site.order(&session, "completion", nothing).await.is(200);
    assert_eq!((&released.body["state"], &released.body["reason"]), (&json!("Released"), &json!("nothing_sold")));
}

#[tokio::test]
async fn a_correction_voids_the_proof_that_is_out_and_the_right_amount_is_charged() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    let wrong = site.engine.get(&format!("/v1/sessions/{session}"), &phone).await.is(200);
    let mut right = completion("T-right");
    right["volume_ml"] = json!(10_000);
    right["amount"]["minor"] = json!(1_650);
    site.order(&session, "correction", right).await.is(200);
    let path = format!("/v1/sessions/{session}/proof");
    let late = site.engine.post(&path, &phone, car.proof(&wrong.body)).await;
    assert_eq!(late.code(), "PROOF_WRONG", "{late:?}");
    prove(&site, &car, &session, &phone).await;
    site.until_state(&session, &site.terminal, "Paid").await;
    assert_eq!(charged(&site, &session), (1, 1_650));
}

#[tokio::test]
async fn a_price_that_is_not_the_stations_is_a_conflict_or_a_dispute() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let grades = json!([{ "grade": "gasoline", "unit_price_milli": 170_000 }]);
    let prices = json!({ "currency": "EUR", "grades": grades });
    let path = format!("/v1/stations/{STATION}/prices");
    site.engine.call(Method::PUT, &path, &site.terminal, prices).await.is(204);
    let session = site.select("3456").await.is(201).text("id");
    let quote = json!({ "pump": PUMP, "quote": { "grade": "gasoline", "unit_price_milli": 165_000 } });
    site.order(&session, "reservation", quote).await.refused_as(409, "PRICE_CHANGED");
    let disputed = site.order(&session, "completion", completion("T-1")).await.is(200);
    assert_eq!((&disputed.body["state"], &disputed.body["reason"]), (&json!("Disputed"), &json!("price_changed")));
    site.order(&session, "correction", completion("T-2")).await.refused_as(409, "PRICE_CHANGED");
    let mut right = completion("T-2");
    right["unit_price_milli"] = json!(170_000);
    right["amount"]["minor"] = json!(3_400);
    let corrected = site.order(&session, "correction", right).await.is(200);
    assert_eq!(corrected.body["state"], "AwaitingProof");
}

#[tokio::test]
async fn a_proof_after_the_driver_paid_at_the_counter_charges_nothing() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    let view = site.engine.get(&format!("/v1/sessions/{session}"), &phone).await.is(200);
    site.order(&session, "paid-at-site", Value::Null).await.is(200);
    let path = format!("/v1/sessions/{session}/proof");
    site.engine.post(&path, &phone, car.proof(&view.body)).await.refused_as(403, "PAID_ELSEWHERE");
    assert_eq!(charged(&site, &session), (0, 0));
}

#[tokio::test]
async fn a_charge_that_went_through_after_the_driver_paid_at_the_counter_is_refunded_by_itself() {
    let car = Car::new(7, "12가3456", "tok_lost_1");
    let site = Site::with_cars(&[&car]).await;
    let (session, phone) = until_awaiting_proof(&site, &car).await;
    prove(&site, &car, &session, &phone).await;
    eventually("a charge at the PSP", async || (charged(&site, &session) == (1, 3_300)).then_some(())).await;
    site.order(&session, "paid-at-site", Value::Null).await.is(200);
    eventually("a refund", async || (charged(&site, &session).1 == 0).then_some(())).await;
    eventually("word of the refund", async || {
        let view = site.engine.get(&format!("/v1/sessions/{session}"), &phone).await.is(200);
        (view.body["state"] == "PaidElsewhere" && view.body["paid"]["minor"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_grade_that_does_not_fit_is_stopped_until_an_operator_lets_it_pass() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let session = site.select("3456").await.is(201).text("id");
    let quote = json!({ "pump": PUMP, "quote": { "grade": "diesel", "unit_price_milli": 165_000 } });
    site.order(&session, "reservation", quote).await.refused_as(422, "GRADE_MISMATCH");
    let mut diesel = completion("T-1");
    diesel["grade"] = json!("diesel");
    let stopped = site.order(&session, "completion", diesel).await.is(200);
    assert_eq!((&stopped.body["state"], &stopped.body["reason"]), (&json!("Disputed"), &json!("wrong_grade")));

    let kim = json!({ "name": "kim" });
    let kim = site.engine.post("/v1/operators", site.engine.operator(), kim).await.is(201).text("token");
    let path = format!("/v1/sessions/{session}/grade-override");
    site.engine.post(&path, &kim, json!({ "reason": " " })).await.refused_as(400, "REASON_REQUIRED");
    site.engine.post(&path, &site.terminal, json!({ "reason": "I say so" })).await.refused_as(403, "FORBIDDEN");
    let allowed = site.engine.post(&path, &kim, json!({ "reason": "a canister" })).await.is(200);
    assert_eq!((&allowed.body["state"], &allowed.body["notice"]), (&json!("AwaitingProof"), &json!("please_prove")));
    prove(&site, &car, &session, &phone).await;
    site.until_state(&session, &site.terminal, "Paid").await;
    assert_eq!(charged(&site, &session), (1, 3_300));
    let evidence = site.engine.get(&format!("/v1/sessions/{session}/evidence"), &kim).await.is(200);
    let timeline = evidence.body["timeline"].as_array().expect("a timeline").clone();
    let line = timeline.iter().find(|line| line["what"] == "grade_allowed").expect("it is journalled");
    assert_eq!((&line["by"], &line["reason"]), (&json!({ "operator": "kim" }), &json!("a canister")));
}

#[tokio::test]
async fn an_operator_settles_what_the_acquirer_names_and_takes_over_what_is_stuck() {
    let (paid, stuck) = (car(), Car::new(8, "98나7777", "tok_ok_8"));
    let site = Site::with_cars(&[&paid, &stuck]).await;
    let (session, phone) = until_awaiting_proof(&site, &paid).await;
    prove(&site, &paid, &session, &phone).await;
    site.until_state(&session, &site.terminal, "Paid").await;
    site.order(&session, "cleared", Value::Null).await.is(200);
    let other = site.select("7777").await.is(201).text("id");
    let batch = json!({ "sessions": [session, other, session] });
    let settled = site.engine.post("/v1/settlements", site.engine.operator(), batch.clone()).await.is(200);
    assert_eq!(settled.body["settled"], 2, "{:#}", settled.body);
    let refused = &settled.body["refused"][0];
    assert_eq!((&refused["session"], &refused["problem"]["code"]), (&json!(other), &json!("WRONG_STATE")));
    site.until_state(&session, &site.terminal, "Settled").await;
    site.engine.post("/v1/settlements", &site.terminal, batch).await.refused_as(403, "FORBIDDEN");

    let hand_over = format!("/v1/sessions/{other}/hand-over");
    site.engine.post(&hand_over, &site.terminal, Value::Null).await.refused_as(403, "FORBIDDEN");
    let taken = site.engine.post(&hand_over, site.engine.operator(), Value::Null).await.is(200);
    assert_eq!((&taken.body["state"], &taken.body["reason"]), (&json!("BackOffice"), &json!("operator")));
}

#[tokio::test]
async fn a_terminal_sees_its_own_station_only() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    let other = terminal_token(&site.engine, OTHER_STATION).await;
    let path = format!("/v1/stations/{STATION}/vehicles");
    site.engine.get(&path, &other).await.refused_as(403, "FORBIDDEN");
    assert_eq!(site.engine.get(&format!("/v1/sessions/{session}"), &other).await.status.as_u16(), 404);
    site.engine.get(&path, "fct_nonsense").await.refused_as(401, "UNAUTHORISED");
    let keyless = reqwest::Client::new()
        .post(format!("http://{}/v1/sessions/{session}/release", site.engine.addresses().http))
        .bearer_auth(&site.terminal)
        .send()
        .await
        .expect("it answers");
    assert_eq!(keyless.status().as_u16(), 400);
}
