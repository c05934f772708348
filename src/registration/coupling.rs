//! Coupling: phone, dongle, vehicle and payment means become one binding.
//!
//! ```text
//! phone: claim(activation code, own key, plate, means; signed)  ->  nonce
//! dongle: MAC over nonce and phone key (possession); phone countersigns
//! phone: prove(MAC, signature)                                   ->  binding, bearer token
//! ```
//!
//! The activation code says which dongle is meant, and nothing more: it is printed on a label. What binds is the
//! dongle's own answer. A dongle has one open claim, and a newer one takes its place, so that nobody locks another one
//! out by claiming; wrong proofs are counted, and a few of them end the claim. A dongle that is bound is not claimed until
//! its binding ends, by its phone or by an operator; one that was reported lost, until an operator frees it.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::binding::Registration;
use super::envelope::Envelope;
use super::error::Error;
use super::mandate::Author;
use super::nonces::{random_id, random_nonce};
use super::permits::replace_phone;
use super::signed::{claim_message, digest};
use super::tokens::{self, Grant, Role, Token};
use super::truth::{activation_owner, audit, bind, binding_of, live_binding_of_plate, lost_since, proof_key};
use super::vehicle::{Vehicle, check_means, parse_fuel, parse_plate};
use crate::engine::id::{BindingId, CouplingId, DeviceId};
use crate::engine::plate::Plate;
use crate::engine::proof::{CoupleTerms, Nonce, Terms as _, verify_signature};
use crate::engine::time::UnixMs;

/// Wrong proofs that a claim stands: a phone that lost the radio in the middle, twice.
const TRIES_MAX: u32 = 3;

/// A phone's wish to be bound.
#[derive(Debug, Clone)]
pub struct Claim {
    pub activation_code: String,
    /// Ed25519.
    pub phone_key: [u8; 32],
    pub plate: String,
    pub fuel: Option<String>,
    /// PSP tokens in the order in which they are to be charged.
    pub means: Vec<String>,
    /// Over [`claim_message`](super::claim_message).
    pub signature: [u8; 64],
}

/// An open claim: the dongle is to prove over [`CoupleTerms`] with this nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub coupling: CouplingId,
    pub device: DeviceId,
    pub nonce: Nonce,
    pub expires: UnixMs,
}

#[derive(Debug, Clone)]
pub struct CouplingProof {
    pub coupling: CouplingId,
    pub mac: [u8; 32],
    pub signature: [u8; 64],
}

/// A claim whose signature and form are in order.
pub(super) struct CheckedClaim {
    activation_hash: [u8; 32],
    phone_key: [u8; 32],
    vehicle: Vehicle,
}

impl Claim {
    pub(super) fn check(self) -> Result<CheckedClaim, Error> {
        let plate = parse_plate(&self.plate)?;
        let fuel = parse_fuel(self.fuel.as_deref().unwrap_or(""))?;
        check_means(&self.means)?;
        let message = claim_message(&self.activation_code, &self.phone_key, &self.plate);
        if !verify_signature(&self.phone_key, &message, &self.signature) {
            return Err(Error::BadSignature);
        }
        let vehicle = Vehicle { plate, fuel, phone: Some(self.phone_key), means: self.means };
        let activation_hash = digest(self.activation_code.as_bytes());
        Ok(CheckedClaim { activation_hash, phone_key: self.phone_key, vehicle })
    }
}

impl CheckedClaim {
    pub(super) fn open(&self, db: &Connection, claims_max: u32, ttl_ms: u64, now: UnixMs) -> Result<Claimed, Error> {
        let device = activation_owner(db, &self.activation_hash)?.ok_or(Error::UnknownActivation)?;
        check_free(db, device, &self.vehicle.plate)?;
        let claim = NewClaim { device, phone_key: self.phone_key, vehicle: &self.vehicle, binding: None };
        claim.open(db, claims_max, ttl_ms, now)
    }
}

/// A claim that may be opened: of a free dongle, or of a binding that waits for another phone.
pub(super) struct NewClaim<'a> {
    pub(super) device: DeviceId,
    pub(super) phone_key: [u8; 32],
    pub(super) vehicle: &'a Vehicle,
    pub(super) binding: Option<BindingId>,
}

impl NewClaim<'_> {
    /// Opens the claim, in place of an earlier one for the same dongle.
    pub(super) fn open(&self, db: &Connection, claims_max: u32, ttl_ms: u64, now: UnixMs) -> Result<Claimed, Error> {
        db.prepare_cached("DELETE FROM couplings WHERE expires_ms <= ?1")?.execute([now.0 as i64])?;
        let is_provable: bool = db
            .prepare_cached("SELECT proof_key IS NOT NULL FROM devices WHERE device_id = ?1")?
            .query_row([self.device.0 as i64], |row| row.get(0))?;
        if !is_provable {
            return Err(Error::NotProvable);
        }
        db.prepare_cached("DELETE FROM couplings WHERE device_id = ?1")?.execute([self.device.0 as i64])?;
        let open: u32 = db.prepare_cached("SELECT count(*) FROM couplings")?.query_row([], |row| row.get(0))?;
        if open >= claims_max {
            return Err(Error::TooManyClaims);
        }
        let coupling = CouplingId(random_id());
        let claimed = Claimed { coupling, device: self.device, nonce: random_nonce(), expires: now.plus(ttl_ms) };
        self.insert(db, &claimed)?;
        Ok(claimed)
    }

    fn insert(&self, db: &Connection, claimed: &Claimed) -> rusqlite::Result<()> {
        db.prepare_cached(
            "INSERT INTO couplings (id, device_id, phone_key, plate, fuel, means, nonce, expires_ms, binding)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            claimed.coupling.0,
            claimed.device.0 as i64,
            self.phone_key,
            self.vehicle.plate.as_str(),
            self.vehicle.fuel,
            // Tokens hold no blanks.
            self.vehicle.means.join(" "),
            claimed.nonce,
            claimed.expires.0 as i64,
            self.binding.map(|binding| binding.0),
        ])
        .map(drop)
    }
}

/// A claim as it waits for its proof.
struct OpenClaim {
    device: DeviceId,
    phone_key: [u8; 32],
    vehicle: Vehicle,
    nonce: Nonce,
    tries: u32,
    expires: UnixMs,
    binding: Option<BindingId>,
}

/// What a proof made: a new binding, or one that has another phone.
pub(super) struct Bound {
    pub(super) registration: Registration,
    pub(super) token: Token,
    pub(super) is_new: bool,
}

impl CouplingProof {
    /// Binds when the proof fits. A refusal that is to stay in the store (a try that was used up) is the inner error;
    /// the outer one takes everything back.
    pub(super) fn bind(
        &self,
        db: &Connection,
        envelope: &Envelope,
        token_expires: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<Result<Bound, Error>, Error> {
        let claim = self.select(db)?.filter(|claim| now < claim.expires).ok_or(Error::UnknownCoupling)?;
        if claim.binding.is_none() {
            check_free(db, claim.device, &claim.vehicle.plate)?;
        }
        let key = proof_key(db, envelope, claim.device)?.ok_or(Error::NotProvable)?;
        let terms = CoupleTerms { nonce: claim.nonce, device: claim.device, phone_key: claim.phone_key };
        let refusal = if !terms.verify(&key, &self.mac) {
            Some(Error::BadProof)
        } else if !terms.verify_phone(&claim.phone_key, &self.mac, &self.signature) {
            Some(Error::BadSignature)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.count_try(db, &claim)?;
            return Ok(Err(refusal));
        }
        self.remove(db)?;
        let registration = match claim.binding {
            Some(binding) => replace_phone(db, binding, claim.phone_key, now)?.changed.ok_or(Error::UnknownPermit)?,
            None => couple(db, &claim, now)?,
        };
        let role = Role::Phone(registration.binding);
        let token = Token::random(role);
        tokens::insert(db, &token, Grant { role, expires: token_expires }, now)?;
        Ok(Ok(Bound { registration, token, is_new: claim.binding.is_none() }))
    }

    fn select(&self, db: &Connection) -> Result<Option<OpenClaim>, Error> {
        let found = db
            .prepare_cached(
                "SELECT device_id, phone_key, plate, fuel, means, nonce, tries, expires_ms, binding
                 FROM couplings WHERE id = ?1",
            )?
            .query_row([self.coupling.0], |row| {
                let phone_key: [u8; 32] = row.get(1)?;
                let plate = Plate::parse(row.get_ref(2)?.as_str()?)
                    .map_err(|_| rusqlite::Error::InvalidColumnType(2, "plate".into(), rusqlite::types::Type::Text))?;
                let means = row.get_ref(4)?.as_str()?.split_ascii_whitespace().map(str::to_owned).collect();
                Ok(OpenClaim {
                    device: DeviceId(row.get::<_, i64>(0)? as u64),
                    phone_key,
                    vehicle: Vehicle { plate, fuel: row.get(3)?, phone: Some(phone_key), means },
                    nonce: row.get(5)?,
                    tries: row.get(6)?,
                    expires: UnixMs(row.get::<_, i64>(7)? as u64),
                    binding: row.get::<_, Option<[u8; 16]>>(8)?.map(BindingId),
                })
            })
            .optional()?;
        Ok(found)
    }

    fn count_try(&self, db: &Connection, claim: &OpenClaim) -> rusqlite::Result<()> {
        if claim.tries + 1 >= TRIES_MAX {
            return self.remove(db);
        }
        db.prepare_cached("UPDATE couplings SET tries = tries + 1 WHERE id = ?1")?.execute([self.coupling.0]).map(drop)
    }

    fn remove(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached("DELETE FROM couplings WHERE id = ?1")?.execute([self.coupling.0]).map(drop)
    }
}

fn couple(db: &Connection, claim: &OpenClaim, now: UnixMs) -> Result<Registration, Error> {
    let binding = BindingId(random_id());
    let author = Author { who: "phone", why: "the dongle answered its claim", what: "binding coupled" };
    bind(db, binding, claim.device, &claim.vehicle, author, now)?;
    audit(db, now, author, &binding.to_string())?;
    binding_of(db, claim.device)?.ok_or(Error::UnknownBinding)
}

/// One live binding a dongle, and one a plate; and no dongle that its owner misses.
fn check_free(db: &Connection, device: DeviceId, plate: &Plate) -> Result<(), Error> {
    if binding_of(db, device)?.is_some_and(|binding| binding.status.is_live()) {
        return Err(Error::AlreadyBound);
    }
    if lost_since(db, device)?.is_some() {
        return Err(Error::DeviceLost);
    }
    if live_binding_of_plate(db, plate)?.is_some() {
        return Err(Error::PlateTaken);
    }
    Ok(())
}
