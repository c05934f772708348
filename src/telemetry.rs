//! What an operator sees of the process: the clock it runs on, its log, its metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::time::UnixMs;

/// The wall clock: the one place where the stages read it.
pub fn now() -> UnixMs {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
