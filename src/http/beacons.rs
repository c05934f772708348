//! The registration of radios that broadcast Eddystone-EID.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{BeaconProblems, ReadProblems},
    auth::Operator,
    extract::{Body, Hex},
    problem::Problem,
};
use crate::{
    engine::id::DeviceId,
    registration::{Device, EidBeacon, Who},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(resolver)).routes(routes!(register))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Resolver {
    /// X25519 public key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    public_key: Hex<32>,
}

/// The server's public key: a beacon derives its identity key with it before it is registered.
#[utoipa::path(get, path = "/v1/eid-resolver", operation_id = "eid_resolver", tag = "operator",
    security(("operator" = [])), responses((status = 200, body = Resolver), ReadProblems))]
async fn resolver(State(shared): State<Shared>, _: Operator) -> Result<Json<Resolver>, Problem> {
    let public_key = shared.surface.registrations.eid_resolver().await?;
    Ok(Json(Resolver { public_key: Hex(public_key) }))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Registering {
    device: DeviceId,
    /// The beacon's X25519 public key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    beacon_key: Hex<32>,
    /// K: an EID lasts 2^K seconds.
    exponent: u8,
    /// What the beacon's clock showed, in seconds, when it broadcast `eid`.
    beacon_s: u32,
    /// 16 hexadecimal digits.
    #[schema(value_type = String)]
    eid: Hex<8>,
    /// With it a phone can claim the dongle.
    activation_code: Option<String>,
}

/// Makes a beacon known as a dongle, when its EID follows from the key that was agreed on. Saying it twice changes
/// nothing, so it needs no key.
#[utoipa::path(post, path = "/v1/eid-registrations", operation_id = "register_beacon", tag = "operator",
    security(("operator" = [])), request_body = Registering, responses((status = 201, body = Device), BeaconProblems))]
async fn register(
    State(shared): State<Shared>,
    Operator(name): Operator,
    Body(registering): Body<Registering>,
) -> Result<(StatusCode, Json<Device>), Problem> {
    let beacon = EidBeacon {
        device: registering.device,
        public_key: registering.beacon_key.0,
        exponent: registering.exponent,
        beacon_s: registering.beacon_s,
        eid: registering.eid.0,
        activation_code: registering.activation_code,
    };
    let device = shared.surface.registrations.register_beacon(beacon, Who::Operator(name)).await?;
    Ok((StatusCode::CREATED, Json(device)))
}
