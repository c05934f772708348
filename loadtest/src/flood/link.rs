//! One connection of the flood, as the engine sees it an uplink of one station: mutual TLS, hello, batches one way and
//! acknowledgements the other.
//!
//! The product's own uplink keeps hearings in a spool and encodes them as they come, which a flood leaves no time for;
//! this one writes what was encoded ahead.

use std::{net::SocketAddr, path::Path, time::Duration};

use forecourt::{
    engine::{
        batch,
        control::{Hello, Inbox, MESSAGE_BYTES_MAX, Message, Receiver, Role},
        id::{PumpNumber, ReceiverId, SpoolId, StationId},
    },
    ingest::pki,
    uplink::{Identity, IdentityError},
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout};

use super::{
    answers::{Answers, Awaited},
    chain::Chain,
};

/// A name that the server's certificate always carries.
const SERVER_NAME: &str = "localhost";

/// As the product's own uplink.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("connecting: {0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("station {0} was not welcomed in time")]
    Timeout(StationId),
    #[error("station {station}: {reason}")]
    Lost { station: StationId, reason: String },
}

/// Who connects, and where to.
#[derive(Debug, Clone)]
pub struct Caller {
    pub station: StationId,
    pub spool: SpoolId,
    pub receivers: u8,
    identity: Identity,
    answers: Option<Answers>,
}

impl Caller {
    /// The `index`th station of the chain in this data folder, with the certificate that it has there.
    pub fn new(data: &Path, index: usize, receivers: u8) -> Result<Caller, LinkError> {
        let (pki, station) = (pki::folder(data), Chain::station(index));
        let file = |extension: &str| pki.join(format!("station-{station}.{extension}"));
        let identity = Identity::read(&pki.join("ca.pem"), &file("pem"), &file("key"))?;
        Ok(Caller { station, spool: SpoolId(rand::random()), receivers, identity, answers: None })
    }

    /// Tells these how long its batches took.
    pub fn telling(self, answers: Option<Answers>) -> Caller {
        Caller { answers, ..self }
    }

    /// Connects and waits for the welcome.
    pub async fn call(&self, endpoint: &Endpoint, server: SocketAddr) -> Result<Link, LinkError> {
        let called = timeout(CONNECT_TIMEOUT, self.open(endpoint, server)).await;
        called.map_err(|_| LinkError::Timeout(self.station))?
    }

    async fn open(&self, endpoint: &Endpoint, server: SocketAddr) -> Result<Link, LinkError> {
        let connecting = endpoint.connect_with(self.identity.client_config(), server, SERVER_NAME)?;
        let connection = connecting.await.map_err(|error| self.lost(&error))?;
        let (mut send, receive) = connection.open_bi().await.map_err(|error| self.lost(&error))?;
        send.write_all(&Message::Hello(self.hello()).encode()).await.map_err(|error| self.lost(&error))?;
        let awaited = self.answers.as_ref().map(Answers::awaited);
        let mut control = Control { _send: send, receive, inbox: Inbox::default(), awaited: awaited.clone() };
        match control.next().await {
            Some(Message::Welcome(_)) => {}
            Some(other) => return Err(self.lost(&format!("no welcome but {other:?}"))),
            None => return Err(self.lost(&"the server said nothing")),
        }
        let batches = connection.open_uni().await.map_err(|error| self.lost(&error))?;
        tokio::spawn(control.attend());
        Ok(Link { connection, batches, cipher: self.identity.cipher(), awaited })
    }

    fn hello(&self) -> Hello {
        Hello {
            versions: vec![batch::VERSION],
            station: self.station,
            spool: self.spool,
            receivers: (0..self.receivers).map(receiver).collect(),
            software: format!("loadtest {}", env!("CARGO_PKG_VERSION")),
        }
    }

    fn lost(&self, reason: &dyn std::fmt::Display) -> LinkError {
        LinkError::Lost { station: self.station, reason: reason.to_string() }
    }
}

/// Entrance, exit, and the pumps.
fn receiver(number: u8) -> Receiver {
    let role = match number {
        0 => Role::Entrance,
        1 => Role::Exit,
        pump => Role::Pump(PumpNumber(u16::from(pump) - 1)),
    };
    Receiver { id: ReceiverId(number), role, enter_dbm: None }
}

/// A welcomed uplink.
#[derive(Debug)]
pub struct Link {
    pub connection: Connection,
    pub batches: SendStream,
    pub cipher: &'static str,
    awaited: Option<Awaited>,
}

impl Link {
    /// A batch was written that was due then.
    pub(super) fn wrote(&self, sequence: u64, due: Instant) {
        if let Some(awaited) = &self.awaited {
            awaited.wrote(sequence, due, Instant::now());
        }
    }

    /// Gone without a word, as when the line is cut.
    pub fn cut(self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

struct Control {
    /// Its end would be the end of the uplink.
    _send: SendStream,
    receive: RecvStream,
    inbox: Inbox,
    awaited: Option<Awaited>,
}

impl Control {
    /// Reads what the server says for as long as the connection lasts. How much was applied, the engine is asked itself.
    async fn attend(mut self) {
        while let Some(message) = self.next().await {
            if let (Message::Ack { highest }, Some(awaited)) = (message, &self.awaited) {
                awaited.acknowledged(highest, Instant::now());
            }
        }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.inbox.take().ok()? {
                return Some(message);
            }
            self.inbox.push(&self.receive.read_chunk(MESSAGE_BYTES_MAX, true).await.ok()??.bytes);
        }
    }
}
