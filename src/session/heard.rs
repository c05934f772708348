//! What was heard of a vehicle when it was selected: journalled with the session, as evidence that it was there.

use crate::engine::{
    id::{PumpNumber, ReceiverId},
    plate::Fit,
    time::UnixMs,
};

/// Receivers that a session remembers, the best first; a forecourt has two an island. 2 bytes each in the journal.
pub const RECEIVERS_KEPT_MAX: usize = 16;

#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Heard {
    /// The first hearing of the visit, to the second.
    pub first: UnixMs,
    pub last: UnixMs,
    pub hearings: u32,
    /// Those that heard it lately, the best first; at most 16.
    pub receivers: Vec<Level>,
    /// The pump whose receiver heard it best.
    pub pump: Option<PumpNumber>,
    pub matched: Matched,
}

/// How well a receiver heard the dongle.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    utoipa::ToSchema,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Level {
    pub receiver: ReceiverId,
    /// Smoothed.
    pub rssi_dbm: i8,
}

/// How the attendant's question met the plate.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Matched {
    /// What was typed, masked like a plate.
    pub query: String,
    pub fit: Fit,
    /// The attendant picked it out of several that fitted.
    pub picked: bool,
}
