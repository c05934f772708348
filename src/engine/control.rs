//! What an uplink and the server say to each other beside the batches, on the one bidirectional stream of the uplink.
//!
//! ```text
//! length u16 | version u8 | kind u8 | fields
//! ```
//!
//! Little-endian; texts and lists carry their length in one byte. The uplink says [`Hello`] once; everything else comes
//! from the server. A message of another version, of an unknown kind, too long, or with bytes to spare is refused:
//! both ends are ours, and what the hello's `versions` did not offer is never sent.

mod wire;

use super::{
    id::{PumpNumber, ReceiverId, SpoolId, StationId},
    limits::RECEIVERS_MAX,
    time::UnixMs,
};
use wire::{Fields, put_text};

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"forecourt/1";

/// The name that a station's certificate carries.
pub fn station_name(station: StationId) -> String {
    format!("station-{station}.forecourt.internal")
}

/// The only version of these messages so far.
pub const VERSION: u8 = 1;

/// A message without its length prefix: a hello of 32 receivers and two short texts stays under it.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// Bytes of any text in a message.
pub const TEXT_BYTES_MAX: usize = 128;

/// Batch versions that a hello may offer.
pub const VERSIONS_MAX: usize = 8;

const PREFIX_BYTES: usize = 2;
const RECEIVER_BYTES: usize = 6;

const _: () = assert!(
    // version, kind, versions, station, spool, receivers, software
    2 + 1 + VERSIONS_MAX + 4 + 8 + 1 + RECEIVERS_MAX * RECEIVER_BYTES + 1 + TEXT_BYTES_MAX <= MESSAGE_BYTES_MAX
);

/// Where a receiver hangs, and so what it tells about a car that it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Entrance,
    Exit,
    Canopy,
    Pump(PumpNumber),
}

/// One radio of a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    pub id: ReceiverId,
    pub role: Role,
    /// Smoothed RSSI in dBm from which a car counts as entered; `None` leaves it to the station's setting.
    pub enter_dbm: Option<i8>,
}

/// The uplink's first and only message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the batch format that the uplink can send.
    pub versions: Vec<u8>,
    pub station: StationId,
    pub spool: SpoolId,
    pub receivers: Vec<Receiver>,
    /// The gateway's software, as its maker numbers it.
    pub software: String,
}

/// The server's answer to a hello that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The batch version that the server chose.
    pub version: u8,
    pub now: UnixMs,
    pub slot_seconds: u16,
    /// The highest batch of this spool that is applied already; `None` for a spool that was never seen.
    pub applied: Option<u64>,
}

/// Why the server ends an uplink in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goodbye {
    /// The server stops; come back soon.
    Drain,
    /// A newer uplink of the same station took over.
    Replaced,
    /// The station is served elsewhere: `host:port`.
    Moved { address: String },
    /// The hello was not accepted.
    Refused(Refusal),
}

impl Goodbye {
    /// The code that the connection is closed with, beside what the goodbye says. Part of the protocol.
    pub fn close_code(&self) -> u32 {
        match self {
            Goodbye::Drain => 0x01,
            Goodbye::Replaced => 0x02,
            Goodbye::Moved { .. } => 0x03,
            Goodbye::Refused(refusal) => refusal.close_code(),
        }
    }

    /// What a close code says when the goodbye itself was lost; `None` for codes that are no goodbye, and for a move,
    /// whose address only the goodbye carries.
    pub fn from_code(code: u32) -> Option<Goodbye> {
        match code {
            0x01 => Some(Goodbye::Drain),
            0x02 => Some(Goodbye::Replaced),
            _ => Refusal::from_code(code).map(Goodbye::Refused),
        }
    }
}

/// Why a hello is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("not a hello")]
    Malformed,
    #[error("no version in common")]
    Version,
    #[error("the certificate is another station's")]
    Certificate,
    #[error("the station is not registered")]
    Station,
    #[error("a receiver is out of bounds or named twice")]
    Receivers,
}

impl Refusal {
    pub const ALL: [Refusal; 5] =
        [Refusal::Malformed, Refusal::Version, Refusal::Certificate, Refusal::Station, Refusal::Receivers];

    /// The code that the connection is closed with. Part of the protocol: numbers are never used again.
    pub fn close_code(self) -> u32 {
        match self {
            Refusal::Malformed => 0x30,
            Refusal::Version => 0x31,
            Refusal::Certificate => 0x32,
            Refusal::Station => 0x33,
            Refusal::Receivers => 0x34,
        }
    }

    /// The label under which it is counted.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Malformed => "hello_malformed",
            Refusal::Version => "hello_version",
            Refusal::Certificate => "hello_certificate",
            Refusal::Station => "hello_station",
            Refusal::Receivers => "hello_receivers",
        }
    }

    fn from_code(code: u32) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| refusal.close_code() == code)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Hello(Hello),
    Welcome(Welcome),
    /// Every batch up to this sequence is applied.
    Ack {
        highest: u64,
    },
    /// The server's clock, as it was sent.
    Time {
        now: UnixMs,
    },
    Goodbye(Goodbye),
}

/// Messages cut from a stream as it arrives.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes what was read. Bounded by one message and one read, when every message is taken before the next read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more was read.
    pub fn take(&mut self) -> Result<Option<Message>, ControlError> {
        let Some((message, length)) = Message::decode(&self.bytes)? else { return Ok(None) };
        self.bytes.drain(..length);
        Ok(Some(message))
    }
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("a control message of another version")]
    Version,
    #[error("a control message of an unknown kind")]
    Kind,
    #[error("a control message longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a control message whose fields do not fit")]
    Malformed,
}

impl Message {
    /// Reads the message at the front of `bytes`, and says how many bytes it took; `None` when it is not whole yet.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Message, usize)>, ControlError> {
        let Some((length, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_le_bytes(*length));
        if length > MESSAGE_BYTES_MAX {
            return Err(ControlError::TooLong);
        }
        match rest.get(..length) {
            Some(body) => Ok(Some((Message::read(body)?, PREFIX_BYTES + length))),
            None => Ok(None),
        }
    }

    fn read(body: &[u8]) -> Result<Message, ControlError> {
        let mut fields = Fields::new(body);
        if fields.u8()? != VERSION {
            return Err(ControlError::Version);
        }
        let message = match fields.u8()? {
            1 => Message::Hello(read_hello(&mut fields)?),
            2 => Message::Welcome(read_welcome(&mut fields)?),
            3 => Message::Ack { highest: fields.u64()? },
            4 => Message::Time { now: UnixMs(fields.u64()?) },
            5 => Message::Goodbye(read_goodbye(&mut fields)?),
            _ => return Err(ControlError::Kind),
        };
        fields.end()?;
        Ok(message)
    }

    /// The message with its length prefix. Lists and texts past their bounds are cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0, 0, VERSION];
        match self {
            Message::Hello(hello) => write_hello(hello, &mut out),
            Message::Welcome(welcome) => write_welcome(welcome, &mut out),
            Message::Ack { highest } => {
                out.push(3);
                out.extend_from_slice(&highest.to_le_bytes());
            }
            Message::Time { now } => {
                out.push(4);
                out.extend_from_slice(&now.0.to_le_bytes());
            }
            Message::Goodbye(goodbye) => write_goodbye(goodbye, &mut out),
        }
        let length = (out.len() - PREFIX_BYTES) as u16;
        out[..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
        out
    }
}

fn read_hello(fields: &mut Fields<'_>) -> Result<Hello, ControlError> {
    let versions = fields.list(VERSIONS_MAX, Fields::u8)?;
    let station = StationId(fields.u32()?);
    let spool = SpoolId(fields.u64()?);
    let receivers = fields.list(RECEIVERS_MAX, read_receiver)?;
    Ok(Hello { versions, station, spool, receivers, software: fields.text()? })
}

fn write_hello(hello: &Hello, out: &mut Vec<u8>) {
    let versions = &hello.versions[..hello.versions.len().min(VERSIONS_MAX)];
    out.extend_from_slice(&[1, versions.len() as u8]);
    out.extend_from_slice(versions);
    out.extend_from_slice(&hello.station.0.to_le_bytes());
    out.extend_from_slice(&hello.spool.0.to_le_bytes());
    let receivers = &hello.receivers[..hello.receivers.len().min(RECEIVERS_MAX)];
    out.push(receivers.len() as u8);
    for &receiver in receivers {
        write_receiver(receiver, out);
    }
    put_text(&hello.software, out);
}

fn read_receiver(fields: &mut Fields<'_>) -> Result<Receiver, ControlError> {
    let id = ReceiverId(fields.u8()?);
    let (role, pump) = (fields.u8()?, PumpNumber(fields.u16()?));
    let role = match role {
        0 => Role::Entrance,
        1 => Role::Exit,
        2 => Role::Canopy,
        3 => Role::Pump(pump),
        _ => return Err(ControlError::Malformed),
    };
    let (given, dbm) = (fields.flag()?, fields.u8()?.cast_signed());
    Ok(Receiver { id, role, enter_dbm: given.then_some(dbm) })
}

fn write_receiver(receiver: Receiver, out: &mut Vec<u8>) {
    let (role, pump) = match receiver.role {
        Role::Entrance => (0, 0),
        Role::Exit => (1, 0),
        Role::Canopy => (2, 0),
        Role::Pump(pump) => (3, pump.0),
    };
    let [low, high] = pump.to_le_bytes();
    let dbm = receiver.enter_dbm.unwrap_or_default().cast_unsigned();
    out.extend_from_slice(&[receiver.id.0, role, low, high, receiver.enter_dbm.is_some().into(), dbm]);
}

fn read_welcome(fields: &mut Fields<'_>) -> Result<Welcome, ControlError> {
    let (version, now, slot_seconds) = (fields.u8()?, UnixMs(fields.u64()?), fields.u16()?);
    let (given, applied) = (fields.flag()?, fields.u64()?);
    Ok(Welcome { version, now, slot_seconds, applied: given.then_some(applied) })
}

fn write_welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    out.extend_from_slice(&[2, welcome.version]);
    out.extend_from_slice(&welcome.now.0.to_le_bytes());
    out.extend_from_slice(&welcome.slot_seconds.to_le_bytes());
    out.push(welcome.applied.is_some().into());
    out.extend_from_slice(&welcome.applied.unwrap_or_default().to_le_bytes());
}

fn read_goodbye(fields: &mut Fields<'_>) -> Result<Goodbye, ControlError> {
    match fields.u8()? {
        0 => Ok(Goodbye::Drain),
        1 => Ok(Goodbye::Replaced),
        2 => Ok(Goodbye::Moved { address: fields.text()? }),
        3 => Refusal::from_code(fields.u32()?).map(Goodbye::Refused).ok_or(ControlError::Malformed),
        _ => Err(ControlError::Malformed),
    }
}

fn write_goodbye(goodbye: &Goodbye, out: &mut Vec<u8>) {
    out.push(5);
    match goodbye {
        Goodbye::Drain => out.push(0),
        Goodbye::Replaced => out.push(1),
        Goodbye::Moved { address } => {
            out.push(2);
            put_text(address, out);
        }
        Goodbye::Refused(refusal) => {
            out.push(3);
            out.extend_from_slice(&refusal.close_code().to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn any_receiver() -> impl Strategy<Value = Receiver> {
        let role = prop_oneof![
            Just(Role::Entrance),
            Just(Role::Exit),
            Just(Role::Canopy),
            any::<u16>().prop_map(|pump| Role::Pump(PumpNumber(pump))),
        ];
        (any::<u8>(), role, option::of(any::<i8>())).prop_map(|(id, role, enter_dbm)| Receiver {
            id: ReceiverId(id),
            role,
            enter_dbm,
        })
    }

    prop_compose! {
        fn any_hello()(
            versions in vec(any::<u8>(), 0..=VERSIONS_MAX),
            station in any::<u32>(),
            spool in any::<u64>(),
            receivers in vec(any_receiver(), 0..=RECEIVERS_MAX),
            software in "[ -~]{0,128}",
        ) -> Hello {
            Hello { versions, station: StationId(station), spool: SpoolId(spool), receivers, software }
        }
    }

    prop_compose! {
        fn any_welcome()(
            version in any::<u8>(), now in any::<u64>(), slot_seconds in any::<u16>(), applied in option::of(any::<u64>()),
        ) -> Welcome {
            Welcome { version, now: UnixMs(now), slot_seconds, applied }
        }
    }

    fn any_message() -> impl Strategy<Value = Message> {
        prop_oneof![
            any_hello().prop_map(Message::Hello),
            any_welcome().prop_map(Message::Welcome),
            any::<u64>().prop_map(|highest| Message::Ack { highest }),
            any::<u64>().prop_map(|now| Message::Time { now: UnixMs(now) }),
            Just(Message::Goodbye(Goodbye::Drain)),
            Just(Message::Goodbye(Goodbye::Replaced)),
            "[a-z0-9.:]{0,128}".prop_map(|address| Message::Goodbye(Goodbye::Moved { address })),
            prop::sample::select(Refusal::ALL.to_vec()).prop_map(|refusal| Message::Goodbye(Goodbye::Refused(refusal))),
        ]
    }

    proptest! {
        #[test]
        fn a_message_is_read_back_as_it_was_written(message in any_message(), after in vec(any::<u8>(), 0..4)) {
            let bytes = message.encode();
            prop_assert!(bytes.len() <= PREFIX_BYTES + MESSAGE_BYTES_MAX);
            let length = bytes.len();
            let stream = [bytes, after].concat();
            prop_assert_eq!(Message::decode(&stream), Ok(Some((message, length))));
        }

        #[test]
        fn an_unfinished_message_is_waited_for(message in any_message(), cut in any::<prop::sample::Index>()) {
            let bytes = message.encode();
            prop_assert_eq!(Message::decode(&bytes[..cut.index(bytes.len())]), Ok(None));
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
            let _ = Message::decode(&bytes);
            let _ = Message::read(&bytes);
        }

        #[test]
        fn random_fields_never_panic(kind in 1..6_u8, bytes in vec(any::<u8>(), 0..300)) {
            let _ = Message::read(&[&[VERSION, kind], &*bytes].concat());
        }
    }

    #[test]
    fn messages_come_whole_out_of_a_stream_in_pieces() {
        let sent = [Message::Ack { highest: 1 }, Message::Goodbye(Goodbye::Drain), Message::Time { now: UnixMs(2) }];
        let (mut inbox, mut taken) = (Inbox::default(), Vec::new());
        for byte in sent.iter().flat_map(Message::encode) {
            inbox.push(&[byte]);
            taken.extend(inbox.take().unwrap());
        }
        assert_eq!(taken, sent);
    }

    #[test]
    fn a_lost_goodbye_is_known_by_its_close_code() {
        for goodbye in [Goodbye::Drain, Goodbye::Replaced, Goodbye::Refused(Refusal::Station)] {
            assert_eq!(Goodbye::from_code(goodbye.close_code()), Some(goodbye));
        }
        assert_eq!(Goodbye::from_code(0x16), None);
    }

    #[test]
    fn each_kind_of_garbage_is_refused_for_its_reason() {
        assert_eq!(Message::decode(&[0xff, 0xff]), Err(ControlError::TooLong));
        assert_eq!(Message::decode(&[2, 0, 9, 1]), Err(ControlError::Version));
        assert_eq!(Message::decode(&[2, 0, VERSION, 99]), Err(ControlError::Kind));
        assert_eq!(Message::decode(&[0, 0]), Err(ControlError::Malformed));
        let mut ack = Message::Ack { highest: 1 }.encode();
        ack[0] += 1;
        ack.push(0);
        assert_eq!(Message::decode(&ack), Err(ControlError::Malformed), "a byte to spare");
    }

    #[test]
    fn a_text_past_its_bound_is_cut_where_a_character_ends() {
        let address = "\u{e9}".repeat(100);
        let bytes = Message::Goodbye(Goodbye::Moved { address }).encode();
        let Ok(Some((Message::Goodbye(Goodbye::Moved { address }), _))) = Message::decode(&bytes) else {
            panic!("readable");
        };
        assert_eq!(address, "\u{e9}".repeat(64));
    }
}
