//! Signatures of Standard Webhooks (<https://www.standardwebhooks.com>): `v1,` and the base64 of the HMAC-SHA256 of
//! `id.timestamp.payload`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::secret::Secret;

const PREFIX: &str = "whsec_";

/// Bytes of a key, as the standard recommends.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that messages are signed with. Wiped when dropped, never printed.
#[derive(Clone, ZeroizeOnDrop)]
pub(super) struct Key(Vec<u8>);

/// Of `whsec_` and the key in base64. While it is changed, of the new and the old one, separated by a space: each message is
/// signed with both. `None` for text that is none.
pub(super) fn keys(secret: &Secret) -> Option<Vec<Key>> {
    let keys: Option<Vec<Key>> = secret.reveal().split_whitespace().map(Key::parse).collect();
    keys.filter(|keys| !keys.is_empty())
}

impl Key {
    fn parse(text: &str) -> Option<Key> {
        let bytes = Zeroizing::new(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        KEY_BYTES.contains(&bytes.len()).then(|| Key(bytes.to_vec()))
    }

    fn sign(&self, id: &str, unix_s: u64, payload: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{unix_s}.").as_bytes());
        mac.update(payload);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The `webhook-signature`: one for each key.
pub(super) fn sign(keys: &[Key], id: &str, unix_s: u64, payload: &[u8]) -> String {
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, unix_s, payload)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// From the tests of the reference libraries.
    #[test]
    fn a_signature_is_that_of_the_published_vector() {
        let keys = keys(&Secret::new(PUBLISHED)).unwrap();
        let signature = sign(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_secret_is_changed_messages_are_signed_with_both() {
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let both = keys(&Secret::new(format!("{other} {PUBLISHED}"))).unwrap();
        let [other, published] = [&other, PUBLISHED].map(|text| keys(&Secret::new(text)).unwrap());
        let each = [other, published].map(|keys| sign(&keys, "m", 1, b"{}"));
        assert_eq!(sign(&both, "m", 1, b"{}"), each.join(" "));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_a_secret_is_not_printed() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_?", &short] {
            assert!(keys(&Secret::new(text)).is_none(), "{text:?}");
        }
        let secret = Secret::new(PUBLISHED);
        assert_eq!(format!("{secret:?}"), "Secret(not shown)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"(set, not shown)\"");
    }
}
