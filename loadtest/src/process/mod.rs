//! The processes of a run: the real engine as a child, what each costs, and where each may run.
//!
//! The engine is measured from outside, by the kernel's own accounting of its process, so that nothing the generator
//! does can hide in its figures or be charged to them.

pub mod host;
mod metrics;
pub mod placement;
mod program;
mod serve;
pub mod usage;

pub use metrics::Metrics;
pub use program::in_path;
pub(crate) use serve::{STOP_PATIENCE, binary_beside_us, command};
pub use serve::{Serve, ServeError, ServeOptions};
pub use usage::Usage;
