//! The operator's calls beside those on bindings and tokens: stations, refunds, imports, and who changed what.

use std::{io::Cursor, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use super::{
    Shared,
    answer::{OfOrder, OrderProblems, ReadProblems, SessionAnswer, WriteProblems, order},
    auth::Operator,
    extract::{self, Asked, Named},
    idempotency::Write,
    problem::Problem,
};
use crate::{
    engine::{id::SessionId, money::Money},
    registration::{AuditRow, ImportReport, Station},
    session::{By, Command, SessionView},
};

/// Rows of the audit in one answer.
const AUDIT_ROWS_MAX: u32 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(stations)).routes(routes!(refund)).routes(routes!(audit))
}

/// The imports, apart because their bodies are larger and take longer.
pub(super) fn import_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(import_stations)).routes(routes!(import_devices))
}

/// All stations.
#[utoipa::path(get, path = "/v1/stations", tag = "operator", security(("operator" = [])),
    responses((status = 200, body = Vec<Station>), ReadProblems))]
async fn stations(State(shared): State<Shared>, _: Operator) -> Json<Vec<Station>> {
    let stations = shared.surface.registrations.stations();
    Json(stations.into_iter().map(Arc::unwrap_or_clone).collect())
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Refund {
    /// What is given back; without it, all that is left.
    amount: Option<Money>,
}

/// Refunds a payment, in part or whole.
#[utoipa::path(post, path = "/v1/sessions/{id}/refunds", tag = "operator", security(("operator" = [])),
    params(OfOrder), request_body = Refund, responses((status = 200, body = SessionView), OrderProblems))]
async fn refund(
    State(shared): State<Shared>,
    _: Operator,
    Named(session): Named<SessionId>,
    write: Write<Refund>,
) -> SessionAnswer {
    let command = Command::Refund { amount: write.body.amount };
    order(&shared, By::Operator, session, &write, command).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Rows at most; 100 when absent, 1,000 at most.
    limit: Option<u32>,
}

/// Who changed what, the newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "operator", security(("operator" = [])), params(AuditQuery),
    responses((status = 200, body = Vec<AuditRow>), ReadProblems))]
async fn audit(
    State(shared): State<Shared>,
    _: Operator,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<Vec<AuditRow>>, Problem> {
    let limit = query.limit.unwrap_or(100).min(AUDIT_ROWS_MAX);
    Ok(Json(shared.surface.registrations.audit(limit).await?))
}

/// A body that is wiped once it was read: there are keys in it. What the connection's own buffers keep for a moment is
/// beyond reach.
async fn body(request: Request, shared: &Shared) -> Result<Cursor<Zeroizing<Vec<u8>>>, Problem> {
    let bytes = extract::bytes(request, shared).await?;
    Ok(Cursor::new(Zeroizing::new(Vec::from(bytes))))
}

/// Imports stations: a CSV file with a header line.
#[utoipa::path(post, path = "/v1/imports/stations", tag = "operator", security(("operator" = [])),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = ImportReport), WriteProblems))]
async fn import_stations(
    State(shared): State<Shared>,
    _: Operator,
    request: Request,
) -> Result<Json<ImportReport>, Problem> {
    let csv = body(request, &shared).await?;
    Ok(Json(shared.surface.registrations.import_stations(csv, |_| {}).await?))
}

/// Imports dongles, bound or not: a CSV file with a header line. A file past the bound goes in parts, each with the
/// header; a line that is there already changes nothing.
#[utoipa::path(post, path = "/v1/imports/devices", tag = "operator", security(("operator" = [])),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = ImportReport), WriteProblems))]
async fn import_devices(
    State(shared): State<Shared>,
    _: Operator,
    request: Request,
) -> Result<Json<ImportReport>, Problem> {
    let csv = body(request, &shared).await?;
    Ok(Json(shared.surface.registrations.import_devices(csv, |_| {}).await?))
}
