//! Why a station refuses: one enum for each of its callers.

use crate::session;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("no such station")]
    Unknown,
    #[error("the station's actor has ended")]
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StationError {
    #[error("no such station")]
    UnknownStation,
    #[error("the station cannot be asked at present")]
    Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("no such station")]
    UnknownStation,
    #[error("no vehicle that is present has this plate")]
    NoMatch,
    #[error("the vehicle is not present")]
    NotPresent,
    #[error("the vehicle is heard at two stations at once; the driver has to confirm where it is")]
    Contested,
    #[error("the vehicle's registration is suspended")]
    Suspended,
    #[error(transparent)]
    Session(#[from] session::Error),
    #[error("the station cannot be asked at present")]
    Unavailable,
}

impl From<StationError> for SelectError {
    fn from(error: StationError) -> SelectError {
        match error {
            StationError::UnknownStation => SelectError::UnknownStation,
            StationError::Unavailable => SelectError::Unavailable,
        }
    }
}
