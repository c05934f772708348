//! An OpenTelemetry collector: takes OTLP, protobuf over HTTP, and keeps what it got.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Any, trace::v1,
};
use prost::Message as _;

use crate::engine::eventually;

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) url: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

/// A span as it was told.
#[derive(Debug, Clone)]
pub(crate) struct Span(v1::Span);

async fn take(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    collector.bodies.lock().expect("no panic").push(body);
    StatusCode::OK
}

impl Collector {
    pub(crate) async fn start() -> Collector {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("it is bound"));
        let collector = Collector { url, bodies: Arc::default() };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// What an engine has to be told to export here, without a wait.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("TRACE_EXPORT", "true".into()), ("TRACE_ENDPOINT", self.url.clone()), ("TRACE_EVERY_MS", "50".into())]
    }

    /// Everything that came, as it came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bodies.lock().expect("no panic").concat()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().expect("no panic");
        let requests = bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).expect("OTLP"));
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|of| of.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(Span).collect()
    }

    /// Waits until a span of this name has come.
    pub(crate) async fn until(&self, name: &str) {
        eventually(&format!("span {name}"), async || self.spans().iter().any(|span| span.name() == name).then_some(()))
            .await;
    }
}

impl Span {
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn trace(&self) -> String {
        hex::encode(&self.0.trace_id)
    }

    /// The traces that it is linked with.
    pub(crate) fn links(&self) -> Vec<String> {
        self.0.links.iter().map(|link| hex::encode(&link.trace_id)).collect()
    }

    /// Of text.
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        let attribute = self.0.attributes.iter().find(|attribute| attribute.key == key)?;
        match attribute.value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn lasted_ms(&self) -> u64 {
        (self.0.end_time_unix_nano - self.0.start_time_unix_nano) / 1_000_000
    }
}

/// The name of each span with that of its parent; empty for a span without one.
pub(crate) fn parents(spans: &[Span]) -> Vec<(&str, &str)> {
    let names: HashMap<&[u8], &str> = spans.iter().map(|span| (&span.0.span_id[..], span.name())).collect();
    let parent = |span: &Span| match &span.0.parent_span_id[..] {
        [] => "",
        id => names.get(id).copied().unwrap_or("(none that was told)"),
    };
    spans.iter().map(|span| (span.name(), parent(span))).collect()
}
