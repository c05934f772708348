//! Where a consumer keeps who stands on which forecourt: in its own memory, or in Redis.

mod memory;
mod redis;

use forecourt::engine::{id::DeviceId, time::UnixMs};

pub(crate) use self::redis::RedisPresence;
pub(crate) use memory::MemoryPresence;

use super::record::Record;

/// Silence after which a vehicle has left.
pub(super) const EXPIRY_S: u64 = 120;

/// How a consumer keeps presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Keeping {
    /// A hash map with a sweep of what is silent.
    Memory,
    /// One `SET EX` for every frame.
    RedisPerFrame,
    /// One `SET EX` for every vehicle of a message.
    RedisPerVehicle,
}

impl Keeping {
    pub const ALL: [Keeping; 3] = [Keeping::Memory, Keeping::RedisPerFrame, Keeping::RedisPerVehicle];

    pub fn needs_redis(self) -> bool {
        self != Keeping::Memory
    }

    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Keeping::Memory => "memory",
            Keeping::RedisPerFrame => "redis-per-frame",
            Keeping::RedisPerVehicle => "redis-per-vehicle",
        }
    }

    /// As it stands in a report.
    pub fn build(self) -> &'static str {
        match self {
            Keeping::Memory => "hash map",
            Keeping::RedisPerFrame => "SET EX per frame",
            Keeping::RedisPerVehicle => "SET EX per vehicle of a batch",
        }
    }
}

/// A resolved record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting {
    pub station: u32,
    pub device: DeviceId,
    pub rssi: i8,
    pub at: UnixMs,
}

impl Sighting {
    pub(crate) fn new(station: u32, device: DeviceId, record: &Record) -> Sighting {
        Sighting { station, device, rssi: record.rssi, at: record.at() }
    }
}

/// What a consumer has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub messages: u64,
    pub frames: u64,
    /// Frames of a code that nobody registered.
    pub unknown: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.messages += more.messages;
        self.frames += more.frames;
        self.unknown += more.unknown;
    }
}
