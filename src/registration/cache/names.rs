//! The names of things in Redis.

use rusqlite::Connection;

use crate::{
    engine::id::DeviceId,
    registration::truth::{Moment, store_id},
};

#[derive(Debug, Clone)]
pub(in crate::registration) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Names> {
        Ok(Names::of_store(store_id(db)?))
    }

    pub(in crate::registration) fn of_store(store: [u8; 8]) -> Names {
        Names { prefix: format!("{{forecourt:v1:{}}}", hex::encode(store)) }
    }

    /// A dongle's registration.
    pub(super) fn record(&self, device: DeviceId) -> String {
        format!("{}:r:{}", self.prefix, device.0)
    }

    /// The dongle whose record has this name.
    pub(super) fn device_of(record: &str) -> Option<DeviceId> {
        record.rsplit(':').next()?.parse().ok().map(DeviceId)
    }

    /// What SCAN matches all records by. The braces mean nothing to a glob.
    pub(super) fn records(&self) -> String {
        format!("{}:r:*", self.prefix)
    }

    /// The truth's moment that all of it is a copy of.
    pub(super) fn moment(&self) -> String {
        format!("{}:revision", self.prefix)
    }

    /// What is known of the set of segments.
    pub(in crate::registration) fn segments(&self) -> String {
        format!("{}:segments", self.prefix)
    }

    pub(in crate::registration) fn segment(&self, as_of: Moment, number: u64) -> String {
        format!("{}:s:{as_of}:{number}", self.prefix)
    }

    /// The stream of changes.
    pub(super) fn changes(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}
