//! What a code costs, beside its floor: the plain crates, one code after the other.

use std::{hint::black_box, time::Instant};

use forecourt::engine::{
    code::{Code, Secret, hmac_codes},
    time::Slot,
};

use super::dongles::Synthetic;
use super::lookups::median;

const KEYS: usize = 8192;
const ROUNDS: usize = 31;
const SLOT: Slot = Slot(6_000_000);

/// Nanoseconds of a code as a roll computes it, and of the floor: medians, in turn.
pub(super) fn of_a_code() -> (f64, f64) {
    let synthetic = Synthetic { seed: 1, count: KEYS };
    let keys: Vec<[u8; 32]> = (0..KEYS)
        .map(|index| match synthetic.dongle(index).secret {
            Secret::Hmac { code_key } => code_key,
            Secret::EddystoneEid { .. } | Secret::Fixed { .. } => unreachable!("they are HMAC dongles"),
        })
        .collect();
    let mut codes = vec![[Code([0; 16])]; KEYS];
    let slots = vec![SLOT; KEYS];
    let (mut many, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        hmac_codes(black_box(&keys), &slots, &mut codes);
        many.push(began.elapsed().as_nanos() as f64 / KEYS as f64);
        let began = Instant::now();
        for code_key in black_box(&keys) {
            black_box(Secret::Hmac { code_key: *code_key }.code(SLOT));
        }
        plain.push(began.elapsed().as_nanos() as f64 / KEYS as f64);
    }
    black_box(&codes);
    (median(&mut many), median(&mut plain))
}
