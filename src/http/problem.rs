//! What a caller is told when a call is refused: a problem of RFC 9457 with a stable `code`.
//!
//! Programs act on `code`, people read `detail`. Every error of a stage meets its code in one exhaustive match, so a
//! new variant cannot leave without somebody deciding what it means to a caller. What a problem says is meant for the
//! caller; what only an operator may know stays in the log.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    engine::plate::PlateError,
    registration::{self, ImportError, Unavailable},
    session,
    station::{SelectError, StationError},
};

pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// The codes with their status and title, in one table: the enum, its names and its status cannot drift apart.
macro_rules! codes {
    ($($name:ident = $text:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, stable over releases.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum Code {
            $($name,)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    BadRequest = "BAD_REQUEST", BAD_REQUEST, "The request is not usable";
    IdempotencyKeyMissing = "IDEMPOTENCY_KEY_MISSING", BAD_REQUEST, "The call needs an Idempotency-Key";
    ReasonRequired = "REASON_REQUIRED", BAD_REQUEST, "The change needs a reason";
    AnnouncementRefused = "ANNOUNCEMENT_REFUSED", BAD_REQUEST, "The announcement is not taken";
    Unauthorised = "UNAUTHORISED", UNAUTHORIZED, "A valid bearer token is needed";
    Declined = "DECLINED", PAYMENT_REQUIRED, "The payment was declined";
    Forbidden = "FORBIDDEN", FORBIDDEN, "Not the caller's to do";
    MeansNotPermitted = "MEANS_NOT_PERMITTED", FORBIDDEN, "No means of payment permits this";
    PaidElsewhere = "PAID_ELSEWHERE", FORBIDDEN, "Paid at the counter";
    SignatureWrong = "SIGNATURE_WRONG", FORBIDDEN, "The phone's signature does not fit";
    NotFound = "NOT_FOUND", NOT_FOUND, "There is no such thing";
    VehicleNotPresent = "VEHICLE_NOT_PRESENT", NOT_FOUND, "The vehicle is not present";
    PlateNoMatch = "PLATE_NO_MATCH", NOT_FOUND, "No vehicle present has this plate";
    MethodNotAllowed = "METHOD_NOT_ALLOWED", METHOD_NOT_ALLOWED, "The path does not take this method";
    PlateAmbiguous = "PLATE_AMBIGUOUS", CONFLICT, "Several vehicles fit the plate";
    AmountMismatch = "AMOUNT_MISMATCH", CONFLICT, "Volume, price and amount do not agree";
    PriceChanged = "PRICE_CHANGED", CONFLICT, "The unit price is not the station's";
    ConcurrentPresence = "CONCURRENT_PRESENCE", CONFLICT, "The vehicle appears at two stations";
    VehicleTaken = "VEHICLE_TAKEN", CONFLICT, "The vehicle is in another session";
    TransactionConflict = "TRANSACTION_CONFLICT", CONFLICT, "The site transaction is known with other contents";
    WrongState = "WRONG_STATE", CONFLICT, "The state does not take this order";
    ProofWrong = "PROOF_WRONG", CONFLICT, "The proof does not fit";
    NotPaid = "NOT_PAID", CONFLICT, "The sale is not paid";
    IdempotencyKeyInUse = "IDEMPOTENCY_KEY_IN_USE", CONFLICT, "The same request is still running";
    AlreadyBound = "ALREADY_BOUND", CONFLICT, "The dongle is bound";
    PlateTaken = "PLATE_TAKEN", CONFLICT, "The plate is bound to another dongle";
    DeviceLost = "DEVICE_LOST", CONFLICT, "The dongle was reported lost";
    DeviceKnown = "DEVICE_KNOWN", CONFLICT, "The dongle is known otherwise";
    KeyTaken = "KEY_TAKEN", CONFLICT, "Another dongle has the key";
    ActivationTaken = "ACTIVATION_TAKEN", CONFLICT, "Another dongle has the activation code";
    EpochChanged = "EPOCH_CHANGED", CONFLICT, "The binding was changed since it was read";
    NotProvable = "NOT_PROVABLE", CONFLICT, "The dongle cannot prove anything";
    NoPhone = "NO_PHONE", CONFLICT, "The binding has no phone";
    NonceInvalid = "NONCE_INVALID", CONFLICT, "The nonce is unknown, used or expired";
    RequestExpired = "REQUEST_EXPIRED", CONFLICT, "The signed request is too old";
    AlreadyCleared = "ALREADY_CLEARED", GONE, "The payment is cleared";
    BindingRevoked = "BINDING_REVOKED", GONE, "The binding was revoked";
    BodyTooLarge = "BODY_TOO_LARGE", PAYLOAD_TOO_LARGE, "The body is too large";
    MediaTypeUnsupported = "MEDIA_TYPE_UNSUPPORTED", UNSUPPORTED_MEDIA_TYPE, "The body has another media type";
    GradeMismatch = "GRADE_MISMATCH", UNPROCESSABLE_ENTITY, "The grade does not fit the vehicle";
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", UNPROCESSABLE_ENTITY, "The key was used for another request";
    CardNumberRefused = "CARD_NUMBER_REFUSED", UNPROCESSABLE_ENTITY, "Card numbers are not taken";
    BeaconKeyWeak = "BEACON_KEY_WEAK", UNPROCESSABLE_ENTITY, "The beacon's public key is not usable";
    EidMismatch = "EID_MISMATCH", UNPROCESSABLE_ENTITY, "The EID does not follow from the keys";
    ClockTooFar = "CLOCK_TOO_FAR", UNPROCESSABLE_ENTITY, "The dongle's clock is too far off";
    BindingSuspended = "BINDING_SUSPENDED", LOCKED, "The binding is suspended";
    TooManyCalls = "TOO_MANY_CALLS", TOO_MANY_REQUESTS, "The caller calls too often";
    Overloaded = "OVERLOADED", SERVICE_UNAVAILABLE, "Too much is under way";
    Unavailable = "UNAVAILABLE", SERVICE_UNAVAILABLE, "The service cannot answer at present";
}

/// A refused call. Some codes carry more members: `candidates`, `expected`, `state`, `session`, `tries_left`.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; it says what `code` says.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// For people; its words may change.
    detail: Cow<'static, str>,
    code: Code,
    #[serde(flatten)]
    #[schema(additional_properties)]
    members: Map<String, Value>,
    /// Seconds after which the call may be made again.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            kind: format!("tag:forecourt,2026:problem/{}", code.as_str()),
            title: code.title(),
            status: code.status().as_u16(),
            detail: detail.into(),
            code,
            members: Map::new(),
            retry_after: (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// To be tried again after so many seconds.
    pub(super) fn after(self, seconds: u64) -> Problem {
        Problem { retry_after: Some(seconds), ..self }
    }

    /// Adds a member of the code's own.
    pub(super) fn with(mut self, name: &str, value: impl Serialize) -> Problem {
        let value = serde_json::to_value(value).expect("members are plain data with string keys");
        self.members.insert(name.to_owned(), value);
        self
    }

    pub fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("a problem is plain data with string keys");
        let mut response = (self.code.status(), [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        if self.code == Code::Unauthorised {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        // For who counts problems, and who adds to them.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<session::Error> for Problem {
    fn from(error: session::Error) -> Problem {
        use session::Error;
        let code = match error {
            Error::NotFound => Code::NotFound,
            Error::NotPermitted => Code::Forbidden,
            Error::WrongState(_) => Code::WrongState,
            Error::Invalid(_) => Code::BadRequest,
            Error::AmountMismatch { .. } => Code::AmountMismatch,
            Error::PriceChanged => Code::PriceChanged,
            Error::GradeMismatch => Code::GradeMismatch,
            Error::TransactionConflict => Code::TransactionConflict,
            Error::KeyReused => Code::IdempotencyKeyReused,
            Error::MeansNotPermitted => Code::MeansNotPermitted,
            Error::Declined => Code::Declined,
            Error::PaidElsewhere => Code::PaidElsewhere,
            Error::AlreadyCleared => Code::AlreadyCleared,
            Error::BindingSuspended => Code::BindingSuspended,
            Error::VehicleTaken(_) => Code::VehicleTaken,
            Error::ProofWrong { .. } => Code::ProofWrong,
            Error::NotPaid => Code::NotPaid,
            Error::Overloaded => Code::Overloaded,
            Error::Unavailable => Code::Unavailable,
        };
        let problem = Problem::new(code, error.to_string());
        match error {
            Error::WrongState(state) => problem.with("state", state),
            Error::AmountMismatch { expected } => problem.with("expected", expected),
            Error::VehicleTaken(session) => problem.with("session", session),
            Error::ProofWrong { tries_left } => problem.with("tries_left", tries_left),
            _ => problem,
        }
    }
}

impl From<registration::Error> for Problem {
    fn from(error: registration::Error) -> Problem {
        use registration::Error;
        let code = match error {
            Error::UnknownActivation
            | Error::UnknownCoupling
            | Error::UnknownDevice
            | Error::UnknownBinding
            | Error::UnknownPermit => Code::NotFound,
            Error::AlreadyBound => Code::AlreadyBound,
            Error::PlateTaken => Code::PlateTaken,
            Error::DeviceLost => Code::DeviceLost,
            Error::EpochChanged => Code::EpochChanged,
            Error::Reason => Code::ReasonRequired,
            Error::KeyReused => Code::IdempotencyKeyReused,
            Error::WeakBeaconKey => Code::BeaconKeyWeak,
            Error::EidMismatch => Code::EidMismatch,
            Error::DeviceKnown => Code::DeviceKnown,
            Error::KeyTaken => Code::KeyTaken,
            Error::ActivationTaken => Code::ActivationTaken,
            Error::Plate(_)
            | Error::Means(_)
            | Error::Fuel
            | Error::Exponent
            | Error::ActivationCode
            | Error::OperatorName => Code::BadRequest,
            Error::CardNumber => Code::CardNumberRefused,
            Error::NotProvable => Code::NotProvable,
            Error::NoPhone => Code::NoPhone,
            Error::BadSignature => Code::SignatureWrong,
            Error::BadProof => Code::ProofWrong,
            Error::BadNonce => Code::NonceInvalid,
            Error::Expired => Code::RequestExpired,
            Error::ClockTooFar => Code::ClockTooFar,
            Error::Suspended => Code::BindingSuspended,
            Error::Revoked => Code::BindingRevoked,
            Error::TooManyClaims => Code::Overloaded,
            Error::Unavailable(_) => Code::Unavailable,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<SelectError> for Problem {
    fn from(error: SelectError) -> Problem {
        let code = match error {
            SelectError::UnknownStation => Code::NotFound,
            SelectError::NoMatch => Code::PlateNoMatch,
            SelectError::NotPresent => Code::VehicleNotPresent,
            SelectError::Contested => Code::ConcurrentPresence,
            SelectError::Suspended => Code::BindingSuspended,
            SelectError::Session(error) => return error.into(),
            SelectError::Unavailable => Code::Unavailable,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<StationError> for Problem {
    fn from(error: StationError) -> Problem {
        let code = match error {
            StationError::UnknownStation => Code::NotFound,
            StationError::Unavailable => Code::Unavailable,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Problem {
        let code = match error {
            ImportError::Unavailable(_) | ImportError::Named(_) => Code::Unavailable,
            ImportError::Read(_)
            | ImportError::RowTooLong { .. }
            | ImportError::ColumnMissing(_)
            | ImportError::ColumnUnknown { .. }
            | ImportError::ColumnTwice(_) => Code::BadRequest,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Problem {
        Problem::new(Code::Unavailable, error.to_string())
    }
}

impl From<PlateError> for Problem {
    fn from(error: PlateError) -> Problem {
        Problem::new(Code::BadRequest, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::engine::session::StateName;

    #[test]
    fn every_code_has_a_name_of_its_own_and_an_error_status() {
        let names: HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_refused_order_says_what_the_caller_can_act_on() {
        let problem = Problem::from(session::Error::AmountMismatch { expected: 7196 });
        let value = serde_json::to_value(&problem).unwrap();
        assert_eq!(value["status"], 409);
        assert_eq!(value["code"], "AMOUNT_MISMATCH");
        assert_eq!(value["expected"], 7196);
        assert_eq!(value["type"], "tag:forecourt,2026:problem/AMOUNT_MISMATCH");

        let state = serde_json::to_value(Problem::from(session::Error::WrongState(StateName::Paid))).unwrap();
        assert_eq!(state["state"], serde_json::to_value(StateName::Paid).unwrap());
    }

    #[test]
    fn a_problem_goes_out_with_its_media_type_and_status() {
        let response = Problem::new(Code::Unauthorised, "no token").into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
