//! What the server believes of a dongle's clock.
//!
//! A dongle's clock drifts (150 ppm is 13 s a day). Each verified hearing tells in which slot the dongle is, and so
//! bounds its offset to one slot length: the belief moves only as far as that bound asks. A slot of 300 s at 150 ppm
//! lasts 11 to 34 days of silence before the code falls out of the codebook's three slots, 23 in the mean. A clock that lost its power may
//! begin at zero again, which is as far off as 1970 is.

use super::time::{Slot, UnixMs};

/// The dongle's clock less the server's, in seconds. An i32 spans 68 years, so that 1970 is within it until 2038; a clock
/// that restarts at zero later than that counts from another beginning by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockOffset(pub i32);

impl ClockOffset {
    /// What the dongle's clock shows when the server's shows `at`.
    pub fn dongle_time(self, at: UnixMs) -> UnixMs {
        at.shifted(i64::from(self.0) * 1000)
    }

    /// The belief after the code of `slot` (each `slot_ms` long, whole seconds) was heard at `at`: the nearest offset
    /// that puts the dongle into that slot. A belief that was off by more than a slot says nothing of where in the slot
    /// the clock is; then it is the middle, from which drift takes longest to leave the book. `None` when no i32 does.
    pub fn learned(self, slot_ms: u64, slot: Slot, at: UnixMs) -> Option<ClockOffset> {
        let start = i64::try_from(slot.0.checked_mul(slot_ms)?).ok()?;
        let earliest_ms = start.checked_sub(i64::try_from(at.0).ok()?)?;
        let latest_ms = earliest_ms.checked_add(i64::try_from(slot_ms).ok()? - 1)?;
        // The whole seconds within: of a second or more of milliseconds there is one at least.
        let (earliest, latest) = (-(-earliest_ms).div_euclid(1000), latest_ms.div_euclid(1000));
        let (believed, length) = (i64::from(self.0), latest - earliest + 1);
        let is_far = believed < earliest - length || believed > latest + length;
        let learned = if is_far { i64::midpoint(earliest, latest) } else { believed.clamp(earliest, latest) };
        i32::try_from(learned).ok().map(ClockOffset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT_MS: u64 = 300_000;

    #[test]
    fn a_hearing_in_the_expected_slot_teaches_nothing() {
        let offset = ClockOffset(1);
        assert_eq!(offset.learned(SLOT_MS, Slot(10), UnixMs(10 * SLOT_MS + 5_000)), Some(offset));
    }

    #[test]
    fn a_hearing_in_the_next_slot_moves_the_belief_to_its_start() {
        let at = UnixMs(11 * SLOT_MS - 4_000);
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(11), at), Some(ClockOffset(4)));
    }

    #[test]
    fn a_clock_that_began_at_zero_is_followed_and_one_beyond_68_years_is_not() {
        let at = UnixMs(1_800_000_000_000);
        let learned = ClockOffset(0).learned(SLOT_MS, Slot(2), at).unwrap();
        assert_eq!(learned.dongle_time(at).0 / SLOT_MS, 2);
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(0), UnixMs(2_200_000_000_000)), None);
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(u64::MAX), at), None);
    }

    #[test]
    fn a_belief_that_was_far_off_moves_to_the_middle_of_the_slot() {
        let at = UnixMs(100 * SLOT_MS + 50_000);
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(103), at), Some(ClockOffset(900 - 50 + 149)));
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(101), at), Some(ClockOffset(300 - 50)));
    }

    #[test]
    fn a_slot_of_a_second_has_one_offset() {
        let at = UnixMs(1_800_000_000_001);
        assert_eq!(ClockOffset(0).learned(1000, Slot(1_800_000_001), at), Some(ClockOffset(1)));
    }

    proptest! {
        #[test]
        fn the_belief_puts_the_dongle_into_the_slot_that_was_heard(
            at in 1_600_000_000_000_u64..2_000_000_000_000, drift in -2_000_000_i64..2_000_000, before in -1_000_000..1_000_000, slot_ms in 1..900_u64,
        ) {
            let slot_ms = slot_ms * 1000;
            let slot = Slot(UnixMs(at).shifted(drift).0 / slot_ms);
            let learned = ClockOffset(before).learned(slot_ms, slot, UnixMs(at)).unwrap();
            prop_assert_eq!(learned.dongle_time(UnixMs(at)).0 / slot_ms, slot.0);
        }
    }
}
