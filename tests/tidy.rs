//! What the tree must look like, beyond what the compiler checks: which way imports point, and where metrics,
//! clocks and the environment are read.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each stage, and the stages that it may name. A stage not listed beside another is upstream of it, or none of its
/// business.
const ARROWS: [(&str, &[&str]); 16] = [
    ("address", &[]),
    ("outgoing", &[]),
    ("secret", &[]),
    ("engine", &[]),
    ("telemetry", &["config", "engine", "outgoing"]),
    ("ledger", &["engine", "telemetry"]),
    ("registration", &["engine", "secret", "telemetry"]),
    ("payment", &["engine", "ledger", "outgoing", "secret", "telemetry"]),
    ("session", &["engine", "ledger", "payment", "registration", "telemetry"]),
    ("push", &["engine", "outgoing", "secret", "session", "telemetry"]),
    ("station", &["engine", "registration", "session", "telemetry"]),
    ("ingest", &["address", "engine", "station", "telemetry"]),
    ("http", &["address", "engine", "payment", "registration", "session", "station", "telemetry"]),
    ("uplink", &["engine", "telemetry"]),
    ("config", &["engine", "http", "ingest", "ledger", "payment", "push", "registration", "session", "station"]),
    (
        "app",
        &[
            "config",
            "engine",
            "http",
            "ingest",
            "ledger",
            "payment",
            "push",
            "registration",
            "session",
            "station",
            "telemetry",
        ],
    ),
];

/// What makes a decision hard to test has no place in the engine.
const NOT_IN_ENGINE: [&str; 9] =
    ["std::fs", "std::net", "std::env", "std::time", "tokio::", "actix::", "tracing::", "metrics::", "getrandom"];

/// What firmware computes too.
const FOR_FIRMWARE: [&str; 6] = ["code.rs", "proof.rs", "eid.rs", "id.rs", "money.rs", "time.rs"];

/// What every frame passes.
const FRAME_PATH: [&str; 9] = [
    "engine/batch.rs",
    "engine/presence/mod.rs",
    "ingest/connection.rs",
    "station/actor.rs",
    "station/forecourt.rs",
    "station/health.rs",
    "station/intake.rs",
    "station/scene.rs",
    "station/tables.rs",
];

struct Source {
    path: PathBuf,
    stage: String,
    /// Without its tests.
    code: String,
}

#[test]
fn imports_follow_the_flow() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(stage, _)| *stage == source.stage) else { continue };
        for used in stages_named(&source.code) {
            if used != source.stage && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {} must not know {used}", source.path.display(), source.stage));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_stage_has_its_arrows() {
    let known: Vec<&str> = ARROWS.iter().map(|(stage, _)| *stage).collect();
    for source in sources() {
        let is_root = ["lib", "main"].contains(&source.stage.as_str()) || source.stage == "cli";
        assert!(is_root || known.contains(&source.stage.as_str()), "{} is in no stage", source.path.display());
    }
}

#[test]
fn the_engine_decides_and_does_nothing_else() {
    for source in sources().into_iter().filter(|source| source.stage == "engine") {
        for forbidden in NOT_IN_ENGINE {
            let used =
                source.code.lines().find(|line| line.contains(forbidden) && !line.trim_start().starts_with("//"));
            assert!(used.is_none(), "{}: {forbidden} in {:?}", source.path.display(), used.unwrap_or_default());
        }
    }
}

#[test]
fn what_firmware_computes_needs_no_std() {
    let of_firmware = |source: &Source| FOR_FIRMWARE.iter().any(|file| source.path.ends_with(format!("engine/{file}")));
    let files: Vec<Source> = sources().into_iter().filter(of_firmware).collect();
    assert_eq!(files.len(), FOR_FIRMWARE.len());
    for source in files {
        assert!(!source.code.contains("std::"), "{}", source.path.display());
    }
}

#[test]
fn the_clock_and_the_environment_are_read_in_one_place() {
    for source in sources() {
        let reads = |text: &str| source.code.contains(text);
        assert!(!reads("SystemTime::now") || source.stage == "telemetry", "{}", source.path.display());
        assert!(!reads("env::var") || ["main", "cli"].contains(&source.stage.as_str()), "{}", source.path.display());
    }
}

/// A span allocates and takes locks, which a frame must not.
#[test]
fn no_span_is_on_the_way_of_frames() {
    let of_frames = |source: &Source| FRAME_PATH.iter().any(|file| source.path.ends_with(file));
    let files: Vec<Source> = sources().into_iter().filter(of_frames).collect();
    assert_eq!(files.len(), FRAME_PATH.len());
    for source in files {
        for span in ["span!", "step!", "Instrument", "InSpan"] {
            assert!(!source.code.contains(span), "{}: {span}", source.path.display());
        }
    }
}

#[test]
fn an_import_against_the_flow_would_be_noticed() {
    assert_eq!(
        stages_named("use crate::{\n    engine::id::X,\n    http::Y,\n};\ncrate::session::Z"),
        ["engine", "session", "http"]
    );
}

/// Every stage that the code names by `crate::stage` or in a `use crate::{...}` list.
fn stages_named(code: &str) -> Vec<String> {
    let stages = ARROWS.iter().map(|(stage, _)| *stage);
    let lists: String = code.split("use crate::{").skip(1).filter_map(|rest| rest.split("};").next()).collect();
    let listed = |stage: &str| lists.lines().any(|line| top_level_names(line).any(|name| name == stage));
    stages.filter(|stage| code.contains(&format!("crate::{stage}::")) || listed(stage)).map(str::to_owned).collect()
}

/// The modules that begin a line of a formatted import list.
fn top_level_names(line: &str) -> impl Iterator<Item = &str> {
    line.split([',', ' ']).filter_map(|part| part.trim().split("::").next()).filter(|name| !name.is_empty())
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).expect("found below it");
            let stage = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy();
            let stage = stage.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source file is readable text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            Source { path, stage, code }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder is readable") {
        let path = entry.expect("a folder entry is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}
