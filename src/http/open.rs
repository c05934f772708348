//! What anybody may ask: whether the engine lives, whether it is ready, and how to speak to it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json, Router, body::Bytes, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    readiness::{Part, Report},
    routes::no_such_path,
};

/// How long a part has to answer a probe; orchestrators give up on one after about as long.
const PROBE: Duration = Duration::from_secs(1);

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(document))
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "open", responses((status = 204)))]
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Every part of the engine can do its work, or which cannot and why.
#[utoipa::path(get, path = "/health/ready", tag = "open",
    responses((status = 200, body = Report), (status = 503, body = Report)))]
async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<Report>) {
    let readiness = &shared.surface.readiness;
    match tokio::time::timeout(PROBE, shared.surface.sessions.summary()).await {
        Ok(Ok(_)) => readiness.set_ready(Part::Sessions),
        Ok(Err(error)) => readiness.set_unready(Part::Sessions, error.to_string()),
        Err(_) => readiness.set_unready(Part::Sessions, "no answer in time"),
    }
    readiness.set_lack(Part::Ledger, (shared.surface.ledger_lack)());
    let cache = shared.surface.registrations.cache_state().map(Into::into);
    let gateway = Some(shared.surface.payments.gateway_state().into());
    let report = Report { cache, gateway, ..readiness.report() };
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "open",
    responses((status = 200, body = serde_json::Value)))]
async fn document() -> impl IntoResponse {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        let json = super::routes::document().to_pretty_json().expect("the document is plain data");
        json.into()
    });
    ([(header::CONTENT_TYPE, "application/json")], document.clone())
}

/// The metrics, on a listener of their own: what they tell is not for everybody who reaches the API.
pub(super) fn metrics(render: Arc<dyn Fn() -> String + Send + Sync>) -> Router {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let metrics = get(move || async move { ([(header::CONTENT_TYPE, text)], render()) });
    Router::new().route("/metrics", metrics).fallback(no_such_path)
}
