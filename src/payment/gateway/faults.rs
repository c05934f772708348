//! The faults of the simulated PSP by seed: drawn for each key and attempt, so that a run repeats whatever its timing.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use crate::engine::charge::ChargeKey;

/// Keys whose attempts are counted, 36 bytes each (2 MB); past it the count begins anew.
const COUNTED_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It never arrives.
    NotArriving,
    /// It arrives after its caller gave up.
    Late,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It arrives twice.
    Twice,
}

#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    permille: u32,
    attempts: HashMap<ChargeKey, u32>,
}

impl Faults {
    pub(super) fn new(seed: u64, permille: u32) -> Faults {
        Faults { seed, permille, attempts: HashMap::new() }
    }

    /// What goes wrong with the next attempt under a key.
    pub(super) fn draw(&mut self, key: ChargeKey) -> Option<Fault> {
        if self.permille == 0 {
            return None;
        }
        if self.attempts.len() >= COUNTED_MAX {
            self.attempts.clear();
        }
        let attempt = self.attempts.entry(key).or_default();
        *attempt += 1;
        let drawn = Sha256::new_with_prefix(b"forecourt fault v1")
            .chain_update(self.seed.to_be_bytes())
            .chain_update(key.0)
            .chain_update(attempt.to_be_bytes())
            .finalize();
        let number = u32::from_be_bytes([drawn[0], drawn[1], drawn[2], drawn[3]]);
        (number % 1_000 < self.permille).then(|| match drawn[4] % 4 {
            0 => Fault::NotArriving,
            1 => Fault::Late,
            2 => Fault::AnswerLost,
            _ => Fault::Twice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, permille: u32) -> Vec<Option<Fault>> {
        let mut faults = Faults::new(seed, permille);
        let keys = (0..100).map(|number| ChargeKey([number; 32]));
        keys.flat_map(|key| [key, key]).map(|key| faults.draw(key)).collect()
    }

    #[test]
    fn a_seed_repeats_its_faults_and_another_has_others() {
        assert_eq!(drawn(1, 500), drawn(1, 500));
        assert_ne!(drawn(1, 500), drawn(2, 500));
    }

    #[test]
    fn the_share_is_as_asked_and_every_fault_comes() {
        assert!(drawn(1, 0).iter().all(Option::is_none));
        let all = drawn(1, 1_000);
        for fault in [Fault::NotArriving, Fault::Late, Fault::AnswerLost, Fault::Twice] {
            assert!(all.contains(&Some(fault)), "{fault:?}");
        }
        let half = drawn(1, 500).iter().flatten().count();
        assert!((60..140).contains(&half), "{half} of 200");
    }

    #[test]
    fn each_attempt_is_drawn_by_itself() {
        assert!(drawn(1, 500).chunks(2).any(|attempts| attempts[0] != attempts[1]));
    }
}
