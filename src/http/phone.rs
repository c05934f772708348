//! The phone's calls: coupling and login, nonces and proofs for its dongle, and what it says of a session.
//!
//! A phone shows who it is by its Ed25519 key before it has a token; keys, MACs, nonces and signatures are
//! hexadecimal text.

use axum::{Json, extract::State, http::StatusCode, response::sse::Event};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{
        CouplingProblems, LoginProblems, OfEvents, OfOrder, OfSession, OrderProblems, ReadProblems, ReceiptProblems,
        SessionAnswer, SignedProblems, WriteProblems, answer, order,
    },
    auth::{Caller, Phone, Stranger, UntilVoid},
    events::{After, EventStream, Source, Watch, Watching, named},
    extract::{Body, Hex, Named, Nothing},
    idempotency::Write,
    problem::{Code, Problem},
};
use crate::{
    engine::{
        id::{BindingId, CouplingId, DeviceId, SessionId, StationId},
        time::UnixMs,
    },
    registration::{self, Claim, ClockProof, CouplingProof, PhoneTokenRequest, PresenceProof, Purpose},
    session::{By, Command, Order, Receipt, SessionView, Sessions},
    telemetry,
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(claim))
        .routes(routes!(prove_coupling))
        .routes(routes!(log_in))
        .routes(routes!(events))
        .routes(routes!(issue_nonce))
        .routes(routes!(prove_presence))
        .routes(routes!(tell_clock))
        .routes(routes!(notice))
        .routes(routes!(reject))
        .routes(routes!(prove))
        .routes(routes!(receipt))
}

/// A phone's claim on a dongle, signed over activation code, phone key and plate.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Claiming {
    /// As printed on the dongle.
    activation_code: String,
    /// Ed25519 public key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    phone_key: Hex<32>,
    plate: String,
    fuel: Option<String>,
    /// Tokens of the payment provider, in the order in which they are charged. Never card numbers.
    means: Vec<String>,
    /// 128 hexadecimal digits.
    #[schema(value_type = String)]
    signature: Hex<64>,
}

/// What the dongle has to answer over its two-way link.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Claimed {
    /// Names the coupling in the path of its proof.
    coupling: CouplingId,
    device: DeviceId,
    #[schema(value_type = String)]
    nonce: Hex<32>,
    expires_at: UnixMs,
}

impl From<registration::Claimed> for Claimed {
    fn from(claimed: registration::Claimed) -> Claimed {
        Claimed {
            coupling: claimed.coupling,
            device: claimed.device,
            nonce: Hex(claimed.nonce),
            expires_at: claimed.expires,
        }
    }
}

/// Starts a coupling.
#[utoipa::path(post, path = "/v1/couplings", tag = "phone", request_body = Claiming,
    responses((status = 201, body = Claimed), CouplingProblems))]
async fn claim(
    State(shared): State<Shared>,
    _: Stranger,
    Body(claiming): Body<Claiming>,
) -> Result<(StatusCode, Json<Claimed>), Problem> {
    let claim = Claim {
        activation_code: claiming.activation_code,
        phone_key: claiming.phone_key.0,
        plate: claiming.plate,
        fuel: claiming.fuel,
        means: claiming.means,
        signature: claiming.signature.0,
    };
    let claimed = shared.surface.registrations.claim(claim).await?;
    Ok((StatusCode::CREATED, Json(claimed.into())))
}

/// The dongle's MAC over a nonce's terms, and the phone's signature over both.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Proof {
    /// 64 hexadecimal digits.
    #[schema(value_type = String)]
    mac: Hex<32>,
    /// 128 hexadecimal digits.
    #[schema(value_type = String)]
    signature: Hex<64>,
}

/// The binding that a coupling made.
#[derive(Serialize, utoipa::ToSchema)]
struct Coupled {
    binding: BindingId,
    device: DeviceId,
    epoch: u64,
    plate: String,
    /// The phone's bearer token; it is shown this once.
    token: String,
}

/// Proves that the phone has the dongle at hand, and so binds them, or takes the place of a phone that was lost.
#[utoipa::path(post, path = "/v1/couplings/{coupling}/proof", tag = "phone", request_body = Proof,
    params(("coupling" = CouplingId, Path, description = "32 hexadecimal digits, from the claim.")),
    responses((status = 201, body = Coupled), CouplingProblems))]
async fn prove_coupling(
    State(shared): State<Shared>,
    _: Stranger,
    Named(coupling): Named<CouplingId>,
    Body(proof): Body<Proof>,
) -> Result<(StatusCode, Json<Coupled>), Problem> {
    let proof = CouplingProof { coupling, mac: proof.mac.0, signature: proof.signature.0 };
    let coupled = shared.surface.registrations.prove(proof).await?;
    let coupled = Coupled {
        binding: coupled.registration.binding,
        device: coupled.registration.device,
        epoch: coupled.registration.epoch,
        plate: coupled.registration.plate.as_str().to_owned(),
        token: coupled.token.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(coupled)))
}

/// The login of a phone whose key is known, signed over the dongle's id and the time.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct LoggingIn {
    device: DeviceId,
    /// The phone's time; a request that is too old or from the future is refused.
    at: UnixMs,
    /// 128 hexadecimal digits.
    #[schema(value_type = String)]
    signature: Hex<64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct PhoneToken {
    /// The phone's bearer token; it is shown this once.
    token: String,
}

/// Gives a phone that is already bound (by an import, or after it lost its token) a bearer token.
#[utoipa::path(post, path = "/v1/phone/tokens", tag = "phone", request_body = LoggingIn,
    responses((status = 201, body = PhoneToken), LoginProblems))]
async fn log_in(
    State(shared): State<Shared>,
    _: Stranger,
    Body(login): Body<LoggingIn>,
) -> Result<(StatusCode, Json<PhoneToken>), Problem> {
    let request = PhoneTokenRequest { device: login.device, at: login.at, signature: login.signature.0 };
    let token = shared.surface.registrations.phone_token(request).await.map_err(login_refused)?;
    Ok((StatusCode::CREATED, Json(PhoneToken { token: token.reveal().to_owned() })))
}

/// A stranger does not learn which dongles exist, or which have a phone.
fn login_refused(error: registration::Error) -> Problem {
    use registration::Error;
    match error {
        Error::UnknownDevice | Error::UnknownBinding | Error::NoPhone | Error::BadSignature => {
            Problem::new(Code::Unauthorised, "no phone with this key is bound to this dongle")
        }
        error => error.into(),
    }
}

/// The sessions that a phone shows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct MySessions {
    at: UnixMs,
    /// Those that are not at an end, the last that is, and those that came to one since the `Last-Event-ID`: of a day,
    /// and the last 64.
    sessions: Vec<SessionView>,
}

/// Live changes of the phone's sessions: a `snapshot`, then `session` events; of two views of a session the one with
/// the higher `version` is the later. A view whose `unseen` is there waits for the phone's `notice`. A stream that was cut
/// goes on with the `id` of its last event as `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/phone/events", operation_id = "phone_events", tag = "phone", params(OfEvents),
    security(("phone" = [])),
    responses((status = 200, body = MySessions, content_type = "text/event-stream"), ReadProblems))]
async fn events(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    after: After,
    until_void: UntilVoid,
) -> Result<EventStream, Problem> {
    let source = PhoneSessions { sessions: shared.surface.sessions, binding };
    shared.events.stream(source, after, until_void).await
}

/// One binding's changes.
struct PhoneSessions {
    sessions: Sessions,
    binding: BindingId,
}

impl Source for PhoneSessions {
    type Snapshot = MySessions;
    type Change = SessionView;

    fn watch(&self, after: Option<u64>) -> Watching<'_, MySessions, SessionView> {
        Box::pin(async move {
            let (told, changes) = self.sessions.watch_phone(self.binding, after).await?;
            let snapshot = MySessions { at: telemetry::now(), sessions: told.sessions };
            Ok(Watch { id: told.seq, snapshot, changes })
        })
    }

    fn id(change: &SessionView) -> Option<u64> {
        Some(change.seq)
    }

    fn event(&self, change: SessionView) -> Event {
        named("session", &change)
    }
}

/// What a nonce is for.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum NoncePurpose {
    Presence,
    Clock,
    /// Of a change of the phone's own binding.
    Change,
}

impl From<NoncePurpose> for Purpose {
    fn from(purpose: NoncePurpose) -> Purpose {
        match purpose {
            NoncePurpose::Presence => Purpose::Presence,
            NoncePurpose::Clock => Purpose::Clock,
            NoncePurpose::Change => Purpose::Change,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct AskingNonce {
    purpose: NoncePurpose,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Nonce {
    /// Single-use; 64 hexadecimal digits.
    #[schema(value_type = String)]
    nonce: Hex<32>,
    expires_at: UnixMs,
}

/// Gives a nonce for a proof of presence or of the dongle's clock, or for a change of the binding.
#[utoipa::path(post, path = "/v1/phone/nonces", tag = "phone", security(("phone" = [])), request_body = AskingNonce,
    responses((status = 201, body = Nonce), WriteProblems))]
async fn issue_nonce(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    Body(asking): Body<AskingNonce>,
) -> (StatusCode, Json<Nonce>) {
    let issued = shared.surface.registrations.issue_nonce(binding, asking.purpose.into());
    (StatusCode::CREATED, Json(Nonce { nonce: Hex(issued.nonce), expires_at: issued.expires }))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ProvingPresence {
    #[schema(value_type = String)]
    nonce: Hex<32>,
    station: StationId,
    #[schema(value_type = String)]
    mac: Hex<32>,
    #[schema(value_type = String)]
    signature: Hex<64>,
}

/// Proves that the vehicle is at this station, when it appears at two.
#[utoipa::path(post, path = "/v1/phone/presence", tag = "phone", security(("phone" = [])),
    request_body = ProvingPresence, responses((status = 204), SignedProblems))]
async fn prove_presence(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    Body(proving): Body<ProvingPresence>,
) -> Result<StatusCode, Problem> {
    let station = proving.station;
    let proof =
        PresenceProof { binding, nonce: proving.nonce.0, station, mac: proving.mac.0, signature: proving.signature.0 };
    let registration = shared.surface.registrations.phone_presence(proof).await?;
    shared.surface.stations.presence_proven(station, registration.device);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct TellingClock {
    #[schema(value_type = String)]
    nonce: Hex<32>,
    /// The slot that the dongle's clock is in.
    slot: u64,
    #[schema(value_type = String)]
    mac: Hex<32>,
    #[schema(value_type = String)]
    signature: Hex<64>,
}

/// Tells the dongle's clock, with its proof, after it lost its time.
#[utoipa::path(post, path = "/v1/phone/clock", tag = "phone", security(("phone" = [])), request_body = TellingClock,
    responses((status = 204), SignedProblems))]
async fn tell_clock(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    Body(telling): Body<TellingClock>,
) -> Result<StatusCode, Problem> {
    let proof = ClockProof {
        binding,
        nonce: telling.nonce.0,
        slot: telling.slot,
        mac: telling.mac.0,
        signature: telling.signature.0,
    };
    shared.surface.registrations.phone_clock(proof).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Noticed {
    /// That of the session as the phone shows it; without it, the latest. A later word to the driver stays unseen.
    version: Option<u32>,
}

/// The phone shows the session, and with it the last word to the driver (`unseen`). Without this in ten seconds the
/// driver is told by another channel. Saying it twice changes nothing, so it needs no key.
#[utoipa::path(post, path = "/v1/sessions/{id}/notice", tag = "phone", params(OfSession), security(("phone" = [])),
    request_body = Noticed, responses((status = 200, body = SessionView), OrderProblems))]
async fn notice(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    Named(session): Named<SessionId>,
    Body(Noticed { version }): Body<Noticed>,
) -> SessionAnswer {
    let by = By::Phone(binding);
    let order = Order { session, by, request: None, command: Command::Notice { version } };
    Ok(answer(by, shared.surface.sessions.apply(order).await?))
}

/// Not me: the driver did not mean to fuel, or does not agree with the sale.
#[utoipa::path(post, path = "/v1/sessions/{id}/rejection", tag = "phone", params(OfOrder), security(("phone" = [])),
    responses((status = 200, body = SessionView), OrderProblems))]
async fn reject(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    Named(session): Named<SessionId>,
    write: Write<Nothing>,
) -> SessionAnswer {
    order(&shared, By::Phone(binding), session, &write, Command::Reject).await
}

/// Proves the sale: the dongle's MAC over the challenge's terms and the phone's signature over both. The payment
/// begins; its outcome comes with the events.
#[utoipa::path(post, path = "/v1/sessions/{id}/proof", tag = "phone", params(OfOrder), security(("phone" = [])),
    request_body = Proof, responses((status = 200, body = SessionView), (status = 202, body = SessionView,
    description = "The payment has no clear outcome yet."), OrderProblems))]
async fn prove(
    State(shared): State<Shared>,
    Phone(binding): Phone,
    Named(session): Named<SessionId>,
    write: Write<Proof>,
) -> SessionAnswer {
    let command = Command::Prove { mac: write.body.mac.0, signature: write.body.signature.0 };
    order(&shared, By::Phone(binding), session, &write, command).await
}

/// The receipt of a paid sale.
#[utoipa::path(get, path = "/v1/sessions/{id}/receipt", tag = "phone", params(OfSession),
    security(("phone" = []), ("terminal" = []), ("operator" = [])),
    responses((status = 200, body = Receipt), ReceiptProblems))]
async fn receipt(
    State(shared): State<Shared>,
    Caller(by): Caller,
    Named(session): Named<SessionId>,
) -> Result<Json<Receipt>, Problem> {
    Ok(Json(shared.surface.sessions.receipt(session, by).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_does_not_tell_which_dongles_exist() {
        let unknown = login_refused(registration::Error::UnknownDevice);
        let wrong = login_refused(registration::Error::BadSignature);
        assert_eq!(unknown, wrong);
        assert_eq!(unknown.code(), Code::Unauthorised);
        assert_eq!(login_refused(registration::Error::Expired).code(), Code::RequestExpired);
    }
}
