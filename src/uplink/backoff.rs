//! How long an uplink stays away after its connection ended.
//!
//! Doubling with jitter, so that 3,500 stations do not come back in one instant after a restart. Only an
//! acknowledged batch counts as success: a connection that is accepted and closed again is none.

use std::time::Duration;

use super::Ended;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Two gateways under one station's name would otherwise replace each other without end.
const REPLACED_FIRST: Duration = Duration::from_secs(10);

/// Nothing that the uplink does changes a refusal; somebody has to register the station, say.
const REFUSED_FIRST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The connection did what it is for.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next try; `random` is uniform over all u64.
    pub(super) fn after(&mut self, ended: &Ended, random: u64) -> Duration {
        let first = match ended {
            Ended::Replaced => REPLACED_FIRST,
            Ended::Refused(_) => REFUSED_FIRST,
            Ended::Finished | Ended::Drain | Ended::Moved { .. } | Ended::Closed(_) | Ended::Lost(_) => FIRST,
        };
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        jittered(doubled.max(first), random)
    }
}

/// Between one half and one and a half of `wait`.
fn jittered(wait: Duration, random: u64) -> Duration {
    wait.mul_f64(0.5 + random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The middle of the jitter: exactly the wait.
    const MIDDLE: u64 = u64::MAX / 2;

    fn ms(backoff: &mut Backoff, ended: &Ended) -> u128 {
        (backoff.after(ended, MIDDLE) + Duration::from_micros(1)).as_millis()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let (mut backoff, lost) = (Backoff::default(), Ended::Lost(String::new()));
        let waits: Vec<_> = (0..10).map(|_| ms(&mut backoff, &lost)).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        backoff.succeeded();
        assert_eq!(ms(&mut backoff, &lost), 200);
    }

    #[test]
    fn a_replaced_uplink_stays_away_longer() {
        assert_eq!(ms(&mut Backoff::default(), &Ended::Replaced), 10_000);
        assert!(Backoff::default().after(&Ended::Replaced, 0) >= Duration::from_secs(5));
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let lost = Ended::Lost(String::new());
        assert_eq!(Backoff::default().after(&lost, 0), FIRST / 2);
        assert_eq!(Backoff::default().after(&lost, u64::MAX), FIRST * 3 / 2);
    }
}
