//! Tells uplinks at once that the server has lost their connections (RFC 9000, section 10.3: stateless reset).
//!
//! After a crash the new process knows none of the connections that the old one had, and an uplink would send into
//! the void until its idle timeout. A reset is believed only when it carries the token that came with the connection
//! id; the token is an HMAC of the id, so a process that has the same key can say it. The key is derived from the
//! server's private key: it survives a restart, and needs no file of its own.

use std::{sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig,
    crypto::{CryptoError, HmacKey},
};
use sha2::Sha256;
use zeroize::Zeroizing;

const KEY_LABEL: &[u8] = b"forecourt stateless reset v1";

const ID_BYTES: usize = 8;

/// At most one reset in this time: 3,500 uplinks are told within 4 s, and a flood gets no more than this back.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The endpoint's configuration under the key that follows from the server's private key.
pub(super) fn endpoint_config(private_key: &[u8]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(Key::derive(private_key)));
    config.cid_generator(|| Box::new(Ids)).min_reset_interval(RESET_INTERVAL);
    config
}

struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn derive(private_key: &[u8]) -> Key {
        Key(Zeroizing::new(mac(private_key, KEY_LABEL)))
    }
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    hmac(key, data).finalize().into_bytes().into()
}

fn hmac(key: &[u8], data: &[u8]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    hmac.update(data);
    hmac
}

impl HmacKey for Key {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&mac(&*self.0, data));
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac(&*self.0, data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// Random ids, which say nothing of their own. Any process takes them for its own, and may answer with a reset.
struct Ids;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        getrandom::fill(&mut id).expect("the operating system's randomness does not fail once it is there");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_has_the_same_tokens_and_another_server_has_not() {
        let token = |private_key: &[u8]| {
            let mut token = [0; 32];
            Key::derive(private_key).sign(b"an id", &mut token);
            token
        };
        assert_eq!(token(b"a key"), token(b"a key"));
        assert_ne!(token(b"a key"), token(b"another"));
        assert!(Key::derive(b"a key").verify(b"an id", &token(b"a key")).is_ok());
        assert!(Key::derive(b"a key").verify(b"an id", &token(b"another")).is_err());
    }
}
