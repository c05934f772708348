//! What an operator sees of the process: the clock it runs on, its log, its metrics, its build.

use std::{
    io::IsTerminal,
    sync::{LazyLock, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    engine::time::UnixMs,
};

/// Seconds; from a local look-up to a PSP that answers at the last moment.
const SECONDS_BUCKETS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A histogram keeps every sample until upkeep puts it into its bucket.
const UPKEEP: Duration = Duration::from_secs(5);

/// The wall clock: the one place where the stages read it.
pub fn now() -> UnixMs {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock as it stood at the first call, and the time that has passed since: it never jumps. For waits that
/// must have been as long as they seem.
pub fn steady_now() -> UnixMs {
    static START: LazyLock<(UnixMs, Instant)> = LazyLock::new(|| (now(), Instant::now()));
    let (start, since) = *START;
    start.plus(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Has the kernel prefer the other threads of the process to this one. A step of niceness is a tenth of the CPU: at 5,
/// another thread gets three times this one's share, at 10 nine times.
pub fn yield_to_others(niceness: i32) {
    if let Err(error) = rustix::process::nice(niceness) {
        tracing::debug!(%error, "this thread runs at the priority of all others");
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("another log is installed in this process")]
    Installed,
}

/// Begins to log to standard error, for the whole process.
pub fn log(settings: &Log) -> Result<(), TelemetryError> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&settings.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|_| TelemetryError::Installed)
}

/// The process's metrics, installed at the first call. Must be called on a runtime: upkeep runs there.
pub fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = RECORDER.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .expect("there are buckets")
            .with_recommended_naming(true)
            .install_recorder()
            .expect("nobody else installs a recorder")
    });
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    handle.clone()
}

/// What was built.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Build {
    pub version: &'static str,
    pub profile: &'static str,
    pub target: &'static str,
    /// Of the batch format on the wire.
    pub batch_format: u8,
    /// Of the bundled library.
    pub sqlite: &'static str,
}

pub fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION"),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        target: std::env::consts::ARCH,
        batch_format: crate::engine::batch::VERSION,
        sqlite: rusqlite::version(),
    }
}
