//! `forecourt vectors`: what dongles and phones compute, from fixed inputs, so that who makes one can check it.
//!
//! Every input and output is in hexadecimal digits, numbers big-endian in the width in which they are computed with.
//! The constructions are described in `engine::code`, `engine::proof`, `engine::eid` and `registration::signed`.

use std::fmt::Write as _;

use ed25519_dalek::{Signer as _, SigningKey};
use forecourt::{
    engine::{
        code::Secret,
        eid::ResolverKey,
        id::{BindingId, DeviceId, PumpNumber, SessionId, StationId},
        money::Money,
        proof::{ClockTerms, CoupleTerms, Nonce, PayTerms, PresenceTerms, ProofKey, Terms},
        time::{Slot, UnixMs},
    },
    registration::{claim_message, phone_token_message},
};
use serde_json::{Map, Value, json};

/// A root key, and beside it one whose bytes tell a wrong order.
const ROOTS: [[u8; 32]; 2] = [[0x0b; 32], counting(0x00)];
/// The first slot, one of 2026 with 300 s, and one that needs all of its 64 bits.
const SLOTS: [u64; 3] = [0, 5_981_000, 0x0123_4567_89ab_cdef];
const IDENTITY_KEY: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
/// Seconds of a beacon's clock: two of one temporary key, and one of the next.
const BEACON_TIMES: [u32; 3] = [0, 2_000, 70_000];
const EXPONENT: u8 = 10;
const PHONE_SEED: [u8; 32] = counting(0x40);
const NONCE: Nonce = counting(0x80);
const DEVICE: DeviceId = DeviceId(0x0102_0304_0506_0708);
const ACTIVATION_CODE: &str = "LABEL-7";
/// With a letter of more than one byte.
const PLATE: &str = "12\u{ac00}3456";

const fn counting(from: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = from + at as u8;
        at += 1;
    }
    bytes
}

/// One computation.
struct Vector {
    name: &'static str,
    inputs: Named,
    outputs: Named,
}

/// Names and bytes, in the order in which they are computed with.
type Named = Vec<(&'static str, Vec<u8>)>;

pub(super) fn print(as_json: bool) -> String {
    let vectors = vectors();
    if as_json {
        let all: Vec<Value> = vectors.iter().map(Vector::json).collect();
        return serde_json::to_string_pretty(&all).expect("vectors are plain text") + "\n";
    }
    vectors.iter().map(Vector::text).collect::<Vec<_>>().join("\n")
}

impl Vector {
    fn json(&self) -> Value {
        let hex = |named: &Named| {
            named.iter().map(|(name, bytes)| ((*name).to_owned(), hex::encode(bytes).into())).collect::<Map<_, _>>()
        };
        json!({ "name": self.name, "inputs": hex(&self.inputs), "outputs": hex(&self.outputs) })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.name);
        for (sign, named) in [(' ', &self.inputs), ('=', &self.outputs)] {
            for (name, bytes) in named {
                writeln!(text, "{sign} {name:18} {}", hex::encode(bytes)).expect("text takes what is written");
            }
        }
        text
    }
}

fn vectors() -> Vec<Vector> {
    let of_root = |root| std::iter::once(keys(root)).chain(SLOTS.map(|slot| code(root, slot)));
    let of_roots = ROOTS.iter().flat_map(of_root);
    let eids = BEACON_TIMES.iter().map(|time| eid(*time));
    let mut vectors: Vec<Vector> = of_roots.chain(eids).collect();
    vectors.push(identity_key());
    vectors.extend(proofs());
    vectors.push(claim());
    vectors.push(login());
    vectors
}

fn keys(root: &[u8; 32]) -> Vector {
    let outputs = vec![("K_code", code_key(root).into()), ("K_proof", ProofKey::from_root(root).bytes().into())];
    Vector { name: "keys of a root", inputs: vec![("root", root.into())], outputs }
}

fn code_key(root: &[u8; 32]) -> [u8; 32] {
    match &Secret::from_root(root) {
        Secret::Hmac { code_key } => *code_key,
        Secret::EddystoneEid { .. } | Secret::Fixed { .. } => unreachable!("a root makes an HMAC secret"),
    }
}

fn code(root: &[u8; 32], slot: u64) -> Vector {
    let code = Secret::from_root(root).code(Slot(slot));
    let inputs = vec![("K_code", code_key(root).into()), ("slot", slot.to_be_bytes().into())];
    Vector { name: "code of a slot", inputs, outputs: vec![("code", code.0.into())] }
}

fn eid(beacon_s: u32) -> Vector {
    let secret = Secret::EddystoneEid { identity_key: IDENTITY_KEY, exponent: EXPONENT };
    let code = secret.code(Slot(u64::from(beacon_s) >> EXPONENT));
    let inputs = vec![
        ("identity key", IDENTITY_KEY.into()),
        ("exponent", vec![EXPONENT]),
        ("beacon seconds", beacon_s.to_be_bytes().into()),
    ];
    let outputs = vec![("EID", code.0[..8].into()), ("code in a batch", code.0.into())];
    Vector { name: "Eddystone-EID", inputs, outputs }
}

/// Of a resolver and a beacon whose private keys are both given.
fn identity_key() -> Vector {
    let (resolver, beacon) = (ResolverKey::new(&counting(0x20)), ResolverKey::new(&counting(0x60)));
    let key = resolver.identity_key(&beacon.public()).expect("a key of high order");
    let inputs = vec![
        ("resolver private", counting(0x20).into()),
        ("beacon private", counting(0x60).into()),
        ("resolver public", resolver.public().into()),
        ("beacon public", beacon.public().into()),
    ];
    Vector { name: "identity key of an Eddystone-EID", inputs, outputs: vec![("identity key", key.to_vec())] }
}

fn phone() -> SigningKey {
    SigningKey::from_bytes(&PHONE_SEED)
}

fn proofs() -> [Vector; 4] {
    let pay = PayTerms {
        nonce: NONCE,
        device: DEVICE,
        binding: BindingId([0xb1; 16]),
        session: SessionId([0x5e; 16]),
        station: StationId(101),
        pump: PumpNumber(3),
        amount: Money { minor: 7_196, currency: "EUR".parse().expect("three capitals") },
        epoch: 5,
    };
    let pay_fields = vec![
        ("binding", pay.binding.0.into()),
        ("session", pay.session.0.into()),
        ("station", pay.station.0.to_be_bytes().into()),
        ("pump", pay.pump.0.to_be_bytes().into()),
        ("amount", pay.amount.minor.to_be_bytes().into()),
        ("currency", pay.amount.currency.bytes().into()),
        ("epoch", pay.epoch.to_be_bytes().into()),
    ];
    let couple = CoupleTerms { nonce: NONCE, device: DEVICE, phone_key: phone().verifying_key().to_bytes() };
    let clock = ClockTerms { nonce: NONCE, device: DEVICE, slot: SLOTS[1] };
    let presence = PresenceTerms { nonce: NONCE, device: DEVICE, station: StationId(101) };
    [
        proof("proof of a coupling", &couple, vec![("phone key", couple.phone_key.into())]),
        proof("proof of a payment", &pay, pay_fields),
        proof("proof of a clock", &clock, vec![("slot", clock.slot.to_be_bytes().into())]),
        proof("proof of a presence", &presence, vec![("station", presence.station.0.to_be_bytes().into())]),
    ]
}

/// Both channels: the dongle's MAC and the phone's signature. `fields` are those that follow nonce and device.
fn proof<T: Terms>(name: &'static str, terms: &T, fields: Named) -> Vector {
    let key = ProofKey::from_root(&ROOTS[1]);
    let mac = terms.mac(&key);
    let mut inputs = vec![
        ("K_proof", key.bytes().into()),
        ("phone seed", PHONE_SEED.into()),
        ("dongle tag", T::TAG.into()),
        ("phone tag", T::PHONE_TAG.into()),
        ("nonce", NONCE.into()),
        ("device", DEVICE.0.to_be_bytes().into()),
    ];
    inputs.extend(fields);
    let outputs = vec![
        ("dongle message", [T::TAG, &terms.fields()].concat()),
        ("MAC", mac.into()),
        ("phone message", terms.phone_message(&mac)),
        ("signature", phone().sign(&terms.phone_message(&mac)).to_bytes().into()),
    ];
    Vector { name, inputs, outputs }
}

fn claim() -> Vector {
    let phone_key = phone().verifying_key().to_bytes();
    let inputs = vec![
        ("phone seed", PHONE_SEED.into()),
        ("activation code", ACTIVATION_CODE.into()),
        ("phone key", phone_key.into()),
        ("plate", PLATE.into()),
    ];
    signed("claim of a dongle", inputs, claim_message(ACTIVATION_CODE, &phone_key, PLATE))
}

fn login() -> Vector {
    let at = UnixMs(1_800_000_000_000);
    let inputs = vec![
        ("phone seed", PHONE_SEED.into()),
        ("device", DEVICE.0.to_be_bytes().into()),
        ("milliseconds", at.0.to_be_bytes().into()),
    ];
    signed("request for a phone's token", inputs, phone_token_message(DEVICE, at))
}

fn signed(name: &'static str, inputs: Named, message: Vec<u8>) -> Vector {
    let signature = phone().sign(&message).to_bytes().into();
    Vector { name, inputs, outputs: vec![("phone message", message), ("signature", signature)] }
}
