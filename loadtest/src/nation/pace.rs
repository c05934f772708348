//! Whether the generator kept its own schedule.
//!
//! It was the limit when more than one step in a hundred began [`LATE`] or more after its moment, or when its core was
//! full: then every latency holds waiting that was the generator's, and a higher rate would not have been sent.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Half of the flush: a step that late moves a hearing into the next batch.
const LATE: Duration = Duration::from_millis(50);

const LATE_SHARE_MAX: f64 = 0.01;

/// Of the cores that the generator may use.
const CPU_SHARE_MAX: f64 = 0.97;

#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    steps: u64,
    late: u64,
    worst: Duration,
}

impl Pace {
    /// The warm-up is over.
    pub(super) fn begin(&mut self) {
        *self = Pace::default();
    }

    /// Waits for the moment of a step, and keeps in mind how late it is.
    pub(super) async fn wait(&mut self, due: Instant) {
        sleep_until(due).await;
        self.began(due.elapsed());
    }

    fn began(&mut self, behind: Duration) {
        self.steps += 1;
        self.late += u64::from(behind >= LATE);
        self.worst = self.worst.max(behind);
    }

    /// The share of steps that began in time.
    pub(super) fn kept(&self) -> f64 {
        1.0 - self.late as f64 / self.steps.max(1) as f64
    }

    pub(super) fn worst(&self) -> Duration {
        self.worst
    }

    /// `cpu_share`: how full the generator's cores were.
    pub(super) fn is_limit(&self, cpu_share: f64) -> bool {
        1.0 - self.kept() > LATE_SHARE_MAX || cpu_share > CPU_SHARE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_is_behind_or_full_is_the_limit() {
        let mut pace = Pace::default();
        (0..992).for_each(|_| pace.began(Duration::from_millis(3)));
        (0..8).for_each(|_| pace.began(Duration::from_millis(60)));
        assert!(!pace.is_limit(0.8));
        assert!(pace.is_limit(0.99));
        (0..8).for_each(|_| pace.began(Duration::from_millis(60)));
        assert!(pace.is_limit(0.8));
    }
}
