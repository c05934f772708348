//! What becomes of a row in the store. Most rows of a large import are of dongles that it does not know, or of such that it
//! knows just so: both have a way of their own, with as few statements as can be.

use std::sync::Arc;

use rusqlite::Connection;

use super::devices::{IMPORT, Row};
use super::{Outcome, Written};
use crate::engine::id::{BindingId, DeviceId};
use crate::engine::time::UnixMs;
use crate::registration::binding::Registration;
use crate::registration::envelope::Envelope;
use crate::registration::mandate::Author;
use crate::registration::permits;
use crate::registration::tokens::{self, Role};
use crate::registration::truth::{
    DeviceRecord, Revisions, activation_owner, audit, bind, bind_first, binding_of, device, forget_device,
    insert_device, live_binding_of_plate, lost_since, mark_owner, open_proof_key, set_activation, set_proof_key,
    update,
};
use crate::registration::vehicle::Vehicle;
use crate::telemetry;

/// A binding that an import made or changed.
#[derive(Debug, Clone)]
pub(in crate::registration) enum Imported {
    /// Of a dongle that nobody knew, so nobody can have met it.
    New(DeviceId),
    Changed {
        registration: Registration,
        /// It was there before, so somebody may know its old state.
        was_known: bool,
        /// Another phone than before: the tokens of the old one are void.
        phone_changed: bool,
    },
}

/// The ids of new bindings, in rising order: an import adds to the end of its tables, where random ids would touch a page
/// of the index for each row. Unlike a code they have nothing to hide.
pub(super) struct BindingIds {
    prefix: [u8; 12],
    next: u32,
}

impl BindingIds {
    /// Begins with the time, so that of two imports the later one's are higher; random is what follows.
    pub(super) fn new() -> BindingIds {
        let mut prefix = [0; 12];
        getrandom::fill(&mut prefix).expect("the system's randomness was there at start");
        prefix[..6].copy_from_slice(&telemetry::now().0.to_be_bytes()[2..]);
        BindingIds { prefix, next: 0 }
    }

    /// Of a batch of this many rows.
    pub(super) fn take(&mut self, count: usize) -> BindingIds {
        let taken = BindingIds { ..*self };
        self.next += count as u32;
        taken
    }

    fn next(&mut self) -> BindingId {
        let mut id = [0; 16];
        id[..12].copy_from_slice(&self.prefix);
        id[12..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        BindingId(id)
    }
}

/// The rows of one commit.
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    pub(super) ids: BindingIds,
    pub(super) envelope: Arc<Envelope>,
    pub(super) now: UnixMs,
}

impl Batch {
    pub(super) fn apply(mut self, db: &Connection) -> rusqlite::Result<Written<Imported>> {
        let mut written = Written { outcomes: Vec::with_capacity(self.rows.len()), changed: Vec::new() };
        let mut revisions = Revisions::new(self.rows.len());
        for row in std::mem::take(&mut self.rows) {
            let outcome = match device(db, row.sealed.device)? {
                None => self.add(db, &row, &mut revisions, &mut written.changed)?,
                Some(known) if row.is_known(db, &known, &self.envelope)? => Outcome::Unchanged,
                Some(known) => {
                    let mut known = Known { row: &row, record: known, id: self.ids.next(), now: self.now };
                    let (outcome, binding) = known.apply(db, &self.envelope)?;
                    written.changed.extend(binding);
                    outcome
                }
            };
            written.outcomes.push(outcome);
        }
        Ok(written)
    }

    /// A dongle that is not known. What it collides with is looked up only when it does.
    fn add(
        &mut self,
        db: &Connection,
        row: &Row,
        revisions: &mut Revisions,
        changed: &mut Vec<Imported>,
    ) -> rusqlite::Result<Outcome> {
        let device = row.sealed.device;
        let epoch = u64::from(row.vehicle.is_some());
        if !insert_device(db, &row.sealed, epoch, revisions.next(db)?)? {
            return row.collision(db).map(Outcome::Refused);
        }
        let Some(vehicle) = &row.vehicle else { return Ok(Outcome::Applied) };
        let author = Author { who: IMPORT, why: "", what: "binding imported" };
        if !bind_first(db, self.ids.next(), device, vehicle, author, self.now)? {
            // A refused row leaves no half of itself.
            forget_device(db, device)?;
            return Ok(Outcome::Refused(PLATE_TAKEN.into()));
        }
        changed.push(Imported::New(device));
        Ok(Outcome::Applied)
    }
}

const PLATE_TAKEN: &str = "the plate is bound to another dongle";
const CODE_TAKEN: &str = "the activation code is that of another dongle";

impl Row {
    fn collision(&self, db: &Connection) -> rusqlite::Result<String> {
        Ok(match mark_owner(db, &self.sealed.mark)? {
            Some(owner) => format!("the key is that of dongle {owner}"),
            None => CODE_TAKEN.into(),
        })
    }

    /// Whether the store has all that the row says.
    fn is_known(&self, db: &Connection, known: &DeviceRecord, envelope: &Envelope) -> rusqlite::Result<bool> {
        if !self.has_key_of(known) || self.differs_in_code(known) {
            return Ok(false);
        }
        if self.proof_key.is_some() && known.proof_key.is_none() || self.differs_in_proof_key(known, envelope) {
            return Ok(false);
        }
        let Some(vehicle) = &self.vehicle else { return Ok(true) };
        // The binding with its means is read only where the plate is the dongle's: one look-up in place of three.
        if live_binding_of_plate(db, &vehicle.plate)? != Some(self.sealed.device) {
            return Ok(false);
        }
        let live = binding_of(db, self.sealed.device)?.filter(|binding| binding.status.is_live());
        Ok(live.is_some_and(|binding| {
            let old = Vehicle::of(&binding);
            over(vehicle, &old) == old
        }))
    }

    fn has_key_of(&self, known: &DeviceRecord) -> bool {
        let sealed = &self.sealed;
        known.scheme == sealed.scheme && known.exponent == sealed.exponent && known.mark == sealed.mark
    }

    fn differs_in_code(&self, known: &DeviceRecord) -> bool {
        self.sealed.activation_hash.is_some() && self.sealed.activation_hash != known.activation_hash
    }

    fn differs_in_proof_key(&self, known: &DeviceRecord, envelope: &Envelope) -> bool {
        let (Some(new), Some(sealed)) = (&self.proof_key, &known.proof_key) else { return false };
        open_proof_key(envelope, self.sealed.device, sealed).as_ref() != Some(new)
    }
}

/// A row of a dongle that the store knows otherwise.
struct Known<'a> {
    row: &'a Row,
    record: DeviceRecord,
    /// Of a binding that is made.
    id: BindingId,
    now: UnixMs,
}

impl Known<'_> {
    /// Checks everything before it writes anything: a refused row leaves no half of itself.
    fn apply(&mut self, db: &Connection, envelope: &Envelope) -> rusqlite::Result<(Outcome, Option<Imported>)> {
        let current = binding_of(db, self.row.sealed.device)?;
        if let Some(reason) = self.refusal(db, current.as_ref(), envelope)? {
            return Ok((Outcome::Refused(reason.into()), None));
        }
        self.write(db, current)
    }

    fn refusal(
        &self,
        db: &Connection,
        current: Option<&Registration>,
        envelope: &Envelope,
    ) -> rusqlite::Result<Option<&'static str>> {
        let device = self.row.sealed.device;
        if !self.row.has_key_of(&self.record) {
            return Ok(Some("the dongle is known with another key"));
        }
        if self.row.differs_in_proof_key(&self.record, envelope) {
            return Ok(Some("the dongle is known with another proof key"));
        }
        if let Some(hash) = &self.row.sealed.activation_hash
            && activation_owner(db, hash)?.is_some_and(|owner| owner != device)
        {
            return Ok(Some(CODE_TAKEN));
        }
        let Some(vehicle) = &self.row.vehicle else { return Ok(None) };
        if live_binding_of_plate(db, &vehicle.plate)?.is_some_and(|owner| owner != device) {
            return Ok(Some(PLATE_TAKEN));
        }
        let ended = current.filter(|binding| !binding.status.is_live());
        if ended.is_some() && lost_since(db, device)?.is_some() {
            return Ok(Some("the dongle was reported lost, and an operator frees it when it is found"));
        }
        let is_revoked = ended
            .is_some_and(|binding| binding.plate == vehicle.plate && replaces(vehicle.phone, binding.phone).is_none());
        Ok(is_revoked.then_some("the binding was revoked, and an import does not undo that"))
    }

    fn write(&self, db: &Connection, current: Option<Registration>) -> rusqlite::Result<(Outcome, Option<Imported>)> {
        let (device_changed, became_provable) = self.write_device(db)?;
        let live = current.filter(|binding| binding.status.is_live());
        let was_known = live.is_some();
        let old_phone = live.as_ref().map(|binding| binding.phone);
        let device = self.row.sealed.device;
        let binding_changed = match (&live, &self.row.vehicle) {
            (Some(binding), vehicle) => change(db, binding, vehicle.as_ref(), became_provable, self.now)?,
            (None, Some(vehicle)) => {
                let author = Author { who: IMPORT, why: "", what: "binding imported" };
                bind(db, self.id, device, vehicle, author, self.now)?;
                true
            }
            (None, None) => false,
        };
        if binding_changed {
            let imported = binding_of(db, device)?.map(|registration| {
                let phone_changed = old_phone.is_some_and(|old| old != registration.phone);
                Imported::Changed { registration, was_known, phone_changed }
            });
            return Ok((Outcome::Applied, imported));
        }
        Ok((if device_changed { Outcome::Applied } else { Outcome::Unchanged }, None))
    }

    /// Whether anything changed, and whether the dongle can prove now what it could not before.
    fn write_device(&self, db: &Connection) -> rusqlite::Result<(bool, bool)> {
        let sealed = &self.row.sealed;
        let new_proof_key = sealed.proof_key.as_ref().filter(|_| self.record.proof_key.is_none());
        if let Some(key) = new_proof_key {
            set_proof_key(db, sealed.device, key)?;
        }
        let new_code = sealed.activation_hash.as_ref().filter(|_| self.row.differs_in_code(&self.record));
        if let Some(hash) = new_code {
            set_activation(db, sealed.device, hash)?;
        }
        Ok((new_proof_key.is_some() || new_code.is_some(), new_proof_key.is_some()))
    }
}

fn change(
    db: &Connection,
    binding: &Registration,
    vehicle: Option<&Vehicle>,
    became_provable: bool,
    now: UnixMs,
) -> rusqlite::Result<bool> {
    let old = Vehicle::of(binding);
    let new = vehicle.map_or_else(|| old.clone(), |vehicle| over(vehicle, &old));
    if new == old && !became_provable {
        return Ok(false);
    }
    if new.phone != old.phone {
        tokens::delete_of(db, Role::Phone(binding.binding))?;
        permits::close(db, binding.binding)?;
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
