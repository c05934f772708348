//! The operator's calls beside those on bindings and tokens: stations, sessions and their evidence, imports, and who changed
//! what.

use std::{io::Cursor, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
};
use futures_util::{
    future,
    stream::{self, StreamExt as _},
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use super::{
    Shared,
    answer::{OfOrder, OfSession, OrderProblems, OverrideProblems, ReadProblems, SessionAnswer, WriteProblems, order},
    auth::Operator,
    extract::{self, Asked, Body, Named, Nothing},
    idempotency::Write,
    problem::{Code, Problem},
};
use crate::{
    engine::{id::SessionId, money::Money},
    registration::{AuditRow, ImportReport, Mandate, Station},
    session::{By, Command, Evidence, Order, SessionView},
    station::{Ailment, StationHealth},
};

/// Rows of the audit in one answer.
const AUDIT_ROWS_MAX: u32 = 1_000;

/// Sessions of one settlement: 35 bytes each, so that they fit a body.
const SETTLEMENT_MAX: usize = 1_000;

/// Of those, so many wait for the journal at once, and share its commits.
const SETTLED_AT_ONCE: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(stations))
        .routes(routes!(worst))
        .routes(routes!(refund))
        .routes(routes!(allow_grade))
        .routes(routes!(hand_over))
        .routes(routes!(settle))
        .routes(routes!(evidence))
        .routes(routes!(audit))
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

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WorstQuery {
    /// What they are worst in.
    by: Ailment,
    /// Stations at most; 10 when absent, 100 at most.
    limit: Option<u16>,
}

/// The stations that do worst as of the last survey, the worst first; those that are well are left out.
#[utoipa::path(get, path = "/v1/stations/worst", tag = "operator", security(("operator" = [])), params(WorstQuery),
    responses((status = 200, body = Vec<StationHealth>), ReadProblems))]
async fn worst(State(shared): State<Shared>, _: Operator, Asked(query): Asked<WorstQuery>) -> Json<Vec<StationHealth>> {
    let mut worst = shared.surface.stations.worst(query.by);
    worst.truncate(query.limit.unwrap_or(10).into());
    Json(worst)
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
    Operator(name): Operator,
    Named(session): Named<SessionId>,
    write: Write<Refund>,
) -> SessionAnswer {
    let command = Command::Refund { amount: write.body.amount };
    order(&shared, By::Operator(name), session, &write, command).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Override {
    /// Why the grade may go into this vehicle: journalled with the operator's name.
    reason: String,
}

/// Lets the vehicle have a grade that does not fit it by its registration. A completion that comes is not stopped for
/// its grade, and a sale that was goes to the driver for approval.
#[utoipa::path(post, path = "/v1/sessions/{id}/grade-override", tag = "operator", security(("operator" = [])),
    params(OfOrder), request_body = Override, responses((status = 200, body = SessionView), OverrideProblems))]
async fn allow_grade(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(session): Named<SessionId>,
    write: Write<Override>,
) -> SessionAnswer {
    let mandate = Mandate::operator(name, &write.body.reason)?;
    let command = Command::AllowGrade { reason: mandate.why().to_owned() };
    order(&shared, By::Operator(name), session, &write, command).await
}

/// Takes a session that is not at an end out of the automatic flow: people decide what becomes of it.
#[utoipa::path(post, path = "/v1/sessions/{id}/hand-over", tag = "operator", security(("operator" = [])),
    params(OfOrder), responses((status = 200, body = SessionView), OrderProblems))]
async fn hand_over(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(session): Named<SessionId>,
    write: Write<Nothing>,
) -> SessionAnswer {
    order(&shared, By::Operator(name), session, &write, Command::HandOver).await
}

/// The acquirer's settlement contains the payments of these sessions.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Settlement {
    /// At most 1,000.
    sessions: Vec<SessionId>,
}

/// What became of a settlement.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Settled {
    /// Sessions that are settled, those included that were before.
    settled: usize,
    refused: Vec<Unsettled>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Unsettled {
    session: SessionId,
    problem: Problem,
}

/// Matches payments with a batch of the acquirer. Each session is settled or refused by itself; sent again it has the
/// same end, so it needs no key.
#[utoipa::path(post, path = "/v1/settlements", tag = "operator", security(("operator" = [])),
    request_body = Settlement, responses((status = 200, body = Settled), WriteProblems))]
async fn settle(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Body(Settlement { sessions }): Body<Settlement>,
) -> Result<Json<Settled>, Problem> {
    if sessions.len() > SETTLEMENT_MAX {
        return Err(Problem::new(Code::BadRequest, format!("a settlement has at most {SETTLEMENT_MAX} sessions")));
    }
    let desk = &shared.surface.sessions;
    let settle = |session| async move {
        let order = Order { session, by: By::Operator(name), request: None, command: Command::Settle };
        desk.apply(order).await.err().map(|error| Unsettled { session, problem: error.into() })
    };
    let asked = sessions.len();
    let outcomes = stream::iter(sessions).map(settle).buffered(SETTLED_AT_ONCE);
    let refused: Vec<Unsettled> = outcomes.filter_map(future::ready).collect().await;
    Ok(Json(Settled { settled: asked - refused.len(), refused }))
}

/// All that the journal holds of a session: who was heard, who selected, what was proven, what was charged.
#[utoipa::path(get, path = "/v1/sessions/{id}/evidence", tag = "operator", security(("operator" = [])),
    params(OfSession), responses((status = 200, body = Evidence), ReadProblems))]
async fn evidence(
    State(shared): State<Shared>,
    _: Operator,
    Named(session): Named<SessionId>,
) -> Result<Json<Evidence>, Problem> {
    Ok(Json(shared.surface.sessions.evidence(session).await?))
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
