//! What a driver does to his own binding, by its phone: reads it, gives it another plate, other means or another phone,
//! and ends it. And a new phone's claim of a binding whose phone was lost.
//!
//! Every change is signed by the phone's key over a nonce (`POST /v1/phone/nonces`, purpose `change`) and the epoch that
//! the phone read: the bearer token alone changes nothing. What is signed stands in [`crate::registration`]'s table.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{DriverProblems, OfPhoneWrite, PhoneClaimProblems, ReadProblems},
    auth::{Leaving, Phone, Stranger},
    extract::{Body, Hex},
    idempotency::Write,
    phone::Claimed,
    problem::{Code, Problem},
};
use crate::{
    engine::id::BindingId,
    registration::{Cause, ChangeTerms, DriverChange, PhoneClaim, Request, Summary, Wish},
    session::By,
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(claim_phone))
        .routes(routes!(mine))
        .routes(routes!(change_plate))
        .routes(routes!(change_means))
        .routes(routes!(replace_phone))
        .routes(routes!(revoke))
}

/// A new phone's claim of a binding, signed over the binding, the operator's code and its own key.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ClaimingPhone {
    binding: BindingId,
    /// As the operator gave it.
    code: String,
    /// Ed25519 public key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    phone_key: Hex<32>,
    /// 128 hexadecimal digits.
    #[schema(value_type = String)]
    signature: Hex<64>,
}

/// Starts to put another phone in the place of a lost one. The proof is that of any coupling.
#[utoipa::path(post, path = "/v1/couplings/replacements", operation_id = "claim_phone", tag = "phone",
    request_body = ClaimingPhone, responses((status = 201, body = Claimed), PhoneClaimProblems))]
async fn claim_phone(
    State(shared): State<Shared>,
    _: Stranger,
    Body(claiming): Body<ClaimingPhone>,
) -> Result<(StatusCode, Json<Claimed>), Problem> {
    let claim = PhoneClaim {
        binding: claiming.binding,
        code: claiming.code,
        phone_key: claiming.phone_key.0,
        signature: claiming.signature.0,
    };
    let claimed = shared.surface.registrations.claim_phone(claim).await?;
    Ok((StatusCode::CREATED, Json(claimed.into())))
}

/// A binding as its own driver sees it.
#[derive(Serialize, utoipa::ToSchema)]
struct MyBinding {
    #[serde(flatten)]
    binding: Summary,
    /// Tokens of the payment provider, in the order in which they are charged.
    means: Vec<String>,
}

/// The phone's own binding.
#[utoipa::path(get, path = "/v1/phone/binding", operation_id = "own_binding", tag = "phone", security(("phone" = [])),
    responses((status = 200, body = MyBinding), ReadProblems))]
async fn mine(State(shared): State<Shared>, Phone(binding): Phone) -> Result<Json<MyBinding>, Problem> {
    let found = shared.surface.registrations.binding(binding).await?;
    let found = found.ok_or_else(|| Problem::new(Code::NotFound, "there is no such binding"))?;
    Ok(Json(MyBinding { binding: Summary::from(&*found), means: found.means.clone() }))
}

/// What shows that the phone wants the change.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Signed {
    /// From `POST /v1/phone/nonces`, 64 hexadecimal digits.
    #[schema(value_type = String)]
    nonce: Hex<32>,
    /// Of the binding as the phone read it.
    epoch: u64,
    /// 128 hexadecimal digits.
    #[schema(value_type = String)]
    signature: Hex<64>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangingPlate {
    signed: Signed,
    plate: String,
}

/// Gives the vehicle another plate.
#[utoipa::path(put, path = "/v1/phone/plate", operation_id = "change_plate", tag = "phone", security(("phone" = [])),
    params(OfPhoneWrite), request_body = ChangingPlate, responses((status = 200, body = Summary), DriverProblems))]
async fn change_plate(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    write: Write<ChangingPlate>,
) -> Result<Json<Summary>, Problem> {
    let wish = Wish::Plate(write.body.plate.clone());
    change(&shared, binding, &write, &write.body.signed, wish, None).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangingMeans {
    signed: Signed,
    /// Tokens of the payment provider, all of them, in the order in which they are to be charged. Never card numbers.
    means: Vec<String>,
}

/// Sets the means of payment: adds, takes away, puts in another order.
#[utoipa::path(put, path = "/v1/phone/means", operation_id = "change_means", tag = "phone", security(("phone" = [])),
    params(OfPhoneWrite), request_body = ChangingMeans, responses((status = 200, body = Summary), DriverProblems))]
async fn change_means(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    write: Write<ChangingMeans>,
) -> Result<Json<Summary>, Problem> {
    let wish = Wish::Means(write.body.means.clone());
    change(&shared, binding, &write, &write.body.signed, wish, None).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplacingPhone {
    signed: Signed,
    /// The new phone's Ed25519 public key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    phone_key: Hex<32>,
    /// The new phone's own signature, 128 hexadecimal digits.
    #[schema(value_type = String)]
    acceptance: Hex<64>,
}

/// Hands the binding over to another phone, which then asks for a token of its own; those of this one are void. The very
/// same call, sent again with the token that it came with, has the same answer for a day.
#[utoipa::path(post, path = "/v1/phone/replacement", tag = "phone", security(("phone" = [])), params(OfPhoneWrite),
    request_body = ReplacingPhone, responses((status = 200, body = Summary), DriverProblems))]
async fn replace_phone(
    State(shared): State<Shared>,
    leaving: Leaving,
    write: Write<ReplacingPhone>,
) -> Result<Json<Summary>, Problem> {
    let wish = Wish::Phone { key: write.body.phone_key.0, acceptance: write.body.acceptance.0 };
    leave(&shared, leaving, &write, &write.body.signed, wish).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Revoking {
    signed: Signed,
    /// `sold` and `ended` free plate and dongle for the next claim; `lost` frees the plate only.
    #[serde(default)]
    cause: Cause,
}

/// Ends the binding for good: the car is sold, the dongle lost, or the driver wants no more of it. The phone's tokens are
/// void. The very same call, sent again with the token that it came with, has the same answer for a day.
#[utoipa::path(post, path = "/v1/phone/revocation", operation_id = "revoke_own", tag = "phone",
    security(("phone" = [])), params(OfPhoneWrite), request_body = Revoking,
    responses((status = 200, body = Summary), DriverProblems))]
async fn revoke(
    State(shared): State<Shared>,
    leaving: Leaving,
    write: Write<Revoking>,
) -> Result<Json<Summary>, Problem> {
    let wish = Wish::Revoke(write.body.cause);
    leave(&shared, leaving, &write, &write.body.signed, wish).await
}

/// A change after which the phone has no token; sent again with the one that it had, it is answered and not done again.
async fn leave<T>(
    shared: &Shared,
    leaving: Leaving,
    write: &Write<T>,
    signed: &Signed,
    wish: Wish,
) -> Result<Json<Summary>, Problem> {
    let parting = write.parting(&leaving.token);
    match leaving.phone {
        Ok(binding) => change(shared, binding, write, signed, wish, Some(parting)).await,
        Err(unknown) => shared.surface.registrations.parted(parting).await?.map(Json).ok_or(unknown),
    }
}

async fn change<T>(
    shared: &Shared,
    binding: BindingId,
    write: &Write<T>,
    signed: &Signed,
    wish: Wish,
    parting: Option<[u8; 32]>,
) -> Result<Json<Summary>, Problem> {
    let running = shared.in_flight.begin(By::Phone(binding), write)?;
    let request = Request { key: running.request.key, body: running.request.body, parting };
    let terms = ChangeTerms { nonce: signed.nonce.0, binding, epoch: signed.epoch };
    let change = DriverChange { terms, wish, signature: signed.signature.0 };
    Ok(Json(shared.surface.registrations.change_by_driver(change, Some(request)).await?))
}
