//! How calls answer, and how the document says so.
//!
//! An order to a session is given the same way by everybody who may give one: here once, with the answer's status.
//! A payment that has no clear outcome yet is 202 with the session; the outcome comes with the events.

use std::collections::BTreeMap;

use axum::{Json, http::StatusCode};
use utoipa::{
    IntoParams, IntoResponses, PartialSchema as _,
    openapi::{
        ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{
    Shared,
    idempotency::Write,
    problem::{self, Code, Problem},
};
use crate::{
    engine::id::{BindingId, SessionId, StationId},
    session::{By, Command, Order, SessionView, StateName},
};

pub(super) type SessionAnswer = Result<(StatusCode, Json<SessionView>), Problem>;

/// Gives an order, once however often it is sent.
pub(super) async fn order<T>(
    shared: &Shared,
    by: By,
    session: SessionId,
    write: &Write<T>,
    command: Command,
) -> SessionAnswer {
    let running = shared.in_flight.begin(by, write)?;
    let order = Order { session, by, request: Some(running.request), command };
    Ok(answer(by, shared.surface.sessions.apply(order).await?))
}

pub(super) fn answer(by: By, view: SessionView) -> (StatusCode, Json<SessionView>) {
    (status(view.state), Json(visible(by, view)))
}

/// The challenge is between the server and the phone.
pub(super) fn visible(by: By, view: SessionView) -> SessionView {
    match by {
        By::Phone(_) => view,
        By::Station(_) | By::Operator(_) => view.without_challenge(),
    }
}

fn status(state: StateName) -> StatusCode {
    match state {
        StateName::Proven | StateName::Paying | StateName::InDoubt => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    }
}

/// The parameters of a call, for the document: `id` in the path, the key in the header.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident = $($parameter:expr),+;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl IntoParams for $name {
                fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                    vec![$($parameter),+]
                }
            }
        )*
    };
}

parameters! {
    /// Of a read of one session.
    OfSession = session();
    /// Of an order to one session.
    OfOrder = session(), key();
    /// Of a write to one station.
    OfStationWrite = station(), key();
    /// Of a read of one station.
    OfStation = station();
    /// Of a stream of events.
    OfEvents = last_event_id();
    /// Of the stream of one station's events.
    OfStationEvents = station(), last_event_id();
    /// Of a read of one binding, and of a write that needs no key.
    OfBinding = binding();
    /// Of a change of one binding.
    OfBindingWrite = binding(), key();
    /// Of a phone's change of its own binding.
    OfPhoneWrite = key();
}

fn session() -> Parameter {
    let schema = SessionId::schema();
    let parameter = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some("The session: 32 hexadecimal digits.")).schema(Some(schema)).build()
}

fn station() -> Parameter {
    let schema = StationId::schema();
    let parameter = ParameterBuilder::new().name("station").parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some("The station's number.")).schema(Some(schema)).build()
}

fn binding() -> Parameter {
    let schema = BindingId::schema();
    let parameter = ParameterBuilder::new().name("binding").parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some("The binding: 32 hexadecimal digits.")).schema(Some(schema)).build()
}

fn last_event_id() -> Parameter {
    let description = "The `id` of the last event that was read of an earlier stream: what changed since then is told. \
                       Text that is no id of ours is passed over.";
    ParameterBuilder::new()
        .name("Last-Event-ID")
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(String::schema()))
        .build()
}

fn key() -> Parameter {
    let description = "The caller's own name for this write, 1 to 128 visible ASCII characters: sent again with the \
                       same body it has the same answer and no second effect.";
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(String::schema()))
        .build()
}

/// The problems that a kind of call may answer with, for the document.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $($set:expr),+;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    declare([$(&$set[..]),+].concat())
                }
            }
        )*
    };
}

const ANY: [Code; 4] = [Code::BadRequest, Code::TooManyCalls, Code::Overloaded, Code::Unavailable];
const TOKEN: [Code; 2] = [Code::Unauthorised, Code::Forbidden];
const BODY: [Code; 2] = [Code::BodyTooLarge, Code::MediaTypeUnsupported];
const FOUND: [Code; 1] = [Code::NotFound];
const KEYED: [Code; 3] = [Code::IdempotencyKeyMissing, Code::IdempotencyKeyReused, Code::IdempotencyKeyInUse];
const SALE: [Code; 8] = [
    Code::WrongState,
    Code::AmountMismatch,
    Code::PriceChanged,
    Code::GradeMismatch,
    Code::TransactionConflict,
    Code::PaidElsewhere,
    Code::AlreadyCleared,
    Code::BindingSuspended,
];
const MONEY: [Code; 3] = [Code::MeansNotPermitted, Code::Declined, Code::ProofWrong];
const PLATE: [Code; 6] = [
    Code::PlateNoMatch,
    Code::PlateAmbiguous,
    Code::VehicleNotPresent,
    Code::VehicleTaken,
    Code::ConcurrentPresence,
    Code::BindingSuspended,
];
const SIGNED: [Code; 8] = [
    Code::SignatureWrong,
    Code::ProofWrong,
    Code::NonceInvalid,
    Code::RequestExpired,
    Code::NoPhone,
    Code::NotProvable,
    Code::BindingSuspended,
    Code::BindingRevoked,
];
const BOUND: [Code; 4] = [Code::AlreadyBound, Code::DeviceLost, Code::PlateTaken, Code::CardNumberRefused];
const REASON: [Code; 2] = [Code::ReasonRequired, Code::CardNumberRefused];
const STANDING: [Code; 2] = [Code::BindingSuspended, Code::BindingRevoked];

problems! {
    /// Of a read that needs a token.
    ReadProblems = ANY, TOKEN, FOUND;
    /// Of a receipt.
    ReceiptProblems = ANY, TOKEN, FOUND, [Code::NotPaid];
    /// Of a selection.
    SelectProblems = ANY, TOKEN, FOUND, BODY, KEYED, PLATE;
    /// Of an order to a session.
    OrderProblems = ANY, TOKEN, FOUND, BODY, KEYED, SALE, MONEY;
    /// Of an operator's override of a session's grade.
    OverrideProblems = ANY, TOKEN, FOUND, BODY, KEYED, SALE, REASON;
    /// Of a write that is repeatable by nature.
    WriteProblems = ANY, TOKEN, FOUND, BODY;
    /// Of a write under a key that concerns no session.
    KeyedProblems = ANY, TOKEN, FOUND, BODY, KEYED;
    /// Of a coupling.
    CouplingProblems = ANY, FOUND, BODY, SIGNED, BOUND;
    /// Of a login.
    LoginProblems = ANY, BODY, [Code::Unauthorised, Code::RequestExpired, Code::BindingSuspended, Code::BindingRevoked];
    /// Of a signed word of a phone.
    SignedProblems = ANY, TOKEN, FOUND, BODY, SIGNED, [Code::ClockTooFar];
    /// Of an operator's change of a binding.
    BindingProblems = ANY, TOKEN, FOUND, BODY, KEYED, REASON, [Code::BindingRevoked, Code::PlateTaken];
    /// Of the registration of a beacon.
    BeaconProblems = ANY, TOKEN, BODY, [Code::BeaconKeyWeak, Code::EidMismatch, Code::ClockTooFar],
        [Code::DeviceKnown, Code::KeyTaken, Code::ActivationTaken];
    /// Of an operator's change that is repeatable by nature.
    ReasonProblems = ANY, TOKEN, FOUND, BODY, REASON;
    /// Of an announcement of a PSP.
    AnnouncementProblems = ANY, FOUND, [Code::BodyTooLarge, Code::AnnouncementRefused];
    /// Of letting another phone come.
    PermitProblems = ANY, TOKEN, FOUND, BODY, REASON, STANDING;
    /// Of a new phone's claim of a binding.
    PhoneClaimProblems = ANY, FOUND, BODY, STANDING, [Code::SignatureWrong, Code::NotProvable];
    /// Of a driver's change of his own binding.
    DriverProblems = ANY, TOKEN, FOUND, BODY, KEYED, STANDING,
        [Code::SignatureWrong, Code::NonceInvalid, Code::EpochChanged, Code::NoPhone],
        [Code::PlateTaken, Code::CardNumberRefused];
}

/// One response for each status, naming the codes that it comes with.
fn declare(codes: Vec<Code>) -> BTreeMap<String, RefOr<Response>> {
    let mut names: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in codes {
        let of_status = names.entry(code.status().as_u16()).or_default();
        if !of_status.contains(&code.as_str()) {
            of_status.push(code.as_str());
        }
    }
    let response = |names: &[&str]| {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new().description(names.join(", ")).content(problem::CONTENT_TYPE, content).build()
    };
    names.into_iter().map(|(status, names)| (status.to_string(), RefOr::T(response(&names)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_without_a_clear_answer_is_accepted_not_refused() {
        assert_eq!(status(StateName::InDoubt), StatusCode::ACCEPTED);
        assert_eq!(status(StateName::Paid), StatusCode::OK);
    }

    #[test]
    fn a_call_declares_its_problems_by_status() {
        let responses = serde_json::to_value(SelectProblems::responses()).unwrap();
        let conflict = responses["409"]["description"].as_str().unwrap();
        for code in ["PLATE_AMBIGUOUS", "CONCURRENT_PRESENCE", "IDEMPOTENCY_KEY_IN_USE"] {
            assert!(conflict.contains(code), "{conflict}");
        }
        assert!(responses["404"]["content"][problem::CONTENT_TYPE].is_object());
    }
}
