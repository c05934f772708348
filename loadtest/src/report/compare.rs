//! Two runs side by side: every figure, which way it went, and under what the runs differ.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Direction, ReportError, numbers::grouped, run::SUMMARY};

/// Changes smaller than this share are noise: runs on one machine differ by as much.
const NOISE: f64 = 0.03;
/// Keys of the summary that are not measured.
const UNMEASURED: [&str; 4] = ["started_unix_s", "thresholds", "conditions", "host"];

#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub a: PathBuf,
    pub b: PathBuf,
    pub measures: Vec<Measure>,
    /// Facts of the host, conditions and words of the summary that are not the same in both.
    pub differing: Vec<Difference>,
    /// Keys whose threshold held in A and was missed in B.
    pub lost: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    pub key: String,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// B over A, where both are there and A is not zero.
    pub ratio: Option<f64>,
    pub judgement: Judgement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Better,
    Worse,
    Same,
    /// It moved, and nobody knows whether that is good.
    Changed,
    /// One of the runs does not have it.
    Absent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub key: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

/// Reads the summaries of two run folders.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, ReportError> {
    let (before, after) = (read(a)?, read(b)?);
    Ok(Comparison {
        a: a.into(),
        b: b.into(),
        measures: measures(&before, &after),
        differing: differing(&before, &after),
        lost: lost(&before, &after),
    })
}

impl Comparison {
    /// No threshold that held in A was missed in B.
    pub fn holds(&self) -> bool {
        self.lost.is_empty()
    }
}

impl Measure {
    fn new(key: &str, a: Option<f64>, b: Option<f64>) -> Measure {
        let ratio = a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| b / a);
        let judgement = a.zip(b).map_or(Judgement::Absent, |(a, b)| judge(Direction::of(key), a, b));
        Measure { key: key.into(), a, b, ratio, judgement }
    }
}

fn judge(direction: Direction, a: f64, b: f64) -> Judgement {
    let is_noise = (b - a).abs() <= NOISE * a.abs();
    match direction {
        _ if is_noise => Judgement::Same,
        Direction::HigherIsBetter if b > a => Judgement::Better,
        Direction::LowerIsBetter if b < a => Judgement::Better,
        Direction::Unknown => Judgement::Changed,
        _ => Judgement::Worse,
    }
}

fn read(folder: &Path) -> Result<Map<String, Value>, ReportError> {
    let path = folder.join(SUMMARY);
    let text = fs::read_to_string(&path).map_err(|error| ReportError::File { path: path.clone(), error })?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(summary)) => Ok(summary),
        Ok(_) => Err(ReportError::NotASummary { path, reason: "it is no object".into() }),
        Err(error) => Err(ReportError::NotASummary { path, reason: error.to_string() }),
    }
}

fn measures(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<Measure> {
    let measured = |summary| leaves(summary, |key| !UNMEASURED.contains(&key), Value::as_f64);
    paired(measured(a), measured(b)).map(|(key, (a, b))| Measure::new(&key, a, b)).collect()
}

fn differing(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<Difference> {
    let words = |summary| {
        let conditions = leaves(summary, |key| ["conditions", "host"].contains(&key), said);
        let results = leaves(summary, |key| !UNMEASURED.contains(&key) && key != "notes", said_in_words);
        conditions.into_iter().chain(results).collect()
    };
    let pairs = paired(words(a), words(b)).filter(|(_, (a, b))| a != b);
    pairs.map(|(key, (a, b))| Difference { key, a, b }).collect()
}

fn lost(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let held = |summary: &Map<String, Value>, wanted: bool| -> Vec<String> {
        let verdicts = summary.get("thresholds").and_then(Value::as_array).into_iter().flatten();
        let matching = verdicts.filter(|verdict| verdict["held"] == wanted);
        matching.filter_map(|verdict| Some(verdict["key"].as_str()?.to_owned())).collect()
    };
    let missed = held(b, false);
    held(a, true).into_iter().filter(|key| missed.contains(key)).collect()
}

fn said(value: &Value) -> Option<String> {
    said_in_words(value).or_else(|| value.as_f64().map(grouped))
}

fn said_in_words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Every leaf under the wanted top keys that `of` makes something of, by its path.
fn leaves<T>(
    summary: &Map<String, Value>,
    wanted: impl Fn(&str) -> bool,
    of: fn(&Value) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    for (key, value) in summary.iter().filter(|(key, _)| wanted(key)) {
        collect(key.clone(), value, of, &mut found);
    }
    found
}

fn collect<T>(path: String, value: &Value, of: fn(&Value) -> Option<T>, found: &mut BTreeMap<String, T>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect(format!("{path}.{key}"), value, of, found));
        }
        Value::Array(items) => {
            let named = items.iter().enumerate().map(|(place, item)| (name_of(item, place), item));
            named.for_each(|(name, item)| collect(format!("{path}.{name}"), item, of, found));
        }
        leaf => {
            found.extend(of(leaf).map(|leaf| (path, leaf)));
        }
    }
}

/// An item of a list is told by the words in it, so that lists in another order still pair up.
fn name_of(item: &Value, place: usize) -> String {
    let words = item.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_str);
    let name = words.collect::<Vec<_>>().join(" ");
    if name.is_empty() { place.to_string() } else { name }
}

type Pair<T> = (Option<T>, Option<T>);

fn paired<T>(a: BTreeMap<String, T>, b: BTreeMap<String, T>) -> impl Iterator<Item = (String, Pair<T>)> {
    let mut pairs: BTreeMap<String, Pair<T>> = a.into_iter().map(|(key, value)| (key, (Some(value), None))).collect();
    for (key, value) in b {
        pairs.entry(key).or_insert((None, None)).1 = Some(value);
    }
    pairs.into_iter()
}

/// The table for people.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.measures.iter().map(|measure| measure.key.len()).max().unwrap_or(0).max(8);
        writeln!(f, "A {}\nB {}\n", self.a.display(), self.b.display())?;
        writeln!(f, "{:width$} {:>16} {:>16} {:>8}", "", "A", "B", "B/A")?;
        for Measure { key, a, b, ratio, judgement } in &self.measures {
            let [a, b] = [a, b].map(|value| value.map_or("-".into(), grouped));
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"));
            writeln!(f, "{}", format!("{key:width$} {a:>16} {b:>16} {ratio:>8}  {judgement}").trim_end())?;
        }
        if !self.differing.is_empty() {
            writeln!(f, "\ndifferent:")?;
        }
        for Difference { key, a, b } in &self.differing {
            let [a, b] = [a, b].map(|said| said.as_deref().unwrap_or("-"));
            writeln!(f, "  {key}: {a} -> {b}")?;
        }
        if !self.holds() {
            writeln!(f, "\nthresholds held in A and missed in B: {}", self.lost.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Judgement::Better => "better",
            Judgement::Worse => "WORSE",
            Judgement::Same | Judgement::Changed => "",
            Judgement::Absent => "in one only",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{Bound, Run, Verdict};

    fn run(frames_per_second: f64, p99: f64) -> Run {
        let mut run = Run::new("loadtest fleet small.toml", "A small fleet");
        run.summary.insert("frames_per_second".into(), frames_per_second.into());
        run.summary.insert("visible_p99_ms".into(), p99.into());
        run.thresholds.push(Verdict::new("visible_p99_ms", Bound::AtMost(150.0), p99));
        run.host = json!({"cpu": "one"});
        run
    }

    fn compared(a: &Run, b: &Run) -> Comparison {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [one, other] = ["a", "b"].map(|name| folder.path().join(name));
        a.write(&one).expect("A is written");
        b.write(&other).expect("B is written");
        compare(&one, &other).expect("both are there")
    }

    fn judgement(comparison: &Comparison, key: &str) -> Judgement {
        comparison.measures.iter().find(|measure| measure.key == key).expect("it was measured").judgement
    }

    #[test]
    fn each_figure_is_judged_by_its_own_direction() {
        let comparison = compared(&run(100.0, 90.0), &run(200.0, 120.0));
        assert_eq!(judgement(&comparison, "frames_per_second"), Judgement::Better);
        assert_eq!(judgement(&comparison, "visible_p99_ms"), Judgement::Worse);
        assert!(comparison.holds());
    }

    #[test]
    fn a_difference_within_the_noise_is_none() {
        assert_eq!(judgement(&compared(&run(100.0, 90.0), &run(98.0, 91.0)), "frames_per_second"), Judgement::Same);
    }

    #[test]
    fn a_fault_that_was_not_there_before_is_worse_and_has_no_ratio() {
        let measure = Measure::new("missed", Some(0.0), Some(1.0));
        assert_eq!((measure.judgement, measure.ratio), (Judgement::Worse, None));
    }

    #[test]
    fn a_threshold_held_before_and_missed_now_is_lost() {
        let comparison = compared(&run(100.0, 90.0), &run(100.0, 200.0));
        assert_eq!(comparison.lost, ["visible_p99_ms"]);
        assert!(!comparison.holds());
        assert!(compared(&run(100.0, 200.0), &run(100.0, 200.0)).holds());
    }

    #[test]
    fn what_the_runs_were_made_under_is_compared_too() {
        let mut other = run(100.0, 90.0);
        other.host = json!({"cpu": "two"});
        let comparison = compared(&run(100.0, 90.0), &other);
        let difference = Difference { key: "host.cpu".into(), a: Some("one".into()), b: Some("two".into()) };
        assert_eq!(comparison.differing, [difference]);
    }

    #[test]
    fn items_of_a_list_pair_up_by_their_words() {
        let [mut a, mut b] = [run(1.0, 1.0), run(1.0, 1.0)];
        a.summary.insert("peers".into(), json!([{"name": "x", "lost": 1}, {"name": "y", "lost": 2}]));
        b.summary.insert("peers".into(), json!([{"name": "y", "lost": 2}, {"name": "x", "lost": 1}]));
        assert_eq!(judgement(&compared(&a, &b), "peers.x.lost"), Judgement::Same);
    }

    #[test]
    fn a_folder_without_a_summary_is_named() {
        let error = compare(Path::new("/nowhere"), Path::new("/nowhere")).expect_err("nothing is there");
        assert!(error.to_string().starts_with("/nowhere/summary.json"));
    }
}
