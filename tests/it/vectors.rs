//! The primitives under codes, proofs and sealed keys against published vectors: RFC 4231, Wycheproof and the
//! Eddystone-EID values of RadiusNetworks/ephemeral_calc.
//!
//! The same crates and functions as in the engine, so that a new version of one that differs is seen here. A valid
//! vector must be reproduced, an invalid one refused.
//!
//! Then the vectors that the engine prints for makers of dongles, against the bare constructions.

use std::path::Path;

use aes_gcm::{
    Aes128Gcm, Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use forecourt::engine::{
    code::{Code, Secret},
    eid::ResolverKey,
    proof::verify_signature,
    time::{SlotLength, UnixMs},
};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::{data::data, engine::FORECOURT};

fn load(file: &Path) -> Value {
    let text = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).expect("the vectors are JSON")
}

fn list<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json[name].as_array().unwrap_or_else(|| panic!("{name} in {json}"))
}

fn number(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap_or_else(|| panic!("{name} in {json}"))
}

fn bytes(json: &Value, name: &str) -> Vec<u8> {
    let text = json[name].as_str().unwrap_or_else(|| panic!("{name} in {json}"));
    hex::decode(text).expect("vectors are hexadecimal")
}

fn array<const N: usize>(json: &Value, name: &str) -> [u8; N] {
    bytes(json, name).try_into().unwrap_or_else(|_| panic!("{N} bytes of {name} in {json}"))
}

/// Whether `accepts(group, case)` says what the file says, for each case that it has an opinion on; `None` leaves a
/// case out that the engine cannot be asked. Compared are the cases that went the other way, so that all are named.
fn wycheproof(file: &str, accepts: impl Fn(&Value, &Value) -> Option<bool>) {
    let Some(folder) = data("vectors") else { return };
    let vectors = load(&folder.join("wycheproof").join(file));
    let (mut checked, mut left_out, mut wrong) = (0, 0, Vec::new());
    for group in list(&vectors, "testGroups") {
        for case in list(group, "tests") {
            let is_valid = match case["result"].as_str() {
                Some("valid") => true,
                Some("invalid") => false,
                other => panic!("a result that this test does not know: {other:?}"),
            };
            match accepts(group, case) {
                None => left_out += 1,
                Some(accepted) => {
                    checked += 1;
                    wrong.extend((accepted != is_valid).then(|| format!("{} {}", case["tcId"], case["comment"])));
                }
            }
        }
    }
    eprintln!("{file}: {checked} cases checked, {left_out} left out");
    assert!(checked > 0, "no case in {file}");
    assert_eq!(checked + left_out, number(&vectors, "numberOfTests"));
    assert_eq!(wrong, Vec::<String>::new(), "{file}");
}

/// A whole tag, or the start of one, as a code is of its slot's.
fn hmac_accepts(key: &[u8], message: &[u8], tag: &[u8]) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    if tag.len() == 32 { mac.verify_slice(tag).is_ok() } else { mac.verify_truncated_left(tag).is_ok() }
}

#[test]
fn hmac_sha256_is_that_of_wycheproof() {
    wycheproof("hmac_sha256_test.json", |_, case| {
        Some(hmac_accepts(&bytes(case, "key"), &bytes(case, "msg"), &bytes(case, "tag")))
    });
}

#[test]
fn hmac_sha256_is_that_of_rfc_4231() {
    let Some(folder) = data("vectors") else { return };
    let vectors = load(&folder.join("rfc4231_hmac.json"));
    let cases = list(&vectors, "cases");
    for case in cases {
        let tag = bytes(case, "hmac_sha256");
        assert_eq!(tag.len() as u64 * 8, case["truncated_bits"].as_u64().unwrap_or(256));
        assert!(hmac_accepts(&bytes(case, "key_hex"), &bytes(case, "data_hex"), &tag), "case {}", case["case"]);
    }
    eprintln!("rfc4231_hmac.json: {} cases checked", cases.len());
    assert_eq!(cases.len(), 7);
}

#[test]
fn hkdf_sha256_is_that_of_wycheproof() {
    wycheproof("hkdf_sha256_test.json", |_, case| {
        let salt = bytes(case, "salt");
        // The engine's keys are derived without a salt.
        let salt = (!salt.is_empty()).then_some(&salt[..]);
        let mut okm = vec![0; number(case, "size") as usize];
        let expanded = hkdf::Hkdf::<Sha256>::new(salt, &bytes(case, "ikm")).expand(&bytes(case, "info"), &mut okm);
        Some(expanded.is_ok() && okm == bytes(case, "okm"))
    });
}

/// `verify_strict` may refuse what RFC 8032 allows (keys of small order); none of these vectors is such a one.
#[test]
fn ed25519_signatures_are_judged_as_by_wycheproof() {
    wycheproof("ed25519_test.json", |group, case| {
        let public_key = array(&group["publicKey"], "pk");
        // One of another length does not get as far: a request carries 64 bytes or is refused.
        let signature = bytes(case, "sig").try_into();
        Some(signature.is_ok_and(|signature| verify_signature(&public_key, &bytes(case, "msg"), &signature)))
    });
}

/// Opened to the message, and the message sealed to the same bytes.
fn gcm_accepts(cipher: &impl Aead<NonceSize = aes_gcm::aead::consts::U12>, case: &Value) -> bool {
    let nonce = Nonce::from(array::<12>(case, "iv"));
    let (message, aad) = (bytes(case, "msg"), bytes(case, "aad"));
    let sealed = [bytes(case, "ct"), bytes(case, "tag")].concat();
    let opened = cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &aad });
    opened.is_ok_and(|opened| {
        opened == message && cipher.encrypt(&nonce, Payload { msg: &message, aad: &aad }) == Ok(sealed)
    })
}

/// Sealed keys are under AES-256 with nonces of 12 bytes; AES-128 shares its code. Other sizes cannot be asked for.
#[test]
fn aes_gcm_is_that_of_wycheproof() {
    wycheproof("aes_gcm_test.json", |group, case| match (number(group, "keySize"), number(group, "ivSize")) {
        (128, 96) => Some(gcm_accepts(&Aes128Gcm::new(&array::<16>(case, "key").into()), case)),
        (256, 96) => Some(gcm_accepts(&Aes256Gcm::new(&array::<32>(case, "key").into()), case)),
        _ => None,
    });
}

#[test]
fn eids_are_those_of_the_published_derivation() {
    let Some(folder) = data("vectors") else { return };
    let vectors = load(&folder.join("eddystone_eid.json"));
    let cases = list(&vectors, "eid");
    for case in cases {
        let exponent = number(case, "rotation_exponent") as u8;
        let secret = Secret::EddystoneEid { identity_key: array(case, "identity_key"), exponent };
        let slot = secret.slot_at(SlotLength::DEFAULT, UnixMs(number(case, "beacon_time_s") * 1000));
        assert_eq!(secret.code(slot), Code::from_eid(array(case, "eid")), "{case}");
    }
    eprintln!("eddystone_eid.json: {} cases checked", cases.len());
    assert!(!cases.is_empty());
}

#[test]
fn the_identity_key_of_an_eid_is_that_of_the_published_derivation() {
    let Some(folder) = data("vectors") else { return };
    let vectors = load(&folder.join("eddystone_eid.json"));
    let agreed = &vectors["key_agreement"];
    let resolver = ResolverKey::new(&array(agreed, "resolver_private"));
    assert_eq!(resolver.public(), array(agreed, "resolver_public"));
    let key = resolver.identity_key(&array(agreed, "beacon_public")).expect("a point of high order");
    assert_eq!(*key, array(agreed, "identity_key_16"));
}

/// What `forecourt vectors --json` prints.
fn printed() -> String {
    let output = std::process::Command::new(FORECOURT).args(["vectors", "--json"]).output();
    let output = output.expect("the forecourt binary is built with its tests");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("JSON is UTF-8")
}

/// One of the vectors, with its bytes by name.
struct Printed(Value);

impl Printed {
    fn all() -> Vec<Printed> {
        let all: Vec<Value> = serde_json::from_str(&printed()).expect("a JSON array");
        all.into_iter().map(Printed).collect()
    }

    fn is(&self, name: &str) -> bool {
        self.0["name"] == name
    }

    fn take(&self, name: &str) -> Vec<u8> {
        bytes(&self.0["inputs"], name)
    }

    #[track_caller]
    fn gives(&self, name: &str, expected: &[u8]) {
        assert_eq!(bytes(&self.0["outputs"], name), expected, "{name} of {:#}", self.0);
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(&parts.concat());
    mac.finalize().into_bytes().to_vec()
}

/// HKDF-SHA256 of RFC 5869 without a salt, to one block.
fn derived(root: &[u8], info: &[u8]) -> Vec<u8> {
    hmac(&hmac(&[0; 32], &[root]), &[info, &[1]])
}

fn aes128(key: &[u8], block: [u8; 16]) -> Vec<u8> {
    use aes::cipher::BlockCipherEncrypt as _;
    let mut block = block.into();
    aes::Aes128::new_from_slice(key).expect("16 bytes").encrypt_block(&mut block);
    block.to_vec()
}

/// The two encryptions of the published derivation.
fn published_eid(key: &[u8], exponent: u8, seconds: &[u8]) -> Vec<u8> {
    let seconds = u32::from_be_bytes(seconds.try_into().expect("32 bits of seconds"));
    let [a, b, c, d] = (seconds & (u32::MAX << exponent)).to_be_bytes();
    let temporary = aes128(key, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, a, b]);
    aes128(&temporary, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, exponent, a, b, c, d])[..8].to_vec()
}

/// Changed by nothing but a change of what dongles compute, which no dongle in a car would follow.
#[test]
fn the_vectors_for_makers_of_dongles_stay_as_they_are() {
    insta::assert_snapshot!(printed());
}

#[test]
fn printed_keys_and_codes_are_those_of_the_bare_constructions() {
    let vectors = Printed::all();
    for vector in vectors.iter().filter(|vector| vector.is("keys of a root")) {
        let root = vector.take("root");
        vector.gives("K_code", &derived(&root, b"forecourt code v1"));
        vector.gives("K_proof", &derived(&root, b"forecourt proof v1"));
    }
    for vector in vectors.iter().filter(|vector| vector.is("code of a slot")) {
        vector.gives("code", &hmac(&vector.take("K_code"), &[&vector.take("slot")])[..16]);
    }
    for vector in vectors.iter().filter(|vector| vector.is("Eddystone-EID")) {
        let eid =
            published_eid(&vector.take("identity key"), vector.take("exponent")[0], &vector.take("beacon seconds"));
        vector.gives("EID", &eid);
        vector.gives("code in a batch", &[&eid[..], b"\0eid v1\0"].concat());
    }
    let count = |name: &str| vectors.iter().filter(|vector| vector.is(name)).count();
    assert_eq!(["keys of a root", "code of a slot", "Eddystone-EID"].map(count), [2, 6, 3]);
}

#[test]
fn the_printed_identity_key_is_the_secret_of_either_side() {
    let vectors = Printed::all();
    let vector = vectors.iter().find(|vector| vector.is("identity key of an Eddystone-EID")).expect("it is printed");
    let of = |name: &str| -> [u8; 32] { vector.take(name).try_into().expect("32 bytes") };
    let shared = x25519_dalek::x25519(of("beacon private"), of("resolver public"));
    let prk = hmac(&[of("resolver public"), of("beacon public")].concat(), &[&shared]);
    vector.gives("identity key", &hmac(&prk, &[&[1]])[..16]);
}

#[test]
fn printed_proofs_are_those_of_their_fields_by_hand() {
    let couple: &[&str] = &["nonce", "device", "phone key"];
    let pay: &[&str] = &["nonce", "device", "binding", "session", "station", "pump", "amount", "currency", "epoch"];
    let vectors = Printed::all();
    for (name, tag, fields) in [
        ("proof of a coupling", "couple", couple),
        ("proof of a payment", "pay", pay),
        ("proof of a clock", "clock", &["nonce", "device", "slot"]),
        ("proof of a presence", "presence", &["nonce", "device", "station"]),
    ] {
        let vector = vectors.iter().find(|vector| vector.is(name)).unwrap_or_else(|| panic!("no {name}"));
        let fields = fields.iter().flat_map(|field| vector.take(field)).collect::<Vec<u8>>();
        let message = [format!("forecourt {tag} v1").as_bytes(), &fields].concat();
        vector.gives("dongle message", &message);
        let mac = hmac(&vector.take("K_proof"), &[&message]);
        vector.gives("MAC", &mac);
        is_signed(vector, &[format!("forecourt phone {tag} v1").as_bytes(), &fields, &mac].concat());
    }
}

#[test]
fn printed_words_of_a_phone_are_those_of_their_fields_by_hand() {
    let vectors = Printed::all();
    let of = |name: &str| vectors.iter().find(|vector| vector.is(name)).unwrap_or_else(|| panic!("no {name}"));
    let claim = of("claim of a dongle");
    let code = <Sha256 as sha2::Digest>::digest(claim.take("activation code"));
    let claimed = [b"forecourt claim v1", &code[..], &claim.take("phone key"), &claim.take("plate")].concat();
    is_signed(claim, &claimed);
    let login = of("request for a phone's token");
    is_signed(login, &[&b"forecourt phone token v1"[..], &login.take("device"), &login.take("milliseconds")].concat());
}

#[track_caller]
fn is_signed(vector: &Printed, message: &[u8]) {
    vector.gives("phone message", message);
    let seed = vector.take("phone seed").try_into().expect("32 bytes");
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let signature = bytes(&vector.0["outputs"], "signature").try_into().expect("64 bytes");
    assert!(verify_signature(&public, message, &signature), "{:#}", vector.0);
}
