//! Another phone in the place of a lost one: an operator takes the old one away and gives a code, and the new one proves
//! that it has code and dongle at hand.
//!
//! ```text
//! operator: permit(binding, reason)                     ->  code; the old phone's key and tokens are void
//! phone: claim(binding, code, own key; signed)          ->  nonce
//! dongle: MAC over nonce and phone key (possession); phone countersigns
//! phone: prove(MAC, signature)                          ->  the binding with its new phone, bearer token
//! ```
//!
//! Who could be the thief, and what stops him:
//! - He has the phone. The old key and its tokens are void with the operator's call, before any new phone is there; till
//!   then a payment needs the dongle's answer too, so he needs the car.
//! - He has the car, so dongle and label. Possession alone moves nothing: without an operator there is no code, and the
//!   code goes to the driver that the operator identified, not to the label.
//! - He talks an operator into it. Then he still lacks the dongle; the call is in the journal with its operator and reason,
//!   and the driver's phone falls silent at once, which the driver notices.
//! - He guesses. 80 random bits for 24 hours; wrong answers of a dongle end the claim after three.
//! - He has phone and car. Then he is the driver, as far as anybody can tell from afar, and the operator suspends.
//!
//! A binding that is suspended gets no new phone, or a lost phone would be the way around a suspension. Of the code only
//! the hash is kept; it is good once, and a newer one takes its place.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::amendment::{Amended, Amendment};
use super::binding::{BindingStatus, Registration, Summary};
use super::coupling::{Claimed, NewClaim};
use super::error::Error;
use super::mandate::{Author, Mandate};
use super::signed::{digest, phone_claim_message};
use super::truth::{audit, binding_by_id};
use super::vehicle::Vehicle;
use crate::engine::id::BindingId;
use crate::engine::proof::verify_signature;
use crate::engine::time::UnixMs;

/// Time to find the new phone, and to get to the car with it.
const PERMIT_MS: u64 = 24 * 3600 * 1000;

/// Random bytes of a code, 20 hexadecimal digits.
const CODE_BYTES: usize = 10;

/// What an operator hands to the driver who lost his phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub summary: Summary,
    /// Shown this once.
    pub code: String,
    pub expires: UnixMs,
}

/// A new phone's claim of a binding that waits for one.
#[derive(Debug, Clone)]
pub struct PhoneClaim {
    pub binding: BindingId,
    pub code: String,
    /// Ed25519.
    pub phone_key: [u8; 32],
    /// Over [`phone_claim_message`].
    pub signature: [u8; 64],
}

/// Takes the binding's phone away and lets another one come, in place of an earlier permit.
pub(super) fn permit(
    db: &Connection,
    binding: BindingId,
    mandate: &Mandate,
    now: UnixMs,
) -> Result<(Permit, Amended), Error> {
    check_active(binding_by_id(db, binding)?.ok_or(Error::UnknownBinding)?.status)?;
    let amended = Amendment::phone(None).apply(db, binding, mandate, now)?;
    db.prepare_cached("DELETE FROM phone_permits WHERE expires_ms <= ?1")?.execute([now.0 as i64])?;
    let mut bytes = [0; CODE_BYTES];
    getrandom::fill(&mut bytes).expect("the system's randomness was there at start");
    let (code, expires) = (hex::encode(bytes), now.plus(PERMIT_MS));
    close(db, binding)?;
    db.prepare_cached("INSERT INTO phone_permits (binding, code_hash, expires_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![binding.0, digest(code.as_bytes()), expires.0 as i64])?;
    let who = mandate.who.to_string();
    audit(db, now, Author { who: &who, why: &mandate.why, what: "another phone permitted" }, &binding.to_string())?;
    Ok((Permit { summary: amended.summary.clone(), code, expires }, amended))
}

/// No other phone may come any more, and a claim that is open is over.
pub(super) fn close(db: &Connection, binding: BindingId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM phone_permits WHERE binding = ?1")?.execute([binding.0])?;
    db.prepare_cached("DELETE FROM couplings WHERE binding = ?1")?.execute([binding.0]).map(drop)
}

impl PhoneClaim {
    pub(super) fn check(&self) -> Result<(), Error> {
        let message = phone_claim_message(self.binding, &self.code, &self.phone_key);
        if verify_signature(&self.phone_key, &message, &self.signature) { Ok(()) } else { Err(Error::BadSignature) }
    }

    /// Opens the claim. Whoever lacks the code learns nothing of the binding.
    pub(super) fn open(&self, db: &Connection, claims_max: u32, ttl_ms: u64, now: UnixMs) -> Result<Claimed, Error> {
        let permitted: Option<([u8; 32], i64)> = db
            .prepare_cached("SELECT code_hash, expires_ms FROM phone_permits WHERE binding = ?1")?
            .query_row([self.binding.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let fits = permitted
            .is_some_and(|(hash, expires)| hash == digest(self.code.as_bytes()) && now < UnixMs(expires as u64));
        if !fits {
            return Err(Error::UnknownPermit);
        }
        let Registration { device, status, plate, fuel, means, .. } =
            binding_by_id(db, self.binding)?.ok_or(Error::UnknownBinding)?;
        check_active(status)?;
        let vehicle = Vehicle { plate, fuel, phone: Some(self.phone_key), means };
        let claim = NewClaim { device, phone_key: self.phone_key, vehicle: &vehicle, binding: Some(self.binding) };
        claim.open(db, claims_max, ttl_ms, now)
    }
}

/// The dongle has answered: its binding has another phone, and the permit is used up.
pub(super) fn replace_phone(
    db: &Connection,
    binding: BindingId,
    phone_key: [u8; 32],
    now: UnixMs,
) -> Result<Amended, Error> {
    let used = db
        .prepare_cached("DELETE FROM phone_permits WHERE binding = ?1 AND expires_ms > ?2")?
        .execute(params![binding.0, now.0 as i64])?;
    if used == 0 {
        return Err(Error::UnknownPermit);
    }
    check_active(binding_by_id(db, binding)?.ok_or(Error::UnknownBinding)?.status)?;
    let mandate = Mandate::phone("permitted by an operator, and the dongle answered");
    Amendment::phone(Some(phone_key)).apply(db, binding, &mandate, now)
}

pub(super) fn check_active(status: BindingStatus) -> Result<(), Error> {
    match status {
        BindingStatus::Active => Ok(()),
        BindingStatus::Suspended => Err(Error::Suspended),
        BindingStatus::Revoked => Err(Error::Revoked),
    }
}
