//! What `/metrics` says: everything of it is in the catalogue, nothing grows with the chain, and `promtool` has no word
//! against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use forecourt::{
    app::catalogue,
    telemetry::catalogue::{Catalogue, Kind, bound},
};
use serde_json::json;

use crate::{
    engine::{Engine, eventually},
    site::{Car, STATION, Site},
    tools,
};

/// Set to write the page anew.
const WRITE: &str = "FORECOURT_WRITE";

/// A label that names one of many would make a series of each.
const NAMES_OF_MANY: [&str; 8] = ["station", "device", "plate", "binding", "session", "pump", "receiver", "address"];

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/metrics.md")
}

#[test]
fn every_metric_is_described_where_it_is_made() {
    let catalogue = catalogue();
    let of = |is: fn(&forecourt::telemetry::catalogue::Metric) -> bool| -> Vec<&String> {
        catalogue.0.iter().filter(|(_, metric)| is(metric)).map(|(name, _)| name).collect()
    };
    assert_eq!(of(|metric| metric.meaning.is_empty()), Vec::<&String>::new(), "registered, and not described");
    assert_eq!(of(|metric| metric.kind.is_none()), Vec::<&String>::new(), "described, and not registered");
}

#[test]
fn the_page_of_the_metrics_is_what_the_code_says() {
    let now = catalogue().to_string();
    if std::env::var_os(WRITE).is_some() {
        fs::write(page(), &now).expect("the tree is writable");
    }
    let page = fs::read_to_string(page()).unwrap_or_default();
    let (page, now): (BTreeSet<&str>, BTreeSet<&str>) = (page.lines().collect(), now.lines().collect());
    let differing: Vec<_> = page.symmetric_difference(&now).collect();
    assert!(
        differing.is_empty(),
        "grafana/metrics.md is not what the code says; write it anew with\n  {WRITE}=1 cargo test --test it metrics::the_page\n{differing:#?}"
    );
}

#[test]
fn no_label_names_one_of_many() {
    for (name, metric) in catalogue().0 {
        for label in metric.labels.keys() {
            assert!(!NAMES_OF_MANY.contains(&label.as_str()), "{name}: {label}");
        }
    }
}

/// The series of a text: their metric's name and their labels.
fn series(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let read = |line: &str| {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()));
        (name.to_owned(), labels.collect())
    };
    lines.map(read).collect()
}

/// What is in the text and not in the catalogue, or not as the catalogue says.
fn strangers(text: &str, catalogue: &Catalogue) -> Vec<String> {
    let mut strangers = Vec::new();
    let mut values: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (name, mut labels) in series(text) {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let histogram = part.filter(|name| catalogue.0.get(*name).is_some_and(|of| of.kind == Some(Kind::Histogram)));
        labels.remove("le").filter(|_| histogram.is_some());
        let name = histogram.map_or(name.clone(), str::to_owned);
        let Some(metric) = catalogue.0.get(&name) else {
            strangers.push(name);
            continue;
        };
        for (label, value) in labels {
            match metric.labels.get(&label) {
                Some(known) if known.contains(&value) || known.iter().any(|value| bound(value).is_some()) => {}
                _ => strangers.push(format!("{name}{{{label}=\"{value}\"}}")),
            }
            values.entry((name.clone(), label)).or_default().insert(value);
        }
    }
    for ((name, label), values) in values {
        let known = &catalogue.0[&name].labels.get(&label).cloned().unwrap_or_default();
        let max = known.iter().find_map(|value| bound(value)).unwrap_or(known.len());
        if values.len() > max {
            strangers.push(format!("{name}: {label} has {} values", values.len()));
        }
    }
    strangers
}

#[test]
fn a_metric_that_is_not_in_the_catalogue_would_be_noticed() {
    let text = "forecourt_ledger_commits_total 1\nforecourt_nobody_total{a=\"b\"} 2\n\
        forecourt_http_requests_total{group=\"phone\",class=\"9xx\"} 3\n";
    let strangers = strangers(text, &catalogue());
    assert_eq!(strangers, ["forecourt_nobody_total", "forecourt_http_requests_total{class=\"9xx\"}"]);
}

/// Cars that nobody knows beside one that buys; calls that fail beside those that do not.
async fn traffic(site: &Site) {
    let opened = eventually("a session", async || {
        let sessions = format!("/v1/stations/{STATION}/sessions");
        let answer = site.engine.post(&sessions, &site.terminal, json!({ "plate": "3456" })).await;
        (answer.status == 201).then_some(answer)
    })
    .await;
    site.engine.post(&format!("/v1/sessions/{}/release", opened.text("id")), &site.terminal, json!({})).await.is(200);
    for path in ["/nothing", "/v1/stations/9/vehicles", "/v1/phone/binding"] {
        site.engine.get(path, &site.terminal).await;
    }
    site.engine.post("/v1/phone/tokens", "", json!({ "device": 9, "at": 0, "signature": "00" })).await;
}

#[tokio::test]
async fn after_traffic_every_series_is_one_that_the_catalogue_knows() {
    let car = Car::new(1, "12A3456", "tok_ok");
    let engine = Engine::start_with(&[("STATION_SURVEY_S", "1".into())]).await;
    let site = Site::on(engine, &[&car]).await;
    traffic(&site).await;
    let surveyed = async || {
        let vehicles = site.engine.metric("forecourt_station_vehicles", &[]).await;
        (vehicles > 0.0).then_some(())
    };
    eventually("a survey", surveyed).await;
    let text = site.engine.metrics().await;
    assert_eq!(strangers(&text, &catalogue()), Vec::<String>::new());
    let described = |name: &str| text.contains(&format!("# HELP {name} "));
    let known = catalogue();
    let undescribed: Vec<&String> =
        known.0.keys().filter(|name| text.contains(&format!("# TYPE {name} ")) && !described(name)).collect();
    assert_eq!(undescribed, Vec::<&String>::new());
    assert!(site.engine.metric("forecourt_station_entry_seconds_count", &[]).await >= 1.0);
    assert!(site.engine.metric("forecourt_session_state_seconds_count", &["Selected"]).await >= 1.0);
    assert!(site.engine.metric("process_resident_memory_bytes", &[]).await > 1e6);
    assert!(site.engine.metric("forecourt_disk_free_bytes", &[]).await > 1e6);
    promtool_has_no_word_against(&text);
}

fn promtool_has_no_word_against(text: &str) {
    let Some(promtool) = tools::in_path("promtool", "prometheus") else { return };
    let check = |text: &str| {
        let mut child = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    let checked = check(text);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(!check("# TYPE bad_counter counter\nbad_counter 1\n").status.success(), "it would say so");
}

#[tokio::test]
async fn the_worst_stations_are_named_to_an_operator_alone() {
    let car = Car::new(1, "12A3456", "tok_ok");
    let engine = Engine::start_with(&[("STATION_SURVEY_S", "1".into()), ("STATION_SILENT_AFTER_S", "1".into())]).await;
    let site = Site::on(engine, &[&car]).await;
    let path = "/v1/stations/worst?by=silent_receivers";
    site.radio.abort();
    let worst = eventually("a silent station", async || {
        let answer = site.engine.get(path, site.engine.operator()).await.is(200);
        answer.body.get(0).cloned()
    })
    .await;
    assert_eq!(worst["station"], STATION.0);
    assert!(worst["silent_receivers"].as_u64() >= Some(1), "{worst}");
    site.engine.get(path, &site.terminal).await.refused_as(403, "FORBIDDEN");
    let none = site.engine.get("/v1/stations/worst?by=silent_receivers&limit=0", site.engine.operator()).await.is(200);
    assert_eq!(none.body, json!([]));
}
