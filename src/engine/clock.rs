//! What the server believes of a dongle's clock.
//!
//! A dongle's clock drifts (150 ppm is 13 s a day). Each verified hearing tells in which slot the dongle is, and so
//! bounds its offset to one slot length: the belief moves only as far as that bound asks. A slot of 300 s at 150 ppm
//! lasts 23 days of silence before the code falls out of the codebook's three slots.

use super::time::{Slot, UnixMs};

/// The dongle's clock less the server's, in milliseconds. An i32 spans 24 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockOffset(pub i32);

impl ClockOffset {
    /// What the dongle's clock shows when the server's shows `at`.
    pub fn dongle_time(self, at: UnixMs) -> UnixMs {
        at.shifted(i64::from(self.0))
    }

    /// The belief after the code of `slot` (each `slot_ms` long) was heard at `at`: the nearest offset that puts the
    /// dongle into that slot. `None` when no i32 does, which is a clock that the phone has to catch up.
    pub fn learned(self, slot_ms: u64, slot: Slot, at: UnixMs) -> Option<ClockOffset> {
        let start = i64::try_from(slot.0.checked_mul(slot_ms)?).ok()?;
        let earliest = start.checked_sub(i64::try_from(at.0).ok()?)?;
        let latest = earliest.checked_add(i64::try_from(slot_ms).ok()? - 1)?;
        i32::try_from(i64::from(self.0).clamp(earliest, latest)).ok().map(ClockOffset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT_MS: u64 = 300_000;

    #[test]
    fn a_hearing_in_the_expected_slot_teaches_nothing() {
        let offset = ClockOffset(1_000);
        assert_eq!(offset.learned(SLOT_MS, Slot(10), UnixMs(10 * SLOT_MS + 5_000)), Some(offset));
    }

    #[test]
    fn a_hearing_in_the_next_slot_moves_the_belief_to_its_start() {
        let at = UnixMs(11 * SLOT_MS - 4_000);
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(11), at), Some(ClockOffset(4_000)));
    }

    #[test]
    fn a_clock_that_is_years_off_is_not_learned_from_a_hearing() {
        assert_eq!(ClockOffset(0).learned(SLOT_MS, Slot(0), UnixMs(1_700_000_000_000)), None);
    }

    proptest! {
        #[test]
        fn the_belief_puts_the_dongle_into_the_slot_that_was_heard(
            at in 1_600_000_000_000_u64..2_000_000_000_000, drift in -2_000_000_i64..2_000_000, before in -1_000_000..1_000_000,
        ) {
            let slot = Slot(UnixMs(at).shifted(drift).0 / SLOT_MS);
            let learned = ClockOffset(before).learned(SLOT_MS, slot, UnixMs(at)).unwrap();
            prop_assert_eq!(learned.dongle_time(UnixMs(at)).0 / SLOT_MS, slot.0);
        }
    }
}
