//! What a receiver measures of a frame, or that it misses it.
//!
//! Log-distance path loss with the noise of real traces ([`NOISE`]), and the faults of real receivers: 30 % of the
//! frames are lost (advertising and scanning meet on one of three channels), a value in a hundred is up to 12 dB too
//! strong, some are 127 ("not available"). A national fleet asks a million times a second, so [`Noise`] is drawn once
//! into a table and a hearing only picks from it; levels are 256ths of a dB throughout.

use rand::{Rng, RngExt as _};

/// dBm at one metre, behind a windscreen.
const AT_ONE_METRE_DBM: f64 = -55.0;

/// 10 times the path-loss exponent of a forecourt with cars between (2.5).
const DB_PER_DECADE: f64 = 25.0;

/// The same in the open, from one forecourt to the next over the road.
const DB_PER_DECADE_IN_THE_OPEN: f64 = 20.0;

/// How far one measurement lies from those around it: a share of the measurements, and the dB below which they lie.
/// Fades go deeper than the other way, which no normal distribution has; the standard deviation is 4.4 dB.
///
/// Measured in the traces of one moving beacon and twelve fixed receivers by F. S. Danis et al.
/// (philotuxo/Position-Annotated-BLE-RSSI-Dataset): each value of a receiver against the mean of the one before and
/// the one after, scaled by the square root of 2/3 to the deviation of one value. Their ends, where the beacon was
/// carried past a wall, are cut at -20 and +14.
pub const NOISE: [(f64, f64); 13] = [
    (0.0, -20.0),
    (0.001, -17.2),
    (0.01, -11.4),
    (0.05, -7.4),
    (0.1, -5.3),
    (0.25, -2.5),
    (0.5, 0.4),
    (0.75, 2.9),
    (0.9, 5.3),
    (0.95, 6.5),
    (0.99, 9.4),
    (0.999, 13.1),
    (1.0, 14.0),
];

/// Weaker than this is no frame, only noise.
const SENSITIVITY_DBM: i16 = -100;

const LOST: f64 = 0.3;
const OUTLIERS: f64 = 0.01;
const OUTLIER_DB_MAX: f64 = 12.0;
const NOT_AVAILABLE: f64 = 0.005;

/// What is written where there was no measurement (Bluetooth Core, 7.7.65.2).
pub const RSSI_NOT_AVAILABLE: i8 = 127;

/// 16 KB, half of a first-level cache.
const OUTCOMES: usize = 1 << DRAW_BITS;

/// Bits of randomness that one hearing takes.
pub const DRAW_BITS: u32 = 13;

/// Nothing that any noise lifts over the sensitivity: the largest noise and the largest outlier below it.
const INAUDIBLE_DBM: f64 = SENSITIVITY_DBM as f64 - NOISE[NOISE.len() - 1].1 - OUTLIER_DB_MAX;

/// A level before noise, in 256ths of a dBm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(i16);

impl Level {
    /// Over a forecourt. At 10 km it would be -155 dBm, and an i16 of 256ths ends at -128: nobody hears either.
    pub fn at(distance_m: f64) -> Level {
        Level::of_dbm(AT_ONE_METRE_DBM - DB_PER_DECADE * distance_m.max(1.0).log10())
    }

    /// Over open ground.
    pub fn in_the_open(distance_m: f64) -> Level {
        Level::of_dbm(AT_ONE_METRE_DBM - DB_PER_DECADE_IN_THE_OPEN * distance_m.max(1.0).log10())
    }

    fn of_dbm(dbm: f64) -> Level {
        Level((dbm.max(-127.0) * 256.0) as i16)
    }

    pub fn dbm(self) -> f64 {
        f64::from(self.0) / 256.0
    }

    /// Whether any frame of this level is ever heard.
    pub fn is_audible(self) -> bool {
        self.dbm() > INAUDIBLE_DBM
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Lost,
    NotAvailable,
    /// 256ths of a dB.
    Noise(i16),
}

/// All that can come of a frame on its way, as likely as it is.
pub struct Noise {
    outcomes: Vec<Outcome>,
}

impl Noise {
    pub fn new(rng: &mut impl Rng) -> Noise {
        Noise { outcomes: (0..OUTCOMES).map(|_| outcome(rng)).collect() }
    }

    /// The RSSI that a receiver reports of a frame that reaches it at `level`; `None` when it hears nothing. Only the
    /// lowest [`DRAW_BITS`] of `draw` count.
    pub fn hear(&self, level: Level, draw: u64) -> Option<i8> {
        match self.outcomes[draw as usize % OUTCOMES] {
            Outcome::Lost => None,
            outcome if level.0 < SENSITIVITY_DBM << 8 && outcome == Outcome::NotAvailable => None,
            Outcome::NotAvailable => Some(RSSI_NOT_AVAILABLE),
            Outcome::Noise(noise) => {
                let heard = level.0.saturating_add(noise);
                (heard >= SENSITIVITY_DBM << 8).then_some((heard.saturating_add(128) >> 8) as i8)
            }
        }
    }
}

fn outcome(rng: &mut impl Rng) -> Outcome {
    if rng.random_bool(LOST) {
        return Outcome::Lost;
    }
    if rng.random_bool(NOT_AVAILABLE) {
        return Outcome::NotAvailable;
    }
    let outlier = if rng.random_bool(OUTLIERS) { rng.random_range(0.0..OUTLIER_DB_MAX) } else { 0.0 };
    Outcome::Noise(((noise_db(rng.random()) + outlier) * 256.0) as i16)
}

/// The dB below which `share` of the measurements lie, straight between the points of [`NOISE`].
fn noise_db(share: f64) -> f64 {
    let above = NOISE.partition_point(|(known, _)| *known <= share).clamp(1, NOISE.len() - 1);
    let ((from, low), (to, high)) = (NOISE[above - 1], NOISE[above]);
    low + (high - low) * (share - from) / (to - from)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    fn noise() -> Noise {
        Noise::new(&mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn three_frames_in_ten_are_lost_nearby() {
        let heard = (0..OUTCOMES as u64).filter(|&draw| noise_hears(Level::at(2.0), draw)).count();
        let share = heard as f64 / OUTCOMES as f64;
        assert!((share - 0.7).abs() < 0.02, "{share}");
    }

    fn noise_hears(level: Level, draw: u64) -> bool {
        thread_local!(static NOISE: Noise = noise());
        NOISE.with(|noise| noise.hear(level, draw).is_some())
    }

    #[test]
    fn noise_lies_around_the_mean_as_it_does_in_the_traces() {
        let (noise, level) = (noise(), Level::at(2.0));
        let values: Vec<f64> = (0..OUTCOMES as u64)
            .filter_map(|draw| noise.hear(level, draw))
            .filter(|rssi| *rssi != RSSI_NOT_AVAILABLE)
            .map(|rssi| f64::from(rssi) - level.dbm())
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.3 && (variance.sqrt() - 4.4).abs() < 0.3, "{mean} {variance}");
    }

    #[test]
    fn what_is_called_inaudible_is_never_heard() {
        let noise = noise();
        let faint = (1..10_000).map(|metres| Level::at(f64::from(metres))).find(|level| !level.is_audible()).unwrap();
        assert!((0..OUTCOMES as u64).all(|draw| noise.hear(faint, draw).is_none()));
        assert!(!Level::in_the_open(100_000.0).is_audible());
    }
}
