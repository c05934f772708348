//! The brokers and what is said to them.
//!
//! The protocols are spoken directly over a blocking TCP stream: both need a handful of messages at QoS 0, and any
//! client library would give each message a buffer, a channel and a wake-up of its own, for which the peer would pay.

mod link;
mod mqtt;
mod nats;

pub(crate) use link::Link;
pub use link::LinkError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Broker {
    NatsServer,
    Mosquitto,
}

/// One thing that a broker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Message {
        station: u32,
        payload: &'a [u8],
    },
    /// What was asked of it is done.
    Ready,
    /// It wants to know whether we are alive.
    Ping,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("the broker refused: {0}")]
    Refused(String),
    #[error("the broker said what its protocol does not have: {0}")]
    Malformed(&'static str),
}

/// An event and the bytes that it took; `None` as long as it is not all there.
type Parsed<'a> = Result<Option<(Event<'a>, usize)>, ProtocolError>;

impl Broker {
    pub const ALL: [Broker; 2] = [Broker::NatsServer, Broker::Mosquitto];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Broker::NatsServer => "nats-server",
            Broker::Mosquitto => "mosquitto",
        }
    }

    /// The first word of a client; it is answered by [`Event::Ready`].
    fn hello(self, client: &str) -> Vec<u8> {
        match self {
            Broker::NatsServer => nats::hello(),
            Broker::Mosquitto => mqtt::hello(client),
        }
    }

    /// Asks for what all stations send; it is answered by [`Event::Ready`].
    fn subscription(self) -> Vec<u8> {
        match self {
            Broker::NatsServer => nats::subscription(),
            Broker::Mosquitto => mqtt::subscription(),
        }
    }

    fn pong(self) -> Vec<u8> {
        match self {
            Broker::NatsServer => nats::PONG.to_vec(),
            // Its clients ask, and ours have no reason to.
            Broker::Mosquitto => Vec::new(),
        }
    }

    /// Appends a station's message to `out`.
    pub fn publish(self, station: u32, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Broker::NatsServer => nats::publish(station, payload, out),
            Broker::Mosquitto => mqtt::publish(station, payload, out),
        }
    }

    fn parse(self, bytes: &[u8]) -> Parsed<'_> {
        match self {
            Broker::NatsServer => nats::parse(bytes),
            Broker::Mosquitto => mqtt::parse(bytes),
        }
    }
}

/// A payload longer than this is none of ours.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// The number of the station in `name`, behind `prefix`.
fn station(name: &[u8], prefix: &str) -> Option<u32> {
    std::str::from_utf8(name.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a broker hands out for what was published: NATS says it in other words.
    fn delivered(broker: Broker, station: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match broker {
            Broker::Mosquitto => broker.publish(station, payload, &mut bytes),
            Broker::NatsServer => {
                bytes.extend(format!("MSG station.{station} 1 {}\r\n", payload.len()).bytes());
                bytes.extend_from_slice(payload);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes
    }

    #[test]
    fn a_message_is_read_whole_or_not_at_all() {
        for broker in Broker::ALL {
            let payload: Vec<u8> = (0..600).map(|n| (n % 251) as u8).collect();
            let bytes = delivered(broker, 3500, &payload);
            for cut in 0..bytes.len() {
                assert_eq!(broker.parse(&bytes[..cut]), Ok(None), "{broker:?} cut at {cut}");
            }
            let message = Event::Message { station: 3500, payload: &payload };
            assert_eq!(broker.parse(&bytes), Ok(Some((message, bytes.len()))), "{broker:?}");
        }
    }

    #[test]
    fn what_follows_a_message_is_left_where_it_is() {
        for broker in Broker::ALL {
            let [first, second] =
                [(1, b"one".as_slice()), (2, b"second")].map(|(at, text)| delivered(broker, at, text));
            let (_, taken) = broker.parse(&[&first[..], &second].concat()).unwrap().unwrap();
            assert_eq!(taken, first.len(), "{broker:?}");
        }
    }

    #[test]
    fn noise_is_refused_or_waited_for_and_never_panics() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for broker in Broker::ALL {
            for length in 0..2_000 {
                let mut bytes = Vec::new();
                for _ in 0..length % 40 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    bytes.push((seed >> 56) as u8);
                }
                let _ = broker.parse(&bytes);
            }
        }
    }
}
