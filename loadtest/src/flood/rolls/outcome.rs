//! What a run beside rolls came to.

use std::time::Duration;

use super::Course;
use crate::{
    flood::{Load, race::Target},
    imports::per_minute,
    report::Latencies,
};

/// A p99 of fewer batches would be the word of less than ten of them.
const BATCHES_MIN: u64 = 1_000;

const ROLL_CPU_SUM: &str = "forecourt_registration_codebook_roll_cpu_seconds_sum";
const NEAR_HITS: &str = "forecourt_registration_near_hits_total";
const NEAR_MISSES: &str = "forecourt_registration_near_misses_total";

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Nothing of a folder that had its dongles from an earlier run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_lines_per_minute: Option<f64>,
    pub seconds: f64,
    pub frames_per_second: f64,
    pub batches_per_second: f64,
    pub rolls_seen: usize,
    pub roll_mean_ms: f64,
    pub roll_max_ms: u64,
    pub roll_cpu_ns_per_device: f64,
    /// What a roll takes of a core while it lasts.
    pub roll_core_share: f64,
    /// Due and acknowledged while no roll was under way.
    pub batches: u64,
    pub ingest_p50_ms: f64,
    /// `None` of fewer than a thousand batches, here and below.
    pub ingest_p99_ms: Option<f64>,
    pub ingest_max_ms: f64,
    pub batches_in_roll: u64,
    pub ingest_p50_in_roll_ms: f64,
    pub ingest_p99_in_roll_ms: Option<f64>,
    pub ingest_max_in_roll_ms: f64,
    pub ingest_p99_in_roll_ratio: Option<f64>,
    /// In the second that follows a roll, when every station takes up the new book.
    pub batches_after_roll: u64,
    pub ingest_p99_after_roll_ms: Option<f64>,
    pub near_hits: u64,
    pub near_misses: u64,
    pub near_hit_rate: f64,
    pub engine_cores: f64,
    pub engine_resident_bytes_max: u64,
    pub generator_cores: f64,
    /// From when a batch was due until it was written: the generator's part of the latencies.
    pub generator_late_p99_ms: Option<f64>,
    pub generator_late_p99_in_roll_ms: Option<f64>,
    pub mtu: u16,
    /// Due, and not taken by QUIC.
    pub refused_frames: u64,
    /// Sent, and not applied.
    pub lost: u64,
    pub unacknowledged_batches: u64,
}

impl Outcome {
    /// `imported`: how long the import took, of a run that did one.
    pub(super) fn of(load: &Load, imported: Option<Duration>, course: &Course) -> Outcome {
        let Course { begun, ended, watch, .. } = course;
        let slice = begun.look.slice_to(&ended.look, Target::Engine, 0);
        let rolls: Vec<u64> = watch.rolls().collect();
        let rolled_ms: u64 = rolls.iter().sum();
        let [without, in_roll, after_roll] = watch.latencies();
        let [late, late_in_roll] = watch.late();
        let (p99, p99_in_roll) = (p99(without), p99(in_roll));
        let grown = |name| ended.metrics.sum(name, &[]) - begun.metrics.sum(name, &[]);
        let (near_hits, near_misses) = (grown(NEAR_HITS), grown(NEAR_MISSES));
        let roll_cpu_s = grown(ROLL_CPU_SUM);
        Outcome {
            import_seconds: imported.map(|took| took.as_secs_f64()),
            import_lines_per_minute: imported.map(|took| per_minute(load.dongles.count, took)),
            seconds: slice.seconds,
            frames_per_second: slice.frames_per_second(),
            batches_per_second: slice.batches / slice.seconds,
            rolls_seen: rolls.len(),
            roll_mean_ms: rolled_ms as f64 / rolls.len() as f64,
            roll_max_ms: rolls.iter().copied().max().unwrap_or_default(),
            roll_cpu_ns_per_device: roll_cpu_s * 1e9 / (rolls.len() as u64 * load.dongles.count) as f64,
            roll_core_share: roll_cpu_s * 1e3 / rolled_ms as f64,
            batches: without.count(),
            ingest_p50_ms: without.quantile(0.5),
            ingest_p99_ms: p99,
            ingest_max_ms: without.max(),
            batches_in_roll: in_roll.count(),
            ingest_p50_in_roll_ms: in_roll.quantile(0.5),
            ingest_p99_in_roll_ms: p99_in_roll,
            ingest_max_in_roll_ms: in_roll.max(),
            ingest_p99_in_roll_ratio: p99.zip(p99_in_roll).map(|(without, beside)| beside / without),
            batches_after_roll: after_roll.count(),
            ingest_p99_after_roll_ms: self::p99(after_roll),
            near_hits: near_hits as u64,
            near_misses: near_misses as u64,
            near_hit_rate: near_hits / (near_hits + near_misses),
            engine_cores: slice.receiver_cores(),
            engine_resident_bytes_max: ended.resident_bytes_max,
            generator_cores: slice.generator_cores(),
            generator_late_p99_ms: self::p99(late),
            generator_late_p99_in_roll_ms: self::p99(late_in_roll),
            mtu: course.mtu,
            refused_frames: course.refused_frames,
            lost: course.sent.frames.saturating_sub(course.received.frames()),
            unacknowledged_batches: course.sent.batches.saturating_sub(watch.answered()),
        }
    }
}

fn p99(latencies: &Latencies) -> Option<f64> {
    (latencies.count() >= BATCHES_MIN).then(|| latencies.quantile(0.99))
}
