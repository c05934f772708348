//! Presence in Redis: one key for each station and vehicle, which Redis itself forgets when nobody renews it.
//!
//! Everything that one read of the broker brought goes out as one pipeline, and several pipelines are on their way
//! before the first answer is waited for: neither side is ever idle for the other. A frame counts when Redis has
//! answered for it. A hash for each station would be cheaper to write and cannot forget single vehicles (fields do not
//! expire before Redis 7.4): somebody would have to sweep it.

use std::{collections::VecDeque, net::SocketAddr};

use forecourt::engine::id::DeviceId;
use redis::{Client, Connection, Pipeline, RedisResult};

use super::{EXPIRY_S, Sighting, Tally};

const PIPELINES_IN_FLIGHT: usize = 4;

/// The key: a letter, the station, the device. Text would be longer to write and to hash.
const KEY_BYTES: usize = 1 + size_of::<u32>() + size_of::<u64>();
/// The last hearing's time and RSSI, and how many there were in the message.
const VALUE_BYTES: usize = size_of::<u64>() + 1 + size_of::<u16>();

pub(crate) struct RedisPresence {
    connection: Connection,
    is_per_vehicle: bool,
    /// The vehicles of the message at hand; a dozen, so that looking through them beats any map.
    heard: Vec<(Sighting, u16)>,
    pipeline: Pipeline,
    in_pipeline: Tally,
    /// Commands and what they stand for, oldest first.
    in_flight: VecDeque<(usize, Tally)>,
}

impl RedisPresence {
    pub(crate) fn connect(address: SocketAddr, is_per_vehicle: bool) -> RedisResult<RedisPresence> {
        let connection = Client::open(format!("redis://{address}"))?.get_connection()?;
        Ok(RedisPresence {
            connection,
            is_per_vehicle,
            heard: Vec::new(),
            pipeline: Pipeline::new(),
            in_pipeline: Tally::default(),
            in_flight: VecDeque::new(),
        })
    }

    pub(crate) fn see(&mut self, seen: &Sighting) {
        if !self.is_per_vehicle {
            return set(&mut self.pipeline, seen, 1);
        }
        match self.heard.iter_mut().find(|(last, _)| last.device == seen.device) {
            Some((last, hearings)) => {
                *last = *seen;
                *hearings += 1;
            }
            None => self.heard.push((*seen, 1)),
        }
    }

    /// The message is at its end.
    pub(crate) fn close_message(&mut self, tally: Tally) {
        for (seen, hearings) in self.heard.drain(..) {
            set(&mut self.pipeline, &seen, hearings);
        }
        self.in_pipeline += tally;
    }

    /// Sends what has gathered, and says what Redis has answered for meanwhile.
    pub(crate) fn flush(&mut self) -> RedisResult<Tally> {
        if self.pipeline.is_empty() {
            return Ok(std::mem::take(&mut self.in_pipeline));
        }
        self.connection.send_packed_command(&self.pipeline.get_packed_pipeline())?;
        self.in_flight.push_back((self.pipeline.len(), std::mem::take(&mut self.in_pipeline)));
        self.pipeline.clear();
        self.answers(PIPELINES_IN_FLIGHT)
    }

    /// Waits for all answers.
    pub(crate) fn settle(&mut self) -> RedisResult<Tally> {
        self.answers(0)
    }

    fn answers(&mut self, left: usize) -> RedisResult<Tally> {
        let mut answered = Tally::default();
        while self.in_flight.len() > left
            && let Some((commands, tally)) = self.in_flight.pop_front()
        {
            for _ in 0..commands {
                self.connection.recv_response()?.extract_error()?;
            }
            answered += tally;
        }
        Ok(answered)
    }
}

fn set(pipeline: &mut Pipeline, seen: &Sighting, hearings: u16) {
    pipeline.set_ex(&key(seen.station, seen.device)[..], &value(seen, hearings)[..], EXPIRY_S);
}

fn key(station: u32, device: DeviceId) -> [u8; KEY_BYTES] {
    let mut key = [b'p'; KEY_BYTES];
    key[1..5].copy_from_slice(&station.to_be_bytes());
    key[5..].copy_from_slice(&device.0.to_be_bytes());
    key
}

fn value(seen: &Sighting, hearings: u16) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value[..8].copy_from_slice(&seen.at.0.to_le_bytes());
    value[8] = seen.rssi.cast_unsigned();
    value[9..].copy_from_slice(&hearings.to_le_bytes());
    value
}

#[cfg(test)]
mod tests {
    use forecourt::engine::time::UnixMs;

    use super::*;

    #[test]
    fn keys_tell_stations_and_vehicles_apart() {
        let keys = [(1, 1), (1, 2), (2, 1), (256, 1)].map(|(station, device)| key(station, DeviceId(device)));
        assert!((1..keys.len()).all(|nth| !keys[..nth].contains(&keys[nth])), "{keys:?}");
    }

    #[test]
    fn a_value_holds_time_signal_and_count() {
        let seen = Sighting { station: 1, device: DeviceId(2), rssi: -61, at: UnixMs(1_800_000_000_123) };
        let value = value(&seen, 3);
        assert_eq!(u64::from_le_bytes(value[..8].try_into().unwrap()), 1_800_000_000_123);
        assert_eq!((value[8].cast_signed(), value[9]), (-61, 3));
    }
}
