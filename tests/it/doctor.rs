//! `forecourt doctor`: each check that can be made to fail, and that it leaves nothing behind.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::Command,
};

use forecourt::ingest::pki;
use rcgen::{CertificateParams, KeyPair};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    engine::{Engine, FORECOURT},
    redis_server::RedisServer,
    tools::SmallDisk,
};

/// What this machine grants whatever its kernel is set to: what is looked at is not the machine.
const MODEST: [(&str, &str); 3] =
    [("INGEST_SOCKET_RECEIVE_BYTES", "65536"), ("HTTP_CONNECTIONS_MAX", "16"), ("PAYMENT_PLACES_MAX", "16")];

/// Where nobody listens on purpose; each test binds the one that it needs itself.
const ANY_PORT: [(&str, &str); 3] =
    [("INGEST_LISTEN", "127.0.0.1:0"), ("HTTP_LISTEN", "127.0.0.1:0"), ("HTTP_METRICS_LISTEN", "127.0.0.1:0")];

struct Visit {
    code: Option<i32>,
    report: Value,
    said: String,
}

impl Visit {
    fn to(data: &Path, settings: &[(&str, &str)]) -> Visit {
        let mut command = Command::new(FORECOURT);
        command.args(["doctor", "--json"]).env("FORECOURT_ENGINE_DATA", data);
        for (name, value) in MODEST.iter().chain(&ANY_PORT).chain(settings) {
            command.env(format!("FORECOURT_{name}"), value);
        }
        let output = command.output().expect("the forecourt binary is built with its tests");
        let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        Visit { code: output.status.code(), report, said }
    }

    /// The findings of a check: its verdict and what was found.
    fn of(&self, check: &str) -> Vec<(&str, &str)> {
        let checks = self.report["checks"].as_array().expect("checks").iter();
        checks
            .filter(|finding| finding["check"] == check)
            .map(|finding| (finding["verdict"].as_str().expect("text"), finding["found"].as_str().expect("text")))
            .collect()
    }

    #[track_caller]
    fn finds(&self, check: &str, verdict: &str, word: &str) {
        let found = self.of(check);
        assert!(found.iter().any(|(of, found)| *of == verdict && found.contains(word)), "{}", self.said);
        assert_eq!(self.code == Some(8), self.report["verdict"] == "wrong", "{}", self.said);
        if verdict == "wrong" {
            assert_eq!(self.code, Some(8), "{}", self.said);
        }
    }
}

/// A data folder with certificates, and nothing else.
fn with_certificates() -> TempDir {
    let data = tempfile::tempdir().expect("a temporary folder");
    pki::ensure(data.path(), &[]).expect("they are made");
    data
}

#[test]
fn a_look_makes_nothing_and_finds_nothing_wrong_where_nothing_is_yet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("forecourt").join("data");
    let visit = Visit::to(&data, &[]);
    assert_ne!(visit.code, Some(3));
    for check in
        ["data folder", "certificates", "ledger", "registrations", "uplink port", "open files", "socket buffer"]
    {
        assert!(visit.of(check).iter().all(|(verdict, _)| *verdict == "ok"), "{check}: {}", visit.said);
    }
    assert!(!data.exists() && fs::read_dir(folder.path()).expect("it is there").next().is_none());
}

#[tokio::test]
async fn a_running_engine_is_asked_and_its_ports_are_its_own() {
    let engine = Engine::start().await;
    let at = engine.addresses();
    let ports = [at.ingest, at.http, at.metrics].map(|address| address.to_string());
    let settings = [("INGEST_LISTEN", &*ports[0]), ("HTTP_LISTEN", &ports[1]), ("HTTP_METRICS_LISTEN", &ports[2])];
    let visit = Visit::to(engine.folder(), &settings);
    visit.finds("engine", "ok", "ready");
    visit.finds("data folder", "ok", "an engine runs on");
    for port in ["uplink port", "HTTP port", "metrics port"] {
        visit.finds(port, "ok", "held by the running engine");
    }
    visit.finds("ledger", "ok", "head 0:");
    visit.finds("registrations", "ok", "revision ");
    visit.finds("open files", "ok", "the running engine may have");
    visit.finds("server certificate", "ok", "holds for 824 days");
    engine.get("/health/ready", "").await.is(200);
}

#[test]
fn ports_that_somebody_else_holds_are_wrong() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (tcp, udp) =
        (tcp.local_addr().map(|at| (tcp, at.to_string())), udp.local_addr().map(|at| (udp, at.to_string())));
    let ((_tcp, tcp), (_udp, udp)) = (tcp.unwrap(), udp.unwrap());
    let visit = Visit::to(data.path(), &[("HTTP_LISTEN", &tcp), ("INGEST_LISTEN", &udp)]);
    visit.finds("HTTP port", "wrong", &tcp);
    visit.finds("uplink port", "wrong", &udp);
    visit.finds("metrics port", "ok", "free");
}

/// A certificate of the server's that holds for so many days from now, and its key.
fn lasting(data: &Path, days: i64) {
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(["localhost".into()]).unwrap());
    let now = forecourt::telemetry::now().0 as i64 / 1_000;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch;
    params.not_after = epoch + time::Duration::seconds(now) + time::Duration::days(days) + time::Duration::hours(1);
    let server = pki::server(data);
    fs::write(server.certificate, params.self_signed(&key).unwrap().pem()).expect("its folder");
    fs::write(server.key, key.serialize_pem()).expect("its folder");
}

#[test]
fn certificates_that_run_out_are_told_in_time() {
    let data = with_certificates();
    lasting(data.path(), 29);
    Visit::to(data.path(), &[]).finds("server certificate", "warn", "holds for 29 days");
    lasting(data.path(), 30);
    Visit::to(data.path(), &[]).finds("server certificate", "ok", "holds for 30 days");
    lasting(data.path(), -1);
    Visit::to(data.path(), &[]).finds("server certificate", "wrong", "has run out");
}

#[test]
fn a_station_whose_certificate_runs_out_first_stands_for_all() {
    let data = with_certificates();
    let stations = [7, 8].map(|station| pki::issue_station(data.path(), forecourt::engine::id::StationId(station)));
    Visit::to(data.path(), &[]).finds("station certificates", "ok", "2, of which ");
    lasting(data.path(), 3);
    fs::copy(pki::server(data.path()).certificate, &stations[1].as_ref().expect("made").certificate).expect("a file");
    Visit::to(data.path(), &[]).finds(
        "station certificates",
        "warn",
        "station-8.pem runs out first: it holds for 3 days",
    );
}

#[test]
fn a_key_of_another_certificate_and_one_that_others_may_read_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let (data, other) = (with_certificates(), with_certificates());
    let key = pki::server(data.path()).key;
    fs::copy(pki::server(other.path()).key, &key).expect("two folders");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let visit = Visit::to(data.path(), &[]);
    visit.finds("certificates", "wrong", "do not work");
    visit.finds("keys", "warn", "server.key");
}

#[test]
fn a_redis_that_is_not_there_is_wrong_and_its_password_stays_hidden() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let visit = Visit::to(data.path(), &[("REGISTRATION_REDIS_URL", &format!("redis://:hush@{free}"))]);
    visit.finds("Redis", "wrong", "not reached");
    assert!(!visit.said.contains("hush"), "{}", visit.said);
}

#[tokio::test]
async fn a_redis_that_evicts_what_must_stay_is_wrong() {
    let Some(redis) = RedisServer::start().await else { return };
    let data = tempfile::tempdir().expect("a temporary folder");
    let url = redis.url();
    let visit = || Visit::to(data.path(), &[("REGISTRATION_REDIS_URL", &url)]);
    let sound = visit();
    sound.finds("Redis", "ok", "version ");
    sound.finds("Redis", "ok", "maxmemory-policy noeviction");
    for (knob, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")] {
        redis.ask::<()>(&["CONFIG", "SET", knob, value]).expect("it takes it");
    }
    visit().finds("Redis", "wrong", "maxmemory-policy allkeys-lru, maxmemory 100 MB");
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).expect("it takes it");
    visit().finds("Redis", "ok", "volatile-lru");
}

#[test]
fn a_folder_that_cannot_be_used_is_wrong() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a temporary folder");
    Visit::to(&file, &[]).finds("data folder", "wrong", "no folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a temporary folder");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("it is ours");
    Visit::to(&data, &[]).finds("data folder", "warn", "open to others");
    let Some(_disk) = SmallDisk::mount(data.clone(), "ro,size=1m,mode=700") else { return };
    let visit = Visit::to(&data, &[]);
    visit.finds("data folder", "wrong", "Read-only");
    visit.finds("disk flush", "wrong", "");
    visit.finds("file system", "warn", "tmpfs");
    visit.finds("disk", "wrong", "0 days");
}

/// A copy of a fresh engine's stores, with their key.
async fn backup() -> TempDir {
    let engine = Engine::start().await;
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut backup = Command::new(FORECOURT);
    backup.arg("backup").arg(data.path()).env("FORECOURT_ENGINE_DATA", engine.folder());
    assert!(backup.output().expect("it is built").status.success());
    fs::copy(engine.folder().join("kek"), data.path().join("kek")).expect("made at the start");
    data
}

/// How an engine on this folder ends that does not start.
fn refusal(data: &Path) -> (Option<i32>, String) {
    let mut serve = Command::new(FORECOURT);
    serve.arg("serve").env("FORECOURT_ENGINE_DATA", data);
    for (name, value) in ANY_PORT {
        serve.env(format!("FORECOURT_{name}"), value);
    }
    let output = serve.output().expect("it is built");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn stores_of_a_newer_version_are_refused_in_plain_words() {
    for (file, check) in [("ledger.db", "ledger"), ("registrations.db", "registrations")] {
        let data = backup().await;
        Visit::to(data.path(), &[]).finds(check, "ok", "");
        let db = Connection::open(data.path().join(file)).expect("SQLite");
        db.pragma_update(None, "user_version", 99).expect("it is ours");
        drop(db);
        Visit::to(data.path(), &[]).finds(check, "wrong", "a newer forecourt wrote it");
        let (code, said) = refusal(data.path());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("start that one, or put back the backup"), "{said}");
    }
}

#[tokio::test]
async fn a_store_without_its_key_is_wrong() {
    let data = backup().await;
    fs::remove_file(data.path().join("kek")).expect("it was there");
    Visit::to(data.path(), &[]).finds("registrations", "wrong", "kek");
    assert!(!data.path().join("kek").exists(), "none is made");
    fs::write(data.path().join("kek"), "ab".repeat(32)).expect("its folder");
    Visit::to(data.path(), &[]).finds("registrations", "wrong", "is not the one");
}

#[test]
fn more_connections_than_files_are_counted_out() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let visit = Visit::to(data.path(), &[("HTTP_CONNECTIONS_MAX", "4000000000")]);
    visit.finds("open files", "wrong", "4000000000 HTTP + 16 PSP + 16 push + 256 = 4000000288");
}

#[test]
fn a_buffer_that_the_kernel_does_not_grant_is_wrong() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let visit = Visit::to(data.path(), &[("INGEST_SOCKET_RECEIVE_BYTES", "1000000000")]);
    visit.finds("socket buffer", "wrong", "of 1000000000 bytes");
}

#[test]
fn settings_are_told_that_do_not_hold_or_do_not_fit() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let open = Visit::to(data.path(), &[("HTTP_LISTEN", "0.0.0.0:0"), ("INGEST_LISTEN", "0.0.0.0:0")]);
    open.finds("settings", "warn", "speaks no TLS");
    open.finds("settings", "warn", "ingest.names is empty");
    open.finds("settings", "warn", "moves no money");
    let contradictory = Visit::to(data.path(), &[("STATION_LEAVE_AFTER_S", "10")]);
    assert_eq!(contradictory.code, Some(3));
    assert_eq!(contradictory.of("settings")[0].0, "wrong", "{}", contradictory.said);
}
