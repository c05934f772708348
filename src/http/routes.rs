//! All routes in one place, and the document that is read from them.

use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode, Uri},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document, RefOr,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use super::{
    Config, Shared, beacons, bindings, driver,
    metrics::{Group, Requests, count},
    open, operator, phone,
    problem::{Code, Problem},
    reconciliations, reload, terminal, tokens, trace, webhooks,
};
use crate::station::{Ailment, Candidate};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Forecourt",
        description = "Presence and payment on the forecourts of a fuel chain. Amounts are whole numbers of the \
                       currency's minor unit; times are milliseconds since the Unix epoch. Every refused call is an \
                       RFC 9457 problem with a stable `code`. An answer that concerns a session names its trace: \
                       `traceresponse` (W3C Trace Context), and `trace` in a problem. Its id is the session's."
    ),
    components(schemas(Problem, Code, Candidate, Ailment)),
    tags(
        (name = "terminal", description = "What the attendant or the POS uses; its token is for one station."),
        (name = "phone", description = "The driver's app; its token is for one binding."),
        (name = "operator", description = "The chain's own people and tools."),
        (name = "open", description = "Needs no token.")
    )
)]
struct Described;

/// The API with its bounds: time, body, and an answer to whatever is no route.
pub(super) fn router(config: &Config, shared: Shared) -> Router {
    let timeout = Duration::from_millis(config.request_timeout_ms.into());
    let bounded = |group: OpenApiRouter<Shared>| group.layer(from_fn_with_state(timeout, answer_in_time));
    let counted =
        |name: Group, group: OpenApiRouter<Shared>| group.layer(from_fn_with_state(Requests::new(name), count));
    let traced = |group: OpenApiRouter<Shared>| group.layer(from_fn(trace::of_session));
    let imports = operator::import_routes().layer(DefaultBodyLimit::max(config.import_body_bytes_max));
    let api = OpenApiRouter::new()
        .merge(traced(counted(Group::Terminal, bounded(terminal::routes()))))
        .merge(traced(counted(Group::Phone, bounded(phone::routes().merge(driver::routes())))))
        .merge(traced(counted(
            Group::Operator,
            bounded(
                operator::routes()
                    .merge(tokens::routes())
                    .merge(bindings::routes())
                    .merge(beacons::routes())
                    .merge(reconciliations::routes())
                    .merge(reload::routes()),
            )
            .merge(imports),
        )))
        .merge(counted(Group::Open, open::routes().merge(bounded(webhooks::routes()))));
    let (api, _) = api.split_for_parts();
    let unknown = Router::new().fallback(no_such_path).layer(from_fn_with_state(Requests::new(Group::Unknown), count));
    api.fallback_service(unknown)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(config.body_bytes_max))
        .with_state(shared)
}

/// The OpenAPI document of [`router`].
pub(super) fn document() -> Document {
    let mut api = OpenApiRouter::with_openapi(Described::openapi())
        .merge(terminal::routes())
        .merge(phone::routes())
        .merge(driver::routes())
        .merge(operator::routes())
        .merge(tokens::routes())
        .merge(bindings::routes())
        .merge(beacons::routes())
        .merge(operator::import_routes())
        .merge(reconciliations::routes())
        .merge(reload::routes())
        .merge(open::routes())
        .merge(webhooks::routes())
        .into_openapi();
    describe_answers(&mut api);
    let components = api.components.get_or_insert_default();
    for role in ["terminal", "phone", "operator"] {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.security_schemes.insert(role.to_owned(), bearer.into());
    }
    api
}

/// OpenAPI wants a description of every response; one that needs no words has those of its status.
fn describe_answers(api: &mut Document) {
    let items = api.paths.paths.values_mut();
    let operations = items.flat_map(|item| [&mut item.get, &mut item.post, &mut item.put]).flatten();
    for (status, response) in operations.flat_map(|operation| &mut operation.responses.responses) {
        let reason = status.parse().ok().and_then(|code: StatusCode| code.canonical_reason());
        if let (RefOr::T(response), Some(reason)) = (response, reason)
            && response.description.is_empty()
        {
            reason.clone_into(&mut response.description);
        }
    }
}

/// A call that outlives its time is given up on; a write may have happened all the same, and the same key finds out.
async fn answer_in_time(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(Code::Unavailable, "no answer in time; send it again with the same Idempotency-Key")
            .into_response(),
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const ROUTES: &str = "
        get /health/live
        get /health/ready
        get /openapi.json
        get /v1/audit
        get /v1/bindings
        get /v1/bindings/{binding}
        get /v1/bindings/{binding}/history
        get /v1/devices/{device}
        get /v1/eid-resolver
        get /v1/phone/binding
        get /v1/phone/events
        get /v1/reconciliations/{date}
        get /v1/sessions/{id}
        get /v1/sessions/{id}/evidence
        get /v1/sessions/{id}/receipt
        get /v1/stations
        get /v1/stations/{station}/events
        get /v1/stations/worst
        get /v1/stations/{station}/vehicles
        post /v1/bindings/{binding}/phone-replacement
        post /v1/bindings/{binding}/restoration
        post /v1/bindings/{binding}/revocation
        post /v1/bindings/{binding}/sign-out
        post /v1/bindings/{binding}/suspension
        post /v1/couplings
        post /v1/couplings/replacements
        post /v1/couplings/{coupling}/proof
        post /v1/devices/{device}/release
        post /v1/eid-registrations
        post /v1/imports/devices
        post /v1/imports/stations
        post /v1/operators
        post /v1/operators/{name}/revocation
        post /v1/phone/clock
        post /v1/phone/nonces
        post /v1/phone/presence
        post /v1/phone/replacement
        post /v1/phone/revocation
        post /v1/phone/tokens
        post /v1/reload
        post /v1/sessions/{id}/cleared
        post /v1/sessions/{id}/completion
        post /v1/sessions/{id}/correction
        post /v1/sessions/{id}/fuelling
        post /v1/sessions/{id}/grade-override
        post /v1/sessions/{id}/hand-over
        post /v1/sessions/{id}/notice
        post /v1/sessions/{id}/paid-at-site
        post /v1/sessions/{id}/proof
        post /v1/sessions/{id}/refunds
        post /v1/sessions/{id}/rejection
        post /v1/sessions/{id}/release
        post /v1/sessions/{id}/reservation
        post /v1/settlements
        post /v1/stations/{station}/sessions
        post /v1/stations/{station}/terminals/revocation
        post /v1/terminals
        post /v1/webhooks/stripe
        put /v1/bindings/{binding}/plate
        put /v1/phone/means
        put /v1/phone/plate
        put /v1/stations/{station}/prices
    ";

    fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
    }

    #[test]
    fn the_document_lists_every_route() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let listed: BTreeSet<String> = operations(&document).map(|(route, _)| route).collect();
        let expected: BTreeSet<String> = ROUTES.trim().lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn every_call_beside_coupling_login_and_the_open_ones_names_its_token() {
        let document = serde_json::to_value(document()).unwrap();
        for (route, operation) in operations(&document) {
            let is_open = route.contains("/health/")
                || route.contains("/openapi.json")
                || route.contains("/webhooks/")
                || route.contains("/couplings")
                || route.contains("/phone/tokens");
            assert_eq!(operation.get("security").is_none(), is_open, "{route}");
        }
        for role in ["terminal", "phone", "operator"] {
            assert_eq!(document["components"]["securitySchemes"][role]["scheme"], "bearer");
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_describes_its_answers() {
        let document = serde_json::to_value(document()).unwrap();
        let mut names = BTreeSet::new();
        for (route, operation) in operations(&document) {
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{route}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].is_string(), "{route} {status}");
            }
        }
    }

    #[test]
    fn the_document_names_the_codes_as_they_are_sent() {
        let document = serde_json::to_value(document()).unwrap();
        let listed: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(document["components"]["schemas"]["Code"]["enum"], serde_json::json!(listed));
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let text = document().to_json().unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
