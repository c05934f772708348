//! What a dongle broadcasts: 16 bytes that change with the slot, under one of three schemes.
//!
//! - HMAC (ours): `K_code = HKDF-SHA256(root, info "forecourt code v1")`, `code = first 16 bytes of
//!   HMAC-SHA256(K_code, slot as u64 big-endian)`.
//! - Eddystone-EID, for radios that a chain already owns: 8 bytes by two AES-128 encryptions, as published in
//!   `eddystone-eid/eid-computation.md` of google/eddystone.
//! - Fixed: a code that never changes. Whoever hears it can repeat it, so it is marked weak and proves nothing.
//!
//! One enum and no trait: the set is closed, and the codebook builder is the only caller.

#[cfg(target_arch = "x86_64")]
mod lanes;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    proof::ProofKey,
    time::{Slot, SlotLength, UnixMs},
};

const CODE_INFO: &[u8] = b"forecourt code v1";

/// 1,024 s: the shortest common rotation that is no shorter than the default slot.
const EID_EXPONENT_DEFAULT: u8 = 10;

/// The longest rotation of the published format, nine hours.
const EID_EXPONENT_MAX: u8 = 15;

/// The bytes on the air (and in a batch) for one slot.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[repr(transparent)]
pub struct Code(pub [u8; 16]);

/// What fills an EID's 8 bytes up to a code's 16. An HMAC code ends like this once in 2^64.
const EID_TAG: [u8; 8] = *b"\0eid v1\0";

impl Code {
    /// An Eddystone-EID, padded and tagged by its scheme.
    pub fn from_eid(eid: [u8; 8]) -> Code {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&eid);
        bytes[8..].copy_from_slice(&EID_TAG);
        Code(bytes)
    }
}

impl core::fmt::Debug for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Code({})", hex::encode(self.0))
    }
}

/// How a dongle's codes follow from its key, as a file of dongles names it: `hmac`, `fixed`, `eddystone-eid` or
/// `eddystone-eid/K`, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Hmac,
    /// K, the rotation exponent: a code lasts 2^K seconds.
    EddystoneEid {
        exponent: u8,
    },
    Fixed,
}

/// Why a scheme and a key make no secret. The key is not repeated: a report is read by more people than a key may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    #[error("scheme is one of hmac, eddystone-eid, eddystone-eid/K, fixed")]
    Unknown,
    #[error("the K of eddystone-eid/K is 0 to {EID_EXPONENT_MAX}")]
    Exponent,
    #[error("key_hex is not {digits} hexadecimal digits")]
    Key { digits: usize },
}

impl Scheme {
    /// The secret of a dongle with this key: the root of HMAC (32 bytes), the identity key or the fixed code (16 each).
    pub fn secret(self, key_hex: &str) -> Result<Secret, SchemeError> {
        Ok(match self {
            Scheme::Hmac => Secret::from_root(&*key(key_hex)?),
            Scheme::EddystoneEid { exponent } => Secret::EddystoneEid { identity_key: *key(key_hex)?, exponent },
            Scheme::Fixed => Secret::Fixed { code: Code(*key(key_hex)?) },
        })
    }

    /// The proof key that follows from the same key; none from a fixed code, which is no secret.
    pub fn proof_key(self, key_hex: &str) -> Result<Option<ProofKey>, SchemeError> {
        Ok(match self {
            Scheme::Hmac => Some(ProofKey::from_root(&*key::<32>(key_hex)?)),
            Scheme::EddystoneEid { .. } => Some(ProofKey::from_root(&*key::<16>(key_hex)?)),
            Scheme::Fixed => None,
        })
    }
}

impl core::str::FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Scheme, SchemeError> {
        let text = text.to_ascii_lowercase();
        match text.split_once('/') {
            None if text == "hmac" => Ok(Scheme::Hmac),
            None if text == "fixed" => Ok(Scheme::Fixed),
            None if text == "eddystone-eid" => Ok(Scheme::EddystoneEid { exponent: EID_EXPONENT_DEFAULT }),
            Some(("eddystone-eid", exponent)) => {
                let exponent = exponent.parse().ok().filter(|exponent| *exponent <= EID_EXPONENT_MAX);
                Ok(Scheme::EddystoneEid { exponent: exponent.ok_or(SchemeError::Exponent)? })
            }
            _ => Err(SchemeError::Unknown),
        }
    }
}

fn key<const N: usize>(key_hex: &str) -> Result<Zeroizing<[u8; N]>, SchemeError> {
    let mut key = Zeroizing::new([0; N]);
    hex::decode_to_slice(key_hex, &mut *key).map_err(|_| SchemeError::Key { digits: 2 * N })?;
    Ok(key)
}

/// What a dongle's codes are computed from. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub enum Secret {
    /// `K_code`, not the root it came from.
    Hmac { code_key: [u8; 32] },
    /// The identity key and the rotation exponent K: a code lasts 2^K seconds.
    EddystoneEid { identity_key: [u8; 16], exponent: u8 },
    Fixed {
        #[zeroize(skip)]
        code: Code,
    },
}

impl Secret {
    /// The HMAC scheme's secret of a dongle with this 32-byte root key.
    pub fn from_root(root: &[u8; 32]) -> Secret {
        let mut code_key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<Sha256>::new(None, root)
            .expand(CODE_INFO, code_key.as_mut())
            .expect("32 bytes are within HKDF's 255 blocks");
        Secret::Hmac { code_key: *code_key }
    }

    /// How long one code of this secret is valid; `chain` is the slot length that the chain's own dongles use.
    pub fn slot_ms(&self, chain: SlotLength) -> u64 {
        match self {
            Secret::EddystoneEid { exponent, .. } => 1000 << (*exponent).min(EID_EXPONENT_MAX),
            Secret::Hmac { .. } | Secret::Fixed { .. } => chain.ms(),
        }
    }

    /// The slot that a dongle whose clock shows `at` is in.
    pub fn slot_at(&self, chain: SlotLength, at: UnixMs) -> Slot {
        Slot(at.0 / self.slot_ms(chain))
    }

    /// The code that is broadcast in `slot`.
    pub fn code(&self, slot: Slot) -> Code {
        match self {
            Secret::Hmac { code_key } => hmac_code(code_key, slot),
            Secret::EddystoneEid { identity_key, exponent } => {
                let exponent = (*exponent).min(EID_EXPONENT_MAX);
                // The beacon's clock is 32 bits of seconds and wraps.
                Code::from_eid(eid(identity_key, exponent, (slot.0 << exponent) as u32))
            }
            Secret::Fixed { code } => *code,
        }
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Secret::Hmac { .. } => "Secret::Hmac(..)",
            Secret::EddystoneEid { .. } => "Secret::EddystoneEid(..)",
            Secret::Fixed { .. } => "Secret::Fixed(..)",
        })
    }
}

fn hmac_code(code_key: &[u8; 32], slot: Slot) -> Code {
    let mut mac = Hmac::<Sha256>::new_from_slice(code_key).expect("HMAC takes a key of any length");
    mac.update(&slot.0.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    Code(digest[..16].try_into().expect("a SHA-256 digest has 32 bytes"))
}

/// The codes of many HMAC keys, each for `S` slots from its own `first` on: what [`Secret::code`] gives, and less than
/// half as dear where the CPU has AVX-512.
pub fn hmac_codes<const S: usize>(keys: &[[u8; 32]], first: &[Slot], codes: &mut [[Code; S]]) {
    #[cfg(target_arch = "x86_64")]
    if lanes::codes(keys, first, codes) {
        return;
    }
    for ((key, first), codes) in keys.iter().zip(first).zip(codes) {
        *codes = core::array::from_fn(|nth| hmac_code(key, Slot(first.0.wrapping_add(nth as u64))));
    }
}

/// The ephemeral id at `beacon_time` (seconds of the beacon's clock), rotating each 2^`exponent` seconds.
fn eid(identity_key: &[u8; 16], exponent: u8, beacon_time: u32) -> [u8; 8] {
    let time = (beacon_time >> exponent << exponent).to_be_bytes();
    // The temporary key changes with the upper 16 bits of the clock, each 18 hours.
    let mut temporary = Array::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, time[0], time[1]]);
    aes::Aes128::new(&Array::from(*identity_key)).encrypt_block(&mut temporary);
    let mut block = Array::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, exponent, time[0], time[1], time[2], time[3]]);
    aes::Aes128::new(&temporary).encrypt_block(&mut block);
    block[..8].try_into().expect("an AES block has 16 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_the_start_of_the_hmac_of_its_slot() {
        // RFC 4231 test case 1 keys HMAC with 20 bytes of 0x0b; a code key has 32, so only the construction is shared.
        let secret = Secret::Hmac { code_key: [7; 32] };
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        mac.update(&[0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(secret.code(Slot(256)).0, mac.finalize().into_bytes()[..16]);
    }

    /// RFC 4231 test case 1, whose message has the 8 bytes of a slot and whose key HMAC fills up with zeros as we do.
    #[test]
    fn many_codes_at_once_are_those_of_the_published_vector() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let slot = Slot(u64::from_be_bytes(*b"Hi There"));
        let mut codes = [[Code([0; 16])]; 19];
        hmac_codes(&[key; 19], &[slot; 19], &mut codes);
        assert_eq!(codes, [[Code(*b"\xb0\x34\x4c\x61\xd8\xdb\x38\x53\x5c\xa8\xaf\xce\xaf\x0b\xf1\x2b")]; 19]);
    }

    #[test]
    fn code_and_root_differ_by_dongle_and_slot() {
        let (one, other) = (Secret::from_root(&[1; 32]), Secret::from_root(&[2; 32]));
        assert_ne!(one.code(Slot(5)), other.code(Slot(5)));
        assert_ne!(one.code(Slot(5)), one.code(Slot(6)));
    }

    /// RadiusNetworks/ephemeral_calc spec/encryptor_spec.rb.
    #[test]
    fn eids_are_those_of_the_published_derivation() {
        let identity_key = hex::decode("0102030405060708090A111213141516").unwrap().try_into().unwrap();
        let secret = Secret::EddystoneEid { identity_key, exponent: 10 };
        for (beacon_seconds, expected) in [(0, "A9B76A71C5F89290"), (2000, "4144413E45FEFA58")] {
            let slot = secret.slot_at(SlotLength::DEFAULT, UnixMs(beacon_seconds * 1000));
            let expected = hex::decode(expected).unwrap().try_into().unwrap();
            assert_eq!(secret.code(slot), Code::from_eid(expected), "at {beacon_seconds} s");
        }
    }

    #[test]
    fn a_scheme_is_read_in_any_case_and_its_exponent_is_bound() {
        let read = |text: &str| text.parse::<Scheme>();
        assert_eq!(read("HMAC"), Ok(Scheme::Hmac));
        assert_eq!(read("fixed"), Ok(Scheme::Fixed));
        assert_eq!(read("Eddystone-EID"), Ok(Scheme::EddystoneEid { exponent: 10 }));
        assert_eq!(read("eddystone-eid/15"), Ok(Scheme::EddystoneEid { exponent: 15 }));
        for exponent in ["", "16", "300", "-1", "x"] {
            assert_eq!(read(&format!("eddystone-eid/{exponent}")), Err(SchemeError::Exponent), "{exponent:?}");
        }
        for unknown in ["", "morse", "hmac/3", "eddystone-eid10"] {
            assert_eq!(read(unknown), Err(SchemeError::Unknown), "{unknown:?}");
        }
    }

    #[test]
    fn a_key_makes_the_secret_and_the_proof_key_of_its_scheme() {
        let (root, short) = ("ab".repeat(32), "07".repeat(16));
        let eid = Scheme::EddystoneEid { exponent: 12 };
        assert_eq!(Scheme::Hmac.secret(&root), Ok(Secret::from_root(&[0xab; 32])));
        assert_eq!(eid.secret(&short), Ok(Secret::EddystoneEid { identity_key: [7; 16], exponent: 12 }));
        assert_eq!(Scheme::Fixed.secret(&short), Ok(Secret::Fixed { code: Code([7; 16]) }));
        assert_eq!(Scheme::Hmac.proof_key(&root), Ok(Some(ProofKey::from_root(&[0xab; 32]))));
        assert_eq!(eid.proof_key(&short), Ok(Some(ProofKey::from_root(&[7; 16]))));
        assert_eq!(Scheme::Fixed.proof_key(&short), Ok(None), "a fixed code proves nothing");
        assert_eq!(Scheme::Hmac.secret(&short), Err(SchemeError::Key { digits: 64 }));
        assert_eq!(Scheme::Fixed.secret("no digits"), Err(SchemeError::Key { digits: 32 }));
    }

    #[test]
    fn a_secret_does_not_print_its_key() {
        assert_eq!(format!("{:?}", Secret::from_root(&[0x5a; 32])), "Secret::Hmac(..)");
    }

    proptest! {
        #[test]
        fn many_codes_at_once_are_those_that_come_one_by_one(
            dongles in prop::collection::vec((any::<[u8; 32]>(), any::<u64>()), 0..50),
        ) {
            let (keys, first): (Vec<_>, Vec<_>) = dongles.into_iter().map(|(key, slot)| (key, Slot(slot))).unzip();
            let mut codes = vec![[Code([0; 16]); 3]; keys.len()];
            hmac_codes(&keys, &first, &mut codes);
            for ((code_key, first), codes) in keys.into_iter().zip(first).zip(codes) {
                let secret = Secret::Hmac { code_key };
                let expected = [0, 1, 2].map(|nth| secret.code(Slot(first.0.wrapping_add(nth))));
                prop_assert_eq!(codes, expected);
            }
        }
    }
}
