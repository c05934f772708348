//! What a receiver measures of a frame, or that it misses it.
//!
//! Log-distance path loss with log-normal noise, and the faults of real receivers: 30 % of the frames are lost
//! (advertising and scanning meet on one of three channels), a value in a hundred is up to 12 dB too strong, some are
//! 127 ("not available").

use rand::{Rng, RngExt as _};

/// dBm at one metre, behind a windscreen.
const AT_ONE_METRE_DBM: f64 = -55.0;

/// 10 times the path-loss exponent of a forecourt with cars between (2.5).
const DB_PER_DECADE: f64 = 25.0;

const NOISE_DB: f64 = 4.0;

/// Weaker than this is no frame, only noise.
const SENSITIVITY_DBM: f64 = -100.0;

const LOST: f64 = 0.3;
const OUTLIERS: f64 = 0.01;
const OUTLIER_DB_MAX: f64 = 12.0;
const NOT_AVAILABLE: f64 = 0.005;

/// What is written where there was no measurement (Bluetooth Core, 7.7.65.2).
pub const RSSI_NOT_AVAILABLE: i8 = 127;

/// The level at a distance without any noise.
pub fn mean_dbm(distance_m: f64) -> f64 {
    AT_ONE_METRE_DBM - DB_PER_DECADE * distance_m.max(1.0).log10()
}

/// The RSSI that a receiver reports of a frame sent `distance_m` away; `None` when it hears nothing.
pub fn hear(distance_m: f64, rng: &mut impl Rng) -> Option<i8> {
    let outlier = if rng.random_bool(OUTLIERS) { rng.random_range(0.0..OUTLIER_DB_MAX) } else { 0.0 };
    let level = mean_dbm(distance_m) + NOISE_DB * normal(rng) + outlier;
    if rng.random_bool(LOST) || level < SENSITIVITY_DBM {
        return None;
    }
    if rng.random_bool(NOT_AVAILABLE) {
        return Some(RSSI_NOT_AVAILABLE);
    }
    Some(level.round().clamp(-127.0, 20.0) as i8)
}

/// A standard normal value, by Box and Muller's transform.
fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn three_frames_in_ten_are_lost_nearby() {
        let mut rng = StdRng::seed_from_u64(1);
        let heard = (0..10_000).filter(|_| hear(2.0, &mut rng).is_some()).count();
        assert!((6_800..7_200).contains(&heard), "{heard}");
    }

    #[test]
    fn noise_is_log_normal_around_the_mean() {
        let mut rng = StdRng::seed_from_u64(1);
        let values: Vec<f64> = (0..10_000).map(|_| normal(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / 10_000.0;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
