//! What a run came to.

use std::{fmt, time::Duration};

use crate::oracle::{Counts, Oracle};

#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    pub seconds: f64,
    pub seed: u64,
    /// Hearings that the engine acknowledged.
    pub frames: u64,
    pub frames_per_second: f64,
    pub vehicles_entered: u64,
    pub sessions_opened: u64,
    pub sessions_paid: u64,
    pub collected_at_site: u64,
    pub plates_ambiguous: u64,
    pub requests_repeated: u64,
    pub visits_failed: u64,
    pub visits_unfinished: u64,
    pub missed: u64,
    pub wrong: u64,
    pub double_charged: u64,
    /// From the frame by which a car has entered to the terminal's event.
    pub visible_p50_ms: u64,
    pub visible_p99_ms: u64,
    /// Why something was missed, wrong or failed; the first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn new(oracle: &Oracle, seed: u64, frames: u64, ran: Duration) -> Outcome {
        let seconds = ran.as_secs_f64();
        let Counts {
            vehicles_entered,
            sessions_opened,
            sessions_paid,
            collected_at_site,
            plates_ambiguous,
            requests_repeated,
            missed,
            wrong,
            double_charged,
            visits_failed,
            visits_unfinished,
        } = oracle.counts();
        Outcome {
            seconds: round(seconds),
            seed,
            frames,
            frames_per_second: round(frames as f64 / seconds.max(0.001)),
            vehicles_entered,
            sessions_opened,
            sessions_paid,
            collected_at_site,
            plates_ambiguous,
            requests_repeated,
            visits_failed,
            visits_unfinished,
            missed,
            wrong,
            double_charged,
            visible_p50_ms: oracle.visible_ms_at(0.5),
            visible_p99_ms: oracle.visible_ms_at(0.99),
            notes: oracle.notes().to_vec(),
        }
    }

    /// Nothing happened that must never happen.
    pub fn is_clean(&self) -> bool {
        self.missed == 0 && self.wrong == 0 && self.double_charged == 0
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The summary for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after {} s with seed {}", self.seconds, self.seed)?;
        writeln!(f, "  frames              {} ({} a second)", self.frames, self.frames_per_second)?;
        writeln!(f, "  vehicles entered    {}", self.vehicles_entered)?;
        writeln!(f, "  sessions            {} opened, {} paid", self.sessions_opened, self.sessions_paid)?;
        writeln!(f, "  paid at the counter {}", self.collected_at_site)?;
        writeln!(f, "  plates ambiguous    {}", self.plates_ambiguous)?;
        writeln!(f, "  requests repeated   {}", self.requests_repeated)?;
        writeln!(f, "  visits              {} failed, {} cut off", self.visits_failed, self.visits_unfinished)?;
        writeln!(f, "  missed              {}", self.missed)?;
        writeln!(f, "  wrong               {}", self.wrong)?;
        writeln!(f, "  double charged      {}", self.double_charged)?;
        writeln!(f, "  beacon to visible   p50 {} ms, p99 {} ms", self.visible_p50_ms, self.visible_p99_ms)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  - {note}"))
    }
}
