//! Latencies of one kind: one histogram of the whole run, and one a second as lines of an interval log.
//!
//! A second's histogram is encoded as soon as the second is over, so an hour of a run costs one histogram and a few
//! kilobytes a second, whatever the rate. Values are microseconds with three significant digits.

use std::{
    mem,
    time::{Duration, SystemTime},
};

use hdrhistogram::{
    Histogram,
    serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder},
};

const SIGNIFICANT_DIGITS: u8 = 3;
/// Whatever takes longer is as good as lost; it is kept as this.
const LONGEST: Duration = Duration::from_secs(3600);
/// A day; later values join the last interval.
const INTERVALS_MAX: u64 = 86_400;
/// The finest quantile of the distribution that is drawn, as one in so many values.
const FINEST_TAIL: f64 = 1e6;

#[derive(Debug, Clone)]
pub struct Latencies {
    name: String,
    title: String,
    whole: Histogram<u64>,
    open: Histogram<u64>,
    open_second: u64,
    /// The closed intervals, as lines of an interval log.
    log: Vec<u8>,
    seconds: Vec<Second>,
}

/// One second of a run, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// Since the start of the run.
    pub at: u64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latencies {
    /// `name` becomes the name of the log's file, `title` the heading of the chart.
    pub fn new(name: impl Into<String>, title: impl Into<String>) -> Latencies {
        Latencies {
            name: name.into(),
            title: title.into(),
            whole: empty(),
            open: empty(),
            open_second: 0,
            log: Vec::new(),
            seconds: Vec::new(),
        }
    }

    /// `at` is the time since the start of the run. Values may come a little out of order: one that belongs to a
    /// second already closed joins the open one.
    pub fn record(&mut self, at: Duration, latency: Duration) {
        let second = at.as_secs().min(INTERVALS_MAX - 1);
        if second > self.open_second {
            self.close_interval();
            self.open_second = second;
        }
        let micros = latency.min(LONGEST).as_micros() as u64;
        for histogram in [&mut self.whole, &mut self.open] {
            histogram.record(micros).expect("it grows to hold an hour");
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn count(&self) -> u64 {
        self.whole.len()
    }

    /// Milliseconds; 0 if nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> f64 {
        millis(self.whole.value_at_quantile(quantile))
    }

    pub fn max(&self) -> f64 {
        millis(self.whole.max())
    }

    /// `(quantile, milliseconds)` from the least value outwards, twenty points to each tenfold of the tail, as far
    /// as the count of values carries: the last point is the maximum.
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        let finest = (self.count() as f64).clamp(1.0, FINEST_TAIL);
        let steps = (finest.log10() * 20.0).floor() as u32;
        let mut points: Vec<(f64, f64)> = (0..=steps)
            .map(|step| 1.0 - 10f64.powf(-f64::from(step) / 20.0))
            .map(|quantile| (quantile, self.quantile(quantile)))
            .collect();
        points.push((1.0 - 1.0 / finest, self.quantile(1.0 - 1.0 / finest)));
        points
    }

    /// The seconds in which something was recorded.
    pub fn seconds(&self) -> Vec<Second> {
        let open = (!self.open.is_empty()).then(|| self.open_interval());
        self.seconds.iter().copied().chain(open).collect()
    }

    /// The interval log, in the format of HdrHistogram's own log processors.
    pub fn interval_log(&self, started: SystemTime) -> Vec<u8> {
        let mut log = Vec::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(&format!("[{}: values in microseconds]", self.title))
            .with_start_time(started)
            .with_base_time(started)
            .begin_log_with(&mut log, &mut V2DeflateSerializer::new())
            .expect("a vector takes all that is written");
        log.extend_from_slice(LEGEND.as_bytes());
        log.extend_from_slice(&self.log);
        append(&mut log, &self.open, self.open_second);
        log
    }

    fn close_interval(&mut self) {
        if self.open.is_empty() {
            return;
        }
        self.seconds.push(self.open_interval());
        let closed = mem::replace(&mut self.open, empty());
        append(&mut self.log, &closed, self.open_second);
    }

    fn open_interval(&self) -> Second {
        let at = |quantile| millis(self.open.value_at_quantile(quantile));
        Second { at: self.open_second, p50: at(0.5), p99: at(0.99), max: millis(self.open.max()) }
    }
}

const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

fn empty() -> Histogram<u64> {
    Histogram::new(SIGNIFICANT_DIGITS).expect("the digits are within 0 to 5")
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn append(log: &mut Vec<u8>, interval: &Histogram<u64>, second: u64) {
    if interval.is_empty() {
        return;
    }
    IntervalLogWriterBuilder::new()
        .begin_log_with(log, &mut V2DeflateSerializer::new())
        .and_then(|mut writer| {
            let line = writer.write_histogram(interval, Duration::from_secs(second), Duration::from_secs(1), None);
            line.map_err(std::io::Error::other)
        })
        .expect("a vector takes all that is written, and counts fit the format");
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn recorded(values: impl IntoIterator<Item = (u64, u64)>) -> Latencies {
        let mut latencies = Latencies::new("visible", "Beacon to queryable");
        for (second, ms) in values {
            latencies.record(Duration::from_secs(second), Duration::from_millis(ms));
        }
        latencies
    }

    /// Start in seconds and longest value in microseconds of every interval.
    fn intervals(log: &[u8]) -> Vec<(u64, f64)> {
        IntervalLogIterator::new(log)
            .filter_map(|entry| match entry.expect("every line parses") {
                LogEntry::Interval(interval) => Some((interval.start_timestamp().as_secs(), interval.max())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_log_has_one_interval_a_second_and_late_values_join_the_open_one() {
        let latencies = recorded([(0, 1), (0, 2), (1, 1), (4, 1), (3, 2)]);
        let intervals = intervals(&latencies.interval_log(SystemTime::UNIX_EPOCH));
        assert_eq!(intervals, [(0, 2000.0), (1, 1000.0), (4, 2000.0)]);
    }

    #[test]
    fn quantiles_are_milliseconds() {
        let latencies = recorded((1..=100).map(|ms| (0, ms)));
        assert!((latencies.quantile(0.99) / 99.0 - 1.0).abs() < 1e-3);
        assert!((latencies.max() / 100.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn the_distribution_rises_to_the_maximum() {
        let points = recorded((1..=1000).map(|ms| (0, ms))).distribution();
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert!((points.last().expect("points").1 - 1000.0).abs() < 2.0);
    }

    #[test]
    fn nothing_recorded_is_drawn_as_nothing_and_measured_as_zero() {
        let latencies = recorded([]);
        assert!(latencies.quantile(0.99).abs() < f64::EPSILON);
        assert!(latencies.seconds().is_empty());
        assert!(intervals(&latencies.interval_log(SystemTime::UNIX_EPOCH)).is_empty());
    }
}
