//! One trace for each fuelling session, from its selection to its settlement.
//!
//! The trace's id is the session's: 128 bits that are spread evenly, as W3C Trace Context wants them. It is in every
//! answer, in the journal's rows and on every line of the log already, so that one id finds all of them, and whatever
//! comes later (a restart, the PSP's announcement, the night's reconciliation) goes on with the trace without a table
//! that remembers it. A caller's own `traceparent` is therefore never an id here: it is linked.
//!
//! ```text
//! session                                     written once, when the session comes to an end
//!  +- POST /v1/stations/{station}/sessions    one for each call
//!  |   +- select                              the station's actor
//!  |       +- open                            the desk; below it each append to the journal
//!  |           +- journal
//!  +- POST /v1/sessions/{id}/proof
//!  |   +- order
//!  |       +- journal
//!  |       +- instruct -> charge -> psp       payments, and each call to the PSP
//!  +- report, deadline, push, recovery, ...   what nobody waits for hangs at the session itself
//! ```
//!
//! Rules:
//! - Where a session's work begins (a call, a message to an actor, a timer) stands a [`session_span!`]. It has no parent
//!   in the log, since a span lives as long as its children do: it names its parent to the exporter only. So a line of the
//!   log shows the id once, whatever its level.
//! - What is awaited within it is a [`step!`], which exists only while traces are exported or its level is logged.
//! - No span on the way of frames. A span holds ids, names and numbers: no plate, no amount, no token.
//! - Without an exporter a session span costs no more than a line of the log, and a fuelling has some twenty.

use std::{
    pin::Pin,
    task::{Context as Waker, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{Actor, ActorFuture};
use hyper::{HeaderMap, StatusCode};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SpanData, SpanEvents, SpanLinks},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::export;
use crate::engine::{
    id::{SessionId, StationId},
    session::StateName,
    time::UnixMs,
};

/// Of the spans that belong to a trace.
pub(crate) const TARGET: &str = "forecourt::trace";

/// A span of a session's trace, below the one that is entered when it is of the same trace, else at the session itself.
/// Names are static; fields say the rest.
macro_rules! session_span {
    ($name:literal, $session:expr $(, $($fields:tt)+)?) => {{
        let session = $session;
        let span = tracing::error_span!(
            target: $crate::telemetry::trace::TARGET, parent: None, $name, session = %session $(, $($fields)+)?
        );
        $crate::telemetry::trace::join(&span, session);
        span
    }};
}
pub(crate) use session_span;

/// A part of a session's span that is waited for within it.
macro_rules! step {
    ($name:literal $(, $($fields:tt)+)?) => {
        tracing::debug_span!(target: $crate::telemetry::trace::TARGET, $name $(, $($fields)+)?)
    };
}
pub(crate) use step;

/// Tells the exporter where in its session's trace a span is.
pub(crate) fn join(span: &Span, session: SessionId) {
    if !export::is_on() || span.is_disabled() {
        return;
    }
    let caller = Span::current().context().span().span_context().clone();
    let parent = if caller.trace_id() == trace_id(session) { caller } else { root(session) };
    // A refusal says that the span is not exported.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// Where a caller who traces himself is in his own trace. Nobody is asked while nothing is exported.
pub(crate) struct Origin(Option<SpanContext>);

impl Origin {
    pub(crate) fn of(headers: &HeaderMap) -> Origin {
        Origin(if export::is_on() { caller(headers) } else { None })
    }

    /// Links a span of ours with the caller's.
    pub(crate) fn link(self, span: &Span) {
        if let Some(caller) = self.0 {
            span.add_link(caller);
        }
    }
}

/// What a call was answered. The log says it elsewhere: noting it down there would format the span's fields anew.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    if !export::is_on() {
        return;
    }
    span.record(export::STATUS, status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// The value of `traceresponse`: where the trace of a session is found, and whether it is exported.
pub(crate) fn response(session: SessionId) -> String {
    let sampled = u8::from(export::samples(trace_id(session)));
    format!("00-{session}-{}-{sampled:02x}", root_id(session))
}

/// Writes the session's own span, below which all others are, once the session is at an end; once more, should a sale
/// that comes late lead it to another. Of an end that a crash cuts off right then it is missing, and its children are not.
pub(crate) fn ended(session: SessionId, station: StationId, state: StateName, opened: UnixMs, ended: UnixMs) {
    let context = root(session);
    if !export::samples(context.trace_id()) {
        return;
    }
    export::offer(SpanData {
        span_context: context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "session".into(),
        start_time: time(opened),
        end_time: time(ended),
        attributes: vec![
            KeyValue::new("session", session.to_string()),
            KeyValue::new("station", i64::from(station.0)),
            KeyValue::new("state", format!("{state:?}")),
        ],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder(export::SCOPE).build(),
    });
}

fn time(at: UnixMs) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}

fn trace_id(session: SessionId) -> TraceId {
    TraceId::from_bytes(session.0)
}

/// The first half of the session's id; the sampler goes by the second.
fn root_id(session: SessionId) -> SpanId {
    SpanId::from_bytes(*session.0.first_chunk().expect("16 bytes are more than 8"))
}

fn root(session: SessionId) -> SpanContext {
    SpanContext::new(trace_id(session), root_id(session), TraceFlags::SAMPLED, true, TraceState::NONE)
}

/// The caller's own span, if the headers name one as W3C Trace Context wants it.
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let named = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    Some(named.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// What an actor does within a span, its callbacks included.
pub(crate) trait InSpan: Sized {
    fn within(self, span: Span) -> Within<Self>;

    fn within_current(self) -> Within<Self> {
        self.within(Span::current())
    }
}

impl<F> InSpan for F {
    fn within(self, span: Span) -> Within<F> {
        Within { span, future: Box::pin(self) }
    }
}

pub(crate) struct Within<F> {
    span: Span,
    future: Pin<Box<F>>,
}

impl<A: Actor, F: ActorFuture<A>> ActorFuture<A> for Within<F> {
    type Output = F::Output;

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        context: &mut A::Context,
        waker: &mut Waker<'_>,
    ) -> Poll<F::Output> {
        let this = &mut *self;
        let _within = this.span.enter();
        this.future.as_mut().poll(actor, context, waker)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn named(traceparent: &'static str) -> Option<SpanContext> {
        caller(&HeaderMap::from_iter([(HeaderName::from_static("traceparent"), HeaderValue::from_static(traceparent))]))
    }

    #[test]
    fn a_caller_s_own_trace_is_known_if_it_is_one() {
        let caller = named("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(caller.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_trace_of_a_session_is_the_session() {
        let session = SessionId(*b"\x01\x02\x03\x04\x05\x06\x07\x08abcdefgh");
        assert_eq!(response(session), "00-01020304050607086162636465666768-0102030405060708-00", "nothing is exported");
        assert_eq!(trace_id(session).to_string(), session.to_string());
        assert!(root(session).is_valid());
    }
}
