//! The journal of bindings: a line for every epoch, written in the commit of the change and never touched again.

use rusqlite::{Connection, Row, params, types::Type};

use crate::engine::id::{BindingId, DeviceId};
use crate::engine::time::UnixMs;
use crate::registration::binding::{BindingStatus, Registration};
use crate::registration::mandate::Author;

/// What one epoch of a binding changed, who did it, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct JournalRow {
    pub epoch: u64,
    pub at: UnixMs,
    /// `operator`, with the name if the token has one; `phone`, `import` or `system`.
    pub who: String,
    pub why: String,
    pub what: String,
    /// After the change, as is all that is not called `before`.
    pub status: BindingStatus,
    pub plate_before: Option<String>,
    pub plate: String,
    /// The phone's public key.
    pub phone_before: Option<String>,
    pub phone: Option<String>,
    /// How many means of payment.
    pub means: usize,
}

/// What is journalled of a binding: before a change, or after it.
pub(super) struct Side<'a> {
    pub(super) plate: &'a str,
    pub(super) phone: Option<&'a [u8; 32]>,
    pub(super) means: usize,
    pub(super) status: BindingStatus,
}

impl<'a> Side<'a> {
    pub(super) fn of(registration: &'a Registration) -> Side<'a> {
        Side {
            plate: registration.plate.as_str(),
            phone: registration.phone.as_ref(),
            means: registration.means.len(),
            status: registration.status,
        }
    }
}

/// Which binding came to which epoch.
pub(super) struct Step {
    pub(super) device: DeviceId,
    pub(super) binding: BindingId,
    pub(super) epoch: u64,
    pub(super) at: UnixMs,
}

pub(super) fn journal(
    db: &Connection,
    step: &Step,
    author: Author<'_>,
    before: Option<&Side<'_>>,
    after: &Side<'_>,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO binding_journal (device_id, epoch, binding, at_ms, who, why, what, status,
             plate_before, plate_after, phone_before, phone_after, means)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        step.device.0 as i64,
        step.epoch as i64,
        step.binding.0,
        step.at.0 as i64,
        author.who,
        author.why,
        author.what,
        after.status.name(),
        before.map(|before| before.plate),
        after.plate,
        before.and_then(|before| before.phone),
        after.phone,
        after.means as i64,
    ])
    .map(drop)
}

impl JournalRow {
    /// The newest `limit` lines of a binding below the epoch `before`, the newest first.
    pub(in crate::registration) fn of(
        db: &Connection,
        binding: BindingId,
        device: DeviceId,
        before: Option<u64>,
        limit: u32,
    ) -> rusqlite::Result<Vec<JournalRow>> {
        // The store counts in signed numbers, and no epoch comes near their end.
        let before = before.map_or(i64::MAX, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
        db.prepare_cached(
            "SELECT epoch, at_ms, who, why, what, status, plate_before, plate_after, phone_before, phone_after, means
             FROM binding_journal WHERE device_id = ?1 AND binding = ?2 AND epoch < ?3 ORDER BY epoch DESC LIMIT ?4",
        )?
        .query_map(params![device.0 as i64, binding.0, before, limit], row)?
        .collect()
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    let unreadable = |column| rusqlite::Error::InvalidColumnType(column, "binding_journal".into(), Type::Text);
    let phone = |column| row.get::<_, Option<[u8; 32]>>(column).map(|key| key.map(hex::encode));
    Ok(JournalRow {
        epoch: row.get::<_, i64>(0)? as u64,
        at: UnixMs(row.get::<_, i64>(1)? as u64),
        who: row.get(2)?,
        why: row.get(3)?,
        what: row.get(4)?,
        status: BindingStatus::from_name(row.get_ref(5)?.as_str()?).ok_or_else(|| unreadable(5))?,
        plate_before: row.get(6)?,
        plate: row.get(7)?,
        phone_before: phone(8)?,
        phone: phone(9)?,
        means: row.get::<_, i64>(10)? as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn a_line_of_the_journal_is_neither_changed_nor_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let db = schema::open_writer(&folder.path().join("test.db")).unwrap();
        db.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        let step = Step { device: DeviceId(1), binding: BindingId([2; 16]), epoch: 3, at: UnixMs(4) };
        let after = Side { plate: "AB123", phone: None, means: 0, status: BindingStatus::Active };
        journal(&db, &step, Author { who: "operator", why: "because", what: "coupled" }, None, &after).unwrap();
        assert!(db.execute("UPDATE binding_journal SET who = 'nobody'", []).is_err());
        assert!(db.execute("DELETE FROM binding_journal", []).is_err());
        let rows = JournalRow::of(&db, step.binding, step.device, None, 9).unwrap();
        assert_eq!((rows.len(), rows[0].who.as_str(), rows[0].epoch), (1, "operator", 3));
        assert!(JournalRow::of(&db, step.binding, step.device, Some(3), 9).unwrap().is_empty());
    }

    #[test]
    fn a_store_of_the_first_version_begins_its_journal_with_what_is_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(schema::FIRST_VERSION).unwrap();
        old.execute_batch(
            "INSERT INTO devices (device_id, epoch) VALUES (5, 4);
             INSERT INTO bindings VALUES (zeroblob(16), 5, 'AB123', NULL, 4, 'suspended', 77, NULL);
             INSERT INTO means VALUES (zeroblob(16), 0, 'tok_a')",
        )
        .unwrap();
        drop(old);
        let db = schema::open_writer(&path).unwrap();
        let rows = JournalRow::of(&db, BindingId([0; 16]), DeviceId(5), None, 9).unwrap();
        assert_eq!((rows.len(), rows[0].epoch, rows[0].at, rows[0].means), (1, 4, UnixMs(77), 1));
        assert_eq!((rows[0].status, rows[0].plate.as_str()), (BindingStatus::Suspended, "AB123"));
    }
}
