//! What a dongle and a phone say about a claim, a payment, a place or a clock.
//!
//! A dongle's proof is `HMAC-SHA256(K_proof, tag || fixed-width big-endian fields)`. The phone countersigns
//! `phone tag || the same fields || the dongle's MAC` with Ed25519: two channels, so that a relay of either alone
//! yields nothing. `K_proof = HKDF-SHA256(root, info "forecourt proof v1")`, from the HMAC root or the EID identity
//! key, or a key of its own.
//!
//! | purpose | tag | fields |
//! |---|---|---|
//! | coupling | `forecourt couple v1` | nonce 32, device u64, phone public key 32 |
//! | payment | `forecourt pay v1` | nonce 32, device u64, binding 16, session 16, station u32, pump u16, amount i64, currency 3, epoch u64 |
//! | clock | `forecourt clock v1` | nonce 32, device u64, slot u64 |
//! | presence | `forecourt presence v1` | nonce 32, device u64, station u32 |
//!
//! The phone's tag is the same with `phone` after `forecourt`: `forecourt phone pay v1`.

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    id::{BindingId, DeviceId, PumpNumber, SessionId, StationId},
    money::Money,
};

const PROOF_INFO: &[u8] = b"forecourt proof v1";

/// A random number that is proven over once.
pub type Nonce = [u8; 32];

/// `K_proof` of one dongle. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ProofKey([u8; 32]);

impl ProofKey {
    /// A key that was given as such (`proof_key_hex`).
    pub fn new(key: [u8; 32]) -> ProofKey {
        ProofKey(key)
    }

    /// The key that follows from an HMAC root (32 bytes) or an EID identity key (16 bytes).
    pub fn from_root(root: &[u8]) -> ProofKey {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<Sha256>::new(None, root)
            .expand(PROOF_INFO, key.as_mut())
            .expect("32 bytes are within HKDF's 255 blocks");
        ProofKey(*key)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl core::fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ProofKey(..)")
    }
}

/// That a phone holds the dongle that it claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupleTerms {
    pub nonce: Nonce,
    pub device: DeviceId,
    pub phone_key: [u8; 32],
}

/// That the driver agrees to one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayTerms {
    pub nonce: Nonce,
    pub device: DeviceId,
    pub binding: BindingId,
    pub session: SessionId,
    pub station: StationId,
    pub pump: PumpNumber,
    pub amount: Money,
    pub epoch: u64,
}

/// Which slot the dongle's clock is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockTerms {
    pub nonce: Nonce,
    pub device: DeviceId,
    pub slot: u64,
}

/// That dongle and phone are at a station where presence is contested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceTerms {
    pub nonce: Nonce,
    pub device: DeviceId,
    pub station: StationId,
}

/// What is proven, as bytes; how it is proven is the same for all.
pub trait Terms {
    /// Keeps the dongle's answers for different purposes apart.
    const TAG: &[u8];
    /// Keeps what a phone signs apart from everything else that it signs.
    const PHONE_TAG: &[u8];

    /// The fields in the order of the table above, each big-endian and of fixed width.
    fn fields(&self) -> Vec<u8>;

    /// What the dongle answers, 32 bytes.
    fn mac(&self, key: &ProofKey) -> [u8; 32] {
        keyed(Self::TAG, &self.fields(), key).finalize().into_bytes().into()
    }

    /// Whether `mac` is the dongle's answer, compared in constant time.
    #[must_use]
    fn verify(&self, key: &ProofKey, mac: &[u8; 32]) -> bool {
        keyed(Self::TAG, &self.fields(), key).verify_slice(mac).is_ok()
    }

    /// What the phone signs.
    fn phone_message(&self, mac: &[u8; 32]) -> Vec<u8> {
        [Self::PHONE_TAG, &self.fields(), mac].concat()
    }

    /// Whether `signature` is that of the phone with this Ed25519 public key.
    #[must_use]
    fn verify_phone(&self, phone_key: &[u8; 32], mac: &[u8; 32], signature: &[u8; 64]) -> bool {
        verify_signature(phone_key, &self.phone_message(mac), signature)
    }
}

impl Terms for CoupleTerms {
    const TAG: &[u8] = b"forecourt couple v1";
    const PHONE_TAG: &[u8] = b"forecourt phone couple v1";

    fn fields(&self) -> Vec<u8> {
        [&self.nonce[..], &self.device.0.to_be_bytes(), &self.phone_key].concat()
    }
}

impl Terms for PayTerms {
    const TAG: &[u8] = b"forecourt pay v1";
    const PHONE_TAG: &[u8] = b"forecourt phone pay v1";

    fn fields(&self) -> Vec<u8> {
        [
            &self.nonce[..],
            &self.device.0.to_be_bytes(),
            &self.binding.0,
            &self.session.0,
            &self.station.0.to_be_bytes(),
            &self.pump.0.to_be_bytes(),
            &self.amount.minor.to_be_bytes(),
            &self.amount.currency.bytes(),
            &self.epoch.to_be_bytes(),
        ]
        .concat()
    }
}

impl Terms for ClockTerms {
    const TAG: &[u8] = b"forecourt clock v1";
    const PHONE_TAG: &[u8] = b"forecourt phone clock v1";

    fn fields(&self) -> Vec<u8> {
        [&self.nonce[..], &self.device.0.to_be_bytes(), &self.slot.to_be_bytes()].concat()
    }
}

impl Terms for PresenceTerms {
    const TAG: &[u8] = b"forecourt presence v1";
    const PHONE_TAG: &[u8] = b"forecourt phone presence v1";

    fn fields(&self) -> Vec<u8> {
        [&self.nonce[..], &self.device.0.to_be_bytes(), &self.station.0.to_be_bytes()].concat()
    }
}

/// Whether `signature` over `message` is that of the Ed25519 public key. Strict: a key or a signature that has a
/// second valid form (small order, malleable) is refused.
#[must_use]
pub fn verify_signature(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

fn keyed(tag: &[u8], fields: &[u8], key: &ProofKey) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes a key of any length");
    mac.update(tag);
    mac.update(fields);
    mac
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn terms() -> PayTerms {
        PayTerms {
            nonce: [9; 32],
            device: DeviceId(7),
            binding: BindingId([1; 16]),
            session: SessionId([2; 16]),
            station: StationId(3),
            pump: PumpNumber(4),
            amount: Money { minor: 7_196, currency: "EUR".parse().unwrap() },
            epoch: 5,
        }
    }

    #[test]
    fn payment_fields_have_the_fixed_widths_of_the_design() {
        assert_eq!(terms().fields().len(), 32 + 8 + 16 + 16 + 4 + 2 + 8 + 3 + 8);
    }

    #[test]
    fn a_proof_holds_for_its_own_terms_only() {
        let key = ProofKey::from_root(&[1; 32]);
        let mac = terms().mac(&key);
        assert!(terms().verify(&key, &mac));
        assert!(!terms().verify(&ProofKey::from_root(&[2; 32]), &mac));
        let others: [fn(&mut PayTerms); 8] = [
            |terms| terms.nonce[31] ^= 1,
            |terms| terms.device.0 += 1,
            |terms| terms.binding.0[0] ^= 1,
            |terms| terms.session.0[15] ^= 1,
            |terms| terms.station.0 += 1,
            |terms| terms.pump.0 += 1,
            |terms| terms.amount.minor += 1,
            |terms| terms.epoch += 1,
        ];
        for change in others {
            let mut changed = terms();
            change(&mut changed);
            assert!(!changed.verify(&key, &mac), "{changed:?}");
        }
    }

    #[test]
    fn a_phone_signs_the_terms_and_the_dongles_answer() {
        let phone = SigningKey::from_bytes(&[3; 32]);
        let mac = terms().mac(&ProofKey::from_root(&[1; 32]));
        let signature = phone.sign(&terms().phone_message(&mac)).to_bytes();
        let phone_key = phone.verifying_key().to_bytes();
        assert!(terms().verify_phone(&phone_key, &mac, &signature));
        assert!(!terms().verify_phone(&phone_key, &[0; 32], &signature), "another MAC");
        let other = SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes();
        assert!(!terms().verify_phone(&other, &mac, &signature), "another phone");
    }

    #[test]
    fn a_proof_of_one_purpose_is_none_of_another() {
        let key = ProofKey::from_root(&[1; 32]);
        let clock = ClockTerms { nonce: [9; 32], device: DeviceId(7), slot: 3 };
        let presence = PresenceTerms { nonce: [9; 32], device: DeviceId(7), station: StationId(3) };
        assert_ne!(clock.mac(&key), presence.mac(&key));
    }

    /// RFC 4231, test cases 1 and 2.
    #[test]
    fn the_mac_beneath_is_hmac_sha256() {
        for (key, data, expected) in [
            (
                [0x0b; 20].as_slice(),
                b"Hi There".as_slice(),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
        ] {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.update(data);
            assert_eq!(hex::encode(mac.finalize().into_bytes()), expected);
        }
    }
}
