//! The first exchange of a connection: who is there, and whether the certificate says so too.

use quinn::{Connection, RecvStream, SendStream};

use super::{ended::Ended, listener::Context, tls};
use crate::{
    engine::{
        batch,
        control::{Hello, Inbox, MESSAGE_BYTES_MAX, Message, Refusal, Welcome},
        limits::RECEIVERS_MAX,
    },
    station::{Attach, Attached},
    telemetry,
};

/// The control stream. Its receiving half is kept for its life only: an uplink says nothing after its hello.
pub(super) struct Control {
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
}

/// Waits for the peer's control stream and the hello on it. Without the stream there is nobody to answer.
pub(super) async fn receive(connection: &Connection) -> Result<(Control, Result<Hello, Ended>), Ended> {
    let (send, mut receive) = connection.accept_bi().await.map_err(|_| Ended::Lost)?;
    let hello = read(&mut receive).await;
    Ok((Control { send, receive }, hello))
}

async fn read(receive: &mut RecvStream) -> Result<Hello, Ended> {
    let malformed = Ended::Hello(Refusal::Malformed);
    let mut inbox = Inbox::default();
    loop {
        match inbox.take() {
            Ok(Some(Message::Hello(hello))) => return Ok(hello),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(malformed),
        }
        match receive.read_chunk(MESSAGE_BYTES_MAX, true).await {
            Ok(Some(chunk)) => inbox.push(&chunk.bytes),
            Ok(None) => return Err(malformed),
            Err(_) => return Err(Ended::Lost),
        }
    }
}

/// Attaches the uplink to its station if everything about its hello is in order.
pub(super) async fn greet(hello: Hello, connection: &Connection, context: &Context) -> Result<Attached, Ended> {
    check(&hello).map_err(Ended::Hello)?;
    if !tls::names_station(connection, hello.station) {
        return Err(Ended::Hello(Refusal::Certificate));
    }
    if !context.stations.known(hello.station) {
        return Err(Ended::Hello(Refusal::Station));
    }
    let Hello { station, spool, receivers, .. } = hello;
    let attach = Attach { station, spool, receivers, acknowledge_each: context.config.ack_batches };
    Ok(context.stations.attach(attach).await?)
}

/// What can be checked of a hello by itself.
fn check(hello: &Hello) -> Result<(), Refusal> {
    if !hello.versions.contains(&batch::VERSION) {
        return Err(Refusal::Version);
    }
    let mut seen = [false; RECEIVERS_MAX];
    for receiver in &hello.receivers {
        match seen.get_mut(usize::from(receiver.id.0)) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Refusal::Receivers),
        }
    }
    Ok(())
}

pub(super) fn welcome(before: Option<u64>, context: &Context) -> Message {
    Message::Welcome(Welcome {
        version: batch::VERSION,
        now: telemetry::now(),
        slot_seconds: context.slot.seconds() as u16,
        applied: before,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        control::{Receiver, Role},
        id::{ReceiverId, SpoolId, StationId},
    };

    fn hello(receivers: &[u8]) -> Hello {
        let receiver = |&id| Receiver { id: ReceiverId(id), role: Role::Canopy, enter_dbm: None };
        Hello {
            versions: vec![batch::VERSION],
            station: StationId(1),
            spool: SpoolId(1),
            receivers: receivers.iter().map(receiver).collect(),
            software: String::new(),
        }
    }

    #[test]
    fn a_receiver_named_twice_or_out_of_bounds_is_refused() {
        assert_eq!(check(&hello(&[0, 31])), Ok(()));
        assert_eq!(check(&hello(&[3, 3])), Err(Refusal::Receivers));
        assert_eq!(check(&hello(&[32])), Err(Refusal::Receivers));
    }

    #[test]
    fn a_hello_without_a_version_of_ours_is_refused() {
        let newer = Hello { versions: vec![batch::VERSION + 1], ..hello(&[0]) };
        assert_eq!(check(&newer), Err(Refusal::Version));
    }
}
