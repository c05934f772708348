//! How well each receiver hears one dongle.
//!
//! A level for each receiver, and a bit for each receiver and period in which it was heard. So a hearing costs one load
//! and one store, no time is kept per receiver, and all of it fits two cache lines: with thousands of stations, each
//! line of a window is fetched from memory.

use crate::engine::{id::ReceiverId, limits::RECEIVERS_MAX, time::UnixMs};

/// A period is 2.048 s.
const PERIOD_SHIFT: u32 = 11;

/// A receiver that was not heard in the newest five periods, which are 8.2 to 10.2 s, says nothing about where the
/// dongle stands now.
const PERIODS: usize = 5;

/// The part of the way to a new measurement by which the smoothed value moves, in sixteenths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Smoothing(i32);

impl Smoothing {
    /// A quarter: an outlier of +12 dB moves it by 3.
    pub(super) const STEADY: Smoothing = Smoothing(4);

    /// Of a dongle that has not entered: an outlier moves it by 3.75 dB. A car may stand at its pump for a second before its
    /// engine is off, and by quarters its level lags behind the drive there and remembers an early fade for too long: of
    /// those whose level is 6 dB over the threshold, 1 in 2,000 had not entered when it fell silent, and 1 in 13,000 this
    /// way. An outlier is forgotten sooner as well: of cars that drive past 13 dB below the threshold 1 in 17,000 entered,
    /// and 1 in 60,000 this way. By halves, 1 in 70 of those that stand there for minutes would.
    pub(super) const BEFORE_ENTRY: Smoothing = Smoothing(5);

    /// From one level to the next, in the unit of both.
    #[inline]
    fn step(self, level: i16, measured: i16) -> i16 {
        (((i32::from(measured) - i32::from(level)) * self.0) >> 4) as i16
    }
}

/// A receiver's first measurement may be an outlier, and those are up to 12 dB too strong: it counts for half of that
/// less. A car at its pump is still over the threshold with its second frame, before its engine is off; one next door is
/// not.
const OUTLIER: i16 = 6 << 8;

/// The level of a receiver that does not hear the dongle: less than any that is measured.
const SILENT: i16 = i16::MIN;

#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(C)]
pub(super) struct Traces {
    /// Receivers heard in each period, the newest first; a bit each.
    heard: [u32; PERIODS],
    /// 256ths of a dBm.
    levels: [i16; RECEIVERS_MAX],
}

impl Traces {
    pub(super) const SILENT: Traces = Traces { heard: [0; PERIODS], levels: [SILENT; RECEIVERS_MAX] };

    /// Time went on from the last hearing to the next: receivers that were not heard for long fall silent.
    #[inline]
    pub(super) fn advance(&mut self, last: UnixMs, next: UnixMs) {
        if next.0 >> PERIOD_SHIFT > last.0 >> PERIOD_SHIFT {
            self.begin_period((next.0 >> PERIOD_SHIFT) - (last.0 >> PERIOD_SHIFT));
        }
    }

    /// Smooths measurements in, given as receiver and dBm.
    #[inline]
    pub(super) fn hear_all(&mut self, measured: impl Iterator<Item = (u8, i8)>) {
        let mut heard = self.heard[0];
        for (receiver, rssi) in measured {
            heard |= 1 << (usize::from(receiver) % RECEIVERS_MAX);
            self.smooth(receiver, rssi, Smoothing::STEADY);
        }
        self.heard[0] = heard;
    }

    /// As [`Self::hear_all`], for one; the receiver's new level.
    pub(super) fn hear(&mut self, receiver: u8, rssi: i8, smoothing: Smoothing) -> i16 {
        self.heard[0] |= 1 << (usize::from(receiver) % RECEIVERS_MAX);
        self.smooth(receiver, rssi, smoothing)
    }

    #[inline]
    fn smooth(&mut self, receiver: u8, rssi: i8, smoothing: Smoothing) -> i16 {
        let receiver = usize::from(receiver) % RECEIVERS_MAX;
        let level = &mut self.levels[receiver];
        let measured = i16::from(rssi) << 8;
        let first = measured.saturating_sub(OUTLIER).max(SILENT + 1);
        *level = if *level == SILENT { first } else { *level + smoothing.step(*level, measured) };
        *level
    }

    /// Whether the receiver heard the dongle lately.
    pub(super) fn is_heard(&self, receiver: u8) -> bool {
        self.levels[usize::from(receiver) % RECEIVERS_MAX] != SILENT
    }

    /// The receivers that heard the dongle lately, the best first, and how well in dBm.
    pub(super) fn levels(&self) -> Vec<(ReceiverId, i8)> {
        let levels = self.levels.iter().enumerate().filter(|(_, level)| **level != SILENT);
        let mut levels: Vec<_> = levels.map(|(at, level)| (ReceiverId(at as u8), (level >> 8) as i8)).collect();
        levels.sort_by_key(|(_, dbm)| std::cmp::Reverse(*dbm));
        levels
    }

    /// The receiver, of those heard lately and passing `which`, that hears the dongle best, and how well in dBm.
    pub(super) fn strongest(&self, which: impl Fn(ReceiverId) -> bool) -> Option<(ReceiverId, i8)> {
        let levels = self.levels.iter().enumerate().map(|(at, &level)| (ReceiverId(at as u8), level));
        levels
            .filter(|&(receiver, level)| level != SILENT && which(receiver))
            .max_by_key(|(_, level)| *level)
            .map(|(receiver, level)| (receiver, (level >> 8) as i8))
    }

    #[cold]
    fn begin_period(&mut self, periods: u64) {
        let gone = periods.min(PERIODS as u64) as usize;
        self.heard.rotate_right(gone);
        self.heard[..gone].fill(0);
        let heard = self.heard.iter().fold(0, |all, period| all | period);
        for (receiver, level) in self.levels.iter_mut().enumerate() {
            if heard >> receiver & 1 == 0 {
                *level = SILENT;
            }
        }
    }
}

const _: () = assert!(RECEIVERS_MAX <= u32::BITS as usize, "a bit for each receiver");

#[cfg(test)]
mod tests {
    use super::*;

    const STEADY: Smoothing = Smoothing::STEADY;

    const START: UnixMs = UnixMs(1_800_000_000_000);

    #[test]
    fn an_outlier_moves_the_level_by_a_quarter() {
        let mut traces = Traces::SILENT;
        let before = (0..40).map(|_| traces.hear(3, -60, STEADY)).last().unwrap();
        let mut arriving = traces.clone();
        assert_eq!(traces.hear(3, -48, STEADY), before + (((-48 << 8) - before) >> 2));
        let moved = f32::from(arriving.hear(3, -48, Smoothing::BEFORE_ENTRY) - before) / 256.0;
        assert!((3.7..=3.8).contains(&moved), "{moved} dB before it has entered");
    }

    #[test]
    fn a_first_measurement_counts_as_an_outlier() {
        let mut traces = Traces::SILENT;
        traces.hear(3, -60, STEADY);
        assert_eq!(traces.strongest(|_| true), Some((ReceiverId(3), -66)));
        traces.hear(4, -127, STEADY);
        assert!(traces.is_heard(4), "however weak");
    }

    #[test]
    fn a_receiver_that_has_not_heard_for_ten_seconds_is_no_witness() {
        let mut traces = Traces::SILENT;
        traces.hear(3, -50, STEADY);
        for second in 1..=11 {
            traces.advance(START.plus((second - 1) * 1000), START.plus(second * 1000));
            traces.hear(4, -80, STEADY);
            let witness = ReceiverId(if second < 8 { 3 } else { 4 });
            if !(8..=10).contains(&second) {
                assert_eq!(traces.strongest(|_| true).unwrap().0, witness, "after {second} s");
            }
        }
        traces.hear(3, -90, STEADY);
        assert_eq!(traces.strongest(|receiver| receiver == ReceiverId(3)).unwrap().1, -96, "it begins anew");
    }

    #[test]
    fn after_a_long_silence_nothing_is_left_of_what_was_before() {
        let mut traces = Traces::SILENT;
        traces.hear(3, -50, STEADY);
        traces.advance(START, START.plus(1_000_000_000));
        assert_eq!(traces.strongest(|_| true), None);
    }
}
