//! A run and the folder that it becomes.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::{Curve, Latencies, ReportError, Series, Table, Verdict, page};

pub(super) const SUMMARY: &str = "summary.json";
const PAGE: &str = "report.html";

#[derive(Debug, Clone)]
pub struct Run {
    /// As it was typed.
    pub command: String,
    pub title: String,
    /// When the load began; the interval logs count from it.
    pub started: SystemTime,
    /// The facts of the machine and the build, as an object.
    pub host: Value,
    pub conditions: Vec<(String, String)>,
    /// What was measured: the keys of `summary.json`.
    pub summary: Map<String, Value>,
    pub latencies: Vec<Latencies>,
    pub series: Vec<Series>,
    pub curves: Vec<Curve>,
    pub tables: Vec<Table>,
    pub thresholds: Vec<Verdict>,
    pub notes: Vec<String>,
}

impl Run {
    /// A run with nothing measured yet, that begins now.
    pub fn new(command: impl Into<String>, title: impl Into<String>) -> Run {
        Run {
            command: command.into(),
            title: title.into(),
            started: SystemTime::now(),
            host: Value::Null,
            conditions: Vec::new(),
            summary: Map::new(),
            latencies: Vec::new(),
            series: Vec::new(),
            curves: Vec::new(),
            tables: Vec::new(),
            thresholds: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Every threshold held; a run without any has passed.
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(|verdict| verdict.held)
    }

    /// Makes the folder where it is missing and replaces what an earlier run left under the same names.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        fs::create_dir_all(folder).map_err(|error| ReportError::File { path: folder.into(), error })?;
        let summary = serde_json::to_string_pretty(&self.document()).expect("JSON values are plain data");
        put(&folder.join(SUMMARY), (summary + "\n").as_bytes())?;
        for latencies in &self.latencies {
            let path = folder.join(format!("{}.hlog", file_name(latencies.name())));
            put(&path, &latencies.interval_log(self.started))?;
        }
        put(&folder.join(PAGE), page::render(self).into_string().as_bytes())
    }

    /// What was measured, flat, beside what it was measured under.
    pub fn document(&self) -> Value {
        let conditions: Map<String, Value> =
            self.conditions.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let mut document = self.summary.clone();
        document.extend([
            ("passed".into(), self.passed().into()),
            ("command".into(), self.command.as_str().into()),
            ("title".into(), self.title.as_str().into()),
            ("started_unix_s".into(), unix_seconds(self.started).into()),
            ("thresholds".into(), json!(self.thresholds)),
            ("conditions".into(), conditions.into()),
            ("host".into(), self.host.clone()),
            ("notes".into(), json!(self.notes)),
        ]);
        document.into()
    }
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    fs::write(path, bytes).map_err(|error| ReportError::File { path: path.into(), error })
}

fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Bound;

    fn run() -> Run {
        let mut run = Run::new("loadtest fleet small.toml", "A small fleet");
        run.summary.insert("missed".into(), 0.into());
        run.summary.insert("visible_p99_ms".into(), 101.5.into());
        run.conditions.push(("stations".into(), "8".into()));
        run.host = json!({"cores": 2});
        run
    }

    #[test]
    fn the_summary_keeps_the_measured_keys_flat() {
        let document = run().document();
        assert_eq!(document["visible_p99_ms"], 101.5);
        assert_eq!(document["missed"], 0);
        assert_eq!(document["conditions"]["stations"], "8");
        assert_eq!(document["host"]["cores"], 2);
        assert_eq!(document["passed"], true);
    }

    #[test]
    fn one_missed_threshold_fails_the_run() {
        let mut run = run();
        run.thresholds.push(Verdict::new("missed", Bound::AtMost(0.0), 0.0));
        assert!(run.passed());
        run.thresholds.push(Verdict::new("visible_p99_ms", Bound::AtMost(100.0), 101.5));
        assert!(!run.passed());
    }

    #[test]
    fn the_folder_holds_summary_logs_and_page() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut run = run();
        let mut latencies = Latencies::new("plate/query", "Plate query");
        latencies.record(Duration::ZERO, Duration::from_millis(2));
        run.latencies.push(latencies);
        let target = folder.path().join("runs/1");
        run.write(&target).expect("it is written");
        for name in [SUMMARY, "plate-query.hlog", PAGE] {
            assert!(target.join(name).is_file(), "{name}");
        }
    }
}
