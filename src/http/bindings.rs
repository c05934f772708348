//! The operator's calls on bindings, and on dongles that were lost.
//!
//! Every change names its operator by the token and takes a reason; both are in the journal.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{BindingProblems, OfBinding, OfBindingWrite, PermitProblems, ReadProblems, ReasonProblems},
    auth::Operator,
    extract::{Asked, Body, Named},
    idempotency::Write,
    problem::{Code, Problem},
};
use crate::{
    engine::{
        id::{BindingId, DeviceId},
        plate::Plate,
        time::UnixMs,
    },
    registration::{Amendment, Cause, Device, JournalRow, Mandate, OperatorName, Request, Summary},
    session::By,
};

/// Lines of a history in one answer.
const HISTORY_ROWS_MAX: u32 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(find))
        .routes(routes!(binding))
        .routes(routes!(history))
        .routes(routes!(suspend))
        .routes(routes!(restore))
        .routes(routes!(revoke))
        .routes(routes!(change_plate))
        .routes(routes!(permit_phone))
        .routes(routes!(device))
        .routes(routes!(free_device))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BindingQuery {
    /// The live binding of this plate.
    plate: Option<String>,
    /// The live binding of this dongle, else its last one.
    device: Option<DeviceId>,
}

/// The binding of a plate or of a dongle.
#[utoipa::path(get, path = "/v1/bindings", operation_id = "find_binding", tag = "operator",
    security(("operator" = [])), params(BindingQuery), responses((status = 200, body = Summary), ReadProblems))]
async fn find(
    State(shared): State<Shared>,
    _: Operator,
    Asked(query): Asked<BindingQuery>,
) -> Result<Json<Summary>, Problem> {
    let registrations = &shared.surface.registrations;
    let found = match (query.plate, query.device) {
        (Some(plate), None) => registrations.find_plate(Plate::parse(&plate)?).await?,
        (None, Some(device)) => registrations.find(device).await?,
        _ => return Err(Problem::new(Code::BadRequest, "name either a plate or a device")),
    };
    found.map(|found| Json(Summary::from(&*found))).ok_or_else(not_bound)
}

/// A binding.
#[utoipa::path(get, path = "/v1/bindings/{binding}", tag = "operator", security(("operator" = [])),
    params(OfBinding), responses((status = 200, body = Summary), ReadProblems))]
async fn binding(
    State(shared): State<Shared>,
    _: Operator,
    Named(binding): Named<BindingId>,
) -> Result<Json<Summary>, Problem> {
    let found = shared.surface.registrations.binding(binding).await?;
    found.map(|found| Json(Summary::from(&*found))).ok_or_else(not_bound)
}

fn not_bound() -> Problem {
    Problem::new(Code::NotFound, "there is no such binding")
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Lines at most; 100 when absent, 1,000 at most.
    limit: Option<u32>,
    /// Only lines of earlier epochs: the last one of the answer before.
    before: Option<u64>,
}

/// What was changed of a binding, by whom, why and when: the newest first.
#[utoipa::path(get, path = "/v1/bindings/{binding}/history", operation_id = "binding_history", tag = "operator",
    security(("operator" = [])), params(OfBinding, HistoryQuery),
    responses((status = 200, body = Vec<JournalRow>), ReadProblems))]
async fn history(
    State(shared): State<Shared>,
    _: Operator,
    Named(binding): Named<BindingId>,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Json<Vec<JournalRow>>, Problem> {
    let limit = query.limit.unwrap_or(100).min(HISTORY_ROWS_MAX);
    Ok(Json(shared.surface.registrations.history(binding, query.before, limit).await?))
}

/// Why an operator changes something.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Because {
    /// Plain text of 1 to 500 bytes.
    #[serde(default)]
    #[schema(required = true)]
    pub(super) reason: String,
}

/// Suspends a binding: its vehicle is seen, and not served.
#[utoipa::path(post, path = "/v1/bindings/{binding}/suspension", tag = "operator", security(("operator" = [])),
    params(OfBindingWrite), request_body = Because, responses((status = 200, body = Summary), BindingProblems))]
async fn suspend(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(binding): Named<BindingId>,
    write: Write<Because>,
) -> Result<Json<Summary>, Problem> {
    let mandate = Mandate::operator(name, &write.body.reason)?;
    amend(&shared, name, binding, write, mandate, Amendment::suspend()).await
}

/// Ends a suspension.
#[utoipa::path(post, path = "/v1/bindings/{binding}/restoration", tag = "operator", security(("operator" = [])),
    params(OfBindingWrite), request_body = Because, responses((status = 200, body = Summary), BindingProblems))]
async fn restore(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(binding): Named<BindingId>,
    write: Write<Because>,
) -> Result<Json<Summary>, Problem> {
    let mandate = Mandate::operator(name, &write.body.reason)?;
    amend(&shared, name, binding, write, mandate, Amendment::restore()).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Revocation {
    /// Plain text of 1 to 500 bytes.
    #[serde(default)]
    #[schema(required = true)]
    reason: String,
    /// `lost` keeps the dongle from being coupled until it is freed.
    #[serde(default)]
    cause: Cause,
}

/// Ends a binding for good; its plate is free for the next claim, and so is its dongle unless it was lost.
#[utoipa::path(post, path = "/v1/bindings/{binding}/revocation", tag = "operator", security(("operator" = [])),
    params(OfBindingWrite), request_body = Revocation, responses((status = 200, body = Summary), BindingProblems))]
async fn revoke(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(binding): Named<BindingId>,
    write: Write<Revocation>,
) -> Result<Json<Summary>, Problem> {
    let mandate = Mandate::operator(name, &write.body.reason)?;
    let amendment = Amendment::revoke(write.body.cause);
    amend(&shared, name, binding, write, mandate, amendment).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPlate {
    plate: String,
    /// Plain text of 1 to 500 bytes.
    #[serde(default)]
    #[schema(required = true)]
    reason: String,
}

/// Gives a binding's vehicle another plate.
#[utoipa::path(put, path = "/v1/bindings/{binding}/plate", operation_id = "change_plate_by_operator", tag = "operator",
    security(("operator" = [])), params(OfBindingWrite), request_body = NewPlate,
    responses((status = 200, body = Summary), BindingProblems))]
async fn change_plate(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(binding): Named<BindingId>,
    write: Write<NewPlate>,
) -> Result<Json<Summary>, Problem> {
    let mandate = Mandate::operator(name, &write.body.reason)?;
    let amendment = Amendment::plate(&write.body.plate)?;
    amend(&shared, name, binding, write, mandate, amendment).await
}

async fn amend<T>(
    shared: &Shared,
    name: OperatorName,
    binding: BindingId,
    write: Write<T>,
    mandate: Mandate,
    amendment: Amendment,
) -> Result<Json<Summary>, Problem> {
    let running = shared.in_flight.begin(By::Operator(name), &write)?;
    let request = Request { key: running.request.key, body: running.request.body, parting: None };
    Ok(Json(shared.surface.registrations.amend(binding, amendment, mandate, Some(request)).await?))
}

#[derive(Serialize, utoipa::ToSchema)]
struct PhonePermit {
    binding: Summary,
    /// For the driver, who gives it to the new phone; it is shown this once.
    code: String,
    expires_at: UnixMs,
}

/// Takes the phone of a binding away, which was lost, and lets another one come that has the code and the dongle. Asked
/// again it gives another code, and the one before is void: so it needs no key.
#[utoipa::path(post, path = "/v1/bindings/{binding}/phone-replacement", tag = "operator", security(("operator" = [])),
    params(OfBinding), request_body = Because, responses((status = 201, body = PhonePermit), PermitProblems))]
async fn permit_phone(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(binding): Named<BindingId>,
    Body(because): Body<Because>,
) -> Result<(StatusCode, Json<PhonePermit>), Problem> {
    let mandate = Mandate::operator(name, &because.reason)?;
    let permit = shared.surface.registrations.permit_phone(binding, mandate).await?;
    let permit = PhonePermit { binding: permit.summary, code: permit.code, expires_at: permit.expires };
    Ok((StatusCode::CREATED, Json(permit)))
}

/// A dongle: whether it can prove, was reported lost, and is bound.
#[utoipa::path(get, path = "/v1/devices/{device}", tag = "operator", security(("operator" = [])),
    params(("device" = DeviceId, Path, description = "The dongle's number.")),
    responses((status = 200, body = Device), ReadProblems))]
async fn device(
    State(shared): State<Shared>,
    _: Operator,
    Named(device): Named<DeviceId>,
) -> Result<Json<Device>, Problem> {
    Ok(Json(shared.surface.registrations.device(device).await?))
}

/// Lets a dongle that was reported lost be coupled again. Saying it twice changes nothing, so it needs no key.
#[utoipa::path(post, path = "/v1/devices/{device}/release", tag = "operator", security(("operator" = [])),
    params(("device" = DeviceId, Path, description = "The dongle's number.")), request_body = Because,
    responses((status = 200, body = Device), ReasonProblems))]
async fn free_device(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(device): Named<DeviceId>,
    Body(because): Body<Because>,
) -> Result<Json<Device>, Problem> {
    let mandate = Mandate::operator(name, &because.reason)?;
    Ok(Json(shared.surface.registrations.free_device(device, mandate).await?))
}
