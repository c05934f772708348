//! What PSPs announce. The route is open: the signature over the body says who speaks, and what is said is only a
//! reason to look.

use axum::{
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::AnnouncementProblems,
    extract,
    problem::{Code, Problem},
};

/// Bytes of an announcement. Stripe's of an intent has about 3,000.
const BYTES_MAX: usize = 65_536;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(stripe)).layer(DefaultBodyLimit::max(BYTES_MAX))
}

/// Takes an event of Stripe, signed by `Stripe-Signature`. Whatever it says, the payment is looked up and not believed
/// in; one that comes again is answered and changes nothing.
#[utoipa::path(post, path = "/v1/webhooks/stripe", tag = "open",
    request_body(content = String, content_type = "application/json"),
    responses((status = 204), AnnouncementProblems))]
async fn stripe(State(shared): State<Shared>, headers: HeaderMap, request: Request) -> Result<StatusCode, Problem> {
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let payload = extract::bytes(request, &shared).await?;
    match shared.surface.payments.hear(&payload, signature).await {
        Some(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Some(Err(unheard)) => Err(Problem::new(Code::AnnouncementRefused, unheard.to_string())),
        None => Err(Problem::new(Code::NotFound, "announcements of Stripe are not taken here")),
    }
}
