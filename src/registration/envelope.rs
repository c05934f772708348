//! Keys at rest: AES-256-GCM under one key-encryption key (KEK), bound to the dongle and the purpose.
//!
//! A sealed key is `KEK 1 | nonce 12 | ciphertext | tag 16`; the dongle's id and the purpose are authenticated with it, so
//! that a row copied onto another dongle, or a code key passed off as a proof key, does not open. Nonces are random: at two
//! keys for each of 100 million dongles the chance of a repeated one is 2e-12, far below GCM's 2^32 bound. The first byte
//! is the number that the store gave to the KEK, 1 to 255 and around; a rotation tells by it what is under which.
//!
//! Marks are keyed with a key of their own, which is sealed like the others: they stay when the KEK goes.
//!
//! Who wants a hardware module puts it behind [`Envelope`]: nothing else sees the KEK.

use std::cell::RefCell;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aes_gcm::aead::{Aead as _, AeadInOut as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::error::StartError;
use crate::engine::id::DeviceId;
use crate::secret::Secret;

pub(super) const NONCE_BYTES: usize = 12;

/// The file of the KEK in the data folder: 64 hexadecimal digits, readable by its owner only.
pub const KEK_FILE: &str = "kek";

/// The file of the KEK that a rotation goes to, until it is the KEK.
pub(super) const KEK_NEXT_FILE: &str = "kek.next";

/// A key-encryption key in clear. Wiped when dropped.
pub(super) type Kek = Zeroizing<[u8; 32]>;

/// The key-encryption key as settings carry it: 64 hexadecimal digits, never shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct KekHex(Secret);

impl KekHex {
    pub fn new(text: impl Into<String>) -> KekHex {
        KekHex(Secret::new(text))
    }

    pub(super) fn reveal(&self) -> &str {
        self.0.reveal()
    }

    pub fn is_valid(&self) -> bool {
        parse_kek(self.reveal()).is_ok()
    }
}

/// What a sealed key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Code,
    Proof,
    /// The known text that tells a wrong KEK at start.
    Check,
    /// What marks are keyed with.
    Mark,
    /// The private key that beacons agree their identity keys with.
    Resolver,
}

/// A sealed key that does not open: another KEK, another dongle, or a damaged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed key does not open")]
pub struct Unsealable;

pub struct Envelope {
    kek_id: u8,
    cipher: Aes256Gcm,
    /// Of its own key, so that no segment passes for a sealed key.
    segments: Aes256Gcm,
    mark_key: Zeroizing<[u8; 32]>,
}

impl Envelope {
    /// With the KEK that the store knows by this number, and the mark key that follows from it.
    pub fn new(kek_id: u8, kek: &[u8; 32]) -> Envelope {
        let derived = |info: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            Hkdf::<Sha256>::new(None, kek).expand(info, key.as_mut()).expect("32 bytes are within HKDF's output");
            key
        };
        let segments = Aes256Gcm::new((&*derived(b"forecourt segment v1")).into());
        Envelope { kek_id, cipher: Aes256Gcm::new(kek.into()), segments, mark_key: derived(b"forecourt key mark v1") }
    }

    pub(super) fn with_mark_key(self, mark_key: Zeroizing<[u8; 32]>) -> Envelope {
        Envelope { mark_key, ..self }
    }

    /// The same marks under another KEK.
    pub(super) fn successor(&self, kek_id: u8, kek: &Kek) -> Envelope {
        Envelope::new(kek_id, kek).with_mark_key(self.mark_key.clone())
    }

    pub(super) fn kek_id(&self) -> u8 {
        self.kek_id
    }

    /// The mark key, sealed.
    pub(super) fn sealed_mark_key(&self) -> Vec<u8> {
        self.seal(DeviceId(0), Purpose::Mark, self.mark_key.as_ref())
    }

    pub fn seal(&self, device: DeviceId, purpose: Purpose, key: &[u8]) -> Vec<u8> {
        let nonce = fresh_nonce();
        let payload = Payload { msg: key, aad: &authenticated(device, purpose) };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).expect("a key is far below GCM's length bound");
        [&[self.kek_id], nonce.as_slice(), &sealed].concat()
    }

    pub fn open(&self, device: DeviceId, purpose: Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (&kek_id, rest) = sealed.split_first().ok_or(Unsealable)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unsealable)?;
        if kek_id != self.kek_id {
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

thread_local! {
    static NONCES: RefCell<Nonces> = const { RefCell::new(Nonces { bytes: [0; NONCES_BYTES], left: 0 }) };
}

/// Random nonces, drawn many at a time: a system call for each would cost as much as the sealing.
struct Nonces {
    bytes: [u8; NONCES_BYTES],
    left: usize,
}

const NONCES_BYTES: usize = 256 * NONCE_BYTES;

impl Nonces {
    fn next(&mut self) -> [u8; NONCE_BYTES] {
        if self.left == 0 {
            getrandom::fill(&mut self.bytes).expect("the system's randomness was there at start");
            self.left = NONCES_BYTES;
        }
        self.left -= NONCE_BYTES;
        *self.bytes[self.left..].first_chunk().expect("a whole one is left")
    }
}

/// For one message.
pub(super) fn fresh_nonce() -> [u8; NONCE_BYTES] {
    NONCES.with_borrow_mut(Nonces::next)
}

fn authenticated(device: DeviceId, purpose: Purpose) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[..8].copy_from_slice(&device.0.to_be_bytes());
    bytes[8] = match purpose {
        Purpose::Code => 1,
        Purpose::Proof => 2,
        Purpose::Check => 3,
        Purpose::Mark => 4,
        Purpose::Resolver => 5,
    };
    bytes
}

/// The KEK of the settings, else of the data folder's file, which is made at the first start.
pub(super) fn load_kek(folder: &Path, kek_hex: Option<&KekHex>) -> Result<Kek, StartError> {
    if let Some(hex) = kek_hex {
        return parse_kek(hex.reveal());
    }
    let path = folder.join(KEK_FILE);
    match read_kek(&path)? {
        Some(kek) => Ok(kek),
        None => make_kek(&path),
    }
}

/// `None` when there is no such file.
pub(super) fn read_kek(path: &Path) -> Result<Option<Kek>, StartError> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => parse_kek(&text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StartError::File { path: path.into(), source }),
    }
}

/// A random one, in a new file.
pub(super) fn make_kek(path: &Path) -> Result<Kek, StartError> {
    let mut kek = Zeroizing::new([0; 32]);
    getrandom::fill(kek.as_mut()).map_err(StartError::Randomness)?;
    write_kek(path, &kek)?;
    Ok(kek)
}

pub(super) fn write_kek(path: &Path, kek: &Kek) -> Result<(), StartError> {
    write_secret_file(path, &Zeroizing::new(hex::encode(kek.as_ref())))
}

pub(super) fn parse_kek(text: &str) -> Result<Kek, StartError> {
    let mut kek = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), kek.as_mut()).map_err(|_| StartError::KekForm)?;
    Ok(kek)
}

/// A new file that only its owner can read, on the disk before this returns: a KEK that is lost with the power after
/// keys were sealed under it would lose the keys.
pub(super) fn write_secret_file(path: &Path, text: &str) -> Result<(), StartError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(|source| StartError::File { path: path.into(), source })
}

/// What was made or renamed in it is there after a power cut.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_for_its_dongle_and_purpose_only() {
        let envelope = Envelope::new(1, &[7; 32]);
        let sealed = envelope.seal(DeviceId(1), Purpose::Code, &[0x42; 32]);
        assert_eq!(envelope.open(DeviceId(1), Purpose::Code, &sealed).unwrap().as_slice(), &[0x42; 32]);
        assert_eq!(envelope.open(DeviceId(2), Purpose::Code, &sealed), Err(Unsealable));
        assert_eq!(envelope.open(DeviceId(1), Purpose::Proof, &sealed), Err(Unsealable));
        assert_eq!(Envelope::new(1, &[8; 32]).open(DeviceId(1), Purpose::Code, &sealed), Err(Unsealable));
        assert_eq!(Envelope::new(2, &[7; 32]).open(DeviceId(1), Purpose::Code, &sealed), Err(Unsealable));
        assert!(!sealed.windows(8).any(|bytes| bytes == [0x42; 8]));
    }

    #[test]
    fn no_two_nonces_are_the_same() {
        let envelope = Envelope::new(1, &[7; 32]);
        let nonce = |_| envelope.seal(DeviceId(1), Purpose::Code, b"key")[1..=NONCE_BYTES].to_vec();
        let nonces: std::collections::HashSet<Vec<u8>> = (0..1_000).map(nonce).collect();
        assert_eq!(nonces.len(), 1_000);
    }

    #[test]
    fn what_is_cut_short_does_not_open() {
        let envelope = Envelope::new(1, &[7; 32]);
        let sealed = envelope.seal(DeviceId(1), Purpose::Code, &[1; 16]);
        for length in 0..sealed.len() {
            assert_eq!(envelope.open(DeviceId(1), Purpose::Code, &sealed[..length]), Err(Unsealable));
        }
    }

    #[test]
    fn the_key_of_the_folder_is_made_once_and_kept_from_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let kek = load_kek(folder.path(), None).unwrap();
        let mode = folder.path().join(KEK_FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(load_kek(folder.path(), None).unwrap(), kek);
    }

    #[test]
    fn a_key_of_the_wrong_form_is_refused_and_never_shown() {
        let kek = KekHex::new("not hexadecimal");
        assert!(matches!(load_kek(Path::new("/"), Some(&kek)), Err(StartError::KekForm)));
        assert!(!kek.is_valid());
        assert!(!format!("{kek:?}").contains("hexadecimal"));
    }
}
