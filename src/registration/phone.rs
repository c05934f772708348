//! What a bound phone says: that it needs a token, where it is, what its dongle's clock shows.

use rusqlite::{Connection, params};

use super::binding::Registration;
use super::envelope::Envelope;
use super::error::Error;
use super::mandate::Author;
use super::permits::check_active;
use super::signed::phone_token_message;
use super::tokens::{self, Grant, Role, Token};
use super::truth::{audit, binding_by_id, binding_of, device, proof_key};
use crate::engine::clock::ClockOffset;
use crate::engine::codebook::Reading;
use crate::engine::id::{BindingId, DeviceId, StationId};
use crate::engine::proof::{ClockTerms, Nonce, PresenceTerms, ProofKey, Terms, verify_signature};
use crate::engine::time::{Slot, SlotLength, UnixMs};

/// How far the phone's clock may be off, either way, when it asks for a token.
const PHONE_CLOCK_MS_MAX: u64 = 60_000;

/// The phone of an imported binding, or one that lost its token, asks for a new one.
#[derive(Debug, Clone)]
pub struct PhoneTokenRequest {
    pub device: DeviceId,
    /// The phone's time: within 60 s of ours, and later than that of the last token.
    pub at: UnixMs,
    /// Over [`phone_token_message`](super::phone_token_message).
    pub signature: [u8; 64],
}

/// That dongle and phone are at the station, over [`PresenceTerms`].
#[derive(Debug, Clone)]
pub struct PresenceProof {
    pub binding: BindingId,
    pub nonce: Nonce,
    pub station: StationId,
    pub mac: [u8; 32],
    pub signature: [u8; 64],
}

/// The slot that the dongle's clock is in, over [`ClockTerms`].
#[derive(Debug, Clone)]
pub struct ClockProof {
    pub binding: BindingId,
    pub nonce: Nonce,
    pub slot: u64,
    pub mac: [u8; 32],
    pub signature: [u8; 64],
}

impl PhoneTokenRequest {
    /// A token in place of the binding's earlier ones. Whoever asks is not known before the signature fits, so until
    /// then every refusal is the same: it does not tell which dongles there are.
    pub(super) fn issue(
        &self,
        db: &Connection,
        expires: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<(BindingId, Token), Error> {
        let registration = binding_of(db, self.device)?.ok_or(Error::BadSignature)?;
        let phone = registration.phone.ok_or(Error::BadSignature)?;
        if !verify_signature(&phone, &phone_token_message(self.device, self.at), &self.signature) {
            return Err(Error::BadSignature);
        }
        if !registration.status.is_live() {
            return Err(Error::Revoked);
        }
        if self.at.since(now).max(now.since(self.at)) > PHONE_CLOCK_MS_MAX {
            return Err(Error::Expired);
        }
        let binding = registration.binding;
        let is_new = db
            .prepare_cached("UPDATE bindings SET phone_token_ms = ?2 WHERE id = ?1 AND phone_token_ms < ?2")?
            .execute(params![binding.0, self.at.0 as i64])?;
        if is_new == 0 {
            return Err(Error::Expired);
        }
        let role = Role::Phone(binding);
        let token = Token::random(role);
        tokens::delete_of(db, role)?;
        tokens::insert(db, &token, Grant { role, expires }, now)?;
        audit(db, now, Author { who: "phone", why: "", what: "phone token issued" }, &binding.to_string())?;
        Ok((binding, token))
    }
}

/// What a proof of a bound phone is checked against.
pub(super) struct Prover {
    pub(super) registration: Registration,
    phone: [u8; 32],
    key: ProofKey,
    /// How long one code of the dongle lasts; `None` for one whose code does not change.
    slot_ms: Option<u64>,
}

impl Prover {
    pub(super) fn select(
        db: &Connection,
        envelope: &Envelope,
        slot: SlotLength,
        binding: BindingId,
    ) -> Result<Prover, Error> {
        let registration = binding_by_id(db, binding)?.ok_or(Error::UnknownBinding)?;
        check_active(registration.status)?;
        let phone = registration.phone.ok_or(Error::NoPhone)?;
        let key = proof_key(db, envelope, registration.device)?.ok_or(Error::NotProvable)?;
        let record = device(db, registration.device)?.ok_or(Error::UnknownDevice)?;
        let slot_ms = match record.exponent {
            Some(exponent) => Some(1000 << exponent),
            None => (record.scheme != "fixed").then_some(slot.ms()),
        };
        Ok(Prover { registration, phone, key, slot_ms })
    }

    pub(super) fn check_presence(&self, proof: &PresenceProof) -> Result<(), Error> {
        let device = self.registration.device;
        self.check(&PresenceTerms { nonce: proof.nonce, device, station: proof.station }, &proof.mac, &proof.signature)
    }

    /// What the proof teaches of the clock, as a hearing does. `None` of a dongle whose code has no slot.
    pub(super) fn check_clock(&self, proof: &ClockProof, now: UnixMs) -> Result<Option<Reading>, Error> {
        let device = self.registration.device;
        self.check(&ClockTerms { nonce: proof.nonce, device, slot: proof.slot }, &proof.mac, &proof.signature)?;
        let Some(slot_ms) = self.slot_ms else { return Ok(None) };
        let slot = Slot(proof.slot);
        ClockOffset::default().learned(slot_ms, slot, now).ok_or(Error::ClockTooFar)?;
        Ok(Some(Reading { device, slot }))
    }

    fn check(&self, terms: &impl Terms, mac: &[u8; 32], signature: &[u8; 64]) -> Result<(), Error> {
        if !terms.verify(&self.key, mac) {
            return Err(Error::BadProof);
        }
        if !terms.verify_phone(&self.phone, mac, signature) {
            return Err(Error::BadSignature);
        }
        Ok(())
    }
}
