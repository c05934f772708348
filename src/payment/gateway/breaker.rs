//! The circuit breaker before a PSP: calls that would fail are not made, and a PSP that is in trouble is left alone.
//!
//! ```text
//! Closed --failures_max of the last 32 calls failed--> Open --pause--> HalfOpen --one call succeeds--> Closed
//!                                                       ^                 |
//!                                                       +--twice the pause, it fails
//! ```
//!
//! A failure is silence, or a refusal at the door; whatever the PSP says of a charge is a success, a decline included.

use std::time::{Duration, Instant};

/// Calls that are remembered: the bits of [`Closed`](State::Closed).
pub(crate) const REMEMBERED: u32 = u32::BITS;

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The last calls, the newest in the lowest bit; 1 is a failure.
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One call is let through; one that never comes back gives way to another at `until`.
    HalfOpen {
        until: Instant,
        pause: Duration,
    },
}

/// As a probe and the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Closed,
    HalfOpen,
    Open,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: State,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, pause: Duration) -> Breaker {
        Breaker { failures_max: failures_max.clamp(1, REMEMBERED), pause, state: State::Closed { failures: 0 } }
    }

    /// Whether a call may be made now.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, pause } | State::HalfOpen { until, pause } if now >= until => {
                self.state = State::HalfOpen { until: now + pause, pause };
                true
            }
            State::Open { .. } | State::HalfOpen { .. } => false,
        }
    }

    /// Takes down how a call went. Calls that were made before it opened change nothing while it is open.
    pub(crate) fn record(&mut self, succeeded: bool, now: Instant) {
        match self.state {
            State::Closed { failures } => {
                let failures = failures << 1 | u32::from(!succeeded);
                self.state = State::Closed { failures };
                if failures.count_ones() >= self.failures_max {
                    self.open(self.pause, now);
                }
            }
            State::HalfOpen { .. } if succeeded => self.state = State::Closed { failures: 0 },
            State::HalfOpen { pause, .. } => self.open((pause * 2).min(PAUSE_MAX), now),
            State::Open { .. } => {}
        }
    }

    pub(crate) fn word(&self) -> Word {
        match self.state {
            State::Closed { .. } => Word::Closed,
            State::HalfOpen { .. } => Word::HalfOpen,
            State::Open { .. } => Word::Open,
        }
    }

    fn open(&mut self, pause: Duration, now: Instant) {
        self.state = State::Open { until: now + pause, pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn after_failures(count: u32, now: Instant) -> Breaker {
        let mut breaker = Breaker::new(4, PAUSE);
        for _ in 0..count {
            assert!(breaker.admits(now));
            breaker.record(false, now);
        }
        breaker
    }

    #[test]
    fn it_opens_at_the_last_failure_that_it_bears_and_not_before() {
        let now = Instant::now();
        assert!(after_failures(3, now).admits(now));
        let mut open = after_failures(4, now);
        assert!(!open.admits(now));
        assert!(!open.admits(now + PAUSE / 2));
    }

    #[test]
    fn failures_among_many_successes_leave_it_closed_once_they_are_forgotten() {
        let now = Instant::now();
        let mut breaker = after_failures(3, now);
        (0..REMEMBERED).for_each(|_| breaker.record(true, now));
        (0..3).for_each(|_| breaker.record(false, now));
        assert_eq!(breaker.word(), Word::Closed);
        breaker.record(false, now);
        assert_eq!(breaker.word(), Word::Open);
    }

    #[test]
    fn after_the_pause_one_call_decides() {
        let now = Instant::now();
        let later = now + PAUSE;
        let mut breaker = after_failures(4, now);
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "one at a time");
        breaker.record(true, later);
        assert_eq!(breaker.word(), Word::Closed);
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_trial_that_fails_doubles_the_pause_up_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = after_failures(4, now);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(pause);
            assert!(!breaker.admits(now + pause / 2));
            now += pause;
            assert!(breaker.admits(now));
            breaker.record(false, now);
        }
        assert_eq!(breaker.word(), Word::Open);
    }

    #[test]
    fn a_trial_that_never_comes_back_gives_way_to_another() {
        let now = Instant::now();
        let mut breaker = after_failures(4, now);
        assert!(breaker.admits(now + PAUSE));
        assert!(!breaker.admits(now + PAUSE + PAUSE / 2));
        assert!(breaker.admits(now + PAUSE + PAUSE));
    }

    #[test]
    fn what_was_under_way_when_it_opened_does_not_close_it() {
        let now = Instant::now();
        let mut breaker = after_failures(4, now);
        breaker.record(true, now);
        assert!(!breaker.admits(now));
    }
}
