//! Nonces that a phone proves over: random, single-use, expiring; one for each binding and purpose.
//!
//! In memory only. A restart voids them, and the phone asks for a new one: cheaper than a commit for each.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use super::error::Error;
use crate::engine::id::BindingId;
use crate::engine::proof::Nonce;
use crate::engine::time::UnixMs;

/// What a nonce may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// That the phone is at a station where the presence of its dongle is contested.
    Presence,
    /// What the dongle's clock shows.
    Clock,
    /// That the phone changes its binding.
    Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuedNonce {
    pub nonce: Nonce,
    pub expires: UnixMs,
}

type Key = (BindingId, Purpose);

pub(super) struct Nonces {
    open: Mutex<Open>,
    entries_max: usize,
    ttl_ms: u64,
}

#[derive(Default)]
struct Open {
    issued: HashMap<Key, IssuedNonce>,
    /// In the order of issue, which is that of expiry. One that was used or replaced stays until its time is up.
    order: VecDeque<(Key, Nonce, UnixMs)>,
}

impl Nonces {
    pub(super) fn new(entries_max: usize, ttl_ms: u64) -> Nonces {
        Nonces { open: Mutex::default(), entries_max: entries_max.max(1), ttl_ms }
    }

    /// A nonce in place of an earlier one for the same binding and purpose. At the bound the oldest goes: its phone
    /// asks again.
    pub(super) fn issue(&self, binding: BindingId, purpose: Purpose, now: UnixMs) -> IssuedNonce {
        let issued = IssuedNonce { nonce: random_nonce(), expires: now.plus(self.ttl_ms) };
        let mut open = self.open.lock().expect("no holder panics");
        open.expire(now, self.entries_max - 1);
        open.issued.insert((binding, purpose), issued);
        open.order.push_back(((binding, purpose), issued.nonce, issued.expires));
        issued
    }

    /// Takes the nonce: a second time it is unknown, whatever became of the first.
    pub(super) fn take(&self, binding: BindingId, purpose: Purpose, nonce: &Nonce, now: UnixMs) -> Result<(), Error> {
        let mut open = self.open.lock().expect("no holder panics");
        let key = (binding, purpose);
        match open.issued.get(&key) {
            Some(issued) if issued.nonce == *nonce => {}
            _ => return Err(Error::BadNonce),
        }
        let issued = open.issued.remove(&key).expect("found above, under the same lock");
        if now < issued.expires { Ok(()) } else { Err(Error::BadNonce) }
    }
}

impl Open {
    fn expire(&mut self, now: UnixMs, keep: usize) {
        while self.order.len() > keep || self.order.front().is_some_and(|(_, _, expires)| *expires <= now) {
            let Some((key, nonce, _)) = self.order.pop_front() else { return };
            if self.issued.get(&key).is_some_and(|issued| issued.nonce == nonce) {
                self.issued.remove(&key);
            }
        }
    }
}

pub(super) fn random_nonce() -> Nonce {
    random()
}

/// Of a binding or a claim.
pub(super) fn random_id() -> [u8; 16] {
    random()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's randomness was there at start");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: BindingId = BindingId([1; 16]);

    #[test]
    fn a_nonce_is_taken_once_and_for_its_purpose_only() {
        let nonces = Nonces::new(10, 1000);
        let issued = nonces.issue(BINDING, Purpose::Clock, UnixMs(0));
        assert_eq!(nonces.take(BINDING, Purpose::Presence, &issued.nonce, UnixMs(1)), Err(Error::BadNonce));
        assert_eq!(nonces.take(BINDING, Purpose::Clock, &issued.nonce, UnixMs(1)), Ok(()));
        assert_eq!(nonces.take(BINDING, Purpose::Clock, &issued.nonce, UnixMs(1)), Err(Error::BadNonce));
    }

    #[test]
    fn a_nonce_expires_and_a_newer_one_replaces_it() {
        let nonces = Nonces::new(10, 1000);
        let first = nonces.issue(BINDING, Purpose::Clock, UnixMs(0));
        let second = nonces.issue(BINDING, Purpose::Clock, UnixMs(1));
        assert_eq!(nonces.take(BINDING, Purpose::Clock, &first.nonce, UnixMs(2)), Err(Error::BadNonce));
        assert_eq!(nonces.take(BINDING, Purpose::Clock, &second.nonce, UnixMs(1001)), Err(Error::BadNonce));
    }

    #[test]
    fn open_nonces_stay_within_their_bound() {
        let nonces = Nonces::new(3, 1000);
        let first = nonces.issue(BindingId([0; 16]), Purpose::Clock, UnixMs(0));
        for binding in 1..=9 {
            nonces.issue(BindingId([binding; 16]), Purpose::Clock, UnixMs(0));
        }
        assert_eq!(nonces.open.lock().unwrap().issued.len(), 3);
        assert_eq!(nonces.take(BindingId([0; 16]), Purpose::Clock, &first.nonce, UnixMs(1)), Err(Error::BadNonce));
    }
}
