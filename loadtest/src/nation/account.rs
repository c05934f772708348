//! What a run came to: samples, truth and latencies as one report.

use std::{sync::PoisonError, time::Duration};

use serde_json::{Map, Value, json};

use super::{Options, Sample, pace::Pace, plates::Shared};
use crate::{
    oracle::{Counts, Oracle},
    process::{Metrics, host::Facts},
    report::{Latencies, Run, Series, Table, Verdict},
    scenario::{Plan, Scenario},
    uplinks::Totals,
};

/// Drops of each stage, as the engine counts them: metric, label, value, and what it is.
const STAGES: [(&str, &str, &str, &str); 7] = [
    ("forecourt_station_frames_total", "code", "resolved", "frames of a known dongle"),
    ("forecourt_station_frames_total", "code", "unknown", "frames of an unknown code"),
    ("forecourt_station_frames_dropped_total", "reason", "stale", "dropped: too old"),
    ("forecourt_station_frames_dropped_total", "reason", "over_rate", "dropped: over the receiver's rate"),
    ("forecourt_station_frames_dropped_total", "reason", "full", "dropped: no window left"),
    ("forecourt_station_presence_total", "change", "entered", "vehicles entered"),
    ("forecourt_station_presence_total", "change", "left", "vehicles left"),
];

/// The time in which no uplink, or not every one, is connected.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Storm {
    began: Option<Duration>,
    /// Connections made before it.
    connects: u64,
    lasted: Option<Duration>,
}

impl Storm {
    pub(super) fn began(&mut self, at: Duration, connects: u64) {
        *self = Storm { began: Some(at), connects, lasted: None };
    }

    pub(super) fn is_on(&self) -> bool {
        self.began.is_some() && self.lasted.is_none()
    }

    /// It is over when each of `all` uplinks has connected anew.
    pub(super) fn look(&mut self, now: Duration, connected: usize, connects: u64, all: usize) {
        if let Some(began) = self.began
            && connected == all
            && connects >= self.connects + all as u64
        {
            self.lasted = Some(now.saturating_sub(began));
        }
    }
}

pub(super) struct Account {
    samples: Vec<Sample>,
    plates: Shared,
    pub(super) pace: Pace,
    pub(super) storm: Storm,
}

impl Account {
    pub(super) fn new(plates: Shared) -> Account {
        Account { samples: Vec::new(), plates, pace: Pace::default(), storm: Storm::default() }
    }

    pub(super) fn take(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// `totals` and `metrics` are of the whole run.
    pub(super) fn report(
        &self,
        options: &Options,
        scenario: &Scenario,
        plan: &Plan,
        oracle: &Oracle,
        totals: Totals,
        metrics: &Metrics,
    ) -> Run {
        let mut run = Run::new(options.command.clone(), scenario.title.clone());
        run.host = json!(Facts::read());
        run.conditions = conditions(options, scenario, plan);
        let plates = self.plates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        run.summary = self.summary(options, plan, oracle, &plates, totals);
        run.thresholds = verdicts(scenario, &run.summary);
        run.latencies = vec![oracle.visible().clone(), plates];
        run.series = self.series();
        run.tables = vec![truth(oracle.counts()), stages(totals, metrics)];
        run.notes = oracle.notes().to_vec();
        run
    }

    fn summary(
        &self,
        options: &Options,
        plan: &Plan,
        oracle: &Oracle,
        plates: &Latencies,
        totals: Totals,
    ) -> Map<String, Value> {
        let [engine_cpu, generator_cpu] = [
            self.rate(|sample| sample.engine.cpu.as_secs_f64()),
            self.rate(|sample| sample.generator.cpu.as_secs_f64()),
        ];
        let cores = options.generator_cores.as_ref().map_or(1, Vec::len) as f64;
        let visible = oracle.visible();
        let counts = serde_json::to_value(oracle.counts()).expect("counts are plain data");
        let Value::Object(mut summary) = counts else { unreachable!("a struct is an object") };
        let measured = json!({
            "frames_per_second": round(self.rate(|sample| sample.totals.acknowledged as f64)),
            "frames_offered_per_second": round(self.rate(|sample| sample.totals.offered as f64)),
            "nominal_frames_per_second": round(plan.nominal_frames_per_s),
            "rate_share": options.rate_share,
            "frames_offered": totals.offered,
            "frames_acknowledged": totals.acknowledged,
            "frames_dropped": totals.dropped + totals.rejected,
            "frames_in_flight": totals.in_flight,
            "batches_per_second": round(self.rate(|sample| sample.totals.batches_sent as f64)),
            "bytes_per_frame": round(totals.bytes_sent as f64 / totals.offered.max(1) as f64),
            "visible_p50_ms": quantile(visible, 0.5),
            "visible_p99_ms": quantile(visible, 0.99),
            "visible_max_ms": visible.max(),
            "visible_count": visible.count(),
            "plate_p50_ms": quantile(plates, 0.5),
            "plate_p99_ms": quantile(plates, 0.99),
            "plate_count": plates.count(),
            "generator_limited": self.pace.is_limit(generator_cpu / cores),
            "schedule_kept_share": self.pace.kept(),
            "schedule_behind_max_ms": self.pace.worst().as_millis() as u64,
            "engine_cpu_cores": round(engine_cpu),
            "generator_cpu_cores": round(generator_cpu),
            "engine_memory_mb": self.last(|sample| sample.engine.resident_bytes as f64 / 1e6),
            "uplinks": plan.fleet.stations.len(),
            "uplink_connects": totals.connects,
            "uplink_connections_lost": totals.lost,
            "uplink_refusals": totals.refused,
            "storm_seconds": self.storm.lasted.map(|lasted| lasted.as_secs_f64()),
        });
        if let Value::Object(measured) = measured {
            summary.extend(measured);
        }
        summary
    }

    fn measured(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.at_s >= 0.0)
    }

    /// How fast something that only grows did so in the measured time, each second.
    fn rate(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let (Some(first), Some(last)) = (self.measured().next(), self.measured().last()) else { return 0.0 };
        (of(last) - of(first)) / (last.at_s - first.at_s).max(f64::EPSILON)
    }

    fn last(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.last().map_or(0.0, |sample| of(sample).round())
    }

    fn series(&self) -> Vec<Series> {
        let over = |of: &dyn Fn(&Sample) -> f64| -> Vec<(f64, f64)> {
            let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
            pairs.map(|(a, b)| (b.at_s, (of(b) - of(a)) / (b.at_s - a.at_s).max(f64::EPSILON))).collect()
        };
        let at = |of: &dyn Fn(&Sample) -> f64| self.samples.iter().map(|sample| (sample.at_s, of(sample))).collect();
        let series = |title: &str, unit: &str, lines: [(&str, Vec<(f64, f64)>); 2]| Series {
            title: title.into(),
            unit: unit.into(),
            lines: lines.into_iter().map(|(name, line)| (name.into(), line)).collect(),
        };
        vec![
            series(
                "Frames",
                "a second",
                [
                    ("offered", over(&|sample| sample.totals.offered as f64)),
                    ("acknowledged", over(&|sample| sample.totals.acknowledged as f64)),
                ],
            ),
            series(
                "CPU",
                "cores",
                [
                    ("engine", over(&|sample| sample.engine.cpu.as_secs_f64())),
                    ("generator", over(&|sample| sample.generator.cpu.as_secs_f64())),
                ],
            ),
            series(
                "Memory",
                "MB",
                [
                    ("engine", at(&|sample| sample.engine.resident_bytes as f64 / 1e6)),
                    ("generator", at(&|sample| sample.generator.resident_bytes as f64 / 1e6)),
                ],
            ),
            series(
                "Uplinks and frames in flight",
                "",
                [
                    ("connected", at(&|sample| sample.totals.connected as f64)),
                    ("frames in flight", at(&|sample| sample.totals.in_flight as f64)),
                ],
            ),
        ]
    }
}

/// `None` where nothing was measured: no threshold holds for that.
fn quantile(latencies: &Latencies, quantile: f64) -> Option<f64> {
    (latencies.count() > 0).then(|| round(latencies.quantile(quantile)))
}

fn conditions(options: &Options, scenario: &Scenario, plan: &Plan) -> Vec<(String, String)> {
    let cores = |cores: &Option<Vec<usize>>| cores.as_ref().map_or("any".into(), |cores| format!("{cores:?}"));
    let people = format!("{:.0} % of the stations, those judged", scenario.people.share * 100.0);
    [
        ("stations", format!("{}, {}", plan.fleet.stations.len(), plan.stations)),
        ("seed", scenario.seed.to_string()),
        ("measured seconds", scenario.seconds.to_string()),
        ("warm-up seconds", scenario.warm_up_seconds.to_string()),
        ("slot seconds", scenario.slot_seconds.to_string()),
        ("attendants, phones and event streams", people),
        ("plate query", "POST /v1/stations/{station}/sessions, from its intended time".into()),
        ("visible", "intended time of the frame by which it entered, to the terminal's event".into()),
        ("engine cores", cores(&options.engine_cores)),
        ("generator cores", cores(&options.generator_cores)),
    ]
    .map(|(name, value)| (name.into(), value))
    .to_vec()
}

/// A threshold on what was not measured is missed.
fn verdicts(scenario: &Scenario, summary: &Map<String, Value>) -> Vec<Verdict> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(|is| f64::from(u8::from(is))));
    let value = |key: &str| summary.get(key).and_then(number).unwrap_or(f64::NAN);
    scenario.thresholds.iter().map(|(key, bound)| Verdict::new(key, (*bound).into(), value(key))).collect()
}

fn truth(counts: Counts) -> Table {
    let row = |what: &str, count: u64| vec![what.to_owned(), count.to_string()];
    Table {
        title: "What the oracle knows".into(),
        columns: vec!["what".into(), "count".into()],
        rows: vec![
            row("vehicles shown", counts.vehicles_entered),
            row("missed: stood there and was not shown", counts.missed),
            row("late: shown, but too late", counts.late),
            row("ghost: shown, and never was there", counts.ghost),
            row("wrong: another vehicle, amount or station", counts.wrong),
            row("duplicate: one request, two sessions", counts.duplicate),
            row("double charged", counts.double_charged),
            row("sessions opened", counts.sessions_opened),
            row("sessions paid", counts.sessions_paid),
            row("paid at the counter", counts.collected_at_site),
            row("visits that failed", counts.visits_failed),
            row("visits cut off by the end", counts.visits_unfinished),
        ],
    }
}

fn stages(totals: Totals, metrics: &Metrics) -> Table {
    let row = |stage: &str, what: &str, count: u64| vec![stage.to_owned(), what.to_owned(), count.to_string()];
    let mut rows = vec![
        row("uplinks", "offered", totals.offered),
        row("uplinks", "acknowledged", totals.acknowledged),
        row("uplinks", "dropped: spool full", totals.dropped),
        row("uplinks", "in flight at the end", totals.in_flight),
    ];
    for (name, label, value, what) in STAGES {
        rows.push(row("station", what, metrics.count(name, &[(label, value)])));
    }
    Table { title: "Frames by stage".into(), columns: vec!["stage".into(), "what".into(), "count".into()], rows }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
