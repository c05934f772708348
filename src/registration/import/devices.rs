//! Rows of `device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means,activation_code`.
//!
//! A row with a plate makes a binding, or changes the live one of its dongle; a row without one makes the dongle known,
//! to be coupled. An empty field leaves what is known: a file of the maker's keys does not take a driver's phone away.
//! Refused are a known dongle with another key (a key does not change; a dongle that is mended gets a new id), a key,
//! plate or activation code that another dongle has, a dongle named twice in one file, and a binding that was revoked:
//! a revocation is not undone by running yesterday's import again.

use std::collections::HashSet;
use std::io::Read;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::rows::{Column, Fields, optional, required};
use super::{ImportError, ImportReport, Outcome, Progress, import};
use crate::engine::code::{Scheme, SchemeError, Secret};
use crate::engine::id::{BindingId, DeviceId};
use crate::engine::proof::ProofKey;
use crate::engine::time::{SlotLength, UnixMs};
use crate::registration::binding::Registration;
use crate::registration::envelope::Envelope;
use crate::registration::error::Unavailable;
use crate::registration::mandate::Author;
use crate::registration::nonces::random_id;
use crate::registration::tokens::{self, Role};
use crate::registration::truth::{
    DeviceRecord, Truth, activation_owner, audit, bind, binding_of, device, exponent, insert_device,
    live_binding_of_plate, lost_since, mark_owner, open_proof_key, scheme_name, secret_bytes, set_activation,
    set_proof_key, update,
};
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
const IMPORT: &str = "import";

const ACTIVATION_BYTES_MAX: usize = 64;

/// A binding that an import made or changed.
#[derive(Debug, Clone)]
pub(in crate::registration) struct Imported {
    pub(in crate::registration) registration: Registration,
    /// It was there before, so somebody may know its old state.
    pub(in crate::registration) was_known: bool,
    /// Another phone than before: the tokens of the old one are void.
    pub(in crate::registration) phone_changed: bool,
}

/// Imports dongles and bindings into a store that no engine runs on. Waits for the disk.
pub fn import_devices(
    truth: &Truth,
    slot: SlotLength,
    csv: impl Read,
    progress: impl FnMut(Progress),
) -> Result<ImportReport, ImportError> {
    import_devices_then(truth, slot, csv, progress, |_| {})
}

/// `committed` learns of the bindings of each batch once they are in the store.
pub(in crate::registration) fn import_devices_then(
    truth: &Truth,
    slot: SlotLength,
    csv: impl Read,
    progress: impl FnMut(Progress),
    committed: impl Fn(&[Imported]) + Clone + Send + 'static,
) -> Result<ImportReport, ImportError> {
    // 10 to 20 bytes a dongle while the import lasts.
    let mut named = HashSet::new();
    let parse = |fields: &Fields<'_>| {
        let row = Row::parse(fields, slot)?;
        if named.insert(row.device) { Ok(row) } else { Err("the file names this dongle before".to_owned()) }
    };
    let apply = |rows: Vec<Row>| {
        let (committed, envelope, now) = (committed.clone(), truth.envelope(), telemetry::now());
        let applied = truth.write_waiting(
            move |db| {
                let mut outcomes = Vec::with_capacity(rows.len());
                let mut imported = Vec::new();
                for row in &rows {
                    let (outcome, binding) = row.apply(db, &envelope, now)?;
                    outcomes.push(outcome);
                    imported.extend(binding);
                }
                Ok::<_, Unavailable>((outcomes, imported))
            },
            move |(_, imported)| committed(imported),
        );
        applied.map(|(outcomes, _)| outcomes)
    };
    let report = import(csv, COLUMNS, parse, apply, progress)?;
    let what = format!("dongles imported: {} accepted, {} refused", report.accepted, report.refused);
    let note = move |db: &Connection| {
        Ok::<_, Unavailable>(audit(db, telemetry::now(), Author { who: IMPORT, why: "", what: &what }, "")?)
    };
    truth.write_waiting(note, |()| {})?;
    Ok(report)
}

struct Row {
    device: DeviceId,
    secret: Secret,
    proof_key: Option<ProofKey>,
    activation_hash: Option<[u8; 32]>,
    vehicle: Option<Vehicle>,
}

impl Row {
    fn parse(fields: &Fields<'_>, slot: SlotLength) -> Result<Row, String> {
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
        Ok(Row { device, secret, proof_key, activation_hash, vehicle: parse_vehicle(fields)? })
    }

    /// Checks everything before it writes anything: a refused row leaves no half of itself.
    fn apply(
        &self,
        db: &Connection,
        envelope: &Envelope,
        now: UnixMs,
    ) -> rusqlite::Result<(Outcome, Option<Imported>)> {
        let refused = |reason: &str| Ok((Outcome::Refused(reason.to_owned()), None));
        let known = device(db, self.device)?;
        let current = binding_of(db, self.device)?;
        let mark = envelope.mark(secret_bytes(&self.secret));
        if let Some(known) = &known {
            if known.scheme != scheme_name(&self.secret)
                || known.exponent != exponent(&self.secret)
                || known.mark != mark
            {
                return refused("the dongle is known with another key");
            }
            if self.differs_in_proof_key(known, envelope) {
                return refused("the dongle is known with another proof key");
            }
        } else if let Some(owner) = mark_owner(db, &mark)? {
            return refused(&format!("the key is that of dongle {owner}"));
        }
        if let Some(hash) = &self.activation_hash
            && activation_owner(db, hash)?.is_some_and(|owner| owner != self.device)
        {
            return refused("the activation code is that of another dongle");
        }
        if let Some(vehicle) = &self.vehicle {
            if live_binding_of_plate(db, &vehicle.plate)?.is_some_and(|owner| owner != self.device) {
                return refused("the plate is bound to another dongle");
            }
            let is_revoked = current.as_ref().is_some_and(|binding| {
                !binding.status.is_live()
                    && binding.plate == vehicle.plate
                    && replaces(vehicle.phone, binding.phone).is_none()
            });
            if current.as_ref().is_none_or(|binding| !binding.status.is_live())
                && lost_since(db, self.device)?.is_some()
            {
                return refused("the dongle was reported lost, and an operator frees it when it is found");
            }
            if is_revoked {
                return refused("the binding was revoked, and an import does not undo that");
            }
        }
        self.write(db, envelope, known.as_ref(), current, now)
    }

    fn differs_in_proof_key(&self, known: &DeviceRecord, envelope: &Envelope) -> bool {
        let (Some(new), Some(sealed)) = (&self.proof_key, &known.proof_key) else { return false };
        open_proof_key(envelope, self.device, sealed).as_ref() != Some(new)
    }

    fn write(
        &self,
        db: &Connection,
        envelope: &Envelope,
        known: Option<&DeviceRecord>,
        current: Option<Registration>,
        now: UnixMs,
    ) -> rusqlite::Result<(Outcome, Option<Imported>)> {
        let (device_changed, became_provable) = self.write_device(db, envelope, known)?;
        let live = current.filter(|binding| binding.status.is_live());
        let was_known = live.is_some();
        let old_phone = live.as_ref().map(|binding| binding.phone);
        let binding_changed = match (&live, &self.vehicle) {
            (Some(binding), vehicle) => change(db, binding, vehicle.as_ref(), became_provable, now)?,
            (None, Some(vehicle)) => {
                let author = Author { who: IMPORT, why: "", what: "binding imported" };
                bind(db, BindingId(random_id()), self.device, vehicle, author, now)?;
                true
            }
            (None, None) => false,
        };
        if binding_changed {
            let imported = binding_of(db, self.device)?.map(|registration| {
                let phone_changed = old_phone.is_some_and(|old| old != registration.phone);
                Imported { registration, was_known, phone_changed }
            });
            return Ok((Outcome::Applied, imported));
        }
        Ok((if device_changed { Outcome::Applied } else { Outcome::Unchanged }, None))
    }

    /// Whether anything changed, and whether the dongle can prove now what it could not before.
    fn write_device(
        &self,
        db: &Connection,
        envelope: &Envelope,
        known: Option<&DeviceRecord>,
    ) -> rusqlite::Result<(bool, bool)> {
        let Some(known) = known else {
            let activation = self.activation_hash.as_ref();
            insert_device(db, envelope, self.device, &self.secret, self.proof_key.as_ref(), activation)?;
            return Ok((true, false));
        };
        let new_proof_key = self.proof_key.as_ref().filter(|_| known.proof_key.is_none());
        if let Some(key) = new_proof_key {
            set_proof_key(db, envelope, self.device, key)?;
        }
        let new_activation = self.activation_hash.as_ref().filter(|hash| known.activation_hash.as_ref() != Some(hash));
        if let Some(hash) = new_activation {
            set_activation(db, self.device, hash)?;
        }
        Ok((new_proof_key.is_some() || new_activation.is_some(), new_proof_key.is_some()))
    }
}

fn change(
    db: &Connection,
    binding: &Registration,
    vehicle: Option<&Vehicle>,
    became_provable: bool,
    now: UnixMs,
) -> rusqlite::Result<bool> {
    let old = Vehicle {
        plate: binding.plate.clone(),
        fuel: binding.fuel.clone(),
        phone: binding.phone,
        means: binding.means.clone(),
    };
    let new = vehicle.map_or_else(|| old.clone(), |vehicle| over(vehicle, &old));
    if new == old && !became_provable {
        return Ok(false);
    }
    if new.phone != old.phone {
        tokens::delete_of(db, Role::Phone(binding.binding))?;
    }
    let Vehicle { plate, fuel, phone, means } = new;
    let after = Registration { plate, fuel, phone, means, ..binding.clone() };
    let author = Author { who: IMPORT, why: "", what: "binding updated" };
    update(db, binding, &after, author, now)?;
    audit(db, now, author, &binding.binding.to_string())?;
    Ok(true)
}

/// What the row says, and what was known where it says nothing.
fn over(row: &Vehicle, known: &Vehicle) -> Vehicle {
    Vehicle {
        plate: row.plate.clone(),
        fuel: row.fuel.clone().or_else(|| known.fuel.clone()),
        phone: row.phone.or(known.phone),
        means: if row.means.is_empty() { known.means.clone() } else { row.means.clone() },
    }
}

/// The phone that takes another one's place, if any does.
fn replaces(row: Option<[u8; 32]>, known: Option<[u8; 32]>) -> Option<[u8; 32]> {
    row.filter(|phone| known.as_ref() != Some(phone))
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
