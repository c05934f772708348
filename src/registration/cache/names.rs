//! The names of things in Redis.

use rusqlite::Connection;

use crate::{engine::id::DeviceId, registration::truth::store_id};

#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Names> {
        Ok(Names { prefix: format!("{{forecourt:v1:{}}}", hex::encode(store_id(db)?)) })
    }

    /// A dongle's registration.
    pub(super) fn record(&self, device: DeviceId) -> String {
        format!("{}:r:{}", self.prefix, device.0)
    }

    /// What SCAN matches all records by. The braces mean nothing to a glob.
    pub(super) fn records(&self) -> String {
        format!("{}:r:*", self.prefix)
    }

    /// The truth's revision that all of it is a copy of.
    pub(super) fn revision(&self) -> String {
        format!("{}:revision", self.prefix)
    }

    /// The stream of changes.
    pub(super) fn changes(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}
