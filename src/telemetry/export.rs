//! Traces on their way to an OpenTelemetry collector (OTLP, protobuf over HTTP).
//!
//! ```text
//! span ends --try_send--> queue --batches, a thread of its own--> the collector
//! ```
//!
//! The SDK's own batch processor loses spans without a count, and its client blocks or wants a runtime of its choice. So
//! the queue is here, and the SDK's exporter behind it.
//!
//! Bounds: `queue_max` spans wait, some 700 bytes each (6 MB by default), and one batch of `batch_max` is under way, for
//! `timeout_ms` at most. What comes past that is dropped and counted, and so is a batch that the collector did not take:
//! nothing is sent again, and nobody waits for it. At the drain what waits is sent, within `drain_ms`.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use hyper_util::client::legacy::connect::HttpConnector;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState, TracerProvider as _},
};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::yield_to_others;
use crate::{config::Trace, outgoing};

/// Who made the spans, as the collector is told.
pub(super) const SCOPE: &str = "forecourt";

/// The attribute of a call's span that says how it was answered.
pub(super) const STATUS: &str = "http.response.status_code";

/// As the threads of uplinks have it: nobody waits for a trace.
const NICENESS: i32 = 5;

/// Where spans go, once for the whole process.
static QUEUE: OnceLock<Queue> = OnceLock::new();

#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
    share: Sampler,
}

/// Whether traces are exported.
pub(super) fn is_on() -> bool {
    QUEUE.get().is_some()
}

/// Whether this trace is exported.
pub(super) fn samples(trace: TraceId) -> bool {
    QUEUE.get().is_some_and(|queue| draw(&queue.share, trace).decision == SamplingDecision::RecordAndSample)
}

/// Takes a span that is over; without a place it is dropped and counted.
pub(super) fn offer(span: SpanData) {
    if let Some(queue) = QUEUE.get()
        && queue.spans.try_send(span).is_err()
    {
        queue.dropped.fetch_add(1, Relaxed);
    }
}

/// By the trace's id alone: all spans of a session are drawn alike, on every node and after every restart.
fn draw(share: &Sampler, trace: TraceId) -> SamplingResult {
    share.should_sample(None, trace, "", &SpanKind::Internal, &[], &[])
}

/// Takes a share of the sessions, and nothing that belongs to none.
#[derive(Debug, Clone)]
struct OfSessions(Sampler);

impl ShouldSample for OfSessions {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        if parent.is_some_and(|parent| parent.span().span_context().is_valid()) {
            return draw(&self.0, trace);
        }
        SamplingResult { decision: SamplingDecision::Drop, attributes: Vec::new(), trace_state: TraceState::NONE }
    }
}

#[derive(Debug)]
struct IntoQueue;

impl SpanProcessor for IntoQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && !was_turned_away(&span) {
            offer(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Whether it is a call that came to no session, as strangers make it: nobody fills the queue who has no token.
fn was_turned_away(span: &SpanData) -> bool {
    let status = span.attributes.iter().find(|attribute| attribute.key.as_str() == STATUS);
    matches!(status.map(|status| &status.value), Some(Value::I64(401 | 404 | 429)))
}

/// The queue with what it takes to empty it; until [`start`](Export::start) spans wait in it.
#[derive(Debug)]
pub struct Export {
    settings: Trace,
    spans: mpsc::Receiver<SpanData>,
    dropped: Arc<AtomicU64>,
}

/// What makes spans for the exporter, and the exporter; `None` when there is one already.
pub(super) fn prepare(settings: &Trace) -> Option<(SdkTracer, Export)> {
    let (sender, spans) = mpsc::channel(settings.queue_max);
    let share = Sampler::TraceIdRatioBased(f64::from(settings.sample_permille) / 1_000.0);
    let dropped = Arc::<AtomicU64>::default();
    QUEUE.set(Queue { spans: sender, dropped: dropped.clone(), share: share.clone() }).ok()?;
    let provider = SdkTracerProvider::builder().with_sampler(OfSessions(share)).with_span_processor(IntoQueue).build();
    Some((provider.tracer(SCOPE), Export { settings: settings.clone(), spans, dropped }))
}

/// The exporter cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("trace.endpoint: {0}")]
    Endpoint(#[from] ExporterBuildError),
    #[error("the exporter's thread: {0}")]
    Thread(#[from] io::Error),
}

impl Export {
    /// Begins to export, on a thread of its own. Once the recorder of the metrics is installed.
    pub fn start(self) -> Result<Exporting, ExportError> {
        let Export { settings, spans, dropped } = self;
        let limit = Duration::from_millis(settings.timeout_ms);
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(HyperClient::new(outgoing::connector(HttpConnector::new()), limit, None))
            .with_endpoint(&settings.endpoint)
            .with_timeout(limit)
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&Resource::builder_empty().with_service_name(SCOPE).with_attribute(version).build());
        let (stop, (done, ended)) = (CancellationToken::new(), oneshot::channel());
        let runner = Runner {
            exporter,
            spans,
            batch_max: settings.batch_max,
            every: Duration::from_millis(settings.every_ms),
            dropped,
            metrics: Metrics::new(),
            is_refused: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let until = stop.clone();
        thread::Builder::new().name("traces".into()).spawn(move || {
            yield_to_others(NICENESS);
            runtime.block_on(runner.run(until));
            // Who does not wait any more need not hear of it.
            let _ = done.send(());
        })?;
        tracing::info!(endpoint = settings.endpoint, permille = settings.sample_permille, "traces are exported");
        Ok(Exporting { stop, ended, patience: Duration::from_millis(settings.drain_ms) })
    }
}

/// The exporter as it runs.
pub struct Exporting {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
    patience: Duration,
}

impl Exporting {
    /// Sends what waits, within its time.
    pub async fn stop(self) {
        self.stop.cancel();
        if timeout(self.patience, self.ended).await.is_err() {
            tracing::warn!("the last spans were not exported in time");
        }
    }
}

struct Runner<E> {
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    batch_max: usize,
    /// The longest that a span waits for a batch to fill.
    every: Duration,
    dropped: Arc<AtomicU64>,
    metrics: Metrics,
    is_refused: bool,
}

impl<E: SpanExporter> Runner<E> {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let batch = self.gather(&stop).await;
            self.send(batch).await;
        }
        while !self.spans.is_empty() {
            let mut batch = Vec::new();
            self.spans.recv_many(&mut batch, self.batch_max).await;
            self.send(batch).await;
        }
    }

    /// A full batch, or what came until it was time. The queue never closes: its other end is static.
    async fn gather(&mut self, stop: &CancellationToken) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let filled = async {
            while batch.len() < self.batch_max {
                let room = self.batch_max - batch.len();
                self.spans.recv_many(&mut batch, room).await;
            }
        };
        let _ = stop.run_until_cancelled(timeout(self.every, filled)).await;
        batch
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        self.metrics.waiting.set(self.spans.len() as f64);
        self.metrics.dropped.increment(self.dropped.swap(0, Relaxed));
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.metrics.exported.increment(count);
                self.is_refused = false;
            }
            Err(error) => {
                self.metrics.refused.increment(count);
                // Once, and not for each batch of an hour.
                if !std::mem::replace(&mut self.is_refused, true) {
                    tracing::warn!(%error, "the collector takes no traces");
                }
            }
        }
    }
}

pub(super) struct Metrics {
    waiting: Gauge,
    exported: Counter,
    refused: Counter,
    dropped: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!("forecourt_trace_waiting_spans", "Spans that wait to be exported");
        describe_counter!(
            "forecourt_trace_spans_total",
            "Spans that were exported, refused by the collector, or dropped because too many waited"
        );
        let spans = |outcome| counter!("forecourt_trace_spans_total", "outcome" => outcome);
        Metrics {
            waiting: gauge!("forecourt_trace_waiting_spans"),
            exported: spans("exported"),
            refused: spans("refused"),
            dropped: spans("dropped"),
        }
    }
}
