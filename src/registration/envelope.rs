//! Keys at rest: AES-256-GCM under one key-encryption key (KEK), bound to the dongle and the purpose.
//!
//! A sealed key is `version 1 | nonce 12 | ciphertext | tag 16`; the dongle's id and the purpose are authenticated with
//! it, so that a row copied onto another dongle, or a code key passed off as a proof key, does not open. Nonces are
//! random: at two keys for each of 100 million dongles the chance of a repeated one is 2e-12, far below GCM's 2^32 bound.
//!
//! Who wants a hardware module puts it behind [`Envelope`]: nothing else sees the KEK.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aes_gcm::aead::{Aead as _, AeadInOut as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::error::StartError;
use crate::engine::id::DeviceId;

const VERSION: u8 = 1;
pub(super) const NONCE_BYTES: usize = 12;

/// The file of the KEK in the data folder: 64 hexadecimal digits, readable by its owner only.
pub const KEK_FILE: &str = "kek";

/// The key-encryption key as settings carry it: 64 hexadecimal digits, never shown.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct KekHex(String);

impl KekHex {
    pub fn new(text: impl Into<String>) -> KekHex {
        KekHex(text.into())
    }

    pub fn is_valid(&self) -> bool {
        parse_kek(&self.0).is_ok()
    }
}

impl fmt::Debug for KekHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KekHex(not shown)")
    }
}

/// `config print` shows that it is set, and no more.
impl serde::Serialize for KekHex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(set, not shown)")
    }
}

/// What a sealed key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Code,
    Proof,
    /// The known text that tells a wrong KEK at start.
    Check,
}

/// A sealed key that does not open: another KEK, another dongle, or a damaged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed key does not open")]
pub struct Unsealable;

pub struct Envelope {
    cipher: Aes256Gcm,
    /// Of its own key, so that no segment passes for a sealed key.
    segments: Aes256Gcm,
    mark_key: Zeroizing<[u8; 32]>,
}

impl Envelope {
    pub fn new(kek: &[u8; 32]) -> Envelope {
        let derived = |info: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            Hkdf::<Sha256>::new(None, kek).expand(info, key.as_mut()).expect("32 bytes are within HKDF's output");
            key
        };
        let segments = Aes256Gcm::new((&*derived(b"forecourt segment v1")).into());
        Envelope { cipher: Aes256Gcm::new(kek.into()), segments, mark_key: derived(b"forecourt key mark v1") }
    }

    /// With the KEK of the settings, else of the data folder's file, which is made at the first start.
    pub fn load(folder: &Path, kek_hex: Option<&KekHex>) -> Result<Envelope, StartError> {
        let kek = match kek_hex {
            Some(hex) => parse_kek(&hex.0)?,
            None => kek_of_file(&folder.join(KEK_FILE))?,
        };
        Ok(Envelope::new(&kek))
    }

    pub fn seal(&self, device: DeviceId, purpose: Purpose, key: &[u8]) -> Vec<u8> {
        let nonce = fresh_nonce();
        let payload = Payload { msg: key, aad: &authenticated(device, purpose) };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).expect("a key is far below GCM's length bound");
        [&[VERSION], nonce.as_slice(), &sealed].concat()
    }

    pub fn open(&self, device: DeviceId, purpose: Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (&version, rest) = sealed.split_first().ok_or(Unsealable)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unsealable)?;
        if version != VERSION {
            return Err(Unsealable);
        }
        let payload = Payload { msg: sealed, aad: &authenticated(device, purpose) };
        self.cipher.decrypt(&Nonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| Unsealable)
    }

    /// Seals a segment where it is, and answers the tag.
    pub(super) fn seal_segment(&self, nonce: &[u8; NONCE_BYTES], clear: &[u8], archive: &mut [u8]) -> [u8; 16] {
        let sealed = self.segments.encrypt_inout_detached(&Nonce::from(*nonce), clear, archive.into());
        sealed.expect("a segment is far below GCM's length bound").into()
    }

    pub(super) fn open_segment(
        &self,
        nonce: &[u8; NONCE_BYTES],
        clear: &[u8],
        archive: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Unsealable> {
        let opened = self.segments.decrypt_inout_detached(&Nonce::from(*nonce), clear, archive.into(), &(*tag).into());
        opened.map_err(|_| Unsealable)
    }

    /// A keyed fingerprint of a key: tells two dongles with one key, and a changed key, without opening a row.
    pub fn mark(&self, key: &[u8]) -> [u8; 16] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.mark_key.as_ref()).expect("HMAC takes keys of any length");
        mac.update(key);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        full[..16].try_into().expect("16 of 32 bytes")
    }
}

/// For one message.
pub(super) fn fresh_nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the system's randomness was there at start");
    nonce
}

fn authenticated(device: DeviceId, purpose: Purpose) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[..8].copy_from_slice(&device.0.to_be_bytes());
    bytes[8] = match purpose {
        Purpose::Code => 1,
        Purpose::Proof => 2,
        Purpose::Check => 3,
    };
    bytes
}

fn parse_kek(text: &str) -> Result<Zeroizing<[u8; 32]>, StartError> {
    let mut kek = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), kek.as_mut()).map_err(|_| StartError::KekForm)?;
    Ok(kek)
}

fn kek_of_file(path: &Path) -> Result<Zeroizing<[u8; 32]>, StartError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse_kek(&Zeroizing::new(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut kek = Zeroizing::new([0; 32]);
            getrandom::fill(kek.as_mut()).map_err(StartError::Randomness)?;
            write_secret_file(path, &Zeroizing::new(hex::encode(kek.as_ref())))?;
            Ok(kek)
        }
        Err(source) => Err(StartError::File { path: path.into(), source }),
    }
}

/// A new file that only its owner can read, on the disk before this returns: a KEK that is lost with the power after
/// keys were sealed under it would lose the keys.
pub(super) fn write_secret_file(path: &Path, text: &str) -> Result<(), StartError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    };
    write().map_err(|source| StartError::File { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_for_its_dongle_and_purpose_only() {
        let envelope = Envelope::new(&[7; 32]);
        let sealed = envelope.seal(DeviceId(1), Purpose::Code, &[0x42; 32]);
        assert_eq!(envelope.open(DeviceId(1), Purpose::Code, &sealed).unwrap().as_slice(), &[0x42; 32]);
        assert_eq!(envelope.open(DeviceId(2), Purpose::Code, &sealed), Err(Unsealable));
        assert_eq!(envelope.open(DeviceId(1), Purpose::Proof, &sealed), Err(Unsealable));
        assert_eq!(Envelope::new(&[8; 32]).open(DeviceId(1), Purpose::Code, &sealed), Err(Unsealable));
        assert!(!sealed.windows(8).any(|bytes| bytes == [0x42; 8]));
    }

    #[test]
    fn what_is_cut_short_does_not_open() {
        let envelope = Envelope::new(&[7; 32]);
        let sealed = envelope.seal(DeviceId(1), Purpose::Code, &[1; 16]);
        for length in 0..sealed.len() {
            assert_eq!(envelope.open(DeviceId(1), Purpose::Code, &sealed[..length]), Err(Unsealable));
        }
    }

    #[test]
    fn the_key_of_the_folder_is_made_once_and_kept_from_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let sealed = Envelope::load(folder.path(), None).unwrap().seal(DeviceId(1), Purpose::Code, b"key");
        let mode = folder.path().join(KEK_FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Envelope::load(folder.path(), None).unwrap();
        assert_eq!(again.open(DeviceId(1), Purpose::Code, &sealed).unwrap().as_slice(), b"key");
    }

    #[test]
    fn a_key_of_the_wrong_form_is_refused_and_never_shown() {
        let kek = KekHex::new("not hexadecimal");
        assert!(matches!(Envelope::load(Path::new("/"), Some(&kek)), Err(StartError::KekForm)));
        assert!(!kek.is_valid());
        assert!(!format!("{kek:?}").contains("hexadecimal"));
    }
}
