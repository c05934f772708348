//! Bad peers on the uplink port: each is refused with its stated code and counted, and the station beside notices
//! nothing.

use std::{net::UdpSocket, time::Duration};

use forecourt::{
    engine::{
        batch::{self, BatchError, Encoder},
        control::{Hello, Message, Refusal},
        id::{SpoolId, StationId},
    },
    ingest::pki,
    uplink::{Identity, client_endpoint},
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use crate::{
    engine::{Engine, eventually},
    site::{Car, OTHER_STATION, STATION, Site, identity, receivers},
};

const CLOSED: &str = "forecourt_ingest_closed_total";

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok_7")
}

async fn connect(engine: &Engine, identity: &Identity) -> Result<Connection, ConnectionError> {
    let server = engine.addresses().ingest;
    let endpoint = client_endpoint(server).expect("a socket");
    endpoint.connect_with(identity.client_config(), server, "localhost").expect("a valid name").await
}

fn hello(station: StationId) -> Message {
    Message::Hello(Hello {
        versions: vec![batch::VERSION],
        station,
        spool: SpoolId(99),
        receivers: receivers(),
        software: "test".into(),
    })
}

/// An uplink by hand, past its hello: the connection, its control stream and its batch stream.
async fn attach(engine: &Engine, station: StationId) -> (Connection, (SendStream, RecvStream), SendStream) {
    let connection = connect(engine, &identity(engine.folder(), station)).await.expect("a certificate of ours");
    let (mut send, mut receive) = connection.open_bi().await.expect("one control stream");
    send.write_all(&hello(station).encode()).await.expect("room for a hello");
    receive.read_chunk(512, true).await.expect("a welcome").expect("before the end");
    let batches = connection.open_uni().await.expect("one batch stream");
    (connection, (send, receive), batches)
}

/// The code that the engine closed the connection with.
async fn close_code(connection: &Connection) -> u64 {
    let closed = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await.expect("it is closed");
    match closed {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("closed by {other}"),
    }
}

async fn is_counted(engine: &Engine, reason: &str) {
    let label = format!("reason=\"{reason}\"");
    eventually(&format!("count of {reason}"), async || (engine.metric(CLOSED, &[&label]).await >= 1.0).then_some(()))
        .await;
}

/// The site's own uplink still brings its car to the terminal.
async fn neighbour_is_served(site: &Site) {
    let frames = async || site.engine.metric("forecourt_station_frames_total", &["code=\"resolved\""]).await;
    let before = frames().await;
    eventually("frames of the neighbour", async || (frames().await > before).then_some(())).await;
    site.until_visible(1).await;
}

/// Sends `bytes` as the batches of the other station and expects to be closed with the code of `error`.
async fn is_refused(site: &Site, bytes: &[u8], error: BatchError) {
    let (connection, _control, mut batches) = attach(&site.engine, OTHER_STATION).await;
    batches.write_all(bytes).await.expect("it is read");
    assert_eq!(close_code(&connection).await, u64::from(error.close_code()), "{error}");
    is_counted(&site.engine, error.reason()).await;
}

fn batch(encoder: &mut Encoder, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.encode(sequence, &[car().hearing(-60)], &mut bytes).expect("one hearing fits");
    bytes
}

#[tokio::test]
async fn bad_batches_close_their_uplink_and_no_other() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;

    let mut whole = batch(&mut Encoder::new(), 1);
    let mut truncated = whole.clone();
    truncated.truncate(whole.len() - 3);
    let length = (truncated.len() - batch::PREFIX_BYTES) as u16;
    truncated[..batch::PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    is_refused(&site, &truncated, BatchError::Length).await;

    is_refused(&site, &u16::MAX.to_le_bytes(), BatchError::TooLong).await;

    let mut encoder = Encoder::new();
    batch(&mut encoder, 1);
    let never_introduced = batch(&mut encoder, 2);
    is_refused(&site, &never_introduced, BatchError::Number).await;

    whole[batch::PREFIX_BYTES] = 9;
    is_refused(&site, &whole, BatchError::Version).await;

    neighbour_is_served(&site).await;
}

#[tokio::test]
async fn a_station_cannot_speak_for_another() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let connection =
        connect(&site.engine, &identity(site.engine.folder(), OTHER_STATION)).await.expect("a certificate of ours");
    let (mut send, _receive) = connection.open_bi().await.expect("one control stream");
    send.write_all(&hello(STATION).encode()).await.expect("room for a hello");
    let refusal = Refusal::Certificate;
    assert_eq!(close_code(&connection).await, u64::from(refusal.close_code()));
    is_counted(&site.engine, refusal.reason()).await;
    neighbour_is_served(&site).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let foreign = tempfile::tempdir().expect("a temporary folder");
    pki::ensure(foreign.path(), &[]).expect("an authority of somebody else");
    let theirs = pki::issue_station(foreign.path(), STATION).expect("their certificate of our station");
    let ours = site.engine.folder().join("pki").join("ca.pem");
    let identity = Identity::read(&ours, &theirs.certificate, &theirs.key).expect("it reads");
    // TLS 1.3 lets the client finish before its certificate is looked at.
    match connect(&site.engine, &identity).await {
        Ok(connection) => {
            connection.closed().await;
        }
        Err(refused) => assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{refused}"),
    }
    is_counted(&site.engine, "handshake").await;
    neighbour_is_served(&site).await;
}

#[tokio::test]
async fn garbage_on_the_port_is_not_noticed() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut garbage = [0; 1200];
    for _ in 0..500 {
        getrandom::fill(&mut garbage).expect("randomness");
        socket.send_to(&garbage, site.engine.addresses().ingest).expect("loopback");
    }
    neighbour_is_served(&site).await;
}

#[tokio::test]
async fn a_newer_uplink_of_a_station_takes_over() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let (first, _control, _batches) = attach(&site.engine, OTHER_STATION).await;
    let _second = attach(&site.engine, OTHER_STATION).await;
    assert_eq!(close_code(&first).await, 0x02);
    is_counted(&site.engine, "replaced").await;
    neighbour_is_served(&site).await;
}
