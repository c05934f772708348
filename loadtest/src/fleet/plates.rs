//! Plates of a made-up fleet. Some share their last four digits, which is what attendants type; none shares the letter
//! before them too, so that somebody who sees the car can always tell which one it is.

use std::collections::HashSet;

use rand::{Rng, RngExt as _};

/// Letters of private cars.
const LETTERS: [char; 32] = [
    '가', '나', '다', '라', '마', '거', '너', '더', '러', '머', '버', '서', '어', '저', '고', '노', '도', '로', '모',
    '보', '소', '오', '조', '구', '누', '두', '루', '무', '부', '수', '우', '주',
];

/// Gives out plates, each once.
#[derive(Debug, Default)]
pub struct Plates {
    given: HashSet<(char, u16)>,
}

impl Plates {
    /// A new plate; with `like`, one with the same last four digits as that.
    pub fn next(&mut self, like: Option<&str>, rng: &mut impl Rng) -> String {
        loop {
            let serial = like.map_or_else(|| rng.random_range(1000..10_000), serial);
            let letter = LETTERS[rng.random_range(0..LETTERS.len())];
            if self.given.insert((letter, serial)) {
                return format!("{}{letter}{serial:04}", rng.random_range(10..700));
            }
        }
    }
}

/// The last four digits, as an attendant types them.
pub fn last_four(plate: &str) -> &str {
    &plate[plate.len().saturating_sub(4)..]
}

fn serial(plate: &str) -> u16 {
    last_four(plate).parse().expect("our own plates end with four digits")
}

#[cfg(test)]
mod tests {
    use forecourt::engine::plate::Plate;
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn plates_follow_the_korean_grammar_and_stay_distinct_when_masked() {
        let (mut plates, mut rng) = (Plates::default(), StdRng::seed_from_u64(1));
        let first = plates.next(None, &mut rng);
        let mut masks = HashSet::new();
        for _ in 0..20 {
            let plate = plates.next(Some(&first), &mut rng);
            let parsed = Plate::parse(&plate).expect("a plate of the grammar");
            assert!(parsed.is_korean(), "{plate}");
            assert_eq!(last_four(&plate), last_four(&first));
            assert!(masks.insert(parsed.masked().trim_start_matches('*').to_owned()), "{plate}");
        }
    }
}
