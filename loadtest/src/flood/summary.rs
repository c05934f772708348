//! What a race came to: one figure for each question, with its spread, for machines and for people.

use serde_json::{Map, Value, json};

use super::{
    FloodError, Spread,
    race::{Ended, Outcome, Slice, Target},
};
use crate::report::{Series, Table};

/// A key, what is compared, with what, and the figure.
type Comparison = (&'static str, Target, Target, fn(&Slice) -> f64);

/// What is compared with what: of the frames a second the more the better, of the CPU the less.
const COMPARISONS: [Comparison; 8] = [
    ("ratio", Target::Engine, Target::Floor, Slice::frames_per_second),
    ("ratio_same_bytes", Target::Engine, Target::SameBytes, Slice::frames_per_second),
    ("cpu_ratio_per_frame_floor", Target::Engine, Target::Floor, Slice::cpu_ns_per_frame),
    ("cpu_ratio_per_frame", Target::Engine, Target::SameBytes, Slice::cpu_ns_per_frame),
    ("cpu_ratio_per_batch_floor", Target::Engine, Target::Floor, Slice::cpu_us_per_batch),
    ("cpu_ratio_per_batch", Target::Engine, Target::SameBytes, Slice::cpu_us_per_batch),
    ("scraped_ratio", Target::Scraped, Target::Engine, Slice::frames_per_second),
    ("scraped_cpu_ratio_per_frame", Target::Scraped, Target::Engine, Slice::cpu_ns_per_frame),
];

/// The figures of one target over all slices.
#[derive(Debug, Clone, Copy)]
struct Figures {
    target: Target,
    frames_per_second: Spread,
    cpu_ns_per_frame: Spread,
    cpu_us_per_batch: Spread,
    receiver_cores: f64,
    generator_cores: f64,
    packets_per_second: f64,
    bytes_per_second: f64,
    bytes_per_frame: f64,
    wire_bytes_per_frame: f64,
    packets_lost: u64,
    late_ms_max: f64,
}

impl Figures {
    fn of(target: Target, slices: &[Slice]) -> Option<Figures> {
        let slices = || slices.iter().filter(|slice| slice.target == target);
        let spread = |figure: fn(&Slice) -> f64| Spread::of(slices().map(figure));
        let median = |figure: fn(&Slice) -> f64| Some(spread(figure)?.median);
        Some(Figures {
            target,
            frames_per_second: spread(Slice::frames_per_second)?,
            cpu_ns_per_frame: spread(Slice::cpu_ns_per_frame)?,
            cpu_us_per_batch: spread(Slice::cpu_us_per_batch)?,
            receiver_cores: median(Slice::receiver_cores)?,
            generator_cores: median(Slice::generator_cores)?,
            packets_per_second: median(|slice| slice.datagrams as f64 / slice.seconds)?,
            bytes_per_second: median(|slice| slice.bytes / slice.seconds)?,
            bytes_per_frame: median(|slice| slice.bytes / slice.frames)?,
            wire_bytes_per_frame: median(|slice| slice.wire_bytes as f64 / slice.frames)?,
            packets_lost: slices().map(|slice| slice.packets_lost).sum(),
            late_ms_max: slices().map(|slice| slice.late_us).max()? as f64 / 1e3,
        })
    }

    fn write(&self, keys: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| keys.insert(format!("{}_{key}", self.target.key()), value);
        for (key, spread) in [
            ("frames_per_second", self.frames_per_second),
            ("cpu_ns_per_frame", self.cpu_ns_per_frame),
            ("cpu_us_per_batch", self.cpu_us_per_batch),
        ] {
            put(key, json!(spread.median));
            put(&format!("{key}_spread"), json!(spread));
        }
        put("frames_per_core_second", json!(1e9 / self.cpu_ns_per_frame.median));
        put("cores", json!(self.receiver_cores));
        put("generator_cores", json!(self.generator_cores));
        put("packets_per_second", json!(self.packets_per_second));
        put("bytes_per_second", json!(self.bytes_per_second));
        put("bytes_per_frame", json!(self.bytes_per_frame));
        put("wire_bytes_per_frame", json!(self.wire_bytes_per_frame));
        put("packets_lost", json!(self.packets_lost));
        put("late_ms_max", json!(self.late_ms_max));
    }
}

/// A race in figures.
#[derive(Debug)]
pub struct Summary {
    figures: Vec<Figures>,
    slices: Vec<Slice>,
    sink: Option<Ended>,
    engine: Option<Ended>,
    sender_cores: f64,
    /// What the clock asked for.
    nominal: Option<f64>,
}

impl Summary {
    /// `sender_cores`: how many cores the generator may use. `nominal`: the frames a second that the clock asked for.
    pub fn of(outcome: Outcome, sender_cores: usize, nominal: Option<f64>) -> Result<Summary, FloodError> {
        let ran = |target: &Target| outcome.slices.iter().any(|slice| slice.target == *target);
        let figures = Target::ALL
            .into_iter()
            .filter(ran)
            .map(|target| Figures::of(target, &outcome.slices).ok_or(FloodError::Nothing(target.key())));
        let figures = figures.collect::<Result<_, _>>()?;
        let Outcome { slices, sink, engine } = outcome;
        Ok(Summary { figures, slices, sink, engine, sender_cores: sender_cores as f64, nominal })
    }

    /// Nothing was lost, and no connection broke.
    pub fn is_clean(&self) -> bool {
        self.engine.is_none_or(|ended| ended.lost() == 0 && ended.broken == 0)
    }

    /// The flat keys of `summary.json`.
    pub fn keys(&self) -> Map<String, Value> {
        let mut keys = Map::new();
        self.figures.iter().for_each(|figures| figures.write(&mut keys));
        let mut put = |key: &str, value: Value| keys.insert(key.into(), value);
        for (key, of, to, figure) in COMPARISONS {
            if let Some(spread) = self.ratio(of, to, figure) {
                put(key, json!(spread.median));
                put(&format!("{key}_spread"), json!(spread));
            }
        }
        if let Some(ended) = &self.engine {
            put("lost", json!(ended.lost()));
            put("frames_sent", json!(ended.sent.frames));
            put("frames_resolved", json!(ended.received.resolved));
            put("frames_unknown", json!(ended.received.unknown));
            put("frames_dropped", json!(ended.received.dropped));
            put("frames_refused", json!(ended.refused_frames));
            put("connections_broken", json!(ended.broken));
        }
        for (name, ended) in [("sink", &self.sink), ("engine", &self.engine)] {
            let Some(ended) = ended else { continue };
            put(&format!("{name}_memory_per_connection_bytes"), json!(ended.memory_per_connection));
            put(&format!("{name}_memory_max_bytes"), json!(ended.receiver.resident_bytes_max));
            put(&format!("{name}_connect_seconds"), json!(ended.connect_seconds));
            put("mtu", json!(ended.wire.mtu));
            put("cipher", json!(ended.cipher));
        }
        put("generator_limited", json!(self.generator_limited()));
        put("slices", json!(self.slices.len()));
        if let Some(nominal) = self.nominal {
            put("nominal_frames_per_second", json!(nominal));
        }
        keys
    }

    /// One's figure to the other's, round by round: what disturbed a round disturbed both.
    fn ratio(&self, one: Target, other: Target, figure: fn(&Slice) -> f64) -> Option<Spread> {
        let of = |target: Target| self.slices.iter().filter(move |slice| slice.target == target).map(figure);
        Spread::of(of(one).zip(of(other)).map(|(one, other)| one / other))
    }

    /// In most slices of any target.
    fn generator_limited(&self) -> bool {
        let limited = |target: Target| {
            let slices = self.slices.iter().filter(|slice| slice.target == target);
            let (limited, all) = slices.fold((0, 0), |(limited, all), slice| {
                let is_limited = slice.is_generator_limited(self.sender_cores) || slice.is_behind(self.nominal);
                (limited + u32::from(is_limited), all + 1)
            });
            2 * limited > all
        };
        self.figures.iter().any(|figures| limited(figures.target))
    }

    /// Frames and CPU of all slices, as they followed each other.
    pub fn series(&self) -> Vec<Series> {
        let lines = |figure: fn(&Slice) -> f64| {
            let of = |figures: &Figures| {
                let slices = self.slices.iter().filter(|slice| slice.target == figures.target);
                (figures.target.key().to_owned(), slices.map(|slice| (slice.begun_seconds, figure(slice))).collect())
            };
            self.figures.iter().map(of).collect()
        };
        let series =
            |title: &str, unit: &str, figure| Series { title: title.into(), unit: unit.into(), lines: lines(figure) };
        vec![
            series("Frames a second", "frames/s", Slice::frames_per_second),
            series("CPU of the receiver", "ns a frame", Slice::cpu_ns_per_frame),
            series("Cores that the generator kept busy", "cores", Slice::generator_cores),
        ]
    }

    pub fn tables(&self) -> Vec<Table> {
        vec![self.targets(), self.ratios()]
    }

    fn targets(&self) -> Table {
        let row = |figures: &Figures| {
            let frames = figures.frames_per_second;
            vec![
                figures.target.key().into(),
                format!("{:.0}", frames.median),
                format!("{:.1} to {:.1} M", frames.lower_quartile / 1e6, frames.upper_quartile / 1e6),
                format!("{:.2}", figures.cpu_ns_per_frame.median),
                format!("{:.2}", figures.cpu_us_per_batch.median),
                format!("{:.2}", figures.receiver_cores),
                format!("{:.2}", figures.generator_cores),
                format!("{:.0}", figures.packets_per_second),
                format!("{:.2}", figures.bytes_per_frame),
            ]
        };
        Table {
            title: "Medians of all slices".into(),
            columns: [
                "",
                "frames/s",
                "quartiles",
                "ns/frame",
                "us/batch",
                "cores",
                "generator",
                "packets/s",
                "B/frame",
            ]
            .map(str::to_owned)
            .into(),
            rows: self.figures.iter().map(row).collect(),
        }
    }

    fn ratios(&self) -> Table {
        let row = |(key, of, to, figure): Comparison| {
            let spread = self.ratio(of, to, figure)?;
            let quartiles = format!("{:.3} to {:.3}", spread.lower_quartile, spread.upper_quartile);
            Some(vec![key.to_owned(), format!("{:.3}", spread.median), quartiles])
        };
        Table {
            title: "One to the other, round by round".into(),
            columns: ["", "median", "quartiles"].map(str::to_owned).into(),
            rows: COMPARISONS.into_iter().filter_map(row).collect(),
        }
    }

    /// What no table says.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(ended) = &self.engine {
            notes.push(format!(
                "lost {} of {} frames; {} unknown, {} dropped by the engine's bounds, {} not sent",
                ended.lost(),
                ended.sent.frames,
                ended.received.unknown,
                ended.received.dropped,
                ended.refused_frames
            ));
        }
        for (name, ended) in [("sink", &self.sink), ("engine", &self.engine)] {
            let Some(ended) = ended else { continue };
            notes.push(format!(
                "{name}: {} KB a connection, {} MB at most; MTU {}, {}; {} packets lost",
                ended.memory_per_connection / 1000,
                ended.receiver.resident_bytes_max / 1_000_000,
                ended.wire.mtu,
                ended.cipher,
                ended.wire.packets_lost
            ));
        }
        if self.generator_limited() {
            notes.push("the generator was the limit: a receiver had time left".into());
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        flood::{cargo::Amount, group::Wire, receiver::Received},
        process::Usage,
    };

    fn slice(target: Target, frames: f64, cpu_ms: u64) -> Slice {
        Slice {
            target,
            begun_seconds: 0.0,
            seconds: 2.0,
            frames,
            batches: frames / 25.0,
            bytes: frames * 6.0,
            receiver_cpu: Duration::from_millis(cpu_ms),
            generator_cpu: Duration::from_millis(1_990),
            datagrams: 1_000,
            wire_bytes: 2_000_000,
            packets_lost: 1,
            late_us: 30,
        }
    }

    fn ended(sent: u64, resolved: u64) -> Ended {
        Ended {
            sent: Amount { batches: 1, frames: sent, bytes: 1 },
            received: Received { resolved, unknown: 5, ..Received::default() },
            refused_frames: 0,
            broken: 0,
            wire: Wire::default(),
            cipher: "",
            connect_seconds: 0.0,
            memory_per_connection: 0,
            receiver: Usage::default(),
        }
    }

    fn summary(engine: Ended) -> Summary {
        let slices = vec![
            slice(Target::Floor, 2e6, 1_000),
            slice(Target::Engine, 6e6, 1_500),
            slice(Target::Engine, 8e6, 1_500),
            slice(Target::Floor, 2e6, 1_000),
        ];
        Summary::of(Outcome { slices, sink: None, engine: Some(engine) }, 1, None).unwrap()
    }

    #[test]
    fn figures_are_medians_and_ratios_are_taken_round_by_round() {
        let keys = summary(ended(105, 100)).keys();
        assert_eq!(keys["floor_frames_per_second"], json!(1e6));
        assert_eq!(keys["engine_frames_per_second"], json!(3.5e6));
        assert_eq!(keys["floor_cpu_ns_per_frame"], json!(500.0));
        assert_eq!(keys["floor_cpu_us_per_batch"], json!(12.5));
        assert_eq!(keys["ratio"], json!(3.5));
        assert_eq!(keys["lost"], json!(0));
        assert!(!keys.contains_key("ratio_same_bytes"), "there was no such floor");
        assert!(!keys.contains_key("scraped_ratio"), "nobody scraped");
    }

    #[test]
    fn what_a_scraper_costs_is_told_round_by_round() {
        let slices = vec![
            slice(Target::Engine, 8e6, 1_500),
            slice(Target::Scraped, 7.6e6, 1_500),
            slice(Target::Scraped, 4e6, 1_500),
            slice(Target::Engine, 4e6, 1_500),
            slice(Target::Engine, 1e6, 1_500),
            slice(Target::Scraped, 1e6, 1_500),
        ];
        let outcome = Outcome { slices, sink: None, engine: Some(ended(105, 100)) };
        let keys = Summary::of(outcome, 1, None).unwrap().keys();
        assert_eq!(keys["scraped_ratio"], json!(1.0));
        assert_eq!(keys["scraped_ratio_spread"]["min"], json!(0.95));
    }

    #[test]
    fn a_frame_of_which_nobody_knows_what_became_is_lost() {
        assert!(summary(ended(105, 100)).is_clean());
        let lossy = summary(ended(106, 100));
        assert_eq!(lossy.keys()["lost"], json!(1));
        assert!(!lossy.is_clean());
    }

    #[test]
    fn a_busy_generator_before_an_idle_receiver_was_the_limit() {
        assert_eq!(summary(ended(105, 100)).keys()["generator_limited"], json!(true));
        let ahead = Summary { sender_cores: 2.0, nominal: Some(8e6), ..summary(ended(105, 100)) };
        assert_eq!(ahead.keys()["generator_limited"], json!(true), "it kept no schedule");
        let spare = Summary { sender_cores: 2.0, ..summary(ended(105, 100)) };
        assert_eq!(spare.keys()["generator_limited"], json!(false));
    }
}
