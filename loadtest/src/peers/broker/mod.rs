//! The brokers, as the usual clients for Rust speak to them.
//!
//! Messages go at QoS 0 in MQTT's terms, which is what NATS without JetStream has: the cheapest that there is. Both
//! clients set TCP_NODELAY.

mod mqtt;
mod nats;

use std::{error::Error, net::SocketAddr};

use bytes::Bytes;
use futures_util::stream::BoxStream;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Broker {
    NatsServer,
    Mosquitto,
}

/// What a station has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) station: u32,
    pub(super) payload: Bytes,
}

/// What all stations say, until the broker is gone.
pub(super) type Inbox = BoxStream<'static, Result<Message, BrokerError>>;

/// A broker's client has given up.
#[derive(Debug, thiserror::Error)]
#[error("the client of {}: {source}", broker.name())]
pub struct BrokerError {
    broker: Broker,
    source: Box<dyn Error + Send + Sync>,
}

impl Broker {
    pub const ALL: [Broker; 2] = [Broker::NatsServer, Broker::Mosquitto];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Broker::NatsServer => "nats-server",
            Broker::Mosquitto => "mosquitto",
        }
    }

    /// The crate of its client, and how that is used.
    pub(super) fn client(self) -> (&'static str, &'static str) {
        match self {
            Broker::NatsServer => ("async-nats", nats::USE),
            Broker::Mosquitto => ("rumqttc", mqtt::USE),
        }
    }

    /// Asks for what all stations say; from now on it comes.
    pub(super) async fn subscribe(self, address: SocketAddr) -> Result<Inbox, BrokerError> {
        match self {
            Broker::NatsServer => nats::subscribe(address).await,
            Broker::Mosquitto => mqtt::subscribe(address).await,
        }
    }

    fn failed<E: Into<Box<dyn Error + Send + Sync>>>(self) -> impl Fn(E) -> BrokerError {
        move |error| BrokerError { broker: self, source: error.into() }
    }

    /// A station's message by the name that it came under.
    fn message(self, name: &str, prefix: &str, payload: Bytes) -> Result<Message, BrokerError> {
        let station = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
        let station = station.ok_or_else(|| self.failed()(format!("{name:?} is no station's")))?;
        Ok(Message { station, payload })
    }
}

/// A station's connection.
pub(super) enum Outlet {
    Nats(nats::Outlet),
    Mqtt(mqtt::Outlet),
}

impl Outlet {
    pub(super) async fn open(broker: Broker, address: SocketAddr, station: u32) -> Result<Outlet, BrokerError> {
        Ok(match broker {
            Broker::NatsServer => Outlet::Nats(nats::Outlet::open(address, station).await?),
            Broker::Mosquitto => Outlet::Mqtt(mqtt::Outlet::open(address, station).await?),
        })
    }

    /// Waits as long as the client has its hands full.
    pub(super) async fn publish(&self, payload: Bytes) -> Result<(), BrokerError> {
        match self {
            Outlet::Nats(outlet) => outlet.publish(payload).await,
            Outlet::Mqtt(outlet) => outlet.publish(payload).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::peers::server::{self, Program};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_message_is_of_the_station_that_its_name_ends_in() {
        let message = |name| Broker::Mosquitto.message(name, "station/", Bytes::from_static(b"x"));
        assert_eq!(message("station/3500").unwrap(), Message { station: 3500, payload: Bytes::from_static(b"x") });
        for name in ["station/", "station/x", "station.1", "elsewhere/1", "station/4294967296"] {
            assert!(message(name).is_err(), "{name}");
        }
    }
    #[tokio::test]
    async fn what_stations_publish_comes_in_whole_and_in_order() {
        for broker in Broker::ALL {
            let Some(server) = server::for_test(Program::Broker(broker)) else { continue };
            let inbox = broker.subscribe(server.address()).await.unwrap();
            let said: Vec<_> = (0..200).map(|nth| Message { station: 3500, payload: vec![nth; 600].into() }).collect();
            let outlet = Outlet::open(broker, server.address(), 3500).await.unwrap();
            for message in &said {
                outlet.publish(message.payload.clone()).await.unwrap();
            }
            let heard = inbox.take(said.len()).map(Result::unwrap).collect::<Vec<_>>();
            assert_eq!(timeout(PATIENCE, heard).await.unwrap(), said, "{broker:?}");
        }
    }

    #[tokio::test]
    async fn a_broker_that_is_gone_ends_what_comes() {
        for broker in Broker::ALL {
            let Some(server) = server::for_test(Program::Broker(broker)) else { continue };
            let mut inbox = broker.subscribe(server.address()).await.unwrap();
            drop(server);
            let last = timeout(PATIENCE, inbox.next()).await.unwrap();
            assert!(!matches!(last, Some(Ok(_))), "{broker:?}: {last:?}");
        }
    }
}
