//! What a demo came to.

use std::{fmt, time::Duration};

use crate::oracle::{Counts, Oracle};

#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    pub seconds: f64,
    pub seed: u64,
    /// Hearings that the engine acknowledged.
    pub frames: u64,
    pub frames_per_second: f64,
    #[serde(flatten)]
    pub counts: Counts,
    /// From the frame by which a car has entered to the terminal's event.
    pub visible_p50_ms: f64,
    pub visible_p99_ms: f64,
    /// Why something was missed, wrong or failed; the first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn new(oracle: &Oracle, seed: u64, frames: u64, ran: Duration) -> Outcome {
        let seconds = ran.as_secs_f64();
        Outcome {
            seconds: round(seconds),
            seed,
            frames,
            frames_per_second: round(frames as f64 / seconds.max(0.001)),
            counts: oracle.counts(),
            visible_p50_ms: round(oracle.visible().quantile(0.5)),
            visible_p99_ms: round(oracle.visible().quantile(0.99)),
            notes: oracle.notes().to_vec(),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The summary for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "after {} s with seed {}", self.seconds, self.seed)?;
        writeln!(f, "  frames              {} ({} a second)", self.frames, self.frames_per_second)?;
        writeln!(f, "  vehicles entered    {}", counts.vehicles_entered)?;
        writeln!(f, "  sessions            {} opened, {} paid", counts.sessions_opened, counts.sessions_paid)?;
        writeln!(f, "  paid at the counter {}", counts.collected_at_site)?;
        writeln!(f, "  plates ambiguous    {}", counts.plates_ambiguous)?;
        writeln!(f, "  requests repeated   {}", counts.requests_repeated)?;
        writeln!(f, "  visits              {} failed, {} cut off", counts.visits_failed, counts.visits_unfinished)?;
        writeln!(f, "  missed, late        {}, {}", counts.missed, counts.late)?;
        writeln!(f, "  ghost, wrong        {}, {}", counts.ghost, counts.wrong)?;
        writeln!(f, "  duplicate           {}", counts.duplicate)?;
        writeln!(f, "  double charged      {}", counts.double_charged)?;
        writeln!(f, "  beacon to visible   p50 {} ms, p99 {} ms", self.visible_p50_ms, self.visible_p99_ms)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  - {note}"))
    }
}
