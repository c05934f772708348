//! What the surface counts: requests by who they are for and how they went, and streams.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::problem::Problem;

/// Whom a route is for. A path that is no route is `Unknown`, so that a scanner makes no series of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Terminal,
    Phone,
    Operator,
    Open,
    Unknown,
}

impl Group {
    pub(super) const ALL: [Group; 5] = [Group::Terminal, Group::Phone, Group::Operator, Group::Open, Group::Unknown];

    fn name(self) -> &'static str {
        match self {
            Group::Terminal => "terminal",
            Group::Phone => "phone",
            Group::Operator => "operator",
            Group::Open => "open",
            Group::Unknown => "unknown",
        }
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of one group.
#[derive(Clone)]
pub(super) struct Requests {
    group: Group,
    by_class: Arc<[Counter; 5]>,
    seconds: Histogram,
}

impl Requests {
    pub(super) fn new(group: Group) -> Requests {
        let name = group.name();
        let of = |class: &'static str| counter!("forecourt_http_requests_total", "group" => name, "class" => class);
        Requests {
            group,
            by_class: Arc::new(CLASSES.map(of)),
            seconds: histogram!("forecourt_http_request_seconds", "group" => name),
        }
    }

    fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.by_class[class].increment(1);
    }
}

/// Counts a request when its answer begins: a stream counts as it opens, not as it ends.
pub(super) async fn count(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let started = std::time::Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    requests.seconds.record(started.elapsed());
    requests.answered(response.status());
    if response.status().is_server_error() {
        let code = response.extensions().get::<Problem>().map_or("", |problem| problem.code().as_str());
        let status = response.status().as_u16();
        tracing::warn!(group = requests.group.name(), %method, path, status, code, "a request was not served");
    }
    response
}

/// Whose calls are limited.
pub(super) const CALLERS: [&str; 4] = ["terminal", "phone", "operator", "stranger"];

/// The calls of one of [`CALLERS`] that were refused for being too many.
pub(super) fn limited(caller: &'static str) -> Counter {
    describe_counter!("forecourt_http_limited_total", "Calls refused because their caller calls too often.");
    counter!("forecourt_http_limited_total", "group" => caller)
}

/// The streams of events.
pub(super) struct Streams {
    pub(super) open: Gauge,
    pub(super) refused: Counter,
    pub(super) lagged: Counter,
}

impl Streams {
    pub(super) fn new() -> Streams {
        describe();
        Streams {
            open: gauge!("forecourt_http_streams"),
            refused: counter!("forecourt_http_streams_refused_total"),
            lagged: counter!("forecourt_http_streams_lagged_total"),
        }
    }
}

fn describe() {
    describe_counter!("forecourt_http_requests_total", "Requests answered, by whom the route is for and status class.");
    describe_histogram!("forecourt_http_request_seconds", "Seconds from a request's head to its answer's head.");
    describe_gauge!("forecourt_http_streams", "Streams of events that are open.");
    describe_counter!("forecourt_http_streams_refused_total", "Streams refused because too many were open.");
    describe_counter!("forecourt_http_streams_lagged_total", "Times a reader fell behind and got a new snapshot.");
}
