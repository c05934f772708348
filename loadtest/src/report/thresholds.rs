//! What a run must reach, and whether it did.

use std::fmt;

use serde::Serialize;

use super::numbers::grouped;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    /// A value that is not a number holds no bound.
    pub fn admits(self, value: f64) -> bool {
        match self {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Bound::AtMost(most) => write!(f, "at most {}", grouped(most)),
            Bound::AtLeast(least) => write!(f, "at least {}", grouped(least)),
        }
    }
}

/// One threshold against the value that the run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// A key of the summary.
    pub key: String,
    pub bound: Bound,
    pub value: f64,
    pub held: bool,
}

impl Verdict {
    pub fn new(key: impl Into<String>, bound: Bound, value: f64) -> Verdict {
        Verdict { key: key.into(), bound, value, held: bound.admits(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_includes_its_edge() {
        assert!(Verdict::new("visible_p99_ms", Bound::AtMost(150.0), 150.0).held);
        assert!(Verdict::new("ratio", Bound::AtLeast(2.5), 2.5).held);
        assert!(!Verdict::new("missed", Bound::AtMost(0.0), 1.0).held);
    }

    #[test]
    fn a_value_that_was_never_measured_misses_its_threshold() {
        assert!(!Bound::AtMost(5.0).admits(f64::NAN));
        assert!(!Bound::AtLeast(5.0).admits(f64::NAN));
    }
}
