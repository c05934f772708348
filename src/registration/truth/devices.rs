//! The rows of dongles: their sealed keys and what was learned of their clocks.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::revision::{Revision, next_revision};
use crate::engine::clock::ClockOffset;
use crate::engine::code::{Code, Secret};
use crate::engine::codebook::Dongle;
use crate::engine::id::DeviceId;
use crate::engine::proof::ProofKey;
use crate::engine::time::UnixMs;
use crate::registration::envelope::{Envelope, Purpose};

/// What an import compares a row with.
pub(in crate::registration) struct DeviceRecord {
    pub(in crate::registration) scheme: String,
    pub(in crate::registration) exponent: Option<u8>,
    pub(in crate::registration) mark: [u8; 16],
    pub(in crate::registration) proof_key: Option<Vec<u8>>,
    pub(in crate::registration) activation_hash: Option<[u8; 32]>,
}

pub(in crate::registration) fn device(db: &Connection, device: DeviceId) -> rusqlite::Result<Option<DeviceRecord>> {
    db.prepare_cached("SELECT scheme, exponent, mark, proof_key, activation_hash FROM devices WHERE device_id = ?1")?
        .query_row([device.0 as i64], |row| {
            Ok(DeviceRecord {
                scheme: row.get(0)?,
                exponent: row.get(1)?,
                mark: row.get(2)?,
                proof_key: row.get(3)?,
                activation_hash: row.get(4)?,
            })
        })
        .optional()
}

/// Who holds the key with this mark.
pub(in crate::registration) fn mark_owner(db: &Connection, mark: &[u8; 16]) -> rusqlite::Result<Option<DeviceId>> {
    owner(db, "SELECT device_id FROM devices WHERE mark = ?1", mark)
}

/// Whose activation code has this hash.
pub(in crate::registration) fn activation_owner(
    db: &Connection,
    hash: &[u8; 32],
) -> rusqlite::Result<Option<DeviceId>> {
    owner(db, "SELECT device_id FROM devices WHERE activation_hash = ?1", hash)
}

fn owner(db: &Connection, sql: &str, key: &[u8]) -> rusqlite::Result<Option<DeviceId>> {
    db.prepare_cached(sql)?.query_row([key], |row| device_id(row, 0)).optional()
}

/// A dongle as it is stored.
pub(in crate::registration) struct SealedDevice {
    pub(in crate::registration) device: DeviceId,
    pub(in crate::registration) scheme: &'static str,
    pub(in crate::registration) exponent: Option<u8>,
    pub(in crate::registration) secret: Vec<u8>,
    pub(in crate::registration) mark: [u8; 16],
    pub(in crate::registration) proof_key: Option<Vec<u8>>,
    pub(in crate::registration) activation_hash: Option<[u8; 32]>,
}

impl SealedDevice {
    pub(in crate::registration) fn seal(
        envelope: &Envelope,
        device: DeviceId,
        secret: &Secret,
        proof_key: Option<&ProofKey>,
        activation_hash: Option<[u8; 32]>,
    ) -> SealedDevice {
        let key = secret_bytes(secret);
        SealedDevice {
            device,
            scheme: scheme_name(secret),
            exponent: exponent(secret),
            secret: envelope.seal(device, Purpose::Code, key),
            mark: envelope.mark(key),
            proof_key: proof_key.map(|key| envelope.seal(device, Purpose::Proof, key.bytes())),
            activation_hash,
        }
    }
}

/// `false`, and nothing is changed, when another dongle has its id, its key or its activation code.
pub(in crate::registration) fn insert_device(
    db: &Connection,
    sealed: &SealedDevice,
    epoch: u64,
    revision: Revision,
) -> rusqlite::Result<bool> {
    let count = db
        .prepare_cached(
            "INSERT INTO devices (device_id, scheme, exponent, secret, mark, proof_key, activation_hash, epoch, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            sealed.device.0 as i64,
            sealed.scheme,
            sealed.exponent,
            sealed.secret,
            sealed.mark,
            sealed.proof_key,
            sealed.activation_hash,
            epoch as i64,
            revision.0 as i64,
        ])?;
    Ok(count == 1)
}

/// Of a dongle that was put in by the same commit and that nothing names yet.
pub(in crate::registration) fn forget_device(db: &Connection, device: DeviceId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM devices WHERE device_id = ?1")?.execute([device.0 as i64]).map(drop)
}

pub(in crate::registration) fn set_proof_key(db: &Connection, device: DeviceId, sealed: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE devices SET proof_key = ?2, changed = ?3 WHERE device_id = ?1")?
        .execute(params![device.0 as i64, sealed, next_revision(db)?])
        .map(drop)
}

pub(in crate::registration) fn set_activation(
    db: &Connection,
    device: DeviceId,
    hash: &[u8; 32],
) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE devices SET activation_hash = ?2, changed = ?3 WHERE device_id = ?1")?
        .execute(params![device.0 as i64, hash, next_revision(db)?])
        .map(drop)
}

/// When the dongle was reported lost, if it is.
pub(in crate::registration) fn lost_since(db: &Connection, device: DeviceId) -> rusqlite::Result<Option<UnixMs>> {
    let at: Option<Option<i64>> = db
        .prepare_cached("SELECT lost_ms FROM devices WHERE device_id = ?1")?
        .query_row([device.0 as i64], |row| row.get(0))
        .optional()?;
    Ok(at.flatten().map(|at| UnixMs(at as u64)))
}

pub(in crate::registration) fn set_lost(
    db: &Connection,
    device: DeviceId,
    since: Option<UnixMs>,
) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE devices SET lost_ms = ?2, changed = ?3 WHERE device_id = ?1")?
        .execute(params![device.0 as i64, since.map(|at| at.0 as i64), next_revision(db)?])
        .map(drop)
}

/// `None` for an unknown dongle and for one without a proof key.
pub(in crate::registration) fn proof_key(
    db: &Connection,
    envelope: &Envelope,
    device: DeviceId,
) -> rusqlite::Result<Option<ProofKey>> {
    let sealed: Option<Option<Vec<u8>>> = db
        .prepare_cached("SELECT proof_key FROM devices WHERE device_id = ?1")?
        .query_row([device.0 as i64], |row| row.get(0))
        .optional()?;
    Ok(sealed.flatten().and_then(|sealed| open_proof_key(envelope, device, &sealed)))
}

pub(in crate::registration) fn open_proof_key(
    envelope: &Envelope,
    device: DeviceId,
    sealed: &[u8],
) -> Option<ProofKey> {
    let Ok(key) = envelope.open(device, Purpose::Proof, sealed) else {
        tracing::error!(%device, "the proof key of a dongle does not open");
        return None;
    };
    key.as_slice().try_into().ok().map(ProofKey::new)
}

/// The epoch of the next change of the dongle's binding, taken.
pub(in crate::registration) fn next_epoch(db: &Connection, device: DeviceId) -> rusqlite::Result<u64> {
    db.prepare_cached("UPDATE devices SET epoch = epoch + 1, changed = ?2 WHERE device_id = ?1 RETURNING epoch")?
        .query_row(params![device.0 as i64, next_revision(db)?], |row| row.get::<_, i64>(0))
        .map(|epoch| epoch as u64)
}

/// A clock that is saved further off than this from what was saved before was set: a copy without it would look for
/// codes of other slots. The shortest slot; drift alone takes more than a day for it, and every copy learns it anew.
const JUMP_S: i32 = 15;

pub(in crate::registration) fn save_offsets(
    db: &Connection,
    offsets: &[(DeviceId, ClockOffset)],
) -> rusqlite::Result<()> {
    let mut save = db.prepare_cached("UPDATE devices SET clock_offset_s = ?2 WHERE device_id = ?1")?;
    let mut mark = db.prepare_cached(
        "UPDATE devices SET changed = (SELECT count + 1 FROM revision)
         WHERE device_id = ?1 AND abs(clock_offset_s - ?2) >= ?3",
    )?;
    for (device, offset) in offsets {
        if mark.execute(params![device.0 as i64, offset.0, JUMP_S])? > 0 {
            next_revision(db)?;
        }
        save.execute(params![device.0 as i64, offset.0])?;
    }
    Ok(())
}

const LIVE: &str = "FROM devices d JOIN bindings b ON b.device_id = d.device_id AND b.status <> 'revoked'";

pub(in crate::registration) fn count_live(db: &Connection) -> rusqlite::Result<usize> {
    let count: i64 = db.query_row("SELECT count(*) FROM bindings WHERE status <> 'revoked'", [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Every dongle with a live binding, in the order of their signed ids. One whose key does not open is passed over and
/// logged: it must not keep the others off the air.
pub(in crate::registration) fn each_live(
    db: &Connection,
    envelope: &Envelope,
    mut take: impl FnMut(Dongle),
) -> rusqlite::Result<()> {
    let sql =
        format!("SELECT d.device_id, d.scheme, d.exponent, d.secret, d.clock_offset_s {LIVE} ORDER BY d.device_id");
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(dongle) = dongle(row, envelope)? {
            take(dongle);
        }
    }
    Ok(())
}

/// The dongle, when it has a live binding.
pub(in crate::registration) fn live_dongle(
    db: &Connection,
    envelope: &Envelope,
    device: DeviceId,
) -> rusqlite::Result<Option<Dongle>> {
    let sql =
        format!("SELECT d.device_id, d.scheme, d.exponent, d.secret, d.clock_offset_s {LIVE} WHERE d.device_id = ?1");
    let found = db.prepare_cached(&sql)?.query_row([device.0 as i64], |row| dongle(row, envelope)).optional()?;
    Ok(found.flatten())
}

fn dongle(row: &Row<'_>, envelope: &Envelope) -> rusqlite::Result<Option<Dongle>> {
    let device = device_id(row, 0)?;
    let (scheme, exponent) = (row.get_ref(1)?.as_str()?, row.get::<_, Option<u8>>(2)?);
    let opened = envelope.open(device, Purpose::Code, row.get_ref(3)?.as_blob()?);
    let secret = opened.ok().and_then(|key| secret_of(scheme, exponent, &key));
    let Some(secret) = secret else {
        tracing::error!(%device, "the code key of a dongle does not open; it stays off the codebook");
        return Ok(None);
    };
    Ok(Some(Dongle { device, secret, offset: ClockOffset(row.get(4)?) }))
}

pub(in crate::registration) fn device_id(row: &Row<'_>, column: usize) -> rusqlite::Result<DeviceId> {
    row.get::<_, i64>(column).map(|id| DeviceId(id as u64))
}

pub(in crate::registration) fn scheme_name(secret: &Secret) -> &'static str {
    match secret {
        Secret::Hmac { .. } => "hmac",
        Secret::EddystoneEid { .. } => "eddystone-eid",
        Secret::Fixed { .. } => "fixed",
    }
}

pub(in crate::registration) fn exponent(secret: &Secret) -> Option<u8> {
    match secret {
        Secret::EddystoneEid { exponent, .. } => Some(*exponent),
        Secret::Hmac { .. } | Secret::Fixed { .. } => None,
    }
}

pub(in crate::registration) fn secret_bytes(secret: &Secret) -> &[u8] {
    match secret {
        Secret::Hmac { code_key } => code_key,
        Secret::EddystoneEid { identity_key, .. } => identity_key,
        Secret::Fixed { code } => &code.0,
    }
}

fn secret_of(scheme: &str, exponent: Option<u8>, key: &[u8]) -> Option<Secret> {
    match (scheme, exponent) {
        ("hmac", _) => Some(Secret::Hmac { code_key: key.try_into().ok()? }),
        ("eddystone-eid", Some(exponent)) => {
            Some(Secret::EddystoneEid { identity_key: key.try_into().ok()?, exponent })
        }
        ("fixed", _) => Some(Secret::Fixed { code: Code(key.try_into().ok()?) }),
        _ => None,
    }
}
