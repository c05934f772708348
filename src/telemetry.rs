//! What an operator sees of the process: the clock it runs on, its log, its metrics, its build.

pub mod catalogue;
mod export;
mod machine;
pub(crate) mod queue;
pub(crate) mod trace;

use std::{
    io::IsTerminal,
    path::Path,
    sync::{Arc, LazyLock, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    config::{Log, LogFormat, Trace},
    engine::time::UnixMs,
};
pub use export::{Export, ExportError, Exporting};

/// Seconds; from a local look-up to a PSP that answers at the last moment.
const SECONDS_BUCKETS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Seconds that people take: from a nozzle that is lifted at once to a day in which nobody came.
const PATIENCE_BUCKETS: [f64; 12] = [0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// The ending of what those are for.
const PATIENCE_SUFFIX: &str = "_state_seconds";

/// A histogram keeps every sample, 8 bytes each, until upkeep or a scrape puts it into its bucket: 100,000 samples a
/// second are 1 MB at a time, whether or not anybody scrapes.
const UPKEEP: Duration = Duration::from_secs(1);

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
/// another thread gets three times this one's share, at 10 nine times, at 19 seventy.
pub fn yield_to_others(niceness: i32) {
    if let Err(error) = rustix::process::nice(niceness) {
        tracing::debug!(%error, "this thread runs at the priority of all others");
    }
}

/// A thread's offers of its core to others, as it makes them between two pieces of work: whoever waits for the core would
/// else wait for the rest of a time slice, 1.4 ms and more. An offer that nobody takes costs 0.3 us.
///
/// They are for those who take the core for a moment, to answer a question. From one who keeps it (a snapshot that is
/// written, a backup, another program) the kernel would give it back only after a whole slice, and that with each offer: the
/// offers of every 100 us would leave a thread some hundredth of its core. So whoever kept it long is offered nothing for a
/// while, and gets his fair share.
#[derive(Debug, Clone, Copy)]
pub struct CoreOffers {
    not_before: Option<Instant>,
}

/// An answer takes less.
const CORE_KEPT_LONG: Duration = Duration::from_millis(1);

/// So many times as long as the core was kept it is not offered again: what offers cost stays below a tenth.
const CORE_KEPT_TIMES: u32 = 10;

impl CoreOffers {
    /// None was made yet.
    pub const NONE: CoreOffers = CoreOffers { not_before: None };

    #[must_use]
    pub fn offer(self) -> CoreOffers {
        let began = Instant::now();
        if self.not_before.is_some_and(|at| began < at) {
            return self;
        }
        std::thread::yield_now();
        CoreOffers::after(began, began.elapsed())
    }

    fn after(began: Instant, kept: Duration) -> CoreOffers {
        let is_long = kept > CORE_KEPT_LONG;
        CoreOffers { not_before: is_long.then(|| began + kept * (1 + CORE_KEPT_TIMES)) }
    }
}

/// The CPU that the calling thread has used.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("another log is installed in this process")]
    Installed,
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Begins to log to standard error, for the whole process.
pub fn log(settings: &Log) -> Result<(), TelemetryError> {
    install(vec![lines(settings)?])
}

/// The same, and makes traces if they are to be exported: by what comes back, once it is started.
pub fn log_and_trace(log: &Log, trace: &Trace) -> Result<Option<Export>, TelemetryError> {
    let (tracer, export) = if trace.export { export::prepare(trace).unzip() } else { (None, None) };
    let mut layers = vec![lines(log)?];
    layers.extend(tracer.map(spans));
    install(layers)?;
    Ok(export)
}

fn install(layers: Vec<BoxedLayer>) -> Result<(), TelemetryError> {
    tracing_subscriber::registry().with(layers).try_init().map_err(|_| TelemetryError::Installed)
}

/// The log. Of the spans around a line, all are named: the id of a session is in the outermost.
fn lines(settings: &Log) -> Result<BoxedLayer, TelemetryError> {
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines: BoxedLayer = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    Ok(lines.with_filter(EnvFilter::try_new(&settings.filter)?).boxed())
}

/// What is exported: the spans of sessions, and the warnings within them.
fn spans(tracer: opentelemetry_sdk::trace::SdkTracer) -> BoxedLayer {
    let is_told = |of: &Metadata<'_>| {
        let is_warning = of.is_event() && *of.level() <= Level::WARN && of.target().starts_with("forecourt");
        (of.is_span() && of.target() == trace::TARGET) || is_warning
    };
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_context_activation(false)
        .with_level(false)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_told).with_max_level_hint(Level::DEBUG))
        .boxed()
}

/// The process's metrics.
#[derive(Clone)]
pub struct Recorder {
    prometheus: PrometheusHandle,
    machine: Arc<machine::Machine>,
}

impl Recorder {
    /// Installed at the first call. Must be called on a runtime: upkeep runs there. `data` is the folder whose disk is
    /// looked at.
    pub fn install(data: &Path) -> Recorder {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        let prometheus = INSTALLED.get_or_init(|| builder().install_recorder().expect("nobody else installs one"));
        describe_build();
        let _ = export::Metrics::new();
        let build = build();
        gauge!(BUILD, "version" => build.version, "profile" => build.profile, "sqlite" => build.sqlite).set(1.0);
        let upkeep = prometheus.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                upkeep.run_upkeep();
            }
        });
        Recorder { prometheus: prometheus.clone(), machine: Arc::new(machine::Machine::new(data)) }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.machine.measure();
        self.prometheus.render()
    }
}

fn builder() -> PrometheusBuilder {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix(PATIENCE_SUFFIX.into()), &PATIENCE_BUCKETS))
        .expect("there are buckets")
        .with_recommended_naming(true)
}

const BUILD: &str = "forecourt_build_info";

/// Describes and registers the metrics of the process and its machine with the recorder in force.
pub fn register_metrics() {
    let _ = export::Metrics::new();
    describe_build();
    // The page of the metrics is the same whatever was built.
    let one = catalogue::at_most(1, "as built");
    let _ = gauge!(BUILD, "version" => one.clone(), "profile" => one.clone(), "sqlite" => one);
    machine::Machine::new(Path::new("/")).measure();
}

fn describe_build() {
    describe_gauge!(BUILD, "1, with what was built in its labels");
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

#[cfg(test)]
mod tests {
    use std::{env, fs, process::Command};

    use super::*;

    const SAMPLES: u32 = 4_000_000;
    const ROUNDS: u32 = 4;
    /// Two rounds' samples and the test itself; all of the rounds' are 128 MB.
    const RESIDENT_KIB_MAX: u64 = 100_000;

    #[test]
    fn a_core_that_was_kept_long_is_not_offered_again_soon() {
        let (began, ms) = (Instant::now(), Duration::from_millis);
        let bound = |kept| CoreOffers::after(began, kept).not_before;
        assert_eq!([ms(0), ms(1)].map(bound), [None, None]);
        assert_eq!(bound(ms(4)), Some(began + ms(44)));
        let later = CoreOffers { not_before: Some(Instant::now() + Duration::from_secs(60)) };
        assert_eq!(later.offer().not_before, later.not_before, "nothing was offered");
        let again = CoreOffers { not_before: Some(began) }.offer();
        assert_ne!(again.not_before, Some(began), "offered, and judged anew");
    }

    /// In a process of its own, whose memory is nobody else's.
    #[test]
    fn samples_that_nobody_scrapes_do_not_pile_up() {
        let alone = ["--ignored", "--exact", "telemetry::tests::samples_alone"];
        let child = Command::new(env::current_exe().unwrap()).args(alone).output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    #[ignore = "counts its process's memory: samples_that_nobody_scrapes_do_not_pile_up runs it alone"]
    async fn samples_alone() {
        let recorder = Recorder::install(Path::new("/"));
        let histogram = metrics::histogram!("forecourt_test_seconds");
        for _ in 0..ROUNDS {
            (0..SAMPLES).for_each(|sample| histogram.record(f64::from(sample)));
            tokio::time::sleep(UPKEEP + Duration::from_millis(200)).await;
        }
        let resident = resident_kib_max();
        assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
        assert!(recorder.render().contains(&format!("forecourt_test_seconds_count {}", SAMPLES * ROUNDS)));
    }

    fn resident_kib_max() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}
