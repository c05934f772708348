//! Which way a figure gets better, told from the name of its key.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    HigherIsBetter,
    LowerIsBetter,
    /// Neither is better: a condition of the run, or something that is not ours to improve.
    Unknown,
}

/// Words of a key that count what must not happen.
const FAULTS: [&str; 20] = [
    "missed",
    "missing",
    "ghost",
    "ghosts",
    "wrong",
    "late",
    "duplicate",
    "duplicates",
    "charged",
    "lost",
    "dropped",
    "drops",
    "failed",
    "unfinished",
    "refused",
    "closed",
    "errors",
    "stale",
    "repeated",
    "unsent",
];
/// Words of a key that are costs wherever they stand.
const COSTS: [&str; 3] = ["cpu", "memory", "p99"];
/// Ends of keys that are costs: time, memory, and bytes on the wire.
const COST_ENDS: [&str; 8] =
    ["_ns", "_us", "_ms", "_s", "_per_device", "_per_device_in_roll", "bytes_per_frame", "resident_bytes"];
/// Ends of keys that are rates.
const GAINS: [&str; 4] = ["_per_second", "_per_cpu_second", "_per_minute", "_hit_rate"];
/// What a bare sink does is the yardstick, and what the generator does is the load.
const YARDSTICKS: [&str; 4] = ["floor_", "same_bytes_", "generator_", "sender_"];

impl Direction {
    /// `key` is a key of the summary, or the path of one in a list of it.
    pub fn of(key: &str) -> Direction {
        let name = key.rsplit('.').next().unwrap_or(key);
        let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if YARDSTICKS.iter().any(|prefix| name.starts_with(prefix)) {
            Direction::Unknown
        } else if has(&FAULTS) || ends(&COST_ENDS) {
            Direction::LowerIsBetter
        } else if ends(&GAINS) || (has(&["ratio"]) && !has(&["cpu", "p99"])) {
            // What a ratio is of may be told behind it: `fat_ratio_memory`.
            Direction::HigherIsBetter
        } else if has(&COSTS) {
            Direction::LowerIsBetter
        } else {
            Direction::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_ratios_are_better_higher() {
        for key in ["frames_per_second", "ratio", "fat_ratio_memory", "peers.nats fat memory.frames_per_cpu_second"] {
            assert_eq!(Direction::of(key), Direction::HigherIsBetter, "{key}");
        }
    }

    #[test]
    fn faults_and_costs_are_better_lower() {
        for key in [
            "missed",
            "double_charged",
            "visible_p99_ms",
            "engine_cpu_ns_per_frame",
            "cpu_ratio_per_batch",
            "ingest_p99_in_roll_ratio",
            "lost",
            "frames_lost_per_second",
        ] {
            assert_eq!(Direction::of(key), Direction::LowerIsBetter, "{key}");
        }
    }

    #[test]
    fn the_yardstick_and_the_conditions_are_neither() {
        for key in ["floor_frames_per_second", "floor_cpu_ns_per_frame", "seed", "seconds", "devices", "connections"] {
            assert_eq!(Direction::of(key), Direction::Unknown, "{key}");
        }
    }
}
