//! One connection of an uplink: hello, then batches one way and acknowledgements the other, until one side ends it.

use std::{net::SocketAddr, time::Duration};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Ended, sender::Shared};
use crate::{
    engine::{
        batch::{Encoder, Hearing},
        control::{Inbox, MESSAGE_BYTES_MAX, Message},
    },
    telemetry,
};

/// From the first packet to the server's welcome: when all uplinks of a chain come back at once, the server takes them
/// one after the other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Encoded and not yet taken by QUIC: a few full packets, so that an acknowledgement is never far behind.
const WRITE_BYTES: usize = 32 * 1024;

/// Runs one connection to its end.
pub(super) async fn run(shared: &Shared, address: SocketAddr) -> Ended {
    let opened = timeout(CONNECT_TIMEOUT, Link::open(shared, address)).await;
    let ended = match opened {
        Ok(Ok(mut link)) => {
            let ended = link.attend().await.err().unwrap_or(Ended::Finished);
            link.connection.close(VarInt::from_u32(0), b"");
            ended
        }
        Ok(Err(ended)) => ended,
        Err(_) => Ended::Lost("no welcome in time".into()),
    };
    shared.state().disconnected(&ended);
    ended
}

struct Link<'a> {
    shared: &'a Shared,
    connection: Connection,
    control: Control,
    batches: SendStream,
    encoder: Encoder,
    /// Encoded batches, and how much of them QUIC has taken.
    pending: Vec<u8>,
    written: usize,
    /// The end of the batch stream is said.
    ended_stream: bool,
}

impl<'a> Link<'a> {
    async fn open(shared: &'a Shared, address: SocketAddr) -> Result<Link<'a>, Ended> {
        let connecting = shared
            .endpoint
            .connect_with(shared.identity.client_config(), address, &shared.server_name)
            .map_err(|error| Ended::Lost(error.to_string()))?;
        let connection = connecting.await?;
        let (mut send, receive) = connection.open_bi().await?;
        send.write_all(&Message::Hello(shared.hello.clone()).encode()).await.map_err(|_| gone(&connection))?;
        let mut control = Control { _send: send, receive, inbox: Inbox::default() };
        let welcome = match control.next().await.map_err(|ended| last_word(&connection, ended))? {
            Message::Welcome(welcome) => welcome,
            Message::Goodbye(goodbye) => return Err(goodbye.into()),
            _ => return Err(Ended::Lost("the server's first message is no welcome".into())),
        };
        shared.state().connected(&welcome, connection.rtt());
        let batches = connection.open_uni().await?;
        Ok(Link {
            shared,
            connection,
            control,
            batches,
            encoder: Encoder::new(),
            pending: Vec::new(),
            written: 0,
            ended_stream: false,
        })
    }

    /// Ends in `Ok` when finishing was asked for and everything is acknowledged.
    async fn attend(&mut self) -> Result<(), Ended> {
        let cut = self.shared.cut.notified();
        tokio::pin!(cut);
        loop {
            let finishing = self.shared.finishing.is_cancelled();
            let flush_at = self.fill(finishing);
            if finishing && self.end_stream_when_sent() {
                return Ok(());
            }
            tokio::select! {
                message = self.control.next() => {
                    let message = message.map_err(|ended| last_word(&self.connection, ended))?;
                    self.on_message(message)?;
                }
                written = self.batches.write(&self.pending[self.written..]), if !self.pending.is_empty() => {
                    self.on_written(written.map_err(|_| gone(&self.connection))?);
                }
                () = self.shared.wake.notified() => {}
                () = &mut cut => return Err(Ended::Lost("cut off".into())),
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {}
                () = self.shared.finishing.cancelled(), if !finishing => {}
            }
        }
    }

    /// Encodes what is to go once QUIC has taken what went before; says when the open batch is due.
    fn fill(&mut self, finishing: bool) -> Option<Instant> {
        let mut state = self.shared.state();
        if finishing {
            state.outbox.flush();
        } else {
            state.outbox.flush_due(Instant::now().into_std());
        }
        if self.pending.is_empty() {
            let clock = state.clock;
            let now = clock.on_server(telemetry::now());
            while self.pending.len() < WRITE_BYTES
                && let Some(batch) = state.outbox.next_unsent()
            {
                // Heard in the future is an error, and no estimate is perfect.
                let timed = |hearing: &Hearing| Hearing { at: clock.on_server(hearing.at).min(now), ..*hearing };
                let hearings: Vec<_> = batch.hearings.iter().map(timed).collect();
                self.encoder
                    .encode(batch.sequence, &hearings, &mut self.pending)
                    .expect("the outbox keeps a batch within its bounds");
                state.batches_sent += 1;
            }
            state.bytes_sent += self.pending.len() as u64;
        }
        state.outbox.flush_at().map(Instant::from_std)
    }

    fn on_written(&mut self, count: usize) {
        self.written += count;
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
        }
    }

    /// The end of the stream asks the server for its last acknowledgement; true when that has come.
    fn end_stream_when_sent(&mut self) -> bool {
        let (all_sent, settled) = {
            let state = self.shared.state();
            (state.outbox.all_sent(), state.outbox.is_settled())
        };
        if all_sent && self.pending.is_empty() && !self.ended_stream {
            self.ended_stream = true;
            // Only a stream that is closed already refuses this, and its connection tells why.
            let _ = self.batches.finish();
        }
        settled
    }

    fn on_message(&mut self, message: Message) -> Result<(), Ended> {
        match message {
            Message::Ack { highest } => self.shared.state().outbox.acknowledge(highest),
            Message::Time { now } => {
                self.shared.state().clock.learn(now, self.connection.rtt(), telemetry::now());
            }
            Message::Goodbye(goodbye) => return Err(goodbye.into()),
            Message::Hello(_) | Message::Welcome(_) => {
                return Err(Ended::Lost("a message out of turn".into()));
            }
        }
        Ok(())
    }
}

struct Control {
    /// Kept open: its end would be the end of the uplink.
    _send: SendStream,
    receive: RecvStream,
    inbox: Inbox,
}

impl Control {
    /// The next message; loses nothing when it is dropped on the way.
    async fn next(&mut self) -> Result<Message, Ended> {
        loop {
            if let Some(message) = self.inbox.take().map_err(|error| Ended::Lost(error.to_string()))? {
                return Ok(message);
            }
            match self.receive.read_chunk(MESSAGE_BYTES_MAX, true).await {
                Ok(Some(chunk)) => self.inbox.push(&chunk.bytes),
                Ok(None) => return Err(Ended::Lost("the server ended the control stream".into())),
                Err(error) => return Err(Ended::Lost(error.to_string())),
            }
        }
    }
}

/// Why nothing more comes: the connection's own reason, when it has one, is the better one.
fn last_word(connection: &Connection, otherwise: Ended) -> Ended {
    connection.close_reason().map_or(otherwise, Ended::from)
}

fn gone(connection: &Connection) -> Ended {
    last_word(connection, Ended::Lost("the server stopped the stream".into()))
}
