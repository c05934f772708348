//! mosquitto by `rumqttc`, in MQTT 3.1.1: what version 5 adds would be bytes without a use here.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::StreamExt as _;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Broker, BrokerError, Inbox, Message};

const BROKER: Broker = Broker::Mosquitto;
const PREFIX: &str = "station/";
const QOS: QoS = QoS::AtMostOnce;

/// Messages between a connection and who publishes or consumes: as many as `async-nats` lets wait for a publisher.
const QUEUE: usize = 2048;

pub(super) const USE: &str = "MQTT 3.1.1, QoS 0, plain TCP; one subscription to all stations, its event loop in a \
    task with a channel of 2,048 messages";

pub(super) async fn subscribe(address: SocketAddr) -> Result<Inbox, BrokerError> {
    let (client, mut events) = connect(address, "consumer").await?;
    client.subscribe(format!("{PREFIX}+"), QOS).await.map_err(BROKER.failed())?;
    while !matches!(events.poll().await.map_err(BROKER.failed())?, Event::Incoming(Packet::SubAck(_))) {}
    // A task and a channel, as in the crate's examples: 3.0 and 1.2 million frames a CPU-second with one sender and with
    // many. A consumer that polls by itself has 3.0 and 1.15, which is the same within the noise.
    let (heard, messages) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let message = next(&mut events).await;
            let is_last = message.is_err();
            if heard.send(message).await.is_err() || is_last {
                break;
            }
        }
    });
    Ok(ReceiverStream::new(messages).boxed())
}

async fn next(events: &mut EventLoop) -> Result<Message, BrokerError> {
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.map_err(BROKER.failed())? {
            return BROKER.message(&publish.topic, PREFIX, publish.payload);
        }
    }
}

/// Connects and waits until the broker has answered.
async fn connect(address: SocketAddr, client: &str) -> Result<(AsyncClient, EventLoop), BrokerError> {
    let options = MqttOptions::new(client, address.ip().to_string(), address.port());
    let (client, mut events) = AsyncClient::new(options, QUEUE);
    events.network_options.set_tcp_nodelay(true);
    events.poll().await.map_err(BROKER.failed())?;
    Ok((client, events))
}

pub(in crate::peers) struct Outlet {
    client: AsyncClient,
    topic: String,
}

impl Outlet {
    /// Its connection lives on in a task, until it breaks or the runtime ends.
    pub(super) async fn open(address: SocketAddr, station: u32) -> Result<Outlet, BrokerError> {
        let topic = format!("{PREFIX}{station}");
        let (client, mut events) = connect(address, &topic).await?;
        tokio::spawn(async move { while events.poll().await.is_ok() {} });
        Ok(Outlet { client, topic })
    }

    pub(super) async fn publish(&self, payload: Bytes) -> Result<(), BrokerError> {
        self.client.publish_bytes(&self.topic, QOS, false, payload).await.map_err(BROKER.failed())
    }
}
