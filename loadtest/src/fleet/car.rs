//! A car of the model: who it belongs to, and the trip that it is on.
//!
//! ```text
//! Away -> DrivingIn -> Stopped -(served, or dwelt enough)-> DrivingOut -> Away     a customer, or a guest of the shop
//! Away -> Passing -> Away                                                         a registered car on the road
//! Stopped                                                                         a beacon that is nobody's dongle
//! ```

use forecourt::engine::{id::PumpNumber, time::UnixMs};

use super::{dongle::Dongle, site::Spot};

/// A car's number in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CarId(pub u32);

/// A station's place in the fleet's list of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

impl CarId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl SiteId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

pub const DRIVE_IN_MS: u64 = 2_500;
pub const DRIVE_OUT_MS: u64 = 2_000;
pub const PASS_MS: u64 = 8_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Comes to fuel.
    Customer,
    /// Comes for the shop or the air pump, and is on the forecourt like anybody.
    Guest,
    /// Drives past and must not enter.
    Passer,
    /// Another maker's beacon, or a dongle that nobody registered: its codes are unknown.
    Stranger,
}

/// How a car comes to its binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// The import names plate, phone and means.
    Imported,
    /// The import knows the dongle; the phone couples it by the code on its label.
    Coupled {
        activation_code: String,
    },
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trip {
    Away,
    DrivingIn { site: SiteId, spot: Spot },
    Stopped { site: SiteId, spot: Spot },
    DrivingOut { site: SiteId, spot: Spot },
    Passing { site: SiteId },
}

impl Trip {
    /// The station whose receivers may hear the car.
    pub fn site(&self) -> Option<SiteId> {
        match *self {
            Trip::Away => None,
            Trip::DrivingIn { site, .. }
            | Trip::Stopped { site, .. }
            | Trip::DrivingOut { site, .. }
            | Trip::Passing { site } => Some(site),
        }
    }

    /// The station on whose forecourt the car is.
    pub fn forecourt(&self) -> Option<SiteId> {
        self.spot().and_then(|_| self.site())
    }

    /// Where the car stands, is on its way to, or just leaving from.
    pub fn spot(&self) -> Option<Spot> {
        match *self {
            Trip::DrivingIn { spot, .. } | Trip::Stopped { spot, .. } | Trip::DrivingOut { spot, .. } => Some(spot),
            Trip::Away | Trip::Passing { .. } => None,
        }
    }

    pub fn pump(&self) -> Option<PumpNumber> {
        match self.spot()? {
            Spot::Pump(pump) => Some(pump),
            Spot::Waiting(_) => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Car {
    pub role: Role,
    /// The station that it comes to first.
    pub home: SiteId,
    pub plate: String,
    pub fuel: &'static str,
    /// PSP tokens, the preferred one first.
    pub means: Vec<String>,
    /// The seed of the phone's Ed25519 key.
    pub phone_seed: [u8; 32],
    pub enrolment: Enrolment,
    pub dongle: Dongle,
    pub trip: Trip,
    /// Counts the visits that the car has begun.
    pub visit: u32,
    /// The forecourt that it left last, and when.
    pub left: Option<(SiteId, UnixMs)>,
}
