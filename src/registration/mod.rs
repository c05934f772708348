//! Who owns a code: the truth store, the near cache, the codebook, coupling and bearer tokens.
//!
//! ```text
//! import, coupling, operator --> truth (SQLite, one writer) --after the commit--> near cache, roller, changes()
//!                                                                                        |  '--> snapshot
//! station: codebook() -> Hit -> cached() / find()                   codebook <--in place-'
//! ```
//!
//! Rules:
//! - The truth is written first; the near cache, the codebook and the subscribers learn of a change after its commit,
//!   on the writer's thread, so that a caller who goes away in between leaves nothing half done.
//! - The codebook holds the dongles of live bindings (active or suspended) and no others: an unbound dongle is a
//!   stranger to the stations, and coupling finds it by its activation code. A suspended one stays in, so that the
//!   attendant sees why the car cannot be served.
//! - A binding is changed in one place ([`amendment`]), whoever asks: with the dongle's next epoch, a line in the journal
//!   that names who and why, and one commit. What a phone signs stands in one table ([`signed`]).
//! - A snapshot, or a cache of [`segment`]s, is a copy of some [`Moment`]: a start asks the truth whether it was ever
//!   there, and for what changed since, so that nothing revoked comes back, and nothing of a history that a backup undid.
//! - Keys leave for the store sealed ([`envelope`]) and are wiped from memory; of a bearer token only the hash is kept.
//! - Redis, when there is one, stands between the near cache and the truth, and decides nothing ([`cache`]).

mod amendment;
mod binding;
mod cache;
mod clocks;
mod coupling;
mod driver;
mod effects;
mod eid;
pub mod envelope;
mod error;
mod fleet;
mod import;
mod keeping;
mod mandate;
mod metrics;
mod near;
mod nonces;
mod permits;
mod phone;
mod registrations;
mod roller;
pub mod segment;
pub mod shelf;
mod signed;
pub mod snapshot;
mod stations;
#[cfg(test)]
mod tests;
mod tokens;
mod truth;
mod vehicle;

pub use amendment::{Amendment, Cause};
pub use binding::{BindingStatus, Change, Registration, Summary};
pub use cache::{CacheState, Operator as CacheOperator, RedisCondition, RedisUrl, Verified, WarmError, Warmed};
pub use coupling::{Claim, Claimed, CouplingProof};
pub use driver::{DriverChange, Wish};
pub use eid::EidBeacon;
pub use envelope::KekHex;
pub use error::{Error, StartError, Unavailable};
pub use fleet::roll_at_once;
pub use import::{
    Company, ImportError, ImportReport, Part, Parts, Progress, REFUSALS_MAX, Refusal, import_devices, import_stations,
};
pub use mandate::{Mandate, Who};
pub use nonces::{IssuedNonce, Purpose};
pub use permits::{Permit, PhoneClaim};
pub use phone::{ClockProof, PhoneTokenRequest, PresenceProof};
pub use registrations::{Coupled, Device, Registrations};
pub use signed::{ChangeTerms, claim_message, phone_claim_message, phone_token_message};
pub use stations::Station;
pub use tokens::{OPERATOR_TOKEN_FILE, OperatorName, Role, Token};
// A claim is named in the stage that opens it, whoever asks.
pub use crate::engine::id::CouplingId;
pub use truth::{
    AuditRow, JournalRow, Life, Moment, NewKek, NextStep, ROTATION_BATCH, Request, Revision, RotateError, Rotated,
    Rotation, STORE_FILE, Truth,
};

/// The longest name of a fuel, in bytes.
pub const FUEL_BYTES_MAX: usize = 32;

/// Payment means of one binding.
pub const MEANS_MAX: usize = 8;

/// The longest token of a payment means, in bytes.
pub const MEANS_BYTES_MAX: usize = 128;

/// The longest reason for a change, in bytes: two sentences and a case number.
pub const REASON_BYTES_MAX: usize = 500;

/// The longest name of an operator, in bytes.
pub const OPERATOR_NAME_BYTES_MAX: usize = 32;

/// Settings of registrations; `default.toml` holds the defaults.
/// Describes and registers every metric of the stage, those of the cache too, with the recorder in force.
pub fn register_metrics() {
    let _ = metrics::Metrics::new();
    let _ = metrics::queues();
    let _ = metrics::CacheMetrics::new();
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key-encryption key; without it the file `kek` of the data folder holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kek_hex: Option<KekHex>,
    /// Redis as a cache; without it the store answers what the near cache does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<RedisUrl>,
    /// Milliseconds that a look-up waits for Redis before it goes to the store.
    pub redis_wait_ms: u32,
    /// Registrations kept in memory, about 400 bytes each.
    pub near_entries: usize,
    /// Bearer tokens kept in memory, about 120 bytes each.
    pub token_entries: usize,
    /// Writes, and look-ups, that wait for the store.
    pub store_queue: usize,
    /// Verified hearings that wait to teach a dongle's clock, 32 bytes each.
    pub clock_queue: usize,
    /// Seconds after which learned clocks are saved; a crash loses as much.
    pub clock_save_seconds: u32,
    /// Milliseconds in which changes of bindings gather before the codebook takes them over.
    pub rebuild_delay_ms: u32,
    /// Seconds between two snapshots of the codebook's dongles; 0 is only at the end.
    pub snapshot_seconds: u32,
    /// Changes that a subscriber may lag behind before it has to start anew, 48 bytes each.
    pub changes_queue: usize,
    /// Open claims at a time.
    pub claims_max: u32,
    /// Seconds that a claim waits for the dongle's proof.
    pub claim_seconds: u32,
    /// Open nonces of phones at a time, 200 bytes each.
    pub nonces_max: usize,
    /// Seconds that a phone's nonce is good for.
    pub nonce_seconds: u32,
    /// Days that a phone's token is good for; 0 is for ever.
    pub phone_token_days: u32,
}
