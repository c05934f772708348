//! Registrations with a Redis that works, dies, is emptied, held, or set back to an old dump.

use std::{fs, path::Path, process::Command};

use reqwest::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    engine::{Engine, FORECOURT, eventually},
    redis_server::RedisServer,
    site::{Car, PUMP, STATION, Site, import},
};

const LOOKUPS: &str = "forecourt_registration_cache_lookups_total";

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok")
}

fn settings(redis: &RedisServer) -> [(&'static str, String); 1] {
    [("REGISTRATION_REDIS_URL", redis.url())]
}

async fn site(redis: &RedisServer, cars: &[&Car]) -> Site {
    let engine = Engine::start_with(&settings(redis)).await;
    until_cache_is(&engine, "current").await;
    Site::on(engine, cars).await
}

async fn until_cache_is(engine: &Engine, state: &str) -> Value {
    eventually(&format!("a cache that is {state}"), async || {
        let report = engine.get("/health/ready", "").await;
        assert_eq!(report.status, StatusCode::OK, "an engine without its cache is ready");
        (report.body["cache"]["state"] == state).then(|| report.body["cache"].clone())
    })
    .await
}

async fn binding_of(engine: &Engine, car: &Car) -> String {
    engine.get(&format!("/v1/bindings?device={}", car.device), engine.operator()).await.is(200).text("binding")
}

async fn by_operator(engine: &Engine, binding: &str, what: &str) {
    let path = format!("/v1/bindings/{binding}/{what}");
    engine.post(&path, engine.operator(), json!({ "reason": "a test" })).await.is(200);
}

/// The record that Redis keeps of a car, when it has one.
fn record(redis: &RedisServer, car: &Car) -> Option<(String, Vec<u8>)> {
    let keys: Vec<String> = redis.ask(&["KEYS", &format!("*:r:{}", car.device)]).expect("it answers");
    let key = keys.into_iter().next()?;
    let bytes = redis.ask(&["GET", &key]).expect("it answers");
    Some((key, bytes))
}

async fn until_recorded(redis: &RedisServer, car: &Car) -> (String, Vec<u8>) {
    eventually("a record in Redis", async || record(redis, car)).await
}

#[tokio::test]
async fn what_the_store_was_asked_once_is_answered_by_redis_after_a_restart() {
    let Some(redis) = RedisServer::start().await else { return };
    let car = car();
    let mut site = site(&redis, &[&car]).await;
    until_recorded(&redis, &car).await;
    site.engine.crash_and_restart().await;
    until_cache_is(&site.engine, "current").await;
    site.until_visible(1).await;
    assert!(site.engine.metric(LOOKUPS, &["hit"]).await >= 1.0);
    site.select("3456").await.is(201);
}

#[tokio::test]
async fn a_suspended_car_is_refused_at_once_with_redis_alive_and_with_redis_dead() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let car = car();
    let site = site(&redis, &[&car]).await;
    let binding = binding_of(&site.engine, &car).await;
    by_operator(&site.engine, &binding, "suspension").await;
    site.select("3456").await.refused_as(423, "BINDING_SUSPENDED");
    by_operator(&site.engine, &binding, "restoration").await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "release", json!({})).await.is(200);

    redis.kill();
    by_operator(&site.engine, &binding, "suspension").await;
    site.select("3456").await.refused_as(423, "BINDING_SUSPENDED");
    let cache = until_cache_is(&site.engine, "down").await;
    assert!(cache["reason"].is_string(), "{cache}");
}

#[tokio::test]
async fn the_engine_serves_new_cars_without_redis_and_takes_it_up_when_it_is_back() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let (first, second) = (car(), Car::new(8, "34나7777", "tok_ok"));
    let mut site = site(&redis, &[&first, &second]).await;
    redis.kill();
    until_cache_is(&site.engine, "down").await;
    // With nothing in the near cache, and nothing in Redis.
    site.engine.crash_and_restart().await;
    site.until_visible(2).await;
    site.select("7777").await.is(201);
    assert!(site.engine.metric(LOOKUPS, &["hit"]).await < 1.0);

    redis.come_back(None).await;
    until_cache_is(&site.engine, "current").await;
    assert!(site.engine.metric("forecourt_registration_cache_up", &[]).await > 0.0);
}

#[tokio::test]
async fn an_old_dump_brings_no_changed_binding_back() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let (suspended, revoked) = (car(), Car::new(8, "34나7777", "tok_ok"));
    let mut site = site(&redis, &[&suspended, &revoked]).await;
    let before = until_recorded(&redis, &suspended).await;
    until_recorded(&redis, &revoked).await;
    let dump = redis.dump();
    by_operator(&site.engine, &binding_of(&site.engine, &suspended).await, "suspension").await;
    by_operator(&site.engine, &binding_of(&site.engine, &revoked).await, "revocation").await;
    redis.kill();
    redis.come_back(Some(&dump)).await;
    assert_eq!(record(&redis, &suspended).expect("the dump has it").1.len(), before.1.len());

    // The near cache that knew better is gone.
    site.engine.crash_and_restart().await;
    eventually("the suspended car at the pump", async || {
        let answer = site.select("3456").await;
        assert_ne!(answer.status, StatusCode::CREATED);
        (answer.code() == "BINDING_SUSPENDED").then_some(())
    })
    .await;
    let revoked_one = site.select("7777").await;
    assert_eq!(revoked_one.status, StatusCode::NOT_FOUND, "{revoked_one:?}");
    until_cache_is(&site.engine, "current").await;
    eventually("a repaired record", async || (record(&redis, &suspended)? != before).then_some(())).await;
}

#[tokio::test]
async fn a_redis_that_is_set_back_under_a_running_engine_is_not_believed() {
    let Some(redis) = RedisServer::start().await else { return };
    let car = car();
    let site = site(&redis, &[&car]).await;
    let (key, active) = until_recorded(&redis, &car).await;
    let revisions: Vec<String> = redis.ask(&["KEYS", "*:revision"]).expect("it answers");
    let earlier: String = redis.ask(&["GET", &revisions[0]]).expect("it answers");
    by_operator(&site.engine, &binding_of(&site.engine, &car).await, "suspension").await;
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    for _ in 0..20 {
        redis::pipe()
            .atomic()
            .cmd("SET")
            .arg(&revisions[0])
            .arg(&earlier)
            .cmd("SET")
            .arg(&key)
            .arg(&active)
            // The near cache, which knows better, forgets the car.
            .cmd("XADD")
            .arg(revisions[0].replace(":revision", ":changes"))
            .arg("*")
            .arg("device")
            .arg(car.device.0)
            .arg("epoch")
            .arg(99)
            .query::<()>(&mut connection)
            .unwrap();
        site.select("3456").await.refused_as(423, "BINDING_SUSPENDED");
    }
}

#[tokio::test]
async fn an_emptied_redis_is_noticed_and_filled_again() {
    let Some(redis) = RedisServer::start().await else { return };
    let car = car();
    let mut site = site(&redis, &[&car]).await;
    until_recorded(&redis, &car).await;
    redis.ask::<()>(&["FLUSHALL"]).expect("it answers");
    site.select("3456").await.is(201);
    eventually("a revision in Redis", async || {
        let keys: Vec<String> = redis.ask(&["KEYS", "*:revision"]).ok()?;
        (!keys.is_empty()).then_some(())
    })
    .await;
    site.engine.crash_and_restart().await;
    site.until_visible(1).await;
    until_recorded(&redis, &car).await;
}

#[tokio::test]
async fn a_redis_that_does_not_answer_costs_a_moment_and_no_car() {
    let Some(redis) = RedisServer::start().await else { return };
    let car = car();
    let mut site = site(&redis, &[&car]).await;
    redis.pause();
    site.engine.crash_and_restart().await;
    site.until_visible(1).await;
    site.select("3456").await.is(201);
    redis.go_on();
    until_cache_is(&site.engine, "current").await;
}

#[tokio::test]
async fn what_somebody_else_wrote_into_redis_is_not_believed() {
    let Some(redis) = RedisServer::start().await else { return };
    let (car, thief) = (car(), Car::new(8, "34나7777", "tok_ok"));
    let mut site = site(&redis, &[&car, &thief]).await;
    let (key, _) = until_recorded(&redis, &car).await;
    let (_, record_of_thief) = until_recorded(&redis, &thief).await;
    // Who pays for the car is whose record it is.
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg(key).arg(record_of_thief).query::<()>(&mut connection).unwrap();
    site.engine.crash_and_restart().await;
    until_cache_is(&site.engine, "current").await;
    site.until_visible(2).await;
    eventually("a refused record", async || (site.engine.metric(LOOKUPS, &["unreadable"]).await >= 1.0).then_some(()))
        .await;
    assert_eq!(site.select("3456").await.is(201).body["device"], json!(car.device));
}

#[tokio::test]
async fn what_another_process_changed_leaves_the_near_cache() {
    let Some(redis) = RedisServer::start().await else { return };
    let car = car();
    let site = site(&redis, &[&car]).await;
    until_recorded(&redis, &car).await;
    let streams: Vec<String> = redis.ask(&["KEYS", "*:changes"]).expect("it answers");
    let looked_up = async || site.engine.metric(LOOKUPS, &[]).await;
    let before = looked_up().await;
    redis.ask::<String>(&["XADD", &streams[0], "*", "device", "7", "epoch", "99"]).expect("it answers");
    eventually("another look-up", async || {
        site.engine.get(&format!("/v1/stations/{STATION}/vehicles"), &site.terminal).await.is(200);
        (looked_up().await > before).then_some(())
    })
    .await;
    let body = json!({ "plate": "3456", "pump": PUMP });
    site.engine.post(&format!("/v1/stations/{STATION}/sessions"), &site.terminal, body).await.is(201);
}

/// The store's count of changes.
fn revision(folder: &Path) -> i64 {
    let db = Connection::open(folder.join("registrations.db")).expect("SQLite");
    db.query_row("SELECT count FROM revision", [], |row| row.get(0)).expect("it has one")
}

/// `forecourt backup`, beside the engine.
fn back_up(engine: &Engine) -> TempDir {
    let backup = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(FORECOURT);
    command.arg("backup").arg(backup.path()).env("FORECOURT_ENGINE_DATA", engine.folder());
    assert!(command.output().expect("it is built").status.success());
    backup
}

/// Puts the store back as the command's help says; the engine must not run.
fn put_back(backup: &TempDir, folder: &Path) {
    for of_the_log in ["registrations.db-wal", "registrations.db-shm"] {
        let _ = fs::remove_file(folder.join(of_the_log));
    }
    fs::copy(backup.path().join("registrations.db"), folder.join("registrations.db")).expect("both are there");
}

#[tokio::test]
async fn a_restored_store_that_comes_to_the_revision_of_redis_believes_nothing_of_it() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let (kept, suspended, revoked) = (car(), Car::new(8, "34나7777", "tok_ok"), Car::new(9, "56다8888", "tok_ok"));
    let mut site = site(&redis, &[&kept, &suspended, &revoked]).await;
    let (of_kept, of_suspended, of_revoked) = (
        binding_of(&site.engine, &kept).await,
        binding_of(&site.engine, &suspended).await,
        binding_of(&site.engine, &revoked).await,
    );
    let backup = back_up(&site.engine);
    // What the backup undoes: three changes, and Redis has them.
    for (binding, what) in [(&of_kept, "suspension"), (&of_revoked, "suspension"), (&of_revoked, "restoration")] {
        by_operator(&site.engine, binding, what).await;
    }
    assert!(cache(site.engine.folder(), &redis, "warm").0);
    let (undone, dump) = (revision(site.engine.folder()), redis.dump());
    redis.kill();

    // As many changes of another kind, while Redis is away.
    site.engine.crash();
    put_back(&backup, site.engine.folder());
    site.engine.restart().await;
    for (binding, what) in [(&of_suspended, "suspension"), (&of_revoked, "suspension"), (&of_revoked, "revocation")] {
        by_operator(&site.engine, binding, what).await;
    }
    assert_eq!(revision(site.engine.folder()), undone, "or this shows nothing");

    // Both are back, the engine with nothing in its memory and no snapshot that was written since.
    site.engine.crash();
    redis.come_back(Some(&dump)).await;
    let (went_well, said) = cache(site.engine.folder(), &redis, "verify");
    assert!(went_well && said.contains("Redis is not where the store is") && said.contains("3 wrong"), "{said}");
    site.engine.restart().await;
    until_cache_is(&site.engine, "current").await;
    assert!(site.engine.metric("forecourt_registration_codebook_starts_total", &["redis"]).await < 1.0);
    site.until_visible(1).await;
    site.select("3456").await.is(201);
    site.select("7777").await.refused_as(423, "BINDING_SUSPENDED");
    site.select("8888").await.is(404);
    let (went_well, said) = cache(site.engine.folder(), &redis, "verify");
    assert!(went_well && said.contains("Redis is where the store is") && said.contains(" 0 wrong"), "{said}");
}

/// `forecourt cache ...` on the data folder; whether it went well, and what it said.
pub(crate) fn cache(folder: &Path, redis: &RedisServer, what: &str) -> (bool, String) {
    let mut command = Command::new(FORECOURT);
    command.args(["cache", what]).env("FORECOURT_ENGINE_DATA", folder);
    let output = command.env("FORECOURT_REGISTRATION_REDIS_URL", redis.url()).output().expect("it is built");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), said)
}

#[tokio::test]
async fn an_operator_warms_the_cache_and_finds_what_is_wrong_in_it() {
    let Some(redis) = RedisServer::start().await else { return };
    let (car, other) = (car(), Car::new(8, "34나7777", "tok_ok"));
    let engine = Engine::start_with(&settings(&redis)).await;
    until_cache_is(&engine, "current").await;
    import(&engine, &[&car, &other]).await;
    assert_eq!(record(&redis, &car), None, "nobody has asked for it");
    let (went_well, said) = cache(engine.folder(), &redis, "warm");
    assert!(went_well && said.contains("2 registrations and the keys of 2 dongles"), "{said}");
    let (key, _) = until_recorded(&redis, &car).await;
    let (went_well, said) = cache(engine.folder(), &redis, "verify");
    assert!(went_well && said.contains("2 records are right, 0 wrong, 0 unreadable"), "{said}");

    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let old: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
    by_operator(&engine, &binding_of(&engine, &car).await, "suspension").await;
    eventually("the change in Redis", async || (until_recorded(&redis, &car).await.1 != old).then_some(())).await;
    redis::cmd("SET").arg(&key).arg(old).query::<()>(&mut connection).unwrap();
    let (went_well, said) = cache(engine.folder(), &redis, "verify");
    assert!(!went_well && said.contains("1 wrong"), "{said}");
}

#[tokio::test]
async fn a_start_without_a_snapshot_takes_the_dongles_from_redis_and_what_changed_since_from_the_store() {
    let Some(redis) = RedisServer::start().await else { return };
    let (car, other) = (car(), Car::new(8, "34나7777", "tok_ok"));
    let mut site = site(&redis, &[&car, &other]).await;
    assert!(cache(site.engine.folder(), &redis, "warm").0);
    by_operator(&site.engine, &binding_of(&site.engine, &other).await, "revocation").await;
    // A crash, and no drain that would write a snapshot.
    let _ = fs::remove_file(site.engine.folder().join("codebook.snapshot"));
    site.engine.crash_and_restart().await;
    let started = "forecourt_registration_codebook_starts_total";
    assert!(site.engine.metric(started, &["redis"]).await > 0.0);
    site.until_visible(1).await;
    site.select("3456").await.is(201);
    site.select("7777").await.is(404);
}

#[tokio::test]
async fn segments_that_somebody_changed_are_not_believed() {
    let Some(redis) = RedisServer::start().await else { return };
    let car = car();
    let mut site = site(&redis, &[&car]).await;
    assert!(cache(site.engine.folder(), &redis, "warm").0);
    let sets: Vec<String> = redis.ask(&["KEYS", "*:segments"]).expect("it answers");
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let mut set: Vec<u8> = redis::cmd("GET").arg(&sets[0]).query(&mut connection).unwrap();
    // A set of no segments at all, and every car would be a stranger; one of more dongles than any memory holds.
    for (numbers, forged) in [(16..32, 0), (24..32, 0xff)] {
        set[numbers].fill(forged);
        redis::cmd("SET").arg(&sets[0]).arg(&set).query::<()>(&mut connection).unwrap();
        let _ = fs::remove_file(site.engine.folder().join("codebook.snapshot"));
        site.engine.crash_and_restart().await;
        assert!(site.engine.metric("forecourt_registration_codebook_starts_total", &["truth"]).await > 0.0);
        site.until_visible(1).await;
    }
}
