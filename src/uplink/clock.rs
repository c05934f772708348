//! The sender's estimate of the server's clock.

use std::time::Duration;

use crate::engine::time::UnixMs;

/// How far the server's clock is ahead of ours, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ServerClock {
    ahead_ms: Option<i64>,
}

impl ServerClock {
    /// A connection begins: what the server said on the last one may be from another server.
    pub(super) fn restart(&mut self) {
        self.ahead_ms = None;
    }

    /// The server said `server` about half a round trip before it was `now` here. Later words move the estimate by a
    /// quarter only: one that was held up on the way says less than the others.
    pub(super) fn learn(&mut self, server: UnixMs, round_trip: Duration, now: UnixMs) {
        let arrived = server.plus(round_trip.as_millis() as u64 / 2);
        let ahead = arrived.0.cast_signed().saturating_sub(now.0.cast_signed());
        self.ahead_ms = Some(match self.ahead_ms {
            Some(before) => before.saturating_add(ahead.saturating_sub(before) / 4),
            None => ahead,
        });
    }

    /// A time of our clock on the server's; the same while nothing is known.
    pub(super) fn on_server(&self, local: UnixMs) -> UnixMs {
        local.shifted(self.ahead_ms.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    #[test]
    fn the_first_word_counts_whole_and_a_late_one_little() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.on_server(NOW), NOW);
        clock.learn(NOW.minus(5_000), Duration::from_millis(40), NOW);
        assert_eq!(clock.on_server(NOW), NOW.minus(4_980));
        clock.learn(NOW.minus(5_380), Duration::from_millis(0), NOW);
        assert_eq!(clock.on_server(NOW), NOW.minus(5_080));
    }

    #[test]
    fn absurd_times_saturate() {
        let mut clock = ServerClock::default();
        clock.learn(UnixMs(u64::MAX), Duration::MAX, UnixMs(0));
        clock.learn(UnixMs(0), Duration::ZERO, UnixMs(u64::MAX));
        clock.on_server(UnixMs(u64::MAX));
    }
}
