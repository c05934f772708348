//! nats-server by `async-nats`.

use std::net::SocketAddr;

use async_nats::{Client, ConnectOptions, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Broker, BrokerError, Inbox};

const BROKER: Broker = Broker::NatsServer;
const PREFIX: &str = "station.";

/// The buffers are larger than anything that waits: a window of the sender's is 8,192 messages.
pub(super) const USE: &str = "at most once, plain TCP; one subscription to all stations, buffers as they are by default \
    (65,535 bytes a read, 65,536 messages for the consumer)";

pub(super) async fn subscribe(address: SocketAddr) -> Result<Inbox, BrokerError> {
    let client = connect(address).await?;
    let messages = client.subscribe(format!("{PREFIX}*")).await.map_err(BROKER.failed())?;
    client.flush().await.map_err(BROKER.failed())?;
    Ok(messages.map(|message| BROKER.message(&message.subject, PREFIX, message.payload)).boxed())
}

/// One that gives up with its broker, instead of waiting for another.
async fn connect(address: SocketAddr) -> Result<Client, BrokerError> {
    let options = ConnectOptions::new().max_reconnects(1);
    options.connect(address.to_string()).await.map_err(BROKER.failed())
}

pub(in crate::peers) struct Outlet {
    client: Client,
    subject: Subject,
}

impl Outlet {
    pub(super) async fn open(address: SocketAddr, station: u32) -> Result<Outlet, BrokerError> {
        Ok(Outlet { client: connect(address).await?, subject: format!("{PREFIX}{station}").into() })
    }

    pub(super) async fn publish(&self, payload: Bytes) -> Result<(), BrokerError> {
        self.client.publish(self.subject.clone(), payload).await.map_err(BROKER.failed())
    }
}
