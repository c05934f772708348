//! Registration of a radio that broadcasts Eddystone-EID: its identity key is agreed on, not sent.
//!
//! ```text
//! operator: resolver()                                          ->  the server's public key, for the beacon
//! beacon:   makes its own key pair, derives the identity key, broadcasts
//! operator: register(dongle, beacon's public key, K, time, EID) ->  accepted when the EID follows from the key
//! ```
//!
//! The server's key pair is made when it is first asked for, and sealed like the dongles' keys; it stays, or a beacon that
//! was prepared would have derived its key for nothing. From the EID and the time that the beacon's clock showed follows
//! the offset of its clock, so that it is heard from the first moment. Saying the same twice changes nothing.

use rusqlite::{Connection, OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::envelope::{Envelope, Purpose};
use super::error::Error;
use super::mandate::Author;
use super::signed::digest;
use super::truth::{Revisions, SealedDevice, activation_owner, audit, device, insert_device, mark_owner, save_offsets};
use crate::engine::clock::ClockOffset;
use crate::engine::code::Secret;
use crate::engine::eid::{ResolverKey, slot_of_eid};
use crate::engine::id::DeviceId;
use crate::engine::proof::ProofKey;
use crate::engine::time::{SlotLength, UnixMs};

/// The longest rotation of the published format, nine hours.
const EXPONENT_MAX: u8 = 15;

/// The longest code on a label.
const ACTIVATION_BYTES_MAX: usize = 64;

/// A beacon that is to be registered.
#[derive(Debug, Clone)]
pub struct EidBeacon {
    pub device: DeviceId,
    /// X25519.
    pub public_key: [u8; 32],
    /// K: an EID lasts 2^K seconds.
    pub exponent: u8,
    /// The seconds that the beacon's clock showed when it broadcast `eid`.
    pub beacon_s: u32,
    pub eid: [u8; 8],
    /// With it a phone can claim the dongle.
    pub activation_code: Option<String>,
}

/// The server's public key; the pair is made the first time.
pub(super) fn resolver(db: &Connection, envelope: &Envelope) -> Result<[u8; 32], Error> {
    Ok(resolver_key(db, envelope)?.public())
}

fn resolver_key(db: &Connection, envelope: &Envelope) -> Result<ResolverKey, Error> {
    let sealed: Option<Vec<u8>> = db.query_row("SELECT sealed FROM resolver", [], |row| row.get(0)).optional()?;
    if let Some(sealed) = sealed {
        let opened = envelope.open(DeviceId(0), Purpose::Resolver, &sealed).ok();
        let secret = opened.and_then(|key| key.as_slice().try_into().ok().map(Zeroizing::new));
        return secret.map(|secret| ResolverKey::new(&secret)).ok_or_else(|| {
            tracing::error!("the resolver's key does not open");
            Error::Unavailable(super::error::Unavailable)
        });
    }
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).expect("the system's randomness was there at start");
    let key = ResolverKey::new(&secret);
    let sealed = envelope.seal(DeviceId(0), Purpose::Resolver, secret.as_ref());
    db.execute("INSERT INTO resolver (only, public, sealed) VALUES (1, ?1, ?2)", params![key.public(), sealed])?;
    Ok(key)
}

impl EidBeacon {
    pub(super) fn register(
        &self,
        db: &Connection,
        envelope: &Envelope,
        slot: SlotLength,
        who: &str,
        now: UnixMs,
    ) -> Result<(), Error> {
        self.check(slot)?;
        let identity_key = resolver_key(db, envelope)?.identity_key(&self.public_key).ok_or(Error::WeakBeaconKey)?;
        let secret = Secret::EddystoneEid { identity_key: *identity_key, exponent: self.exponent };
        let offset = self.offset(&secret, now)?;
        let proof_key = ProofKey::from_root(identity_key.as_ref());
        let activation = self.activation_code.as_ref().map(|code| digest(code.as_bytes()));
        let sealed = SealedDevice::seal(envelope, self.device, &secret, Some(&proof_key), activation);
        // One that is known may be on the air, and then its hearings tell its clock better.
        if !is_registered(db, &sealed)? {
            insert_device(db, &sealed, 0, Revisions::new(1).next(db)?)?;
            save_offsets(db, &[(self.device, offset)])?;
            let author = Author { who, why: "its first EID fits", what: "beacon registered" };
            audit(db, now, author, &self.device.to_string())?;
        }
        Ok(())
    }

    fn check(&self, slot: SlotLength) -> Result<(), Error> {
        if self.exponent > EXPONENT_MAX || 1 << self.exponent < slot.seconds() {
            return Err(Error::Exponent);
        }
        match &self.activation_code {
            Some(code) if code.is_empty() || code.len() > ACTIVATION_BYTES_MAX => Err(Error::ActivationCode),
            _ => Ok(()),
        }
    }

    /// What the beacon's clock shows less what ours does: in the slot of the EID, and there as near as can be to the time
    /// that was read.
    fn offset(&self, secret: &Secret, now: UnixMs) -> Result<ClockOffset, Error> {
        let slot = slot_of_eid(secret, self.exponent, self.beacon_s, self.eid).ok_or(Error::EidMismatch)?;
        let read = i64::from(self.beacon_s) - (now.0 / 1000) as i64;
        let read = i32::try_from(read).map(ClockOffset).map_err(|_| Error::ClockTooFar)?;
        read.learned(1000 << self.exponent, slot, now).ok_or(Error::ClockTooFar)
    }
}

/// Whether the store has this very beacon. What it collides with otherwise is the refusal.
fn is_registered(db: &Connection, sealed: &SealedDevice) -> Result<bool, Error> {
    let known = device(db, sealed.device)?;
    if let Some(known) = &known
        && (known.scheme != sealed.scheme || known.exponent != sealed.exponent || known.mark != sealed.mark)
    {
        return Err(Error::DeviceKnown);
    }
    if known.is_none() && mark_owner(db, &sealed.mark)?.is_some() {
        return Err(Error::KeyTaken);
    }
    if let Some(hash) = &sealed.activation_hash {
        let owner = activation_owner(db, hash)?;
        if owner.is_some_and(|owner| owner != sealed.device) {
            return Err(Error::ActivationTaken);
        }
        if known.is_some() && owner.is_none() {
            return Err(Error::DeviceKnown);
        }
    }
    Ok(known.is_some())
}
