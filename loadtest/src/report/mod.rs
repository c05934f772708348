//! A run on disk: what was measured, under which conditions, and whether it was good enough.
//!
//! A [`Run`] becomes a folder: `summary.json` for machines and for [`compare()`], one HdrHistogram interval log per
//! kind of latency, whose full distribution any of that family's tools can read, and `report.html`, one file that opens from
//! disk and fetches nothing.
//!
//! No sample is kept: latencies live in histograms, one a second and one for all, and a series has one point a second.
//! The charts are drawn by [`chart`], in the page's own colours: the libraries at hand write colours and fonts into
//! each element, so that a chart would be light on a dark page.

pub mod chart;
mod compare;
mod direction;
mod figures;
mod latencies;
mod numbers;
mod page;
mod run;
mod thresholds;

use std::{io, path::PathBuf};

pub use compare::{Comparison, Judgement, Measure, compare};
pub use direction::Direction;
pub use figures::{Curve, Line, Series, Table};
pub use latencies::Latencies;
pub use run::Run;
pub use thresholds::{Bound, Verdict};

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("{path}: {error}", path = .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{path} is not the summary of a run: {reason}", path = .path.display())]
    NotASummary { path: PathBuf, reason: String },
}
