//! Everything that a phone signs with its Ed25519 key, beside the proofs of [`crate::engine::proof`].
//!
//! Each message is a tag of its own and fields of fixed width, big-endian; what has no fixed width goes in by its SHA-256,
//! but for the plate of a claim, which ends it. So no signature is good for another purpose, or reads in two ways.
//!
//! | purpose | tag | fields |
//! |---|---|---|
//! | claim of a dongle | `forecourt claim v1` | SHA-256(activation code) 32, phone key 32, plate as it is sent |
//! | token | `forecourt phone token v1` | device u64, time u64 in ms |
//! | claim of a binding | `forecourt phone claim v1` | binding 16, SHA-256(code) 32, phone key 32 |
//! | another plate | `forecourt phone plate v1` | nonce 32, binding 16, epoch u64, SHA-256(plate as it is sent) 32 |
//! | other means | `forecourt phone means v1` | nonce 32, binding 16, epoch u64, SHA-256(of each: length u16, token) 32 |
//! | another phone, by the old one | `forecourt phone replace v1` | nonce 32, binding 16, epoch u64, new phone key 32 |
//! | the same, by the new one | `forecourt phone accept v1` | nonce 32, binding 16, epoch u64, new phone key 32 |
//! | the end of the binding | `forecourt phone revoke v1` | nonce 32, binding 16, epoch u64, cause u8 |
//!
//! The calls that change money or identity are signed over a nonce that the server gave for this binding and takes once,
//! so a replay is refused; and over the epoch that the phone read, so that a change in between voids what was signed over
//! the state before it. A stolen bearer token alone changes nothing. That the new phone accepts shows that its key is
//! somebody's: a driver who mistypes it would lock himself out.

use sha2::{Digest as _, Sha256};

use super::amendment::Cause;
use crate::engine::id::{BindingId, DeviceId};
use crate::engine::proof::Nonce;
use crate::engine::time::UnixMs;

const CLAIM_TAG: &[u8] = b"forecourt claim v1";
const TOKEN_TAG: &[u8] = b"forecourt phone token v1";
const PHONE_CLAIM_TAG: &[u8] = b"forecourt phone claim v1";
const PLATE_TAG: &[u8] = b"forecourt phone plate v1";
const MEANS_TAG: &[u8] = b"forecourt phone means v1";
const REPLACE_TAG: &[u8] = b"forecourt phone replace v1";
const ACCEPT_TAG: &[u8] = b"forecourt phone accept v1";
const REVOKE_TAG: &[u8] = b"forecourt phone revoke v1";

/// Of a claim of a dongle.
pub fn claim_message(activation_code: &str, phone_key: &[u8; 32], plate: &str) -> Vec<u8> {
    [CLAIM_TAG, &digest(activation_code.as_bytes()), phone_key, plate.as_bytes()].concat()
}

/// Of a request for a bearer token.
pub fn phone_token_message(device: DeviceId, at: UnixMs) -> Vec<u8> {
    [TOKEN_TAG, &device.0.to_be_bytes(), &at.0.to_be_bytes()].concat()
}

/// Of a claim of a binding whose phone was lost, by the code that an operator gave.
pub fn phone_claim_message(binding: BindingId, code: &str, phone_key: &[u8; 32]) -> Vec<u8> {
    [PHONE_CLAIM_TAG, &binding.0, &digest(code.as_bytes()), phone_key].concat()
}

/// What a phone's change of its binding is signed over, whatever is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeTerms {
    pub nonce: Nonce,
    pub binding: BindingId,
    /// Of the binding as the phone read it.
    pub epoch: u64,
}

impl ChangeTerms {
    pub fn plate_message(&self, plate: &str) -> Vec<u8> {
        self.message(PLATE_TAG, &digest(plate.as_bytes()))
    }

    pub fn means_message(&self, means: &[String]) -> Vec<u8> {
        let mut tokens = Sha256::new();
        for token in means {
            tokens.update((token.len() as u16).to_be_bytes());
            tokens.update(token);
        }
        self.message(MEANS_TAG, &tokens.finalize())
    }

    /// Signed by the phone that goes.
    pub fn replace_message(&self, new_phone: &[u8; 32]) -> Vec<u8> {
        self.message(REPLACE_TAG, new_phone)
    }

    /// Signed by the phone that comes.
    pub fn accept_message(&self, new_phone: &[u8; 32]) -> Vec<u8> {
        self.message(ACCEPT_TAG, new_phone)
    }

    pub fn revoke_message(&self, cause: Cause) -> Vec<u8> {
        self.message(REVOKE_TAG, &[cause.code()])
    }

    fn message(&self, tag: &[u8], field: &[u8]) -> Vec<u8> {
        [tag, &self.nonce, &self.binding.0, &self.epoch.to_be_bytes(), field].concat()
    }
}

/// SHA-256, as a code is looked up and signed.
pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_message_is_that_of_another_purpose_or_of_another_change() {
        let terms = ChangeTerms { nonce: [1; 32], binding: BindingId([2; 16]), epoch: 3 };
        let means = |tokens: &[&str]| terms.means_message(&tokens.iter().map(ToString::to_string).collect::<Vec<_>>());
        let messages = [
            terms.plate_message("AB123"),
            terms.plate_message("AB124"),
            means(&["tok_a", "tok_b"]),
            means(&["tok_b", "tok_a"]),
            means(&["tok_atok_b"]),
            means(&[]),
            terms.replace_message(&[4; 32]),
            terms.accept_message(&[4; 32]),
            terms.revoke_message(Cause::Sold),
            terms.revoke_message(Cause::Lost),
            ChangeTerms { epoch: 4, ..terms }.plate_message("AB123"),
            ChangeTerms { nonce: [5; 32], ..terms }.plate_message("AB123"),
            ChangeTerms { binding: BindingId([6; 16]), ..terms }.plate_message("AB123"),
            phone_claim_message(terms.binding, "code", &[4; 32]),
            claim_message("code", &[4; 32], "AB123"),
            phone_token_message(DeviceId(7), UnixMs(8)),
        ];
        let count = messages.len();
        assert_eq!(messages.into_iter().collect::<HashSet<_>>().len(), count);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let terms = ChangeTerms { nonce: [1; 32], binding: BindingId([2; 16]), epoch: 0x0304 };
        let expected =
            [&b"forecourt phone revoke v1"[..], &[1; 32], &[2; 16], &[0, 0, 0, 0, 0, 0, 3, 4], &[1]].concat();
        assert_eq!(terms.revoke_message(Cause::Sold), expected);
    }
}
