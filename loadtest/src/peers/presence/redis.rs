//! Presence in Redis: one key for each station and vehicle, which Redis itself forgets when nobody renews it.
//!
//! Everything that has arrived together goes out as one pipeline over the crate's multiplexed connection; what arrives
//! until Redis has answered makes the next one. A frame counts when Redis has answered for it. A hash for each station
//! would be cheaper to write and cannot forget single vehicles (fields do not expire before Redis 7.4): somebody would
//! have to sweep it.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use foldhash::fast::RandomState;
use forecourt::engine::id::DeviceId;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, aio::MultiplexedConnection};

use super::{EXPIRY_S, Sighting};

/// The default of half a second is short for a thousand commands on a busy core.
const PATIENCE: Duration = Duration::from_secs(10);

/// The key: a letter, the station, the device. Text would be longer to write and to hash.
const KEY_BYTES: usize = 1 + size_of::<u32>() + size_of::<u64>();
/// The last hearing's time and RSSI, and how many there were since the key was last written.
const VALUE_BYTES: usize = size_of::<u64>() + 1 + size_of::<u32>();

pub(crate) struct RedisPresence {
    connection: MultiplexedConnection,
    is_per_vehicle: bool,
    /// The last hearing of each vehicle, and how many there were since the last pipeline.
    heard: HashMap<(u32, DeviceId), (Sighting, u32), RandomState>,
    pipeline: Pipeline,
}

impl RedisPresence {
    pub(crate) async fn connect(address: SocketAddr, is_per_vehicle: bool) -> RedisResult<RedisPresence> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let client = Client::open(format!("redis://{address}"))?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(RedisPresence { connection, is_per_vehicle, heard: HashMap::default(), pipeline: Pipeline::new() })
    }

    pub(crate) fn see(&mut self, seen: &Sighting) {
        if self.is_per_vehicle {
            let (last, hearings) = self.heard.entry((seen.station, seen.device)).or_insert((*seen, 0));
            *last = *seen;
            *hearings += 1;
        } else {
            set(&mut self.pipeline, seen, 1);
        }
    }

    /// Sends what has gathered and waits for the answers.
    pub(crate) async fn flush(&mut self) -> RedisResult<()> {
        for (_, (seen, hearings)) in self.heard.drain() {
            set(&mut self.pipeline, &seen, hearings);
        }
        if !self.pipeline.is_empty() {
            self.pipeline.exec_async(&mut self.connection).await?;
            self.pipeline.clear();
        }
        Ok(())
    }
}

fn set(pipeline: &mut Pipeline, seen: &Sighting, hearings: u32) {
    pipeline.set_ex(&key(seen.station, seen.device)[..], &value(seen, hearings)[..], EXPIRY_S);
}

fn key(station: u32, device: DeviceId) -> [u8; KEY_BYTES] {
    let mut key = [b'p'; KEY_BYTES];
    key[1..5].copy_from_slice(&station.to_be_bytes());
    key[5..].copy_from_slice(&device.0.to_be_bytes());
    key
}

fn value(seen: &Sighting, hearings: u32) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value[..8].copy_from_slice(&seen.at.0.to_le_bytes());
    value[8] = seen.rssi.cast_unsigned();
    value[9..].copy_from_slice(&hearings.to_le_bytes());
    value
}

#[cfg(test)]
mod tests {
    use forecourt::engine::time::UnixMs;
    use redis::AsyncCommands as _;

    use super::*;
    use crate::peers::server::{self, Program};

    const SEEN: Sighting = Sighting { station: 1, device: DeviceId(2), rssi: -61, at: UnixMs(1_800_000_000_123) };

    #[test]
    fn keys_tell_stations_and_vehicles_apart() {
        let keys = [(1, 1), (1, 2), (2, 1), (256, 1)].map(|(station, device)| key(station, DeviceId(device)));
        assert!((1..keys.len()).all(|nth| !keys[..nth].contains(&keys[nth])), "{keys:?}");
    }

    #[test]
    fn a_value_holds_time_signal_and_count() {
        let value = value(&SEEN, 3);
        assert_eq!(u64::from_le_bytes(value[..8].try_into().unwrap()), 1_800_000_000_123);
        assert_eq!((value[8].cast_signed(), value[9]), (-61, 3));
    }

    #[tokio::test]
    async fn a_vehicle_is_one_key_with_its_last_hearing_and_redis_forgets_it() {
        for is_per_vehicle in [false, true] {
            let Some(server) = server::for_test(Program::Redis) else { return };
            let mut presence = RedisPresence::connect(server.address(), is_per_vehicle).await.unwrap();
            presence.see(&Sighting { rssi: -80, ..SEEN });
            presence.see(&SEEN);
            presence.see(&Sighting { device: DeviceId(3), ..SEEN });
            presence.flush().await.unwrap();
            let redis = &mut presence.connection;
            let keys: usize = redis::cmd("DBSIZE").query_async(redis).await.unwrap();
            assert_eq!(keys, 2);
            let key = &key(SEEN.station, SEEN.device)[..];
            let hearings = if is_per_vehicle { 2 } else { 1 };
            let kept: Vec<u8> = redis.get(key).await.unwrap();
            assert_eq!(kept, value(&SEEN, hearings));
            let left: i64 = redis.ttl(key).await.unwrap();
            assert!((1..=EXPIRY_S as i64).contains(&left), "{left}");
        }
    }
}
