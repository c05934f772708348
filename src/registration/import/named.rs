//! The dongles that a file has named, so that one that comes again is told.
//!
//! In a table of SQLite's own that lies in a file without a name: some 16 MiB of it are in memory, the rest is on the disk,
//! and it is gone with the import, also when that is killed. A set in memory would take a gigabyte for a nation's dongles.

use rusqlite::Connection;

use crate::engine::id::DeviceId;

pub(super) struct Named {
    db: Connection,
}

impl Named {
    pub(super) fn new() -> rusqlite::Result<Named> {
        let db = Connection::open("")?;
        // Nothing of it outlives the connection, so there is nothing to take back or to wait for.
        db.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
             CREATE TABLE named (device_id INTEGER PRIMARY KEY) STRICT; BEGIN",
        )?;
        Ok(Named { db })
    }

    /// Whether the file names it for the first time.
    pub(super) fn is_new(&mut self, device: DeviceId) -> rusqlite::Result<bool> {
        let count = self
            .db
            .prepare_cached("INSERT INTO named (device_id) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([device.0 as i64])?;
        Ok(count == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dongle_is_new_once_whatever_the_order() {
        let mut named = Named::new().unwrap();
        for device in [5, 3, u64::MAX, 4] {
            assert!(named.is_new(DeviceId(device)).unwrap(), "{device}");
        }
        for device in [3, 4, 5, u64::MAX] {
            assert!(!named.is_new(DeviceId(device)).unwrap(), "{device}");
        }
    }
}
