//! Where values lie along an axis, and which of them are labelled.

use crate::report::numbers::short;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero, in steps of 1, 2 or 5.
    Linear,
    /// Only values above zero have a place.
    Log,
    /// Quantiles, as HdrHistogram draws them: each tenfold of the tail is as wide as the one before.
    Tail,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub label: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Axis {
    scale: Scale,
    /// In the units in which the axis is even.
    from: f64,
    to: f64,
}

const STEPS_ABOUT: f64 = 5.0;
/// More labels than this along a logarithmic axis run into each other.
const LOG_TICKS_MAX: usize = 9;
/// One decade, or a few percent would look like growth.
const LOG_SPAN_MIN: f64 = 1.0;
const WITHIN_DECADE: [f64; 3] = [1.0, 2.0, 5.0];

impl Axis {
    pub fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let placed: Vec<f64> = values.filter(|value| scale.admits(*value)).map(|value| scale.even(value)).collect();
        let low = placed.iter().copied().reduce(f64::min);
        let high = placed.iter().copied().reduce(f64::max);
        let (from, to) = low.zip(high).map_or((0.0, 1.0), |(low, high)| scale.bounds(low, high));
        Axis { scale, from, to }
    }

    pub fn shows(&self, value: f64) -> bool {
        self.scale.admits(value)
    }

    /// 0 at the start of the axis, 1 at its end.
    pub fn place(&self, value: f64) -> f64 {
        (self.scale.even(value) - self.from) / (self.to - self.from)
    }

    pub fn ticks(&self) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => self.linear_ticks(),
            Scale::Log => self.log_ticks(),
            Scale::Tail => self.tail_ticks(),
        }
    }

    /// The bounds are multiples of a step. If both lie beyond zero on their sides, the span may ask for a wider step
    /// than they were made with: only the ticks within are shown.
    fn linear_ticks(&self) -> Vec<Tick> {
        let step = step(self.to - self.from);
        let [first, last] = [(self.from / step).ceil(), (self.to / step + 1e-9).floor()].map(|n| n as i32);
        (first..=last).map(|n| f64::from(n) * step).map(|at| Tick { at, label: short(at) }).collect()
    }

    fn log_ticks(&self) -> Vec<Tick> {
        let within = |share: f64| (self.from - 1e-9..=self.to + 1e-9).contains(&share);
        let decades = self.from.floor() as i32..=self.to.ceil() as i32;
        let fine: Vec<f64> = decades
            .flat_map(|decade| WITHIN_DECADE.map(|leading| leading * 10f64.powi(decade)))
            .filter(|value| within(value.log10()))
            .collect();
        let is_decade = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-9;
        let coarse: Vec<f64> = fine.iter().copied().filter(is_decade).collect();
        let chosen = if fine.len() <= LOG_TICKS_MAX { fine } else { coarse };
        let stride = chosen.len().div_ceil(LOG_TICKS_MAX).max(1);
        chosen.into_iter().step_by(stride).map(|at| Tick { at, label: short(at) }).collect()
    }

    fn tail_ticks(&self) -> Vec<Tick> {
        let nines = (1..=self.to.floor() as i32).map(|nines| 1.0 - 10f64.powi(-nines));
        [0.0, 0.5].into_iter().chain(nines).filter(|at| self.scale.even(*at) <= self.to + 1e-9).map(percent).collect()
    }
}

impl Scale {
    fn admits(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Scale::Linear => true,
                Scale::Log => value > 0.0,
                Scale::Tail => (0.0..1.0).contains(&value),
            }
    }

    /// To the units in which the axis is even.
    fn even(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Tail => -(1.0 - value).log10(),
        }
    }

    /// Round numbers around what is shown.
    fn bounds(self, low: f64, high: f64) -> (f64, f64) {
        match self {
            Scale::Linear => {
                let (from, to) = (low.min(0.0), high.max(0.0));
                let step = step(if to > from { to - from } else { 1.0 });
                let (from, to) = ((from / step).floor() * step, (to / step).ceil() * step);
                (from, if to > from { to } else { from + step })
            }
            Scale::Log => {
                let to = -round_below(-high);
                (round_below(low).min(to - LOG_SPAN_MIN), to)
            }
            Scale::Tail => (0.0, high.max(1.0)),
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that about five of them make the span.
fn step(span: f64) -> f64 {
    let raw = span / STEPS_ABOUT;
    let power = 10f64.powf(raw.log10().floor());
    WITHIN_DECADE
        .into_iter()
        .chain([10.0])
        .map(|leading| leading * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw)
}

/// The logarithm of the round number at or below the one whose logarithm this is. Of the upper bound it is taken
/// mirrored: 1, 2 and 5 become 1, 1/2 and 1/5, which are 1, 5 and 2 of the decade below.
fn round_below(log: f64) -> f64 {
    let decade = log.floor();
    let leading = WITHIN_DECADE.into_iter().rev().map(f64::log10).find(|leading| decade + leading <= log + 1e-9);
    decade + leading.unwrap_or(0.0)
}

fn percent(quantile: f64) -> Tick {
    let decimals = (-(1.0 - quantile).log10()).round().max(2.0) as usize - 2;
    Tick { at: quantile, label: format!("{:.decimals$}%", quantile * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        Axis::over(scale, values.iter().copied()).ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn a_linear_axis_starts_at_zero_and_steps_by_round_numbers() {
        assert_eq!(labels(Scale::Linear, &[3.0, 97.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(Scale::Linear, &[0.0, 1_700_000.0]), ["0", "500k", "1M", "1.5M", "2M"]);
        assert_eq!(labels(Scale::Linear, &[0.0, 0.31]), ["0", "0.1", "0.2", "0.3", "0.4"]);
    }

    #[test]
    fn a_log_axis_is_labelled_by_decades_or_finer_where_they_are_few() {
        assert_eq!(labels(Scale::Log, &[10.0, 10_000.0]), ["10", "100", "1k", "10k"]);
        assert_eq!(labels(Scale::Log, &[6.0, 34.0]), ["5", "10", "20", "50"]);
    }

    #[test]
    fn the_tail_is_labelled_by_its_nines() {
        assert_eq!(labels(Scale::Tail, &[0.0, 0.9999]), ["0%", "50%", "90%", "99%", "99.9%", "99.99%"]);
    }

    #[test]
    fn each_tenfold_of_the_tail_is_as_wide_as_the_one_before() {
        let axis = Axis::over(Scale::Tail, [0.0, 0.9999].into_iter());
        for (quantile, place) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.999, 0.75), (0.9999, 1.0)] {
            assert!((axis.place(quantile) - place).abs() < 1e-9, "{quantile}");
        }
    }

    #[test]
    fn nothing_and_a_single_value_still_make_an_axis() {
        for scale in [Scale::Linear, Scale::Log, Scale::Tail] {
            assert!(!labels(scale, &[]).is_empty(), "{scale:?}");
        }
        for (scale, value) in [(Scale::Linear, 0.0), (Scale::Linear, 7.0), (Scale::Log, 7.0), (Scale::Tail, 0.5)] {
            let axis = Axis::over(scale, [value].into_iter());
            assert!((0.0..=1.0).contains(&axis.place(value)), "{scale:?} {value}");
        }
    }
}
