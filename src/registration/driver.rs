//! What a driver changes of his own binding, by the phone that is bound: signed, over a nonce and the epoch it read.

use rusqlite::Connection;

use super::amendment::{Amended, Amendment, Cause};
use super::error::Error;
use super::mandate::Mandate;
use super::nonces::{Nonces, Purpose};
use super::permits::check_active;
use super::signed::ChangeTerms;
use super::truth::binding_by_id;
use crate::engine::proof::verify_signature;
use crate::engine::time::UnixMs;

/// A change that the phone signed.
#[derive(Debug, Clone)]
pub struct DriverChange {
    pub terms: ChangeTerms,
    pub wish: Wish,
    pub signature: [u8; 64],
}

#[derive(Debug, Clone)]
pub enum Wish {
    Plate(String),
    /// All of them, in the order in which they are charged.
    Means(Vec<String>),
    /// The new phone's key, and its signature that it is somebody's.
    Phone {
        key: [u8; 32],
        acceptance: [u8; 64],
    },
    Revoke(Cause),
}

impl DriverChange {
    /// The nonce is used up whatever becomes of the change.
    pub(super) fn apply(self, db: &Connection, nonces: &Nonces, now: UnixMs) -> Result<Amended, Error> {
        let terms = self.terms;
        nonces.take(terms.binding, Purpose::Change, &terms.nonce, now)?;
        let known = binding_by_id(db, terms.binding)?.ok_or(Error::UnknownBinding)?;
        check_active(known.status)?;
        let phone = known.phone.ok_or(Error::NoPhone)?;
        if !verify_signature(&phone, &self.wish.message(&terms), &self.signature) {
            return Err(Error::BadSignature);
        }
        if known.epoch != terms.epoch {
            return Err(Error::EpochChanged);
        }
        let (amendment, why) = self.wish.amendment(&terms)?;
        amendment.apply(db, terms.binding, &Mandate::phone(why), now)
    }
}

impl Wish {
    fn message(&self, terms: &ChangeTerms) -> Vec<u8> {
        match self {
            Wish::Plate(plate) => terms.plate_message(plate),
            Wish::Means(means) => terms.means_message(means),
            Wish::Phone { key, .. } => terms.replace_message(key),
            Wish::Revoke(cause) => terms.revoke_message(*cause),
        }
    }

    /// What is changed, and the reason that the journal gives.
    fn amendment(self, terms: &ChangeTerms) -> Result<(Amendment, &'static str), Error> {
        match self {
            Wish::Plate(plate) => Ok((Amendment::plate(&plate)?, "asked by its driver")),
            Wish::Means(means) => Ok((Amendment::means(means)?, "asked by its driver")),
            Wish::Phone { key, acceptance } => {
                if !verify_signature(&key, &terms.accept_message(&key), &acceptance) {
                    return Err(Error::BadSignature);
                }
                Ok((Amendment::phone(Some(key)), "handed over by the phone before"))
            }
            Wish::Revoke(cause) => Ok((Amendment::revoke(cause), cause.name())),
        }
    }
}
