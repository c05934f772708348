//! What a dongle's code leads to: the binding of dongle, vehicle, phone and payment means.
//!
//! A binding is versioned: every change raises its `epoch`, and the epochs of one dongle never repeat, not even over
//! a new binding. So of two versions of a registration the one with the higher epoch is the newer one, wherever they
//! meet, and a proof over an old epoch is void.

use crate::engine::id::{BindingId, DeviceId};
use crate::engine::plate::Plate;

/// The current binding of a dongle: the live one, or the last one when it was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub device: DeviceId,
    pub binding: BindingId,
    pub epoch: u64,
    pub plate: Plate,
    pub fuel: Option<String>,
    /// The phone's Ed25519 public key; an imported binding may wait for its phone.
    pub phone: Option<[u8; 32]>,
    /// PSP tokens in the order in which they are charged.
    pub means: Vec<String>,
    pub status: BindingStatus,
    /// Whether the dongle owns a proof key. One without is seen and never charged.
    pub provable: bool,
}

impl Registration {
    pub fn is_active(&self) -> bool {
        self.status == BindingStatus::Active
    }

    /// What its subscribers need to know when it has changed.
    pub fn change(&self) -> Change {
        Change { device: self.device, binding: self.binding, epoch: self.epoch, status: self.status }
    }

    /// The first one of a dongle, active, imported without a phone.
    #[cfg(test)]
    pub(crate) fn for_tests(device: DeviceId, plate: &str) -> Registration {
        Registration {
            device,
            binding: BindingId([device.0 as u8; 16]),
            epoch: 1,
            plate: Plate::parse(plate).expect("tests write plates that can be read"),
            fuel: None,
            phone: None,
            means: Vec::new(),
            status: BindingStatus::Active,
            provable: true,
        }
    }
}

/// A binding as those see it who may; the means of payment and the phone's key stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Summary {
    pub binding: BindingId,
    pub device: DeviceId,
    pub epoch: u64,
    pub plate: String,
    pub fuel: Option<String>,
    pub status: BindingStatus,
    /// Whether a phone is bound.
    pub has_phone: bool,
    /// How many means of payment there are.
    pub means_count: usize,
}

impl From<&Registration> for Summary {
    fn from(registration: &Registration) -> Summary {
        Summary {
            binding: registration.binding,
            device: registration.device,
            epoch: registration.epoch,
            plate: registration.plate.as_str().to_owned(),
            fuel: registration.fuel.clone(),
            status: registration.status,
            has_phone: registration.phone.is_some(),
            means_count: registration.means.len(),
        }
    }
}

/// ```text
/// Active <-> Suspended
///    \          /
///      Revoked        (for ever: the dongle can be coupled anew)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BindingStatus {
    Active,
    Suspended,
    Revoked,
}

impl BindingStatus {
    pub fn name(self) -> &'static str {
        match self {
            BindingStatus::Active => "active",
            BindingStatus::Suspended => "suspended",
            BindingStatus::Revoked => "revoked",
        }
    }

    /// Both kinds keep their plate and dongle to themselves.
    pub fn is_live(self) -> bool {
        self != BindingStatus::Revoked
    }

    pub(super) fn from_name(name: &str) -> Option<BindingStatus> {
        match name {
            "active" => Some(BindingStatus::Active),
            "suspended" => Some(BindingStatus::Suspended),
            "revoked" => Some(BindingStatus::Revoked),
            _ => None,
        }
    }
}

/// A binding changed: coupled, amended, or updated by an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub device: DeviceId,
    pub binding: BindingId,
    pub epoch: u64,
    pub status: BindingStatus,
}
