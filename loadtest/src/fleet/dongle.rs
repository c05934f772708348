//! What the in-car device does: broadcasts the code of its own clock's slot, and answers challenges.
//!
//! Its clock is a cheap crystal that nobody sets: it is off from the start and drifts. It runs on when the ignition is
//! off; radio and two-way link do not.

use forecourt::engine::{
    code::{Code, Secret},
    id::DeviceId,
    proof::{ProofKey, Terms},
    time::{SlotLength, UnixMs},
};

/// The time that a dongle believes it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// When the clock was set, in true time.
    pub set_at: UnixMs,
    /// How far off it was then.
    pub offset_ms: i64,
    /// Parts per million that it is fast, or slow when negative.
    pub drift_ppm: i64,
}

impl Clock {
    pub fn shows(&self, now: UnixMs) -> UnixMs {
        let drifted = now.since(self.set_at) as i64 * self.drift_ppm / 1_000_000;
        now.shifted(self.offset_ms + drifted)
    }
}

#[derive(Debug, Clone)]
pub struct Dongle {
    pub device: DeviceId,
    root: [u8; 32],
    secret: Secret,
    proof_key: ProofKey,
    clock: Clock,
    pub powered: bool,
}

impl Dongle {
    pub fn new(device: DeviceId, root: [u8; 32], clock: Clock) -> Dongle {
        let (secret, proof_key) = (Secret::from_root(&root), ProofKey::from_root(&root));
        Dongle { device, root, secret, proof_key, clock, powered: true }
    }

    /// The key as the maker's file has it.
    pub fn root_hex(&self) -> String {
        hex::encode(self.root)
    }

    /// The code on the air now.
    pub fn code(&self, slot: SlotLength, now: UnixMs) -> Code {
        self.secret.code(self.secret.slot_at(slot, self.clock.shows(now)))
    }

    /// Until when that code stays, or a little less: asking again then is never too late.
    pub fn code_until(&self, slot: SlotLength, now: UnixMs) -> UnixMs {
        let left = slot.ms() - self.clock.shows(now).0 % slot.ms();
        // Any drift that a crystal has is under one in 4,096; a slow clock's few milliseconds cost another look.
        now.plus((left - left / 4_096).max(1))
    }

    /// The chip's MAC over some terms; `None` while it has no power. It answers for itself only: the terms name a
    /// device.
    pub fn answer(&self, device: DeviceId, terms: &impl Terms) -> Option<[u8; 32]> {
        (self.powered && device == self.device).then(|| terms.mac(&self.proof_key))
    }
}

#[cfg(test)]
mod tests {
    use forecourt::engine::proof::CoupleTerms;

    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn dongle(offset_ms: i64, drift_ppm: i64) -> Dongle {
        Dongle::new(DeviceId(7), [3; 32], Clock { set_at: NOW, offset_ms, drift_ppm })
    }

    #[test]
    fn a_dongle_broadcasts_the_code_that_the_engine_expects_of_its_slot() {
        let slot = SlotLength::from_seconds(15).expect("a slot may last 15 s");
        let secret = Secret::from_root(&[3; 32]);
        assert_eq!(dongle(0, 0).code(slot, NOW), secret.code(slot.slot_at(NOW)));
        let late = dongle(-15_000, 0).code(slot, NOW);
        assert_eq!(late, secret.code(slot.slot_at(NOW.minus(15_000))));
    }

    #[test]
    fn a_code_is_kept_no_longer_than_it_is_on_the_air() {
        let slot = SlotLength::from_seconds(15).expect("a slot may last 15 s");
        for (offset_ms, drift_ppm) in [(0, 0), (3_999, 150), (-4_000, -150)] {
            let dongle = dongle(offset_ms, drift_ppm);
            let mut now = NOW;
            for _ in 0..20 {
                let until = dongle.code_until(slot, now);
                assert_eq!(dongle.code(slot, now), dongle.code(slot, until.minus(1)));
                now = until;
            }
            assert!(now.since(NOW) > slot.ms());
        }
    }

    #[test]
    fn a_clock_that_is_150_ppm_fast_gains_13_s_a_day() {
        let clock = Clock { set_at: NOW, offset_ms: 0, drift_ppm: 150 };
        let day = NOW.plus(24 * 60 * 60 * 1000);
        assert_eq!(clock.shows(day).since(day), 12_960);
    }

    #[test]
    fn a_dongle_answers_for_itself_and_only_with_power() {
        let terms = CoupleTerms { nonce: [1; 32], device: DeviceId(7), phone_key: [2; 32] };
        let mut dongle = dongle(0, 0);
        let mac = dongle.answer(DeviceId(7), &terms).expect("it has power");
        assert!(terms.verify(&ProofKey::from_root(&[3; 32]), &mac));
        assert_eq!(dongle.answer(DeviceId(8), &terms), None);
        dongle.powered = false;
        assert_eq!(dongle.answer(DeviceId(7), &terms), None);
    }
}
