//! A car of the model: who it belongs to, and the trip that it is on.
//!
//! ```text
//! Away -> DrivingIn -> AtPump -(the attendant is done)-> DrivingOut -> Away
//! Away -> Passing -> Away                                   a registered car that stays on the road
//! Standing                                                  a beacon that is nobody's dongle, before the shop
//! ```

use forecourt::engine::{id::PumpNumber, time::UnixMs};

use super::{
    dongle::Dongle,
    site::{Point, Site},
};

/// A car's number in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CarId(pub usize);

/// A station's place in the fleet's list of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub usize);

pub const DRIVE_IN_MS: u64 = 2_500;
pub const DRIVE_OUT_MS: u64 = 2_000;
pub const PASS_MS: u64 = 8_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Comes to fuel.
    Customer,
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
    Away { until: UnixMs, next: SiteId },
    DrivingIn { site: SiteId, pump: PumpNumber, since: UnixMs },
    AtPump { site: SiteId, pump: PumpNumber, engine_off_at: UnixMs },
    DrivingOut { site: SiteId, pump: PumpNumber, since: UnixMs },
    Passing { site: SiteId, since: UnixMs },
    Standing { site: SiteId, part: f64 },
}

impl Trip {
    /// The station whose receivers may hear the car.
    pub fn site(&self) -> Option<SiteId> {
        match *self {
            Trip::Away { .. } => None,
            Trip::DrivingIn { site, .. }
            | Trip::AtPump { site, .. }
            | Trip::DrivingOut { site, .. }
            | Trip::Passing { site, .. }
            | Trip::Standing { site, .. } => Some(site),
        }
    }

    /// The pump that the car is at, on its way to, or just leaving.
    pub fn pump(&self) -> Option<PumpNumber> {
        match *self {
            Trip::DrivingIn { pump, .. } | Trip::AtPump { pump, .. } | Trip::DrivingOut { pump, .. } => Some(pump),
            Trip::Away { .. } | Trip::Passing { .. } | Trip::Standing { .. } => None,
        }
    }

    /// Where the car is in the plane of its station.
    pub fn place(&self, sites: &[Site], now: UnixMs) -> Option<(SiteId, Point)> {
        let part = |since: UnixMs, lasts: u64| (now.since(since) as f64 / lasts as f64).min(1.0);
        let at = self.site()?;
        let site = &sites[at.0];
        let place = match *self {
            Trip::Away { .. } => return None,
            Trip::DrivingIn { pump, since, .. } => site.driving_in(pump, part(since, DRIVE_IN_MS)),
            Trip::AtPump { pump, .. } => site.at_pump(pump),
            Trip::DrivingOut { pump, since, .. } => site.driving_out(pump, part(since, DRIVE_OUT_MS)),
            Trip::Passing { since, .. } => site.passing(part(since, PASS_MS)),
            Trip::Standing { part, .. } => site.before_the_shop(part),
        };
        Some((at, place))
    }
}

#[derive(Debug, Clone)]
pub struct Car {
    pub role: Role,
    pub plate: String,
    pub fuel: &'static str,
    /// PSP tokens, the preferred one first.
    pub means: Vec<String>,
    /// The seed of the phone's Ed25519 key.
    pub phone_seed: [u8; 32],
    pub enrolment: Enrolment,
    pub dongle: Dongle,
    pub trip: Trip,
    /// The next moment at which the dongle advertises.
    pub next_frame: UnixMs,
}
