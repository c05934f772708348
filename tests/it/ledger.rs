//! The ledger as an operator meets it: audits, backups and purges beside a running engine, and disks that fill up.

use std::{fs, path::Path, process::Command};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, FORECOURT, data_folder, eventually},
    site::{Car, Site, completion},
    tools::SmallDisk,
};

fn car() -> Car {
    Car::new(7, "12가3456", "tok_ok_1")
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(FORECOURT).args(arguments).env("FORECOURT_ENGINE_DATA", folder).output();
    let output = output.expect("the forecourt binary is built with its tests");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (code, text) = run(folder, arguments);
    assert_eq!(code, Some(0), "{text}");
    text
}

/// The head in what a command printed.
fn head(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches(',')).collect();
    let at = words.iter().position(|word| *word == "head").unwrap_or_else(|| panic!("{text}"));
    words[at + 1].to_owned()
}

#[tokio::test]
async fn an_audit_beside_an_engine_counts_the_sessions_and_names_what_was_changed() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let folder = site.engine.folder();
    let noted = head(&done(folder, &["audit", "verify"]));
    site.order(&session, "paid-at-site", Value::Null).await.is(200);
    let report: Value =
        serde_json::from_str(&done(folder, &["audit", "verify", "--json", "--expect", &noted])).unwrap();
    assert_eq!((&report["sound"], &report["sessions"]), (&json!(true), &json!({ "PaidElsewhere": 1 })));

    let (stranger, code) = (format!("1:{}", "ab".repeat(32)), Some(6));
    assert_eq!(run(folder, &["audit", "verify", "--expect", &stranger]).0, code);
    let db = Connection::open(folder.join("ledger.db")).expect("SQLite");
    db.execute_batch("UPDATE journal SET at_ms = at_ms + 1 WHERE seq = 2").expect("it is there");
    let (broken, text) = run(folder, &["audit", "verify"]);
    assert_eq!(broken, code);
    assert!(text.contains(&format!("row 2 of the journal (session {session}, at ")), "{text}");
    let (_, text) = run(folder, &["audit", "verify", "--json"]);
    let report: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&report["seq"], &report["row"]["kind"]), (&json!(2), &json!("session")));
}

#[tokio::test]
async fn a_backup_is_made_beside_an_engine_and_another_engine_goes_on_with_it() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let backup = tempfile::tempdir().expect("a folder");
    let into = backup.path().join("today");
    let arguments = ["backup", &into.display().to_string()];
    let said = done(site.engine.folder(), &arguments);
    site.order(&session, "paid-at-site", Value::Null).await.is(200);
    let (code, refused) = run(site.engine.folder(), &arguments);
    assert_eq!(code, Some(1));
    assert!(refused.contains("is not overwritten"), "{refused}");
    done(site.engine.folder(), &["audit", "verify", "--expect", &head(&said)]);
    let files: Vec<_> = fs::read_dir(&into).expect("made").map(|file| file.expect("a file").file_name()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(head(&done(&into, &["audit", "verify"])), head(&said));

    let again = Engine::start_prepared(&[], |engine| {
        for file in ["ledger.db", "registrations.db"] {
            fs::copy(into.join(file), data_folder(engine).join(file)).expect("both are there");
        }
        fs::copy(site.engine.folder().join("kek"), data_folder(engine).join("kek")).expect("both are there");
    })
    .await;
    let restored = again.get(&format!("/v1/sessions/{session}"), &site.terminal).await.is(200);
    assert_eq!(restored.body["completion"]["transaction"], "T-1");
    again.post(&format!("/v1/sessions/{session}/paid-at-site"), &site.terminal, Value::Null).await.is(200);
}

#[tokio::test]
async fn a_backup_of_a_broken_ledger_is_not_kept() {
    let car = car();
    let site = Site::with_cars(&[&car]).await;
    site.select("3456").await.is(201);
    let db = Connection::open(site.engine.folder().join("ledger.db")).expect("SQLite");
    db.execute_batch("UPDATE journal SET at_ms = at_ms + 1").expect("it is there");
    let backup = tempfile::tempdir().expect("a folder");
    let (code, text) = run(site.engine.folder(), &["backup", &backup.path().display().to_string()]);
    assert_eq!(code, Some(6), "{text}");
    assert_eq!(fs::read_dir(backup.path()).expect("it is there").count(), 0);
}

#[tokio::test]
async fn a_purge_is_the_running_engines_own_and_a_folders_when_none_runs() {
    let site = Site::with_cars(&[&car()]).await;
    site.select("3456").await.is(201);
    let folder = site.engine.folder();
    assert_eq!(run(folder, &["purge"]).0, Some(4));
    let due: Value = serde_json::from_str(&done(folder, &["purge", "--dry-run", "--json"])).expect("JSON");
    assert_eq!((&due["dry_run"], &due["rules"][1]["rule"]), (&json!(true), &json!("location")));
    let backup = tempfile::tempdir().expect("a folder");
    done(folder, &["backup", &backup.path().display().to_string()]);
    assert!(done(backup.path(), &["purge"]).contains("location: 0 sessions with 0 entries"));
    done(backup.path(), &["audit", "verify"]);
}

#[tokio::test]
async fn a_full_disk_refuses_orders_takes_the_engine_out_and_it_comes_back_by_itself() {
    let mut disk = None;
    let engine = Engine::start_prepared(&[], |engine| disk = SmallDisk::mount(data_folder(engine), "size=24m")).await;
    if disk.is_none() {
        return;
    }
    let site = Site::on(engine, &[&car()]).await;
    let session = site.select("3456").await.is(201).text("id");
    let filler = site.engine.folder().join("filler");
    assert!(fs::write(&filler, vec![1; 32 << 20]).is_err(), "the disk is full");
    site.order(&session, "completion", completion("T-1")).await.refused_as(503, "UNAVAILABLE");
    let unready = site.engine.get("/health/ready", "").await.is(503);
    let parts = unready.body["parts"].as_array().expect("parts");
    let ledger = parts.iter().find(|part| part["part"] == "ledger").expect("it is a part");
    assert_eq!(ledger["reason"], "the disk under the journal is full");
    assert!(site.engine.metric("forecourt_ledger_failing", &[]).await > 0.0);
    let view = site.engine.get(&format!("/v1/sessions/{session}"), &site.terminal).await.is(200);
    assert_eq!(view.body["state"], "Selected", "what is known can still be read, and nothing has changed");

    fs::remove_file(filler).expect("just written");
    eventually("readiness", async || site.engine.get("/health/ready", "").await.status.is_success().then_some(()))
        .await;
    site.order(&session, "completion", completion("T-1")).await.is(200);
    assert!(site.engine.metric("forecourt_ledger_failing", &[]).await < 1.0);
    done(site.engine.folder(), &["audit", "verify"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_disk) = SmallDisk::mount(folder.path().into(), "ro") else { return };
    let (code, text) = run(folder.path(), &["serve"]);
    assert_eq!(code, Some(1));
    let path = folder.path().display();
    assert!(text.contains(&format!("data folder: {path}: Read-only file system")), "{text}");
}
