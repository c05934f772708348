//! The command line, as a person types it: what it prints, and the exit codes that `forecourt --help` promises.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::engine::{Engine, FORECOURT};

fn forecourt(folder: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(FORECOURT).args(arguments).env("FORECOURT_ENGINE_DATA", folder).output();
    command.expect("the forecourt binary is built with its tests")
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
