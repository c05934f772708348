//! What every answer of Stripe means, from a server that says what it is told to.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;
use crate::{
    engine::{charge::ChargeKey, id::SessionId, money::Money},
    secret::Secret,
};

/// Answers its requests in this order, each on a connection of its own, and tells what was asked.
struct Server {
    stripe: Stripe,
    asked: mpsc::UnboundedReceiver<String>,
}

async fn server(answers: Vec<(u16, Value)>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let _ = tell.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    let transport = Transport::new(&url, &Secret::new("sk_test")).unwrap();
    Server { stripe: Stripe { transport, endpoint: None }, asked }
}

impl Server {
    /// The request line of the next request, and its body.
    fn next(&mut self) -> (String, String) {
        let request = self.asked.try_recv().unwrap();
        let line = request.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        (line, request.split("\r\n\r\n").nth(1).unwrap().to_owned())
    }
}

fn task(operation: Operation) -> Task {
    let amount = Money { minor: 900, currency: "EUR".parse().unwrap() };
    let (session, means) = (SessionId([1; 16]), "cus_1:pm_1".to_owned());
    let of =
        matches!(operation, Operation::Capture | Operation::Void | Operation::Refund).then_some(ChargeKey([8; 32]));
    let instruction = Instruction { session, ordinal: 3, operation, means, amount, of };
    Task { instruction, object: Some("pi_1".into()) }
}

fn intent(status: &str) -> Value {
    json!({ "id": "pi_1", "status": status, "amount": 900, "amount_received": 900 })
}

fn error(code: &str) -> Value {
    json!({ "error": { "type": "invalid_request_error", "code": code } })
}

#[tokio::test]
async fn every_status_against_every_call() {
    let mut table = String::new();
    for status in [200, 302, 400, 401, 402, 403, 404, 409, 429, 500, 503] {
        let body = if status == 200 { intent("succeeded") } else { error("a_code") };
        // What is refused is looked up, and was not confirmed.
        let answers = || vec![(status, body.clone()), (200, intent("requires_confirmation"))];
        let charge = task(Operation::Charge);
        let prepared = server(answers()).await.stripe.prepare(&charge.instruction).await;
        let performed = server(answers()).await.stripe.perform(&charge).await;
        let found = server(answers()).await.stripe.look_up(&charge, false).await;
        let word = |debug: String| debug.split(' ').next().unwrap_or_default().to_owned();
        let [prepared, performed, found] =
            [format!("{prepared:?}"), format!("{performed:?}"), format!("{found:?}")].map(word);
        writeln!(table, "{status}  {prepared:9} {performed:9} {found}").unwrap();
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_charge_is_prepared_unconfirmed_and_confirmed_under_another_key() {
    let charge = task(Operation::Charge);
    let mut server = server(vec![(200, intent("requires_confirmation")), (200, intent("succeeded"))]).await;
    let prepared = server.stripe.prepare(&charge.instruction).await;
    assert_eq!(prepared, Prepared::Ready { object: Some("pi_1".into()) });
    assert!(matches!(server.stripe.perform(&charge).await, Answer::Succeeded { .. }));
    let (line, body) = server.next();
    assert_eq!(line, "POST /v1/payment_intents");
    let key = hex::encode(charge.instruction.key().0);
    for part in
        ["amount=900", "currency=eur", "capture_method=automatic", "payment_method=pm_1", "customer=cus_1", &key]
    {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(!body.contains("confirm="));
    assert_eq!(server.next().0, "POST /v1/payment_intents/pi_1/confirm");
}

#[tokio::test]
async fn a_refused_confirmation_that_happened_before_has_succeeded() {
    let answers = vec![(400, error("payment_intent_unexpected_state")), (200, intent("succeeded"))];
    let answer = server(answers).await.stripe.perform(&task(Operation::Charge)).await;
    assert!(matches!(answer, Answer::Succeeded { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_hold_that_wants_the_driver_is_cancelled_and_declined() {
    let mut server = server(vec![(200, intent("requires_action")), (200, intent("canceled"))]).await;
    assert_eq!(server.stripe.perform(&task(Operation::Hold)).await, Answer::Declined);
    server.next();
    assert_eq!(server.next().0, "POST /v1/payment_intents/pi_1/cancel");
}

#[tokio::test]
async fn what_did_not_happen_is_made_impossible_only_when_it_may_be_closed() {
    let asked = || vec![(200, intent("requires_capture")), (200, intent("canceled"))];
    let open = server(asked()).await.stripe.look_up(&task(Operation::Capture), false).await;
    assert_eq!(open, Finding::NotFound);
    let closed = server(asked()).await.stripe.look_up(&task(Operation::Capture), true).await;
    assert_eq!(closed, Finding::Declined);
    let lost = vec![(200, intent("requires_capture")), (500, json!({}))];
    let unclear = server(lost).await.stripe.look_up(&task(Operation::Capture), true).await;
    assert_eq!(unclear, Finding::NoAnswer);
}

#[tokio::test]
async fn a_refund_is_found_by_its_own_key_alone() {
    let refund = task(Operation::Refund);
    let key = hex::encode(refund.instruction.key().0);
    let listed = |key: &str, has_more: bool| {
        let refund = json!({ "id": "re_1", "amount": 900, "status": "succeeded", "metadata": { "key": key } });
        (200, json!({ "data": [refund], "has_more": has_more }))
    };
    let found = async |answer| server(vec![answer]).await.stripe.look_up(&refund, false).await;
    assert!(matches!(found(listed(&key, false)).await, Finding::Succeeded { reference, .. } if reference == "re_1"));
    assert_eq!(found(listed(&"00".repeat(32), false)).await, Finding::NotFound);
    assert_eq!(found(listed(&"00".repeat(32), true)).await, Finding::NoAnswer);
}

#[tokio::test]
async fn a_charge_without_a_journalled_name_was_never_confirmed() {
    let nameless = Task { object: None, ..task(Operation::Charge) };
    assert_eq!(server(vec![]).await.stripe.look_up(&nameless, true).await, Finding::NotFound);
}

#[tokio::test]
async fn a_partial_capture_and_strange_refunds_are_told_apart_in_the_books() {
    let metadata = |key: u8, operation: &str| json!({ "key": hex::encode([key; 32]), "session": "07".repeat(16), "operation": operation });
    let intent = |key, operation| json!({ "id": "pi_1", "status": "succeeded", "amount": 5_000, "metadata": metadata(key, operation) });
    let movement = |id: &str, kind: &str, amount: i64, created: u64, source: Value| json!({ "id": id, "type": kind, "amount": amount, "currency": "eur", "created": created, "source": source });
    let capture = json!({ "id": "ch_1", "payment_intent": intent(1, "hold") });
    let released = json!({ "id": "re_1", "charge": "ch_1", "payment_intent": null });
    let ordered = json!({ "id": "re_2", "charge": "ch_1", "metadata": metadata(2, "refund"), "payment_intent": intent(1, "hold") });
    let strange = json!({ "id": "re_3", "charge": "ch_0", "payment_intent": null });
    let pages = vec![
        (
            200,
            json!({ "has_more": true, "data": [
            movement("txn_5", "refund", -300, 1_009, ordered),
            movement("txn_4", "stripe_fee", -10, 1_009, json!("fee_1")),
        ] }),
        ),
        (
            200,
            json!({ "has_more": true, "data": [
            movement("txn_3", "refund", -1_700, 1_005, released),
            movement("txn_2", "charge", 5_000, 1_005, capture),
            movement("txn_1", "refund", -40, 1_001, strange),
            movement("txn_0", "charge", 80, 900, json!({ "id": "ch_0", "payment_intent": intent(3, "charge") })),
        ] }),
        ),
    ];
    let mut server = server(pages).await;
    let lines = server.stripe.books(UnixMs(1_000_000), UnixMs(1_010_000)).await.unwrap();
    let mut found: Vec<_> =
        lines.iter().map(|line| (line.reference.as_str(), line.amount.minor, line.key.is_some())).collect();
    found.sort_unstable();
    assert_eq!(found, [("ch_1", 3_300, true), ("re_2", 300, true), ("re_3", 40, false)]);
    server.next();
    assert!(server.next().0.ends_with("&starting_after=txn_4"));
}
