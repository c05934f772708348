//! One uplink, from its handshake to its goodbye.
//!
//! A read of the batch stream is copied into a buffer of our own (quinn's chunks pin whole receive buffers), its whole
//! batches go to the station in one message, and nothing more is read until the station has applied them: the
//! backpressure reaches the uplink through QUIC's window.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    admission::Seat,
    ended::Ended,
    hello::{self, Control, Greeted},
    listener::Context,
};
use crate::{
    engine::{
        batch::{self, BatchError},
        control::Message,
    },
    station::{Applied, UplinkLink},
    telemetry,
};

/// Chunks taken at once; a chunk is at most a packet, so this is up to 46 KB a read.
const CHUNKS: usize = 32;

/// The time that a peer has to take a control message, or a goodbye.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn serve(incoming: Incoming, mut seat: Seat, context: Arc<Context>) {
    let remote = incoming.remote_address();
    context.metrics.connections.increment(1);
    let ended = match handshake(incoming, &context).await {
        Ok(connection) => {
            let ended = converse(&connection, &mut seat, &context).await;
            connection.close(VarInt::from_u32(ended.close_code()), ended.reason().as_bytes());
            ended
        }
        Err(ended) => ended,
    };
    context.metrics.connections.decrement(1);
    context.metrics.closed(ended);
    tracing::debug!(%remote, reason = ended.reason(), "connection ended");
}

async fn handshake(incoming: Incoming, context: &Context) -> Result<Connection, Ended> {
    let connecting = incoming.accept().map_err(|_| Ended::Handshake)?;
    let limit = hello_timeout(context);
    timeout(limit, connecting).await.map_err(|_| Ended::HelloTimeout)?.map_err(|_| Ended::Handshake)
}

/// Hello, batches, goodbye.
async fn converse(connection: &Connection, seat: &mut Seat, context: &Context) -> Ended {
    let received = timeout(hello_timeout(context), hello::receive(connection)).await;
    let (mut control, hello) = match received {
        Ok(Ok(received)) => received,
        Ok(Err(ended)) => return ended,
        Err(_) => return Ended::HelloTimeout,
    };
    let greeted = match hello {
        Ok(hello) => {
            let station = hello.station;
            hello::greet(hello, connection, context).await.inspect_err(|ended| {
                tracing::warn!(%station, remote = %connection.remote_address(), reason = ended.reason(), "uplink refused");
            })
        }
        Err(ended) => Err(ended),
    };
    let ended = match greeted {
        Ok(greeted) => {
            seat.settle();
            context.metrics.uplinks.increment(1);
            let ended = attend(greeted, &mut control, connection, context).await;
            context.metrics.uplinks.decrement(1);
            ended
        }
        Err(ended) => ended,
    };
    take_leave(ended, control, connection).await;
    ended
}

async fn attend(greeted: Greeted, control: &mut Control, connection: &Connection, context: &Context) -> Ended {
    let welcome = hello::welcome(greeted.attached.applied, context);
    if let Err(ended) = say(&mut control.send, &welcome).await {
        return ended;
    }
    let mut uplink = Uplink {
        link: greeted.attached.link,
        control: &mut control.send,
        context,
        buffer: BytesMut::new(),
        unacknowledged: Unacknowledged::default(),
        told_time_at: Instant::now(),
    };
    let ended = uplink.run(connection, greeted.replaced).await;
    // What was applied is acknowledged even to an uplink that is sent away: it need not send that again.
    uplink.acknowledge().await.err().unwrap_or(ended)
}

struct Uplink<'a> {
    link: UplinkLink,
    control: &'a mut SendStream,
    context: &'a Context,
    /// What was read and is no whole batch yet.
    buffer: BytesMut,
    unacknowledged: Unacknowledged,
    told_time_at: Instant,
}

/// Batches that were applied since the last acknowledgement.
#[derive(Debug, Default)]
struct Unacknowledged {
    batches: u32,
    highest: u64,
}

impl Uplink<'_> {
    async fn run(&mut self, connection: &Connection, mut replaced: oneshot::Receiver<()>) -> Ended {
        let mut batches = Batches { connection, stream: None };
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let mut shutdown = pin!(self.context.shutdown.cancelled());
        let mut tick = interval(Duration::from_millis(u64::from(self.context.config.ack_ms)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                () = &mut shutdown => Err(Ended::Drained),
                told = &mut replaced => Err(if told.is_ok() { Ended::Replaced } else { Ended::Gone }),
                _ = tick.tick() => self.on_tick().await,
                read = batches.read(&mut chunks) => match read {
                    Ok(Some(count)) => self.on_read(&mut chunks[..count]).await,
                    Ok(None) => Err(self.on_finish()),
                    Err(ended) => Err(ended),
                },
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn on_read(&mut self, chunks: &mut [Bytes]) -> Result<(), Ended> {
        self.buffer.reserve(chunks.iter().map(Bytes::len).sum());
        for chunk in chunks {
            self.buffer.extend_from_slice(&std::mem::take(chunk));
        }
        let (whole, refused) = whole_batches(&self.buffer);
        if whole > 0 {
            let applied = self.link.observe(self.buffer.split_to(whole).freeze()).await?;
            self.count(applied, whole);
        }
        if let Some(error) = refused {
            return Err(Ended::Batch(error));
        }
        if self.unacknowledged.batches >= self.context.config.ack_batches {
            self.acknowledge().await?;
        }
        Ok(())
    }

    fn count(&mut self, applied: Applied, bytes: usize) {
        self.unacknowledged.batches += applied.batches;
        self.unacknowledged.highest = self.unacknowledged.highest.max(applied.highest);
        self.context.metrics.reads.increment(1);
        self.context.metrics.batches.increment(applied.batches.into());
        self.context.metrics.bytes.increment(bytes as u64);
    }

    async fn on_tick(&mut self) -> Result<(), Ended> {
        self.acknowledge().await?;
        if self.told_time_at.elapsed() >= Duration::from_millis(u64::from(self.context.config.time_ms)) {
            self.told_time_at = Instant::now();
            say(self.control, &Message::Time { now: telemetry::now() }).await?;
        }
        Ok(())
    }

    /// The uplink has nothing more to say; half a batch at the end is a truncated one.
    fn on_finish(&self) -> Ended {
        if self.buffer.is_empty() { Ended::Finished } else { Ended::Batch(BatchError::Length) }
    }

    async fn acknowledge(&mut self) -> Result<(), Ended> {
        if self.unacknowledged.batches == 0 {
            return Ok(());
        }
        self.unacknowledged.batches = 0;
        self.context.metrics.acknowledgements.increment(1);
        say(self.control, &Message::Ack { highest: self.unacknowledged.highest }).await
    }
}

/// The stream of batches, which is there once its first byte is.
struct Batches<'a> {
    connection: &'a Connection,
    stream: Option<RecvStream>,
}

impl Batches<'_> {
    /// Reads what is there; `None` at the end of the stream. Loses nothing when it is dropped on the way.
    async fn read(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, Ended> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.connection.accept_uni().await.map_err(|_| Ended::Lost)?),
        };
        stream.read_chunks(chunks).await.map_err(|_| Ended::Lost)
    }
}

/// Bytes of whole batches at the front, and what is wrong behind them.
fn whole_batches(bytes: &[u8]) -> (usize, Option<BatchError>) {
    let mut split = batch::split(bytes);
    let refused = split.by_ref().find_map(Result::err);
    (bytes.len() - split.rest().len(), refused)
}

async fn say(control: &mut SendStream, message: &Message) -> Result<(), Ended> {
    match timeout(CONTROL_TIMEOUT, control.write_all(&message.encode())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(quinn::WriteError::ConnectionLost(_))) => Err(Ended::Lost),
        Ok(Err(_)) | Err(_) => Err(Ended::Control),
    }
}

/// The last words, and the time to take them: a connection that is closed loses what is still under way.
async fn take_leave(ended: Ended, mut control: Control, connection: &Connection) {
    if let Some(goodbye) = ended.goodbye()
        && say(&mut control.send, &Message::Goodbye(goodbye)).await.is_err()
    {
        return;
    }
    let heard = async {
        let _ = control.send.finish();
        match ended {
            // Closed by the uplink, once it has read the last acknowledgement.
            Ended::Finished => drop(connection.closed().await),
            _ => drop(control.send.stopped().await),
        }
    };
    if ended.goodbye().is_some() || ended == Ended::Finished {
        let _ = timeout(CONTROL_TIMEOUT, heard).await;
    }
    drop(control.receive);
}

fn hello_timeout(context: &Context) -> Duration {
    Duration::from_millis(u64::from(context.config.hello_timeout_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::BATCH_BYTES_MAX;

    #[test]
    fn whole_batches_before_a_wrong_one_still_count() {
        let mut bytes = vec![3, 0, 1, 2, 3];
        bytes.extend_from_slice(&(BATCH_BYTES_MAX as u16 + 1).to_le_bytes());
        assert_eq!(whole_batches(&bytes), (5, Some(BatchError::TooLong)));
        assert_eq!(whole_batches(&bytes[..6]), (5, None));
        assert_eq!(whole_batches(&bytes[..4]), (0, None));
    }
}
