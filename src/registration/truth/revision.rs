//! How far the store has come: a count of the changes of dongles and bindings.
//!
//! Each change takes the next revision in its own commit and leaves it on the dongle. Whoever keeps a copy (a cache, a
//! snapshot) notes the revision that it copied, with the life that it is of ([`moment`](super::moment)), and asks for the
//! dongles that changed since instead of for all.

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::devices::device_id;
use crate::engine::id::DeviceId;

/// 0 is the empty store's. A commit may take several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

/// The revision of the last change that is visible to this connection.
pub(in crate::registration) fn revision(db: &Connection) -> rusqlite::Result<Revision> {
    let count = db.prepare_cached("SELECT count FROM revision")?.query_row([], |row| row.get::<_, i64>(0))?;
    Ok(Revision(count as u64))
}

/// The dongles that were changed, or whose binding was, after `since`: the earliest change first, `limit` at most.
/// With it the revision of each dongle's last change, from which a caller that got `limit` of them goes on.
pub(in crate::registration) fn changed_since(
    db: &Connection,
    since: Revision,
    limit: usize,
) -> rusqlite::Result<Vec<(Revision, DeviceId)>> {
    db.prepare_cached("SELECT device_id, changed FROM devices WHERE changed > ?1 ORDER BY changed LIMIT ?2")?
        .query_map([since.0 as i64, limit as i64], |row| {
            Ok((Revision(row.get::<_, i64>(1)? as u64), device_id(row, 0)?))
        })?
        .collect()
}

/// What tells this store from others, and from itself under another KEK: nobody shares a copy across either.
pub(in crate::registration) fn store_id(db: &Connection) -> rusqlite::Result<[u8; 8]> {
    // Sealed with a random nonce when the store was made.
    let sealed: Vec<u8> = db.query_row("SELECT sealed FROM keks WHERE is_next = 0", [], |row| row.get(0))?;
    Ok(*Sha256::digest(sealed).first_chunk().expect("8 of 32 bytes"))
}

/// How many dongles were changed, or their binding was, after `since`; not counted further than `limit`.
pub(in crate::registration) fn changed_count(
    db: &Connection,
    since: Revision,
    limit: usize,
) -> rusqlite::Result<usize> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM devices WHERE changed > ?1 LIMIT ?2)";
    let count = db.prepare_cached(sql)?.query_row([since.0 as i64, limit as i64], |row| row.get::<_, i64>(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Taken in the commit of the change itself.
pub(super) fn next_revision(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("UPDATE revision SET count = count + 1 RETURNING count")?.query_row([], |row| row.get(0))
}

/// Revisions for the rows of a batch, taken all at once when the first is needed.
pub(in crate::registration) struct Revisions {
    next: i64,
    left: usize,
    rows: usize,
}

impl Revisions {
    pub(in crate::registration) fn new(rows: usize) -> Revisions {
        Revisions { next: 0, left: 0, rows }
    }

    pub(in crate::registration) fn next(&mut self, db: &Connection) -> rusqlite::Result<Revision> {
        if self.left == 0 {
            let count: i64 = db
                .prepare_cached("UPDATE revision SET count = count + ?1 RETURNING count")?
                .query_row([self.rows as i64], |row| row.get(0))?;
            self.left = self.rows;
            self.next = count - self.rows as i64 + 1;
        }
        let revision = Revision(self.next as u64);
        self.left -= 1;
        self.next += 1;
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::{SealedDevice, insert_device};
    use super::super::schema;
    use super::*;
    use crate::engine::code::Secret;
    use crate::registration::envelope::Envelope;

    #[test]
    fn each_change_of_a_dongle_is_found_by_who_asks_from_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let db = schema::open_writer(&folder.path().join("test.db")).unwrap();
        let envelope = Envelope::new(1, &[7; 32]);
        assert_eq!(revision(&db).unwrap(), Revision(0));
        let mut revisions = Revisions::new(3);
        for device in 1..=3 {
            let secret = Secret::from_root(&[device; 32]);
            let sealed = SealedDevice::seal(&envelope, DeviceId(device.into()), &secret, None, None);
            assert!(insert_device(&db, &sealed, 0, revisions.next(&db).unwrap()).unwrap());
        }
        super::super::devices::set_activation(&db, DeviceId(1), &[9; 32]).unwrap();
        let (first, rest) = (changed_since(&db, Revision(0), 1).unwrap(), changed_since(&db, Revision(2), 9).unwrap());
        assert_eq!(first, [(Revision(2), DeviceId(2))]);
        assert_eq!(rest, [(Revision(3), DeviceId(3)), (Revision(4), DeviceId(1))]);
        assert_eq!(revision(&db).unwrap(), Revision(4));
        let count = |since, limit| changed_count(&db, Revision(since), limit).unwrap();
        assert_eq!((count(0, 9), count(3, 9), count(4, 9), count(0, 2)), (3, 1, 0, 2));
    }

    #[test]
    fn a_store_of_the_first_version_is_taken_over_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(schema::FIRST_VERSION).unwrap();
        old.execute_batch("INSERT INTO devices (device_id) VALUES (5)").unwrap();
        drop(old);
        let db = schema::open_writer(&path).unwrap();
        assert_eq!(changed_since(&db, Revision(0), 9).unwrap(), [(Revision(1), DeviceId(5))]);
    }
}
