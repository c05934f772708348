//! What ships in `grafana/`: whole, consistent, and about metrics that exist. `cargo loadtest -- panels` asks every query
//! of a real Prometheus.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use forecourt::{
    app::catalogue,
    telemetry::catalogue::{Catalogue, Kind},
};
use loadtest::grafana::{self, selector::selectors};

use crate::tools;

/// What an operations team must be able to see.
const IMPORTANT: [&str; 44] = [
    "forecourt_disk_free_bytes",
    "forecourt_http_request_seconds",
    "forecourt_http_requests_total",
    "forecourt_ingest_certificate_expires_timestamp_seconds",
    "forecourt_ingest_closed_total",
    "forecourt_ingest_refused_total",
    "forecourt_ingest_uplinks",
    "forecourt_ledger_commit_seconds",
    "forecourt_ledger_failing",
    "forecourt_ledger_failures_total",
    "forecourt_ledger_queue_oldest_timestamp_seconds",
    "forecourt_ledger_queue_waiting_jobs",
    "forecourt_payment_concluded_total",
    "forecourt_payment_gateway_seconds",
    "forecourt_payment_gateway_state",
    "forecourt_payment_in_doubt_total",
    "forecourt_payment_open_charges",
    "forecourt_payment_reconciliation_exceptions",
    "forecourt_payment_sent_total",
    "forecourt_registration_cache_lookups_total",
    "forecourt_registration_cache_up",
    "forecourt_registration_codebook_dongles",
    "forecourt_registration_codebook_roll_seconds",
    "forecourt_registration_phone_refusals_total",
    "forecourt_registration_write_queue_oldest_timestamp_seconds",
    "forecourt_session_changes_total",
    "forecourt_session_oldest_in_doubt_timestamp_seconds",
    "forecourt_session_sessions",
    "forecourt_session_state_seconds",
    "forecourt_session_unpaid_minor_units",
    "forecourt_settings_refused",
    "forecourt_station_batch_age_seconds",
    "forecourt_station_class_unknown_ratio",
    "forecourt_station_drifting_receivers",
    "forecourt_station_entry_seconds",
    "forecourt_station_frames_dropped_total",
    "forecourt_station_frames_total",
    "forecourt_station_silent_receivers",
    "forecourt_station_vehicles",
    "forecourt_station_worst_clock_drift_seconds",
    "forecourt_station_worst_number",
    "forecourt_trace_spans_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
];

fn read(file: &str) -> String {
    fs::read_to_string(grafana::folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every expression of the dashboards, and what it is for.
fn panel_queries() -> Vec<(String, String)> {
    let boards = grafana::boards(&grafana::folder()).expect("they read");
    let queries = boards.iter().flat_map(|(_, board)| {
        board.panels().flat_map(move |panel| {
            panel.queries.iter().map(move |(query, _)| (format!("{}: {}", board.title, panel.title), query.clone()))
        })
    });
    queries.collect()
}

/// The values of a key of the rules' YAML: `- key: value`, or `key: |-` with the value on the lines below.
fn values(text: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim_start().trim_start_matches("- ").strip_prefix(key) else { continue };
        let mut value = value.trim().to_owned();
        if value == "|-" {
            value.clear();
            let depth = |line: &str| line.len() - line.trim_start().len();
            while let Some(below) = lines.next_if(|below| depth(below) > depth(line)) {
                value = format!("{value} {}", below.trim());
            }
        }
        values.push(value.trim().to_owned());
    }
    values
}

fn rule_queries() -> Vec<(String, String)> {
    let of = |file: &str| values(&read(file), "expr:").into_iter().map(|query| (file.to_owned(), query)).collect();
    ["rules/recording.yml", "rules/alerts.yml"].iter().flat_map(|file| -> Vec<_> { of(file) }).collect()
}

/// The metric that a selector is of, whatever part of a histogram it asks for.
fn metric(selector: &str, catalogue: &Catalogue) -> String {
    let name = selector.split('{').next().unwrap_or_default();
    let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    let is_histogram = |name: &&str| catalogue.0.get(*name).is_some_and(|metric| metric.kind == Some(Kind::Histogram));
    part.filter(is_histogram).unwrap_or(name).to_owned()
}

/// Of these expressions, what asks for a metric, a label or a recorded series that there is not.
fn unknown(queries: &[(String, String)], catalogue: &Catalogue, recorded: &[String]) -> Vec<String> {
    let mut unknown = Vec::new();
    for (of, query) in queries {
        for selector in selectors(query).unwrap_or_else(|error| panic!("{of}: {query}: {error}")) {
            let name = metric(&selector, catalogue);
            let is_known = name == "up" || recorded.contains(&name) || catalogue.0.contains_key(&name);
            let labels = selector.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let own = catalogue.0.get(&name).map(|metric| &metric.labels);
            let knows = |label: &str| {
                let key = label.split(['=', '!']).next().unwrap_or_default();
                ["job", "instance", "slo", "le"].contains(&key) || own.is_some_and(|own| own.contains_key(key))
            };
            let all_known = labels.split("\",").filter(|label| !label.is_empty()).all(knows);
            if !is_known || !all_known {
                unknown.push(format!("{of}: {selector}"));
            }
        }
    }
    unknown
}

#[test]
fn every_query_is_about_metrics_and_labels_that_exist() {
    let (catalogue, recorded) = (catalogue(), values(&read("rules/recording.yml"), "record:"));
    let queries = [panel_queries(), rule_queries()].concat();
    assert!(queries.len() > 100, "{}", queries.len());
    assert_eq!(unknown(&queries, &catalogue, &recorded), Vec::<String>::new());
    let misspelt =
        ["forecourt_ledger_comits_total", "forecourt_http_requests_total{grup=\"phone\"}", "forecourt:slo:x"];
    for query in misspelt {
        assert_eq!(unknown(&[(String::new(), query.into())], &catalogue, &recorded), [format!(": {query}")]);
    }
}

#[test]
fn every_important_metric_is_on_a_dashboard() {
    let catalogue = catalogue();
    let shown: BTreeSet<String> = panel_queries()
        .iter()
        .flat_map(|(_, query)| selectors(query).expect("PromQL"))
        .map(|selector| metric(&selector, &catalogue))
        .collect();
    let missing: Vec<_> = IMPORTANT.iter().filter(|name| !shown.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_dashboards_that_grafana_reads_are_those_that_people_write() {
    for (path, board) in grafana::boards(&grafana::folder()).expect("they read") {
        let json = fs::read_to_string(&path).unwrap_or_default();
        assert!(json == grafana::text(&board), "{}: write it anew with `cargo loadtest -- dashboards`", path.display());
    }
}

#[test]
fn every_panel_says_what_it_means_in_a_unit_under_a_name_of_its_own() {
    for (path, board) in grafana::boards(&grafana::folder()).expect("they read") {
        let mut titles = BTreeSet::new();
        for panel in board.panels() {
            let at = format!("{}: {}", path.display(), panel.title);
            assert!(titles.insert(&panel.title), "{at}: twice");
            assert!(panel.says.ends_with('.') && !panel.unit.is_empty() && !panel.queries.is_empty(), "{at}");
            assert!(panel.queries.len() == 1 || panel.queries.iter().all(|(_, legend)| !legend.is_empty()), "{at}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_case_that_fires_and_one_that_does_not() {
    let (runbooks, tests) = (read("runbooks.md"), read("rules/tests/alerts.yml"));
    let alerts = values(&read("rules/alerts.yml"), "alert:");
    let sections: Vec<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts, "a section each, in the same order");
    for alert in &alerts {
        let section = runbooks.split("\n## ").find(|section| section.starts_with(&format!("{alert}\n")));
        for part in ["**Meaning.**", "**First look.**", "**Action.**"] {
            assert!(section.is_some_and(|section| section.contains(part)), "{alert}: {part}");
        }
        assert!(tests.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert}: no case that does not fire");
        assert!(tests.contains(&format!("name: {alert} fires\n")), "{alert}: no case that fires");
    }
}

fn promtool(arguments: &[&str], files: &[PathBuf]) -> Option<Output> {
    let promtool = tools::in_path("promtool", "prometheus")?;
    Some(Command::new(promtool).args(arguments).args(files).output().expect("it runs"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn promtool_has_no_word_against_the_rules() {
    let rules = grafana::prometheus::rules(&grafana::folder());
    let Some(checked) = promtool(&["check", "rules", "--lint-fatal"], &rules) else { return };
    assert!(checked.status.success(), "{}", said(&checked));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let twice = folder.path().join("twice.yml");
    let rule = "{ record: a:b, expr: up }";
    fs::write(&twice, format!("groups: [{{ name: a, rules: [{rule}, {rule}] }}]")).expect("writable");
    let refused = promtool(&["check", "rules", "--lint-fatal"], &[twice]).expect("it was there before");
    assert!(!refused.status.success(), "a rule that is there twice would be noticed");
}

#[test]
fn alerts_fire_when_they_should_and_not_when_they_should_not() {
    let cases = grafana::folder().join("rules/tests/alerts.yml");
    let Some(tested) = promtool(&["test", "rules"], &[cases]) else { return };
    assert!(tested.status.success(), "{}", said(&tested));
}

/// The program of `@grafana/schema`'s types, or a loud line.
fn tsc() -> Option<PathBuf> {
    const TSC: &str = "node_modules/.bin/tsc";
    Some(tools::folder_with(tools::NODE, TSC)?.join(TSC))
}

/// JSON is TypeScript too; an enum is written as its value there.
const TYPES: &str = "import type { Dashboard } from '@grafana/schema';\n\
    type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T :\n\
    T extends object ? { [K in keyof T]: Plain<T[K]> } : T;\n\
    export const board: Plain<Dashboard> = ";

fn compile(tsc: &Path, json: &str) -> Output {
    let modules = tsc.ancestors().nth(3).expect("it lies in node_modules/.bin");
    let folder = tempfile::tempdir_in(modules).expect("the folder of the build");
    let file = folder.path().join("board.ts");
    fs::write(&file, format!("{TYPES}{json};\n")).expect("writable");
    let options = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext"];
    Command::new(tsc).args(options).arg(&file).output().expect("node runs")
}

#[test]
fn the_dashboards_are_of_grafanas_own_types() {
    let Some(tsc) = tsc() else { return };
    for (path, board) in grafana::boards(&grafana::folder()).expect("they read") {
        let compiled = compile(&tsc, &grafana::text(&board));
        assert!(compiled.status.success(), "{}: {}", path.display(), said(&compiled));
    }
    let wrong = "{ \"schemaVersion\": 39, \"panels\": [{ \"type\": \"stat\", \"gridPos\": { \"x\": \"left\" } }] }";
    assert!(!compile(&tsc, wrong).status.success(), "a field of another type would be noticed");
}
