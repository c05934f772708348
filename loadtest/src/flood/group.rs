//! All connections to one receiver: brought up, told to send, looked at, brought down.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use forecourt::telemetry;
use futures_util::{StreamExt as _, stream};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep, timeout};

use super::{
    answers::Answers,
    cargo::{Payload, Sent},
    link::{Caller, LinkError},
    load::{Load, RECEIVERS},
    receiver::{Received, Receiver, ReceiverError},
    sender::{Lane, Order, Senders, Threads},
};

/// Handshakes at a time. More would only wait for each other's signatures.
const HANDSHAKES: usize = 64;

/// Connections that share a socket: its buffer must hold the acknowledgements of all of them.
pub(super) const CONNECTIONS_PER_SOCKET: usize = 500;

const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// For what was sent to arrive, as long as something still does.
const STILLNESS: Duration = Duration::from_secs(2);

/// For all streams to end.
const FINISH_PATIENCE: Duration = Duration::from_secs(60);

/// A receiver that used less than this part of a core for this long is at rest: it only holds its connections.
const IDLE: f64 = 0.15;
const REST: Duration = Duration::from_millis(300);
const REST_PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(5);

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    #[error("the generator's socket: {0}")]
    Socket(#[from] io::Error),
    #[error("the generator's thread ended")]
    Gone,
}

/// What went over the wire, as QUIC counts it on the sender's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wire {
    pub datagrams: u64,
    pub bytes: u64,
    pub packets_lost: u64,
    /// The smallest of all connections.
    pub mtu: u16,
}

/// Connections to one receiver, and the receiver.
#[derive(Debug)]
pub struct Group {
    pub receiver: Receiver,
    senders: Senders,
    connections: Vec<Connection>,
    pub cipher: &'static str,
    /// What each connection took of the receiver's memory, traffic not counted.
    pub memory_per_connection: u64,
    pub connect_seconds: f64,
}

impl Group {
    /// Connects all uplinks of the load to the receiver.
    pub async fn connect(
        receiver: Receiver,
        load: &Load,
        data: &Path,
        threads: &Threads,
        with_records: bool,
    ) -> Result<Group, GroupError> {
        let (load, data, server) = (*load, data.into(), receiver.address());
        Group::bring_up(receiver, Plan { load, data, server, with_records, answers: None }, threads).await
    }

    /// The same, and tells how long each batch takes. The load has a rate, so that it is known when one is due.
    pub async fn connect_timed(
        receiver: Receiver,
        load: &Load,
        data: &Path,
        threads: &Threads,
        answers: &Answers,
    ) -> Result<Group, GroupError> {
        let (load, data, server, answers) = (*load, data.into(), receiver.address(), Some(answers.clone()));
        Group::bring_up(receiver, Plan { load, data, server, with_records: false, answers }, threads).await
    }

    async fn bring_up(receiver: Receiver, plan: Plan, threads: &Threads) -> Result<Group, GroupError> {
        let before = receiver.usage()?;
        let begun = Instant::now();
        let (load, plan) = (plan.load, Arc::new(plan));
        let shares = threads.handles().len();
        let tasks: Vec<_> = threads
            .handles()
            .iter()
            .enumerate()
            .map(|(share, thread)| {
                let indices: Vec<usize> = (share..load.connections).step_by(shares).collect();
                (thread.clone(), thread.spawn(plan.clone().lanes(indices)))
            })
            .collect();
        let mut lanes = Vec::new();
        for (thread, task) in tasks {
            lanes.push((thread, task.await.map_err(|_| GroupError::Gone)??));
        }
        let connect_seconds = begun.elapsed().as_secs_f64();
        let cipher = lanes.iter().find_map(|(_, lanes)| Some(lanes.first()?.link.cipher)).unwrap_or_default();
        let connections = lanes.iter().flat_map(|(_, lanes)| lanes).map(|lane| lane.link.connection.clone()).collect();
        let grown = receiver.usage()?.resident_bytes.saturating_sub(before.resident_bytes);
        let memory_per_connection = grown / load.connections as u64;
        let senders = Senders::start(lanes, load.batches_per_second);
        Ok(Group { receiver, senders, connections, cipher, memory_per_connection, connect_seconds })
    }

    pub fn send(&self, payload: Payload) {
        self.send_at(payload, 1.0);
    }

    /// Sends at so many times the rate of the load.
    pub fn send_at(&self, payload: Payload, speed: f64) {
        self.senders.tell(Order::Send(payload, speed));
    }

    pub fn sent(&self) -> &Sent {
        self.senders.sent()
    }

    /// Stops sending, and waits until what was sent has arrived or nothing arrives any more.
    pub async fn hold(&mut self) -> Result<(), GroupError> {
        self.senders.tell(Order::Hold);
        self.still().await.map(drop)
    }

    /// Sends on until so many vehicles have entered their forecourts, or no more do.
    pub async fn fill(&mut self, vehicles: u64) -> Result<(), GroupError> {
        // Weak signals keep a few out.
        let enough = vehicles - vehicles / 20;
        let (mut entered, mut grown) = (0, Instant::now());
        while entered < enough && grown.elapsed() < STILLNESS {
            let now = self.receiver.received().await?.entered;
            if now > entered {
                (entered, grown) = (now, Instant::now());
            }
            sleep(REST).await;
        }
        Ok(())
    }

    /// Waits until the receiver has nothing left to do.
    pub async fn rest(&mut self) -> Result<(), GroupError> {
        let begun = Instant::now();
        let mut before = self.receiver.usage()?;
        while begun.elapsed() < REST_PATIENCE {
            sleep(REST).await;
            let after = self.receiver.usage()?;
            if (after - before) < REST.mul_f64(IDLE) {
                break;
            }
            before = after;
        }
        Ok(())
    }

    /// Ends all streams. What has arrived then is all that ever will.
    pub async fn finish(&mut self) -> Result<Received, GroupError> {
        // QUIC may have it all before the receiver has read it, and what is unread goes with the connection.
        self.hold().await?;
        // What did not end in time is lost, and counted as such.
        let _ = timeout(FINISH_PATIENCE, self.senders.finish()).await;
        self.still().await
    }

    pub fn wire(&self) -> Wire {
        let all = self.connections.iter().map(Connection::stats);
        all.fold(Wire { mtu: u16::MAX, ..Wire::default() }, |sum, stats| Wire {
            datagrams: sum.datagrams + stats.udp_tx.datagrams,
            bytes: sum.bytes + stats.udp_tx.bytes,
            packets_lost: sum.packets_lost + stats.path.lost_packets,
            mtu: sum.mtu.min(stats.path.current_mtu),
        })
    }

    async fn still(&mut self) -> Result<Received, GroupError> {
        let mut last = self.receiver.received().await?;
        let mut changed = Instant::now();
        while changed.elapsed() < STILLNESS && !self.has_all(last) {
            sleep(POLL).await;
            let received = self.receiver.received().await?;
            if received != last {
                (last, changed) = (received, Instant::now());
            }
        }
        Ok(last)
    }

    fn has_all(&self, received: Received) -> bool {
        let (records, batches) = (self.sent().amount(Payload::Records), self.sent().amount(Payload::Batches));
        match self.receiver {
            Receiver::Sink(_) => received.bytes >= records.bytes + batches.bytes,
            Receiver::Engine(_) => received.batches >= batches.batches,
        }
    }
}

/// What every thread needs to bring its share of the connections up.
struct Plan {
    load: Load,
    data: std::path::PathBuf,
    server: SocketAddr,
    with_records: bool,
    /// Who is told how long batches took.
    answers: Option<Answers>,
}

impl Plan {
    async fn lanes(self: Arc<Plan>, indices: Vec<usize>) -> Result<Vec<Lane>, GroupError> {
        let sockets = indices.len().div_ceil(CONNECTIONS_PER_SOCKET).max(1);
        let endpoints = (0..sockets).map(client_endpoint).collect::<io::Result<Vec<_>>>()?;
        let call = |(nth, index): (usize, usize)| self.clone().lane(index, endpoints[nth % sockets].clone());
        let calls: Vec<_> = indices.into_iter().enumerate().map(call).collect();
        let called: Vec<_> = stream::iter(calls).buffer_unordered(HANDSHAKES).collect().await;
        called.into_iter().collect()
    }

    async fn lane(self: Arc<Plan>, index: usize, endpoint: Endpoint) -> Result<Lane, GroupError> {
        let caller = Caller::new(&self.data, index, RECEIVERS)?.telling(self.answers.clone());
        let link = caller.call(&endpoint, self.server).await?;
        Ok(Lane { link, cargo: self.load.cargo(index, self.with_records, telemetry::now()) })
    }
}

/// A socket with room for the acknowledgements of many connections. Each has an address of the loopback for itself: in
/// the field stations do not share one, and the engine bounds what comes from a single source.
pub(super) fn client_endpoint(number: usize) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    let address = Ipv4Addr::new(127, 0, 1 + (number / 250) as u8, 1 + (number % 250) as u8);
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.set_nonblocking(true)?;
    Endpoint::new(EndpointConfig::default(), None, socket.into(), Arc::new(TokioRuntime))
}
