//! Calls that concern a session, within its trace: what is done for them, and what they are told of it.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::{Instrument as _, field::Empty};

use super::problem::Problem;
use crate::{
    engine::id::SessionId,
    telemetry::trace::{self, Origin, session_span},
};

/// Where the trace of an answer is, as W3C Trace Context drafts it for answers.
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// What comes before a session in the path of a call that is about one.
const SESSIONS: &str = "/v1/sessions/";

/// Of each call whose path names a session, whatever becomes of it.
pub(super) async fn of_session(request: Request, next: Next) -> Response {
    let Some(session) = named(request.uri().path()) else { return next.run(request).await };
    let (method, origin) = (request.method().clone(), Origin::of(request.headers()));
    let route = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    concerning(session, &method, &route, origin, next.run(request)).await
}

fn named(path: &str) -> Option<SessionId> {
    path.strip_prefix(SESSIONS)?.split('/').next()?.parse().ok()
}

/// A call that concerns a session: its answer, and the problem that it may be, name the trace.
pub(super) async fn concerning(
    session: SessionId,
    method: &Method,
    route: &str,
    origin: Origin,
    call: impl Future<Output = Response>,
) -> Response {
    let span = session_span!(
        "call",
        session,
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.response.status_code = Empty
    );
    origin.link(&span);
    let mut response = call.instrument(span.clone()).await;
    trace::answered(&span, response.status());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.with("trace", session).into_response();
    }
    let place = HeaderValue::from_str(&trace::response(session)).expect("hexadecimal digits and dashes");
    response.headers_mut().insert(TRACERESPONSE, place);
    response
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Origin, Infallible> {
        Ok(Origin::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_from_the_path_of_its_calls() {
        let session = SessionId([0xab; 16]);
        assert_eq!(named(&format!("/v1/sessions/{session}/proof")), Some(session));
        assert_eq!(named(&format!("/v1/sessions/{session}")), Some(session));
        for path in ["/v1/sessions/", "/v1/sessions/7/proof", "/v1/stations/101/sessions", "/"] {
            assert_eq!(named(path), None, "{path}");
        }
    }
}
