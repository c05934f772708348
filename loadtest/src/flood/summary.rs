//! What a race came to: one figure for each question, with its spread, for machines and for people.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use super::{
    Spread,
    race::{Ended, FloodError, Outcome, Slice, Target},
};

/// A generator that kept its cores busier than this, while the receiver had time left, was the limit.
const BUSY: f64 = 0.95;

/// What is compared with what: of the frames a second the more the better, of the CPU the less.
const COMPARISONS: [(&str, Target, fn(&Slice) -> f64); 6] = [
    ("ratio", Target::Floor, Slice::frames_per_second),
    ("ratio_same_bytes", Target::SameBytes, Slice::frames_per_second),
    ("cpu_ratio_per_frame_floor", Target::Floor, Slice::cpu_ns_per_frame),
    ("cpu_ratio_per_frame", Target::SameBytes, Slice::cpu_ns_per_frame),
    ("cpu_ratio_per_batch_floor", Target::Floor, Slice::cpu_us_per_batch),
    ("cpu_ratio_per_batch", Target::SameBytes, Slice::cpu_us_per_batch),
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

    /// Whether the receiver could have taken more than the generator gave.
    fn generator_limited(&self, sender_cores: f64) -> bool {
        self.generator_cores >= BUSY * sender_cores && self.receiver_cores < BUSY
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
}

impl Summary {
    /// `sender_cores`: how many cores the generator may use.
    pub fn of(outcome: Outcome, sender_cores: usize) -> Result<Summary, FloodError> {
        let ran = |target: &Target| outcome.slices.iter().any(|slice| slice.target == *target);
        let figures = Target::ALL
            .into_iter()
            .filter(ran)
            .map(|target| Figures::of(target, &outcome.slices).ok_or(FloodError::Nothing(target.key())));
        let figures = figures.collect::<Result<_, _>>()?;
        let Outcome { slices, sink, engine } = outcome;
        Ok(Summary { figures, slices, sink, engine, sender_cores: sender_cores as f64 })
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
        for (key, floor, figure) in COMPARISONS {
            if let Some(spread) = self.ratio(floor, figure) {
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
            put("mtu", json!(ended.wire.mtu));
        }
        put("generator_limited", json!(self.generator_limited()));
        put("slices", json!(self.slices.len()));
        keys
    }

    /// The engine's figure to the floor's, round by round: what disturbed a round disturbed both.
    fn ratio(&self, floor: Target, figure: fn(&Slice) -> f64) -> Option<Spread> {
        let of = |target: Target| self.slices.iter().filter(move |slice| slice.target == target).map(figure);
        Spread::of(of(Target::Engine).zip(of(floor)).map(|(engine, floor)| engine / floor))
    }

    fn generator_limited(&self) -> bool {
        self.figures.iter().any(|figures| figures.generator_limited(self.sender_cores))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>16}{:>18}{:>10}{:>10}{:>8}{:>11}{:>11}{:>9}",
            "", "frames/s", "(quartiles)", "ns/frame", "us/batch", "cores", "generator", "packets/s", "B/frame"
        )?;
        for figures in &self.figures {
            let frames = figures.frames_per_second;
            let quartiles = format!("{:.1}-{:.1} M", frames.lower_quartile / 1e6, frames.upper_quartile / 1e6);
            writeln!(
                f,
                "{:<12}{:>16.0}{:>18}{:>10.2}{:>10.2}{:>8.2}{:>11.2}{:>11.0}{:>9.2}",
                figures.target.key(),
                frames.median,
                quartiles,
                figures.cpu_ns_per_frame.median,
                figures.cpu_us_per_batch.median,
                figures.receiver_cores,
                figures.generator_cores,
                figures.packets_per_second,
                figures.bytes_per_frame,
            )?;
        }
        let mut ratios = String::new();
        for (key, floor, figure) in COMPARISONS {
            if let Some(spread) = self.ratio(floor, figure) {
                let (low, high) = (spread.lower_quartile, spread.upper_quartile);
                writeln!(ratios, "{key:<28}{:>7.2}  ({low:.2} to {high:.2})", spread.median)?;
            }
        }
        f.write_str(&ratios)?;
        if let Some(ended) = &self.engine {
            writeln!(
                f,
                "lost {} of {} frames; {} unknown, {} dropped by the engine's bounds, {} not sent",
                ended.lost(),
                ended.sent.frames,
                ended.received.unknown,
                ended.received.dropped,
                ended.refused_frames
            )?;
        }
        for (name, ended) in [("sink", &self.sink), ("engine", &self.engine)] {
            let Some(ended) = ended else { continue };
            writeln!(
                f,
                "{name}: {} KB a connection, {} MB at most; MTU {}; {} packets lost",
                ended.memory_per_connection / 1000,
                ended.receiver.resident_bytes_max / 1_000_000,
                ended.wire.mtu,
                ended.wire.packets_lost
            )?;
        }
        if self.generator_limited() {
            writeln!(f, "the generator was the limit: the receiver had time left")?;
        }
        Ok(())
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
        Summary::of(Outcome { slices, sink: None, engine: Some(engine) }, 1).unwrap()
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
        let spare = Summary { sender_cores: 2.0, ..summary(ended(105, 100)) };
        assert_eq!(spare.keys()["generator_limited"], json!(false));
    }
}
