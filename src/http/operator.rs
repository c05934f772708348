//! The operator's calls: stations and terminals, bindings, refunds, imports, and who changed what.

use std::{io::Cursor, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{BindingProblems, OfOrder, OrderProblems, ReadProblems, SessionAnswer, WriteProblems, order},
    auth::Operator,
    extract::{self, Asked, Body, Named},
    idempotency::Write,
    problem::{Code, Problem},
};
use crate::{
    engine::{
        id::{BindingId, DeviceId, SessionId, StationId},
        money::Money,
    },
    registration::{AuditRow, BindingStatus, ImportReport, Registration, Role, Station},
    session::{By, Command, SessionView},
};

/// How the audit names an operator.
const WHO: &str = "operator";

/// Rows of the audit in one answer.
const AUDIT_ROWS_MAX: u32 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(stations))
        .routes(routes!(issue_terminal))
        .routes(routes!(suspend))
        .routes(routes!(restore))
        .routes(routes!(revoke))
        .routes(routes!(refund))
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

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTerminal {
    station: StationId,
    /// Milliseconds until the token expires; without it, never.
    valid_ms: Option<u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct TerminalToken {
    station: StationId,
    /// The terminal's bearer token; it is shown this once.
    token: String,
}

/// Gives a terminal of a station its bearer token.
#[utoipa::path(post, path = "/v1/terminals", tag = "operator", security(("operator" = [])), request_body = NewTerminal,
    responses((status = 201, body = TerminalToken), WriteProblems))]
async fn issue_terminal(
    State(shared): State<Shared>,
    _: Operator,
    Body(NewTerminal { station, valid_ms }): Body<NewTerminal>,
) -> Result<(StatusCode, Json<TerminalToken>), Problem> {
    let registrations = &shared.surface.registrations;
    if !registrations.station_known(station) {
        return Err(Problem::new(Code::NotFound, format!("there is no station {station}")));
    }
    let token = registrations.issue(Role::Terminal(station), valid_ms).await?;
    let token = TerminalToken { station, token: token.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(token)))
}

/// A binding as an operator sees it; its means of payment and keys stay where they are.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RegistrationView {
    binding: BindingId,
    device: DeviceId,
    epoch: u64,
    plate: String,
    fuel: Option<String>,
    status: BindingStatus,
}

impl From<Arc<Registration>> for RegistrationView {
    fn from(registration: Arc<Registration>) -> RegistrationView {
        RegistrationView {
            binding: registration.binding,
            device: registration.device,
            epoch: registration.epoch,
            plate: registration.plate.as_str().to_owned(),
            fuel: registration.fuel.clone(),
            status: registration.status,
        }
    }
}

/// Suspends a binding: its vehicle is seen, and not served.
#[utoipa::path(post, path = "/v1/bindings/{binding}/suspension", tag = "operator", security(("operator" = [])),
    params(("binding" = BindingId, Path, description = "32 hexadecimal digits.")),
    responses((status = 200, body = RegistrationView), BindingProblems))]
async fn suspend(
    State(shared): State<Shared>,
    _: Operator,
    Named(binding): Named<BindingId>,
) -> Result<Json<RegistrationView>, Problem> {
    Ok(Json(shared.surface.registrations.suspend(binding, WHO).await?.into()))
}

/// Ends a suspension.
#[utoipa::path(post, path = "/v1/bindings/{binding}/restoration", tag = "operator", security(("operator" = [])),
    params(("binding" = BindingId, Path, description = "32 hexadecimal digits.")),
    responses((status = 200, body = RegistrationView), BindingProblems))]
async fn restore(
    State(shared): State<Shared>,
    _: Operator,
    Named(binding): Named<BindingId>,
) -> Result<Json<RegistrationView>, Problem> {
    Ok(Json(shared.surface.registrations.restore(binding, WHO).await?.into()))
}

/// Ends a binding for good; the dongle can be coupled anew.
#[utoipa::path(post, path = "/v1/bindings/{binding}/revocation", tag = "operator", security(("operator" = [])),
    params(("binding" = BindingId, Path, description = "32 hexadecimal digits.")),
    responses((status = 200, body = RegistrationView), BindingProblems))]
async fn revoke(
    State(shared): State<Shared>,
    _: Operator,
    Named(binding): Named<BindingId>,
) -> Result<Json<RegistrationView>, Problem> {
    Ok(Json(shared.surface.registrations.revoke(binding, WHO).await?.into()))
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

/// Imports stations: a CSV file with a header line.
#[utoipa::path(post, path = "/v1/imports/stations", tag = "operator", security(("operator" = [])),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = ImportReport), WriteProblems))]
async fn import_stations(
    State(shared): State<Shared>,
    _: Operator,
    request: Request,
) -> Result<Json<ImportReport>, Problem> {
    let csv = Cursor::new(extract::bytes(request, &shared).await?);
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
    let csv = Cursor::new(extract::bytes(request, &shared).await?);
    Ok(Json(shared.surface.registrations.import_devices(csv, |_| {}).await?))
}
