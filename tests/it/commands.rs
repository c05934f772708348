//! The command line, as a person types it: what it prints, and the exit codes that `forecourt --help` promises.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::engine::{Engine, FORECOURT, eventually};

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(FORECOURT);
    command.args(arguments).env("FORECOURT_ENGINE_DATA", folder);
    command
}

fn forecourt(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().expect("the forecourt binary is built with its tests")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn exits(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{} {}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn settings_and_version_are_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let version = forecourt(folder.path(), &["version", "--json"]);
    exits(&version, 0);
    let version: Value = serde_json::from_slice(&version.stdout).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let defaults = forecourt(folder.path(), &["config", "default"]);
    exits(&defaults, 0);
    assert!(text(&defaults.stdout).contains("slot_seconds = 300"));
    let effective = forecourt(folder.path(), &["config", "print"]);
    exits(&effective, 0);
    assert!(text(&effective.stdout).contains(&folder.path().display().to_string()));
}

#[test]
fn settings_that_do_not_hold_are_refused_with_3() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    exits(&forecourt(folder.path(), &["serve", "--check"]), 0);
    let file = folder.path().join("wrong.toml");
    fs::write(&file, "[station]\nfade = 1\n").expect("a temporary folder");
    let refused = forecourt(folder.path(), &["--config", &file.display().to_string(), "serve", "--check"]);
    exits(&refused, 3);
    assert!(text(&refused.stderr).contains("fade"), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn an_import_names_the_lines_that_it_refuses_with_and_without_an_engine() {
    let alone = tempfile::tempdir().expect("a temporary folder");
    let csv = alone.path().join("stations.csv");
    fs::write(&csv, "station_id,name,brand,lat,lon,pumps\n1,North,Demo,41.9,12.5,4\nx,South,Demo,45.4,9.2,4\n")
        .expect("a temporary folder");
    let import = ["import", "stations", &csv.display().to_string()];
    let engine = Engine::start().await;
    for folder in [alone.path(), engine.folder()] {
        let output = forecourt(folder, &import);
        exits(&output, 5);
        assert!(text(&output.stderr).contains("stations.csv:3:"), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("1 rows are in"), "{}", text(&output.stdout));
    }
}

#[tokio::test]
async fn a_data_folder_has_one_engine() {
    let engine = Engine::start().await;
    exits(&forecourt(engine.folder(), &["serve", "--check"]), 4);
    let doctor = text(&forecourt(engine.folder(), &["doctor"]).stdout);
    assert!(doctor.contains("an engine runs on"), "{doctor}");
}

/// A file with this many dongles, each with a plate of its own; in `folder`.
fn devices_csv(folder: &Path, dongles: u64) -> PathBuf {
    let row = |device: u64| format!("{device},hmac,{:064x},FC{device:06}\n", device + 1);
    let csv = (1..=dongles).map(row).collect::<String>();
    let file = folder.join("devices.csv");
    fs::write(&file, format!("device_id,scheme,key_hex,plate\n{csv}")).expect("a temporary folder");
    file
}

/// How many rows were in before, by what an import printed.
fn unchanged(output: &Output) -> u64 {
    let text = text(&output.stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "of").unwrap_or_else(|| panic!("{text}"));
    words[at - 1].parse().expect("a number")
}

#[test]
fn an_import_that_was_killed_goes_on_when_it_is_run_again() {
    const DONGLES: u64 = 20_000;
    let (folder, data) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let file = devices_csv(folder.path(), DONGLES).display().to_string();
    let import = ["import", "devices", &file];
    let mut child = command(data.path(), &import).spawn().expect("the forecourt binary is built with its tests");
    let store = data.path().join("registrations.db");
    let known = || {
        let db = rusqlite::Connection::open_with_flags(&store, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        db.query_row("SELECT count(*) FROM devices", [], |row| row.get::<_, i64>(0)).ok().filter(|count| *count > 0)
    };
    let seen = loop {
        if let Some(seen) = known() {
            break seen as u64;
        }
        assert!(child.try_wait().expect("it is ours").is_none_or(|status| status.success()), "it failed");
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    child.kill().expect("it was ours");
    child.wait().expect("it was ours");
    let again = forecourt(data.path(), &import);
    exits(&again, 0);
    assert!(text(&again.stdout).starts_with(&format!("{DONGLES} rows are in")), "{}", text(&again.stdout));
    assert!(unchanged(&again) >= seen, "{} of {seen}", text(&again.stdout));
    assert_eq!(unchanged(&forecourt(data.path(), &import)), DONGLES);
}

#[tokio::test]
async fn a_file_goes_into_the_running_engine_in_parts_and_keeps_its_line_numbers() {
    const BODY_MAX: (&str, &str) = ("FORECOURT_HTTP_IMPORT_BODY_BYTES_MAX", "20000");
    let folder = tempfile::tempdir().expect("a folder");
    let file = devices_csv(folder.path(), 500);
    let csv = fs::read_to_string(&file).expect("just written");
    fs::write(&file, format!("{csv}\n7,hmac,{:064x},\nx,hmac,00,\n", 8)).expect("a temporary folder");
    let engine = Engine::start_prepared(&[], |engine| {
        engine.env(BODY_MAX.0, BODY_MAX.1);
    })
    .await;
    let mut import = command(engine.folder(), &["import", "devices", &file.display().to_string()]);
    let output = import.env(BODY_MAX.0, BODY_MAX.1).output().expect("it is built");
    exits(&output, 5);
    assert!(text(&output.stdout).starts_with("500 rows are in, 0 of them unchanged; 2 refused"));
    let refused = text(&output.stderr);
    assert!(refused.contains("devices.csv:503: the file names this dongle before"), "{refused}");
    assert!(refused.contains("devices.csv:504: device_id is not a number in its range"), "{refused}");
    engine.get("/v1/devices/500", engine.operator()).await.is(200);
}

#[tokio::test]
async fn an_import_waits_for_an_engine_that_is_started_again() {
    const DONGLES: u64 = 10_000;
    let folder = tempfile::tempdir().expect("a folder");
    let file = devices_csv(folder.path(), DONGLES).display().to_string();
    let mut engine = Engine::start().await;
    // Parts of some sixty lines.
    let mut import = command(engine.folder(), &["import", "devices", &file]);
    import.env("FORECOURT_HTTP_IMPORT_BODY_BYTES_MAX", "10000").stdout(Stdio::piped()).stderr(Stdio::piped());
    let import = import.spawn().expect("the forecourt binary is built with its tests");
    eventually("the first part", async || {
        let first = engine.get("/v1/devices/1", engine.operator()).await;
        first.status.is_success().then_some(())
    })
    .await;
    engine.crash_and_restart().await;
    let output =
        tokio::task::spawn_blocking(|| import.wait_with_output()).await.expect("no panic").expect("it is ours");
    exits(&output, 0);
    assert!(text(&output.stdout).starts_with(&format!("{DONGLES} rows are in")), "{}", text(&output.stdout));
    engine.get(&format!("/v1/devices/{DONGLES}"), engine.operator()).await.is(200);
}

#[tokio::test]
async fn keys_are_rotated_where_no_engine_runs() {
    let (folder, data) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let file = devices_csv(folder.path(), 5).display().to_string();
    let import = ["import", "devices", &file];
    exits(&forecourt(data.path(), &import), 0);
    let kek = data.path().join("kek");
    let old = fs::read_to_string(&kek).expect("made by the import");
    let new = folder.path().join("new.kek");
    fs::write(&new, "ab".repeat(32)).expect("a temporary folder");
    let rotate = ["keys", "rotate", "--new-kek-file", &new.display().to_string()];
    let rotated = forecourt(data.path(), &rotate);
    exits(&rotated, 0);
    assert!(text(&rotated.stdout).contains("5 dongles"), "{}", text(&rotated.stdout));
    assert_eq!(fs::read_to_string(&kek).expect("it stays").trim(), "ab".repeat(32));
    assert_eq!(unchanged(&forecourt(data.path(), &import)), 5, "every key opens under the new one");
    let again = forecourt(data.path(), &rotate);
    exits(&again, 0);
    assert!(text(&again.stdout).contains("in force"), "{}", text(&again.stdout));
    for output in [&rotated, &again] {
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains(&"ab".repeat(16)) && !said.contains(old.trim()), "{said}");
    }
    fs::write(&kek, &old).expect("a temporary folder");
    let refused = forecourt(data.path(), &import);
    exits(&refused, 1);
    assert!(text(&refused.stderr).contains("is not the one"), "{}", text(&refused.stderr));

    let engine = Engine::start().await;
    let running = forecourt(engine.folder(), &["keys", "rotate"]);
    exits(&running, 4);
    assert!(text(&running.stderr).contains("stop it"), "{}", text(&running.stderr));
}
