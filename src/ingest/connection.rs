//! One uplink, from its handshake to its goodbye.
//!
//! The stream of batches is handed to the station, which reads it; what stays here is the control stream: welcome,
//! acknowledgements, the server's time, the goodbye.

use std::{pin::pin, sync::Arc, time::Duration};

use quinn::{Connection, Incoming, SendStream, VarInt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    admission::Seat,
    ended::Ended,
    hello::{self, Control},
    listener::Context,
};
use crate::{
    engine::control::Message,
    station::{Attached, Progress, UplinkLink},
    telemetry,
};

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
        Ok(attached) => {
            seat.settle();
            context.metrics.uplinks.increment(1);
            let ended = attend(attached, &mut control, connection, context).await;
            context.metrics.uplinks.decrement(1);
            ended
        }
        Err(ended) => ended,
    };
    take_leave(ended, control, connection).await;
    ended
}

async fn attend(attached: Attached, control: &mut Control, connection: &Connection, context: &Context) -> Ended {
    let welcome = hello::welcome(attached.before, context);
    if let Err(ended) = say(&mut control.send, &welcome).await {
        return ended;
    }
    let mut uplink = Uplink { link: attached.link, control: &mut control.send, context, told_time_at: Instant::now() };
    let ended = uplink.run(connection).await;
    // What was applied is acknowledged even to an uplink that is sent away: it need not send that again.
    uplink.acknowledge().await.err().unwrap_or(ended)
}

struct Uplink<'a> {
    link: UplinkLink,
    control: &'a mut SendStream,
    context: &'a Context,
    told_time_at: Instant,
}

impl Uplink<'_> {
    /// Hands the stream of batches to the station as soon as there is one, and acknowledges what the station applies.
    async fn run(&mut self, connection: &Connection) -> Ended {
        let mut shutdown = pin!(self.context.shutdown.cancelled());
        let mut tick = interval(Duration::from_millis(u64::from(self.context.config.ack_ms)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_fed = false;
        loop {
            let step = tokio::select! {
                () = &mut shutdown => Err(Ended::Drained),
                () = self.link.applied().news() => {
                    tick.reset();
                    self.acknowledge().await
                }
                _ = tick.tick() => self.on_tick().await,
                stream = connection.accept_uni(), if !is_fed => match stream {
                    Ok(stream) => {
                        is_fed = true;
                        self.link.feed(Box::new(stream)).await;
                        Ok(())
                    }
                    Err(_) => Err(Ended::Lost),
                },
            };
            if let Err(ended) = step {
                return ended;
            }
            if let Some(end) = self.link.applied().end() {
                return end.into();
            }
        }
    }

    async fn on_tick(&mut self) -> Result<(), Ended> {
        self.acknowledge().await?;
        if self.told_time_at.elapsed() >= Duration::from_millis(u64::from(self.context.config.time_ms)) {
            self.told_time_at = Instant::now();
            say(self.control, &Message::Time { now: telemetry::now() }).await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<(), Ended> {
        let Progress { highest, batches, bytes } = self.link.applied().take();
        if batches == 0 {
            return Ok(());
        }
        self.context.metrics.batches.increment(batches);
        self.context.metrics.bytes.increment(bytes);
        self.context.metrics.acknowledgements.increment(1);
        say(self.control, &Message::Ack { highest }).await
    }
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
