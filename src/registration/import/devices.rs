//! Rows of `device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means,activation_code`.
//!
//! A row with a plate makes a binding, or changes the live one of its dongle; a row without one makes the dongle known,
//! to be coupled. An empty field leaves what is known: a file of the maker's keys does not take a driver's phone away.
//! Refused are a known dongle with another key (a key does not change; a dongle that is mended gets a new id), a key,
//! plate or activation code that another dongle has, a dongle named twice in one file, and a binding that was revoked:
//! a revocation is not undone by running yesterday's import again.

use std::io::Read;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::apply::{Batch, Imported};
use super::named::Named;
use super::rows::{Column, Fields, optional, required};
use super::{Company, ImportError, ImportReport, Progress, Refused, import};
use crate::engine::code::{Scheme, SchemeError, Secret};
use crate::engine::id::DeviceId;
use crate::engine::proof::ProofKey;
use crate::engine::time::SlotLength;
use crate::registration::envelope::Envelope;
use crate::registration::error::Unavailable;
use crate::registration::mandate::Author;
use crate::registration::truth::{SealedDevice, Truth, audit};
use crate::registration::vehicle::{Vehicle, check_means, holds_card_number, parse_fuel, parse_plate};
use crate::telemetry;

const COLUMNS: &[Column] = &[
    required("device_id"),
    required("scheme"),
    required("key_hex"),
    optional("proof_key_hex"),
    optional("plate"),
    optional("fuel"),
    optional("phone_key_hex"),
    optional("payment_means"),
    optional("activation_code"),
];

/// How journal and audit name an import.
pub(super) const IMPORT: &str = "import";

const ACTIVATION_BYTES_MAX: usize = 64;

/// Imports dongles and bindings into a store that no engine runs on. Waits for the disk.
pub fn import_devices(
    truth: &Truth,
    slot: SlotLength,
    company: Company,
    csv: impl Read,
    progress: impl FnMut(Progress),
) -> Result<ImportReport, ImportError> {
    import_devices_then(truth, slot, company, csv, progress, |_| {})
}

/// `committed` learns of the bindings of each batch once they are in the store.
pub(in crate::registration) fn import_devices_then(
    truth: &Truth,
    slot: SlotLength,
    company: Company,
    csv: impl Read,
    progress: impl FnMut(Progress),
    committed: impl Fn(&[Imported]) + Clone + Send + 'static,
) -> Result<ImportReport, ImportError> {
    let envelope = truth.envelope();
    let mut named = Named::new().map_err(ImportError::Named)?;
    let parse = |fields: &Fields<'_>| {
        let row = Row::parse(fields, slot, &envelope)?;
        match named.is_new(row.sealed.device) {
            Ok(true) => Ok(row),
            Ok(false) => Err(Refused::Row("the file names this dongle before".into())),
            Err(error) => Err(Refused::All(ImportError::Named(error))),
        }
    };
    let mut ids = super::apply::BindingIds::new();
    let order = |rows: Vec<Row>| {
        let committed = committed.clone();
        let batch = Batch { ids: ids.take(rows.len()), rows, envelope: truth.envelope(), now: telemetry::now() };
        truth.order(move |db| Ok(batch.apply(db)?), move |written| committed(&written.changed))
    };
    let report = import(csv, COLUMNS, company, parse, order, progress)?;
    let what = format!("dongles imported: {} accepted, {} refused", report.accepted, report.refused);
    let note = move |db: &Connection| {
        Ok::<_, Unavailable>(audit(db, telemetry::now(), Author { who: IMPORT, why: "", what: &what }, "")?)
    };
    truth.write_waiting(note, |()| {})?;
    Ok(report)
}

/// A row that can be written, its keys sealed. In clear is only the proof key, to compare it with one that is known.
pub(super) struct Row {
    pub(super) sealed: SealedDevice,
    pub(super) proof_key: Option<ProofKey>,
    pub(super) vehicle: Option<Vehicle>,
}

impl Row {
    fn parse(fields: &Fields<'_>, slot: SlotLength, envelope: &Envelope) -> Result<Row, String> {
        refuse_card_numbers(fields)?;
        let device = DeviceId(fields.number("device_id")?.ok_or("device_id is empty")?);
        let (secret, derived) = parse_secret(fields, slot)?;
        let own = optional_key(fields, "proof_key_hex")?;
        let proof_key = own.map(|key| ProofKey::new(*key)).or(derived);
        let activation_hash = match fields.text("activation_code") {
            "" => None,
            code if code.len() > ACTIVATION_BYTES_MAX => {
                return Err(format!("activation_code has at most {ACTIVATION_BYTES_MAX} bytes"));
            }
            code => Some(Sha256::digest(code.as_bytes()).into()),
        };
        let vehicle = parse_vehicle(fields)?;
        let sealed = SealedDevice::seal(envelope, device, &secret, proof_key.as_ref(), activation_hash);
        Ok(Row { sealed, proof_key, vehicle })
    }
}

/// Every field that could hold one. Left out are the device id, which is a number of up to 20 digits by its nature,
/// and keys of their full length, in which a run of digits is chance.
fn refuse_card_numbers(fields: &Fields<'_>) -> Result<(), String> {
    let texts = ["scheme", "plate", "fuel", "payment_means", "activation_code"].map(|name| fields.text(name));
    let keys = ["key_hex", "proof_key_hex", "phone_key_hex"].map(|name| fields.text(name));
    let short_keys = keys.into_iter().filter(|key| key.len() < 32);
    if texts.into_iter().chain(short_keys).any(holds_card_number) {
        return Err("a card number; payment means are tokens of the payment provider".into());
    }
    Ok(())
}

/// The secret of the code, and the proof key that follows from it.
fn parse_secret(fields: &Fields<'_>, slot: SlotLength) -> Result<(Secret, Option<ProofKey>), String> {
    let refusal = |error: SchemeError| error.to_string();
    let scheme: Scheme = fields.text("scheme").parse().map_err(refusal)?;
    if let Scheme::EddystoneEid { exponent } = scheme
        && 1 << exponent < slot.seconds()
    {
        return Err(format!("a code of 2^{exponent} s is shorter than the slot of {} s", slot.seconds()));
    }
    let key_hex = fields.text("key_hex");
    Ok((scheme.secret(key_hex).map_err(refusal)?, scheme.proof_key(key_hex).map_err(refusal)?))
}

fn parse_vehicle(fields: &Fields<'_>) -> Result<Option<Vehicle>, String> {
    let phone = optional_key(fields, "phone_key_hex")?.map(|key| *key);
    let tokens = fields.text("payment_means").split(|c: char| c == ';' || c.is_whitespace());
    let means: Vec<String> = tokens.filter(|token| !token.is_empty()).map(str::to_owned).collect();
    check_means(&means).map_err(|refusal| refusal.to_string())?;
    let fuel = parse_fuel(fields.text("fuel")).map_err(|refusal| refusal.to_string())?;
    match fields.text("plate") {
        "" if phone.is_some() || !means.is_empty() => Err("a phone and payment means need a plate".into()),
        "" => Ok(None),
        plate => {
            let plate = parse_plate(plate).map_err(|refusal| refusal.to_string())?;
            Ok(Some(Vehicle { plate, fuel, phone, means }))
        }
    }
}

/// The key is not repeated in the refusal: a report is read by more people than a key may be.
fn optional_key(fields: &Fields<'_>, name: &'static str) -> Result<Option<Zeroizing<[u8; 32]>>, String> {
    let text = fields.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, key.as_mut()).map_err(|_| format!("{name} is not 64 hexadecimal digits"))?;
    Ok(Some(key))
}
