//! Why a station refuses: one enum for each of its callers.

use crate::{engine::batch::BatchError, session};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("no such station")]
    Unknown,
    #[error("the station's actor has ended")]
    Gone,
}

/// Why batches were not applied; those before the one at fault were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    #[error(transparent)]
    Batch(BatchError),
    /// A newer uplink has taken over, or the actor has ended.
    #[error("the uplink is not the station's any more")]
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
