//! Where a consumer keeps who stands on which forecourt: in its own memory, or in Redis.

mod memory;
mod redis;

use std::net::SocketAddr;

use ::redis::RedisResult;
use forecourt::{
    engine::{id::DeviceId, time::UnixMs},
    telemetry,
};

use self::{memory::MemoryPresence, redis::RedisPresence};
use super::{consumer::ConsumerError, record::Record};

/// The crate of Redis' client, and how it is used.
pub(super) const REDIS_CLIENT: (&str, &str) =
    ("redis", "one multiplexed connection, one pipeline at a time of what has arrived, up to 256 messages");

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
    /// One `SET EX` for every vehicle that a pipeline has something of. One fat sender is one forecourt, so there a
    /// pipeline of 6,400 frames is of forty vehicles: better than any chain's traffic would have it.
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
            Keeping::RedisPerVehicle => "SET EX per vehicle of a pipeline",
        }
    }
}

/// Keeps presence as it was told.
pub(super) enum Keeper {
    Memory(MemoryPresence),
    Redis(Box<RedisPresence>),
}

impl Keeper {
    pub(super) async fn open(keeping: Keeping, redis: Option<SocketAddr>) -> Result<Keeper, ConsumerError> {
        if !keeping.needs_redis() {
            return Ok(Keeper::Memory(MemoryPresence::default()));
        }
        let address = redis.ok_or(ConsumerError::NoRedis)?;
        let presence = RedisPresence::connect(address, keeping == Keeping::RedisPerVehicle).await?;
        Ok(Keeper::Redis(Box::new(presence)))
    }

    pub(super) fn see(&mut self, seen: &Sighting) {
        match self {
            Keeper::Memory(presence) => presence.see(seen),
            Keeper::Redis(presence) => presence.see(seen),
        }
    }

    /// What has arrived together is seen: after this it is kept.
    pub(super) async fn settle(&mut self) -> RedisResult<()> {
        match self {
            Keeper::Memory(presence) => presence.expire(telemetry::now()),
            Keeper::Redis(presence) => presence.flush().await?,
        }
        Ok(())
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
