//! The primitives under codes, proofs and sealed keys against published vectors: RFC 4231, Wycheproof and the
//! Eddystone-EID values of RadiusNetworks/ephemeral_calc.
//!
//! The same crates and functions as in the engine, so that a new version of one that differs is seen here. A valid
//! vector must be reproduced, an invalid one refused.

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

use crate::data::data;

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
