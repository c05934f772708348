//! The one source of randomness of a history, and the count of what it did.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, RangeInclusive},
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

pub(crate) struct Chance {
    random: SmallRng,
    /// Faults happen; off at the end of a history.
    pub(crate) faults: bool,
    pub(crate) tally: Tally,
}

/// What happened, by kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) entries: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Where the sessions ended, by the name of the state.
    pub(crate) ends: BTreeMap<String, u64>,
}

impl AddAssign<Tally> for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.entries += other.entries;
        other.faults.into_iter().for_each(|(kind, count)| *self.faults.entry(kind).or_default() += count);
        other.ends.into_iter().for_each(|(end, count)| *self.ends.entry(end).or_default() += count);
    }
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance { random: SmallRng::seed_from_u64(seed), faults: true, tally: Tally::default() }
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.random.random_range(0..end.max(1))
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.random.random_range(range)
    }

    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let place = self.below(among.len() as u64) as usize;
        among.get(place)
    }

    /// Whether a fault strikes that strikes `per_mille` times in a thousand; it is counted.
    pub(crate) fn fault(&mut self, kind: &'static str, per_mille: u32) -> bool {
        let strikes = self.faults && self.random.random_ratio(per_mille, 1_000);
        if strikes {
            *self.tally.faults.entry(kind).or_default() += 1;
        }
        strikes
    }
}
