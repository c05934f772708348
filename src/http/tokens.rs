//! Bearer tokens: who gets one, and how it is taken back.
//!
//! A token is 32 random bytes; the store keeps its hash. One that is taken back is void at once, with the streams that
//! it opened. Terminals' tokens are a station's, phones' a binding's: whoever loses one has all of its kind taken back
//! and signs in anew.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{OfBinding, OfStation, ReasonProblems, WriteProblems},
    auth::Operator,
    bindings::Because,
    extract::{Body, Named},
    problem::{Code, Problem},
};
use crate::{
    engine::id::{BindingId, StationId},
    registration::{Mandate, OperatorName, Role, Who},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(issue_terminal))
        .routes(routes!(revoke_terminals))
        .routes(routes!(sign_phone_out))
        .routes(routes!(issue_operator))
        .routes(routes!(revoke_operator))
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
    Operator(name): Operator,
    Body(NewTerminal { station, valid_ms }): Body<NewTerminal>,
) -> Result<(StatusCode, Json<TerminalToken>), Problem> {
    let registrations = &shared.surface.registrations;
    if !registrations.station_known(station) {
        return Err(Problem::new(Code::NotFound, format!("there is no station {station}")));
    }
    let token = registrations.issue(Role::Terminal(station), valid_ms, Who::Operator(name)).await?;
    let token = TerminalToken { station, token: token.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(token)))
}

/// Takes back the tokens of a station's terminals, all of them. Saying it twice changes nothing, so it needs no key.
#[utoipa::path(post, path = "/v1/stations/{station}/terminals/revocation", tag = "operator",
    security(("operator" = [])), params(OfStation), request_body = Because,
    responses((status = 204), ReasonProblems))]
async fn revoke_terminals(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(station): Named<StationId>,
    Body(because): Body<Because>,
) -> Result<StatusCode, Problem> {
    take_back(&shared, Role::Terminal(station), Mandate::operator(name, &because.reason)?).await
}

/// Takes back the tokens of a binding's phone, which has to log in again with its key.
#[utoipa::path(post, path = "/v1/bindings/{binding}/sign-out", tag = "operator", security(("operator" = [])),
    params(OfBinding), request_body = Because, responses((status = 204), ReasonProblems))]
async fn sign_phone_out(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Named(binding): Named<BindingId>,
    Body(because): Body<Because>,
) -> Result<StatusCode, Problem> {
    take_back(&shared, Role::Phone(binding), Mandate::operator(name, &because.reason)?).await
}

async fn take_back(shared: &Shared, role: Role, mandate: Mandate) -> Result<StatusCode, Problem> {
    if shared.surface.registrations.revoke_tokens(role, mandate).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(Code::NotFound, "there is no token to take back"))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewOperator {
    /// As the journal is to name him: 1 to 32 letters, digits and `.-_@`.
    name: String,
    /// Milliseconds until the token expires; without it, never.
    valid_ms: Option<u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct OperatorToken {
    name: String,
    /// The operator's bearer token; it is shown this once.
    token: String,
}

/// Gives an operator a token with his name. Only the bearer of the data folder's own token may: whoever could give
/// himself another name would leave a journal that says nothing.
#[utoipa::path(post, path = "/v1/operators", tag = "operator", security(("operator" = [])), request_body = NewOperator,
    responses((status = 201, body = OperatorToken), ReasonProblems))]
async fn issue_operator(
    State(shared): State<Shared>,
    operator: Operator,
    Body(NewOperator { name, valid_ms }): Body<NewOperator>,
) -> Result<(StatusCode, Json<OperatorToken>), Problem> {
    let who = Who::Operator(operator.of_folder()?);
    let role = Role::Operator(OperatorName::parse(&name)?);
    let token = shared.surface.registrations.issue(role, valid_ms, who).await?;
    Ok((StatusCode::CREATED, Json(OperatorToken { name, token: token.reveal().to_owned() })))
}

/// Takes back every token of an operator.
#[utoipa::path(post, path = "/v1/operators/{name}/revocation", tag = "operator", security(("operator" = [])),
    params(("name" = String, Path, description = "As the token was given.")), request_body = Because,
    responses((status = 204), ReasonProblems))]
async fn revoke_operator(
    State(shared): State<Shared>,
    operator: Operator,
    Named(name): Named<String>,
    Body(because): Body<Because>,
) -> Result<StatusCode, Problem> {
    let mandate = Mandate::operator(operator.of_folder()?, &because.reason)?;
    take_back(&shared, Role::Operator(OperatorName::parse(&name)?), mandate).await
}
