//! The rows of bindings. Every change takes the next epoch of its dongle.

use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};

use super::devices::{device_id, next_epoch};
use super::journal::{Side, Step, journal};
use crate::engine::id::{BindingId, DeviceId};
use crate::engine::plate::Plate;
use crate::engine::time::UnixMs;
use crate::registration::binding::{BindingStatus, Registration};
use crate::registration::mandate::Author;
use crate::registration::vehicle::Vehicle;

const SELECT: &str =
    "SELECT b.id, b.device_id, b.epoch, b.plate, b.fuel, b.phone_key, b.status, d.proof_key IS NOT NULL
    FROM bindings b JOIN devices d ON d.device_id = b.device_id";

/// The live binding of a dongle, else its last one. Epochs only grow, so it is the one with the highest.
pub(in crate::registration) fn binding_of(db: &Connection, device: DeviceId) -> rusqlite::Result<Option<Registration>> {
    one(db, &format!("{SELECT} WHERE b.device_id = ?1 ORDER BY b.epoch DESC LIMIT 1"), device.0 as i64)
}

pub(in crate::registration) fn binding_by_id(db: &Connection, id: BindingId) -> rusqlite::Result<Option<Registration>> {
    one(db, &format!("{SELECT} WHERE b.id = ?1"), id.0)
}

/// Live bindings in the order of their dongles, those after `after`.
pub(in crate::registration) fn bound_after(
    db: &Connection,
    after: Option<DeviceId>,
    limit: usize,
) -> rusqlite::Result<Vec<Registration>> {
    let devices: Vec<DeviceId> = db
        .prepare_cached(
            "SELECT device_id FROM bindings WHERE status <> 'revoked' AND device_id > ?1 ORDER BY device_id LIMIT ?2",
        )?
        .query_map(params![after.map_or(i64::MIN, |after| after.0 as i64), limit as i64], |row| device_id(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    let bound = devices.into_iter().map(|device| binding_of(db, device));
    bound.filter_map(Result::transpose).collect()
}

/// Which dongle holds the plate now.
pub(in crate::registration) fn live_binding_of_plate(
    db: &Connection,
    plate: &Plate,
) -> rusqlite::Result<Option<DeviceId>> {
    db.prepare_cached("SELECT device_id FROM bindings WHERE plate = ?1 AND status <> 'revoked'")?
        .query_row([plate.as_str()], |row| device_id(row, 0))
        .optional()
}

/// A new, active binding. The caller has seen to it that dongle and plate are free.
pub(in crate::registration) fn bind(
    db: &Connection,
    id: BindingId,
    device: DeviceId,
    vehicle: &Vehicle,
    author: Author<'_>,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let step = Step { device, binding: id, epoch: next_epoch(db, device)?, at: now };
    insert(db, &step, vehicle, "")?;
    finish(db, &step, vehicle, author)
}

/// The first binding of a dongle that was put in by the same commit, at epoch 1. `false`, and nothing is changed, when the
/// plate is bound to another one.
pub(in crate::registration) fn bind_first(
    db: &Connection,
    id: BindingId,
    device: DeviceId,
    vehicle: &Vehicle,
    author: Author<'_>,
    now: UnixMs,
) -> rusqlite::Result<bool> {
    let step = Step { device, binding: id, epoch: 1, at: now };
    if insert(db, &step, vehicle, " ON CONFLICT DO NOTHING")? == 0 {
        return Ok(false);
    }
    finish(db, &step, vehicle, author)?;
    Ok(true)
}

fn insert(db: &Connection, step: &Step, vehicle: &Vehicle, on_conflict: &str) -> rusqlite::Result<usize> {
    db.prepare_cached(&format!(
        "INSERT INTO bindings (id, device_id, plate, fuel, phone_key, epoch, status, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'active', ?7){on_conflict}",
    ))?
    .execute(params![
        step.binding.0,
        step.device.0 as i64,
        vehicle.plate.as_str(),
        vehicle.fuel,
        vehicle.phone,
        step.epoch as i64,
        step.at.0 as i64,
    ])
}

fn finish(db: &Connection, step: &Step, vehicle: &Vehicle, author: Author<'_>) -> rusqlite::Result<()> {
    set_means(db, step.binding, &vehicle.means)?;
    let after = Side {
        plate: vehicle.plate.as_str(),
        phone: vehicle.phone.as_ref(),
        means: vehicle.means.len(),
        status: BindingStatus::Active,
    };
    journal(db, step, author, None, &after)
}

/// Makes `before` what `after` says, under the dongle's next epoch, which is answered.
pub(in crate::registration) fn update(
    db: &Connection,
    before: &Registration,
    after: &Registration,
    author: Author<'_>,
    now: UnixMs,
) -> rusqlite::Result<u64> {
    let (id, device) = (before.binding, before.device);
    let epoch = next_epoch(db, device)?;
    let ended = (!after.status.is_live()).then_some(now.0 as i64);
    db.prepare_cached(
        "UPDATE bindings SET plate = ?2, fuel = ?3, phone_key = ?4, epoch = ?5, status = ?6, ended_ms = ?7 WHERE id = ?1",
    )?
    .execute(params![
        id.0,
        after.plate.as_str(),
        after.fuel,
        after.phone,
        epoch as i64,
        after.status.name(),
        ended
    ])?;
    if after.means != before.means {
        db.prepare_cached("DELETE FROM means WHERE binding = ?1")?.execute([id.0])?;
        set_means(db, id, &after.means)?;
    }
    journal(db, &Step { device, binding: id, epoch, at: now }, author, Some(&Side::of(before)), &Side::of(after))?;
    Ok(epoch)
}

fn set_means(db: &Connection, id: BindingId, means: &[String]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO means (binding, ordinal, token) VALUES (?1, ?2, ?3)")?;
    for (ordinal, token) in means.iter().enumerate() {
        insert.execute(params![id.0, ordinal as i64, token])?;
    }
    Ok(())
}

fn one(db: &Connection, sql: &str, key: impl rusqlite::ToSql) -> rusqlite::Result<Option<Registration>> {
    let found = db.prepare_cached(sql)?.query_row([key], registration).optional()?;
    let Some(mut registration) = found else { return Ok(None) };
    registration.means = db
        .prepare_cached("SELECT token FROM means WHERE binding = ?1 ORDER BY ordinal")?
        .query_map([registration.binding.0], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(registration))
}

fn registration(row: &Row<'_>) -> rusqlite::Result<Registration> {
    let unreadable = |column| rusqlite::Error::InvalidColumnType(column, "bindings".into(), Type::Text);
    Ok(Registration {
        binding: BindingId(row.get(0)?),
        device: device_id(row, 1)?,
        epoch: row.get::<_, i64>(2)? as u64,
        plate: Plate::parse(row.get_ref(3)?.as_str()?).map_err(|_| unreadable(3))?,
        fuel: row.get(4)?,
        phone: row.get(5)?,
        means: Vec::new(),
        status: BindingStatus::from_name(row.get_ref(6)?.as_str()?).ok_or_else(|| unreadable(6))?,
        provable: row.get(7)?,
    })
}
