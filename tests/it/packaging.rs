//! What ships as a package: its parts are there, fit each other, and systemd has nothing against the unit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use forecourt::config::Settings;
use toml::{Table, Value};

use crate::{engine::FORECOURT, tools};

/// Tenths of systemd's measure of exposure: 0 is none, 100 all.
const EXPOSURE_MAX: &str = "--threshold=15";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn unit() -> String {
    read("src/packaging/forecourt.service")
}

/// A line of the unit, without its key.
fn of_unit(key: &str) -> String {
    let unit = unit();
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key}=")).to_owned()
}

fn package() -> Table {
    let manifest: Table = read("Cargo.toml").parse().expect("TOML");
    manifest["package"]["metadata"]["deb"].as_table().expect("a table").clone()
}

/// Of each file of the package: where it comes from, where it goes, its mode.
fn assets() -> Vec<[String; 3]> {
    let assets = package()["assets"].as_array().expect("a list").clone();
    let texts = |asset: &Value| {
        let asset = asset.as_array().expect("source, target, mode");
        [0, 1, 2].map(|at| asset[at].as_str().expect("text").to_owned())
    };
    assets.iter().map(texts).collect()
}

fn goes_to(target: &str) -> bool {
    assets().iter().any(|[source, folder, _]| {
        let name = Path::new(source).file_name().expect("a file").to_string_lossy().into_owned();
        let whole = if folder.ends_with('/') { format!("{folder}{name}") } else { folder.clone() };
        whole.trim_start_matches('/') == target.trim_start_matches('/')
    })
}

#[test]
fn every_part_of_the_package_is_in_the_tree() {
    for [source, _, _] in assets() {
        assert!(source == "target/release/forecourt" || root().join(&source).is_file(), "{source}");
    }
    let package = package();
    for file in package["conf-files"].as_array().expect("a list") {
        let file = file.as_str().expect("text");
        assert!(goes_to(file), "{file} is no part of the package");
    }
    let scripts = root().join(package["maintainer-scripts"].as_str().expect("a folder"));
    for script in fs::read_dir(scripts).expect("it is there") {
        let text = fs::read_to_string(script.expect("an entry").path()).expect("text");
        assert!(text.starts_with("#!/bin/sh\nset -e\n") && text.contains("\n#DEBHELPER#\n"), "{text}");
    }
}

#[test]
fn secrets_are_for_root_alone() {
    let secrets = assets().into_iter().find(|[source, ..]| source.ends_with("forecourt.env")).expect("it ships");
    assert_eq!(secrets[2], "600");
    assert_eq!(of_unit("EnvironmentFile"), "-/etc/forecourt/forecourt.env");
    let variables = read("src/packaging/forecourt.env");
    assert!(variables.lines().all(|line| line.starts_with('#')), "none is set as it ships");
}

#[test]
fn the_unit_runs_what_the_package_brings_with_settings_that_hold() {
    for key in ["ExecStart", "ExecReload"] {
        let line = of_unit(key);
        let words: Vec<&str> = line.split(' ').collect();
        assert!(goes_to(words[0]) && words[1] == "--config" && goes_to(words[2]), "{line}");
    }
    let settings = root().join("src/packaging/forecourt.toml");
    let settings = Settings::load(Some(&settings), []).expect("they hold");
    assert_eq!(settings.engine.data, Path::new("/var/lib").join(of_unit("StateDirectory")));
    assert!(settings.ingest.listen.ip().is_loopback() && settings.http.listen.ip().is_loopback());
    let files = settings.http.connections_max + settings.payment.places_max + settings.push.at_once_max + 256;
    assert!(of_unit("LimitNOFILE").parse::<usize>().expect("a number") >= files, "{files}");
}

#[test]
fn the_container_probes_with_a_command_that_there_is() {
    let file = read("src/packaging/Containerfile");
    let probe = file.lines().find(|line| line.starts_with("HEALTHCHECK")).expect("a probe");
    assert!(probe.ends_with(r#"CMD ["/usr/bin/forecourt", "health"]"#), "{probe}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut health = Command::new(FORECOURT);
    let output = health.arg("health").env("FORECOURT_ENGINE_DATA", folder.path()).output().expect("it is built");
    assert_eq!(output.status.code(), Some(1), "where no engine runs");
    for from in file.lines().filter(|line| line.starts_with("FROM")) {
        assert!(from.contains(':') && !from.contains("latest"), "{from}");
    }
}

/// The unit with this text, as it would lie on a machine that has the program.
fn analyse(arguments: &[&str], unit: &str) -> Option<Output> {
    let program = tools::in_path("systemd-analyze", "systemd")?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file: PathBuf = folder.path().join("forecourt.service");
    fs::write(&file, unit.replace("/usr/bin/forecourt", FORECOURT)).expect("a temporary folder");
    Some(Command::new(program).args(arguments).arg(&file).output().expect("it runs"))
}

#[test]
fn systemd_takes_the_unit_as_it_is_meant() {
    let verify =
        |unit: &str| analyse(&["verify", "--man=no"], unit).map(|output| String::from_utf8(output.stderr).unwrap());
    let Some(said) = verify(&unit()) else { return };
    assert_eq!(said, "");
    let misspelt = unit().replace("ProtectHome=", "ProtectHouse=");
    assert!(verify(&misspelt).expect("it is here").contains("ProtectHouse"));
}

#[test]
fn the_unit_leaves_little_exposed() {
    let security = ["security", "--offline=true", "--no-pager", EXPOSURE_MAX];
    let Some(output) = analyse(&security, &unit()) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let open = unit().replace("ProtectSystem=strict\n", "").replace("CapabilityBoundingSet=\n", "");
    assert!(!analyse(&security, &open).expect("it is here").status.success());
}
