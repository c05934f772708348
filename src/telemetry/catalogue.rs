//! Every metric there is, as the code itself says: a recorder that keeps nothing but descriptions and labels.
//!
//! The stages register all their metrics with it as they do with the real one, so that the page of the metrics cannot say
//! anything else than the code does.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric, under the name that Prometheus knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Metric {
    /// `None`: described, and registered nowhere.
    pub kind: Option<Kind>,
    pub unit: String,
    /// Empty: registered, and described nowhere.
    pub meaning: String,
    /// The values of each label; one value in brackets stands for an open set and says its bound.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

impl Metric {
    /// Series of this metric, as far as its labels are closed sets.
    pub fn series_max(&self) -> usize {
        self.labels
            .values()
            .map(|values| values.iter().find_map(|value| bound(value)).unwrap_or(values.len()))
            .product()
    }
}

/// What stands for the values of a label that is no closed set: at most `max` of them.
pub fn at_most(max: usize, what: &str) -> String {
    format!("(at most {max}: {what})")
}

/// The bound in a value that [`at_most`] made.
pub fn bound(value: &str) -> Option<usize> {
    value.strip_prefix("(at most ")?.split_once(':')?.0.parse().ok()
}

#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Catalogue(pub BTreeMap<String, Metric>);

impl Catalogue {
    /// What `register` describes and registers.
    pub fn of(register: impl FnOnce()) -> Catalogue {
        let collector = Collector::default();
        metrics::with_local_recorder(&collector, register);
        let mut metrics = collector.0.into_inner();
        for (name, metric) in &mut metrics {
            if metric.unit.is_empty() {
                metric.unit = unit_of(name).into();
            }
        }
        Catalogue(metrics)
    }
}

/// By the conventions of names.
fn unit_of(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let units = [
        ("_timestamp_seconds", "Unix time, seconds"),
        ("_seconds", "seconds"),
        ("_bytes", "bytes"),
        ("_ratio", "ratio"),
    ];
    units.into_iter().find(|(suffix, _)| name.ends_with(suffix)).map_or("count", |(_, unit)| unit)
}

/// As a page of Markdown.
impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let series: usize = self.0.values().map(Metric::series_max).sum();
        writeln!(f, "# Metrics\n")?;
        writeln!(
            f,
            "Written by `forecourt metrics`; a test compares it with the code. {} metrics, {series} series at most",
            self.0.len()
        )?;
        writeln!(f, "(a histogram counts once).\n")?;
        writeln!(f, "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|")?;
        for (name, metric) in &self.0 {
            let kind = metric.kind.map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase());
            let mut labels = String::new();
            for (label, values) in &metric.labels {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                let gap = if labels.is_empty() { "" } else { "; " };
                write!(labels, "{gap}`{label}`: {}", values.join(", "))?;
            }
            writeln!(f, "| `{name}` | {kind} | {} | {labels} | {} |", metric.unit, metric.meaning)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Collector(RefCell<BTreeMap<String, Metric>>);

impl Collector {
    fn describe(&self, name: &KeyName, unit: Option<Unit>, meaning: &SharedString) {
        let mut metrics = self.0.borrow_mut();
        let metric = metrics.entry(name.as_str().to_owned()).or_default();
        meaning.trim_end_matches('.').clone_into(&mut metric.meaning);
        if let Some(unit) = unit {
            unit.as_str().clone_into(&mut metric.unit);
        }
    }

    fn register(&self, key: &Key, kind: Kind) {
        let mut metrics = self.0.borrow_mut();
        let metric = metrics.entry(key.name().to_owned()).or_default();
        metric.kind = Some(kind);
        for label in key.labels() {
            metric.labels.entry(label.key().to_owned()).or_default().insert(label.value().to_owned());
        }
    }
}

impl Recorder for Collector {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(&name, unit, &meaning);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(&name, unit, &meaning);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(&name, unit, &meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.register(key, Kind::Counter);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.register(key, Kind::Gauge);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.register(key, Kind::Histogram);
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, gauge};

    use super::*;

    #[test]
    fn what_is_registered_and_described_is_listed_with_its_labels() {
        let catalogue = Catalogue::of(|| {
            describe_counter!("frames_total", "Frames.");
            let _ = ["known", "unknown"].map(|code| counter!("frames_total", "code" => code));
            let _ = gauge!("money", "currency" => at_most(3, "ISO 4217"));
        });
        let frames = &catalogue.0["frames_total"];
        assert_eq!((frames.kind, frames.meaning.as_str(), frames.series_max()), (Some(Kind::Counter), "Frames", 2));
        let money = &catalogue.0["money"];
        assert_eq!((money.meaning.as_str(), money.series_max()), ("", 3), "its description is missing");
        assert!(
            catalogue.to_string().contains("| `frames_total` | counter | count | `code`: known, unknown | Frames |")
        );
    }
}
