//! How an Eddystone-EID beacon and the server come to one identity key, and how the server sees that they did.
//!
//! As published in `eid-computation.md` and the registration of google/eddystone: both sides compute the X25519 secret of
//! the beacon's and the resolver's keys; the identity key is the first 16 bytes of HKDF-SHA256 of it, with the resolver's
//! and then the beacon's public key as salt and no info. The key itself never travels. The beacon shows what it computed by
//! an EID and the time that its clock showed: only when that EID follows from the key is it the right one.

use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::code::{Code, Secret};
use super::time::Slot;

/// The resolver's X25519 key. Wiped when dropped, never printed.
pub struct ResolverKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl ResolverKey {
    pub fn new(secret: &[u8; 32]) -> ResolverKey {
        let secret = StaticSecret::from(*secret);
        ResolverKey { public: PublicKey::from(&secret), secret }
    }

    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    /// The identity key that is shared with the beacon of this public key. `None` when the shared secret is zero, which
    /// is what a point of low order makes of any secret: everybody would know the key.
    pub fn identity_key(&self, beacon: &[u8; 32]) -> Option<Zeroizing<[u8; 16]>> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*beacon));
        if !shared.was_contributory() {
            return None;
        }
        let salt = [self.public.to_bytes(), *beacon].concat();
        let mut key = Zeroizing::new([0; 16]);
        hkdf::Hkdf::<Sha256>::new(Some(&salt), shared.as_bytes())
            .expand(&[], key.as_mut())
            .expect("16 bytes are within HKDF's output");
        Some(key)
    }
}

impl core::fmt::Debug for ResolverKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ResolverKey(..)")
    }
}

/// The slot of the beacon's clock in which it broadcasts `eid`: that of `beacon_s`, the seconds that its clock showed, or
/// one of its neighbours, since EID and time were not read in one moment. `None` when it is none of them.
pub fn slot_of_eid(secret: &Secret, exponent: u8, beacon_s: u32, eid: [u8; 8]) -> Option<Slot> {
    let at = u64::from(beacon_s) >> exponent;
    let near = [Some(at), at.checked_add(1), at.checked_sub(1)];
    near.into_iter().flatten().map(Slot).find(|slot| secret.code(*slot) == Code::from_eid(eid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// RadiusNetworks/ephemeral_calc spec/key_pair_spec.rb.
    #[test]
    fn both_sides_come_to_the_published_identity_key() {
        let resolver = ResolverKey::new(&bytes("61136adab1bf302f1c49e860196aeefd8fbaa41518b4c226372d6cc469c47278"));
        assert_eq!(hex::encode(resolver.public()), "29769a045dcb811ba3025985b9de91eb9a57dadbceb68a1e6a3c2b1af4868e1f");
        let beacon = bytes("c63e6f89aab47552c8d621a59c81d0af203f6570a4bd7a267a08a17561c8bc2b");
        let key = resolver.identity_key(&beacon).unwrap();
        assert_eq!(hex::encode(*key), "f40d6f18e5882260e847e99ca33ac44f");
    }

    #[test]
    fn a_point_of_low_order_makes_no_key() {
        let resolver = ResolverKey::new(&[7; 32]);
        let order_eight = bytes("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        for weak in [[0; 32], bytes::<32>(&format!("01{}", "00".repeat(31))), order_eight] {
            assert_eq!(resolver.identity_key(&weak), None);
        }
    }

    #[test]
    fn an_eid_is_found_in_its_slot_and_beside_it_and_nowhere_else() {
        let secret = Secret::EddystoneEid { identity_key: [5; 16], exponent: 4 };
        let eid = |slot| *secret.code(Slot(slot)).0.first_chunk::<8>().unwrap();
        for slot in 9..=11 {
            assert_eq!(slot_of_eid(&secret, 4, 10 << 4, eid(slot)), Some(Slot(slot)));
        }
        assert_eq!(slot_of_eid(&secret, 4, 10 << 4, eid(12)), None);
        assert_eq!(slot_of_eid(&secret, 4, 0, eid(0)), Some(Slot(0)), "the first slot has no earlier neighbour");
    }
}
