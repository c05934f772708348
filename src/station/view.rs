//! What a terminal sees of a station. Plates are masked: the attendant looks at the car, not at a list of people.

use crate::{
    engine::{
        id::{BindingId, PumpNumber},
        presence::{Seen, State},
        time::UnixMs,
    },
    registration::Registration,
    session::SessionView,
};

/// A registered vehicle on the forecourt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct VehicleView {
    pub binding: BindingId,
    /// Masked.
    pub plate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<String>,
    pub state: State,
    /// When it entered.
    pub since: UnixMs,
    /// The pump whose receiver hears it best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pump: Option<PumpNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rssi_dbm: Option<i8>,
    /// In a session.
    pub selected: bool,
}

impl VehicleView {
    pub(super) fn new(seen: &Seen, registration: &Registration) -> VehicleView {
        VehicleView {
            binding: registration.binding,
            plate: registration.plate.masked(),
            fuel: registration.fuel.clone(),
            state: seen.state,
            since: seen.entered,
            pump: seen.pump,
            rssi_dbm: seen.strongest.map(|(_, dbm)| dbm),
            selected: seen.pinned,
        }
    }
}

/// One of several vehicles that fit what was typed: the same call with its `candidate` picks it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    pub candidate: BindingId,
    /// Masked.
    pub plate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pump: Option<PumpNumber>,
    pub state: State,
}

impl Candidate {
    pub(super) fn new(seen: &Seen, registration: &Registration) -> Candidate {
        Candidate {
            candidate: registration.binding,
            plate: registration.plate.masked(),
            pump: seen.pump,
            state: seen.state,
        }
    }
}

/// A change that the terminal is told of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum StationEvent {
    Presence {
        at: UnixMs,
        vehicle: VehicleView,
    },
    /// Boxed: it is five times as large as the other.
    Session {
        session: Box<SessionView>,
    },
}
