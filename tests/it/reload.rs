//! Certificates and limits that a running engine takes over, and what it makes of those that do not hold.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use forecourt::{
    ingest::pki,
    uplink::{Identity, client_endpoint},
};
use quinn::{Connection, ConnectionError};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    engine::{Engine, FORECOURT, eventually},
    site::{OTHER_STATION, STATION, identity, import, terminal_token, uplink},
};

const RELOADS: &str = "forecourt_settings_reloads_total";
const REFUSED: &str = "forecourt_settings_refused";

fn reload(engine: &Engine) -> Output {
    let mut command = Command::new(FORECOURT);
    command.args(["reload", "--json"]).env("FORECOURT_ENGINE_DATA", engine.folder());
    command.output().expect("the forecourt binary is built with its tests")
}

/// The answer to a reload that ended with this code.
#[track_caller]
fn reloaded(engine: &Engine, code: i32) -> Value {
    let Output { status, stdout, stderr } = reload(engine);
    assert_eq!(status.code(), Some(code), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).expect("JSON")
}

async fn connect(engine: &Engine, identity: &Identity) -> Result<Connection, ConnectionError> {
    let server = engine.addresses().ingest;
    let endpoint = client_endpoint(server).expect("a socket");
    endpoint.connect_with(identity.client_config(), server, "localhost").expect("a valid name").await
}

/// What a newcomer is shown.
async fn served(engine: &Engine) -> Vec<u8> {
    let connection = connect(engine, &identity(engine.folder(), OTHER_STATION)).await.expect("a certificate of ours");
    let shown = connection.peer_identity().expect("a server has one").downcast::<Vec<CertificateDer<'static>>>();
    shown.expect("a chain")[0].to_vec()
}

/// Another certificate of the same authority takes the place of the server's.
fn renew(folder: &Path) {
    let server = pki::server(folder);
    fs::remove_file(&server.certificate).expect("it was there");
    pki::ensure(folder, &[]).expect("the authority's key is there");
}

/// Certificates of somebody else.
fn other() -> TempDir {
    let other = tempfile::tempdir().expect("a temporary folder");
    pki::ensure(other.path(), &[]).expect("an authority of its own");
    other
}

async fn health(engine: &Engine) -> Value {
    engine.get("/health/ready", "").await.is(200).body
}

#[tokio::test]
async fn newcomers_see_a_new_certificate_and_the_connected_notice_nothing() {
    let engine = Engine::start().await;
    import(&engine, &[]).await;
    let station = uplink(&engine, STATION);
    eventually("uplink", async || station.stats().connected.then_some(())).await;
    let before = served(&engine).await;
    renew(engine.folder());
    assert_eq!(served(&engine).await, before, "nobody said so yet");
    assert_eq!(reloaded(&engine, 0), json!({ "taken": ["certificates"], "restart": [] }));
    let after = served(&engine).await;
    assert_ne!(after, before);
    assert_eq!(reloaded(&engine, 0)["taken"], json!([]), "they are in force");
    assert_eq!(served(&engine).await, after);
    let stats = station.stats();
    assert!((stats.connected, stats.connects, stats.lost) == (true, 1, 0), "{stats:?}");
}

#[tokio::test]
async fn another_authority_lets_its_own_stations_in_and_no_others() {
    let engine = Engine::start().await;
    import(&engine, &[]).await;
    let station = uplink(&engine, STATION);
    eventually("uplink", async || station.stats().connected.then_some(())).await;
    let (stranger, other) = (identity(engine.folder(), OTHER_STATION), other());
    for file in ["ca.pem", "server.pem", "server.key"] {
        fs::copy(pki::folder(other.path()).join(file), pki::folder(engine.folder()).join(file)).expect("two folders");
    }
    assert_eq!(reloaded(&engine, 0)["taken"], json!(["certificates"]));
    assert!(connect(&engine, &stranger).await.is_err());
    let own = connect(&engine, &identity(other.path(), OTHER_STATION)).await.expect("one of the new authority");
    assert!(own.close_reason().is_none());
    assert!(station.stats().connected && station.stats().connects == 1);
}

#[tokio::test]
async fn what_does_not_hold_leaves_what_was_in_force_and_is_told() {
    let engine = Engine::start().await;
    import(&engine, &[]).await;
    let (before, other) = (served(&engine).await, other());
    let key = pki::server(engine.folder()).key;
    let good = fs::read(&key).expect("made at the start");
    let others = fs::read(pki::server(other.path()).key).expect("just made");
    for (wrong, word) in [(others, "do not work"), (b"no key".to_vec(), "server.key")] {
        fs::write(&key, wrong).expect("its folder");
        let answer = reloaded(&engine, 3);
        assert!(answer["refused"].as_str().is_some_and(|why| why.contains(word)), "{answer}");
        assert_eq!(served(&engine).await, before);
    }
    assert_eq!(health(&engine).await["reload"], json!({ "state": "refused", "restart": [] }));
    let count = async |metric, labels: &[&str]| engine.metric(metric, labels).await as u64;
    assert_eq!(count(RELOADS, &["outcome=\"refused\""]).await, 2);
    assert_eq!(count(REFUSED, &[]).await, 1);
    fs::write(&key, good).expect("its folder");
    assert_eq!(reloaded(&engine, 0)["taken"], json!([]));
    assert_eq!(health(&engine).await["reload"]["state"], "taken");
    assert_eq!(count(REFUSED, &[]).await, 0);
}

#[tokio::test]
async fn a_certificate_that_has_run_out_is_not_taken_over() {
    let engine = Engine::start().await;
    import(&engine, &[]).await;
    let before = served(&engine).await;
    let server = pki::server(engine.folder());
    let (key, mut params) =
        (rcgen::KeyPair::generate().unwrap(), rcgen::CertificateParams::new(["localhost".into()]).unwrap());
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    fs::write(&server.certificate, params.self_signed(&key).unwrap().pem()).expect("its folder");
    fs::write(&server.key, key.serialize_pem()).expect("its folder");
    let answer = reloaded(&engine, 3);
    assert!(answer["refused"].as_str().is_some_and(|why| why.contains("run out")), "{answer}");
    assert_eq!(served(&engine).await, before);
}

/// An engine with settings in a file of its own, which says this.
async fn with_file(folder: &TempDir, text: &str) -> Engine {
    let file = folder.path().join("forecourt.toml");
    fs::write(&file, text).expect("a temporary folder");
    Engine::start_prepared(&[], |engine| {
        engine.arg("--config").arg(&file);
    })
    .await
}

/// Says something else in the file, and asks for a reload as a service manager does.
async fn say(engine: &Engine, folder: &TempDir, text: &str) {
    let reloads = async || engine.metric(RELOADS, &[]).await;
    let before = reloads().await;
    fs::write(folder.path().join("forecourt.toml"), text).expect("a temporary folder");
    engine.hang_up();
    eventually("a reload", async || (reloads().await > before).then_some(())).await;
}

#[tokio::test]
async fn limits_are_in_force_at_once_and_what_needs_a_restart_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = with_file(&folder, "[http]\nterminal_calls_per_second = 1000\n").await;
    import(&engine, &[]).await;
    let terminal = terminal_token(&engine, STATION).await;
    let path = format!("/v1/stations/{STATION}/vehicles");
    let allowed = async || {
        let mut allowed = 0;
        for _ in 0..20 {
            allowed += u32::from(engine.get(&path, &terminal).await.status.is_success());
        }
        allowed
    };
    assert_eq!(allowed().await, 20);
    say(&engine, &folder, "[http]\nterminal_calls_per_second = 1\n[station]\nfade_after_s = 31\n").await;
    assert!(allowed().await < 20);
    let told = health(&engine).await["reload"].clone();
    assert_eq!(told, json!({ "state": "taken", "restart": ["station.fade_after_s"] }));

    say(&engine, &folder, "[http]\nterminal_calls_per_second = \n").await;
    assert_eq!(health(&engine).await["reload"]["state"], "refused");
    assert!(allowed().await < 20, "what was in force still is");
    say(&engine, &folder, "[http]\nterminal_calls_per_second = 0\n").await;
    assert_eq!(allowed().await, 20);
    assert_eq!(health(&engine).await["reload"], json!({ "state": "taken", "restart": [] }));
}

#[tokio::test]
async fn bounds_on_newcomers_are_in_force_at_once_and_send_nobody_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = with_file(&folder, "").await;
    import(&engine, &[]).await;
    let station = uplink(&engine, STATION);
    eventually("uplink", async || station.stats().connected.then_some(())).await;
    let newcomer = identity(engine.folder(), OTHER_STATION);
    say(&engine, &folder, "[ingest]\nconnections_max = 1\n").await;
    assert!(connect(&engine, &newcomer).await.is_err());
    assert!(engine.metric("forecourt_ingest_refused_total", &["reason=\"connections\""]).await >= 1.0);
    say(&engine, &folder, "[ingest]\nconnections_max = 2\n").await;
    assert!(connect(&engine, &newcomer).await.is_ok());
    assert_eq!(station.stats().connects, 1);
}
