//! Why a registration call was refused: one variant for each answer that a caller gives differently.

/// The store did not answer: it is stopping, its queue is full, or the disk refused. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registration store is not available")]
pub struct Unavailable;

/// A refused coupling, token, proof or change of a binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no dongle has this activation code")]
    UnknownActivation,
    #[error("no such claim, or its time is up; start a new one")]
    UnknownCoupling,
    #[error("no such dongle")]
    UnknownDevice,
    #[error("no such binding")]
    UnknownBinding,
    #[error("the dongle is bound already")]
    AlreadyBound,
    #[error("the plate is bound to another dongle")]
    PlateTaken,
    #[error("the plate is not one: {0}")]
    Plate(String),
    #[error("a card number has no place here; payment means are tokens of the payment provider")]
    CardNumber,
    #[error("{0}")]
    Means(&'static str),
    #[error("the fuel is a word of at most {} bytes", super::FUEL_BYTES_MAX)]
    Fuel,
    #[error("the dongle has no proof key and cannot be coupled")]
    NotProvable,
    #[error("the binding has no phone")]
    NoPhone,
    #[error("the phone's signature does not fit")]
    BadSignature,
    #[error("the dongle's proof does not fit")]
    BadProof,
    #[error("the nonce is unknown, used or expired; ask for a new one")]
    BadNonce,
    #[error("the request is too old, from the future, or was used before")]
    Expired,
    #[error("the dongle's clock is further off than can be followed")]
    ClockTooFar,
    #[error("the binding is suspended")]
    Suspended,
    #[error("the binding was revoked")]
    Revoked,
    #[error("the dongle was reported lost; an operator frees it when it is found")]
    DeviceLost,
    #[error("no phone may take the place of this binding's, or the code is wrong or its time is up")]
    UnknownPermit,
    #[error("the binding is not what the phone signed any more; read it again")]
    EpochChanged,
    #[error("say why, in 1 to {} bytes of plain text", super::REASON_BYTES_MAX)]
    Reason,
    #[error("an operator's name is 1 to {} letters, digits, dots and dashes", super::OPERATOR_NAME_BYTES_MAX)]
    OperatorName,
    #[error("the beacon's public key is a point of low order, with which anybody knows the shared secret")]
    WeakBeaconKey,
    #[error("the EID does not follow from the keys at that time of the beacon's clock")]
    EidMismatch,
    #[error("an EID lasts 2^K seconds, K at most 15, and no less than a slot")]
    Exponent,
    #[error("an activation code has 1 to 64 bytes")]
    ActivationCode,
    #[error("the dongle is known otherwise")]
    DeviceKnown,
    #[error("another dongle has this key")]
    KeyTaken,
    #[error("another dongle has this activation code")]
    ActivationTaken,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("too many open claims; try again later")]
    TooManyClaims,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Unavailable(error.into())
    }
}

/// Why the stage cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{path}: {source}")]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error("registrations.db: {0}")]
    Store(#[from] rusqlite::Error),
    #[error("{0}")]
    Unfit(String),
    #[error(
        "registrations.db has tables {found}, and this program takes {known}: {}",
        if found > known {
            "a newer forecourt wrote it; start that one, or put back the backup made before the upgrade"
        } else {
            "a start of the engine brings older ones up to them"
        }
    )]
    Tables { found: i32, known: i32 },
    #[error("the key-encryption key is not 64 hexadecimal digits")]
    KekForm,
    #[error("the key-encryption key is not the one that registrations.db was written with")]
    WrongKek,
    #[error(
        "a rotation of the key-encryption key was cut off; end it with `forecourt keys rotate`, with the old key where \
         it is and the same new one"
    )]
    Rotating,
    #[error("the system has no randomness: {0}")]
    Randomness(getrandom::Error),
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
