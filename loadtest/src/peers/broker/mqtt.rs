//! The client's side of MQTT 3.1.1, as far as QoS 0 needs it.

use super::{Event, PAYLOAD_BYTES_MAX, Parsed, ProtocolError, station};

const PREFIX: &str = "station/";

/// Types of packets with their flags, as the first byte has them (MQTT 3.1.1, 2.2).
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

/// A session of its own, and no keep-alive: a run ends before anybody asks.
const CLEAN_SESSION: u8 = 0b10;
const KEEP_ALIVE_S: u16 = 0;
const PROTOCOL_LEVEL: u8 = 4;
const SUBACK_FAILED: u8 = 0x80;

/// The remaining length has at most so many bytes of seven bits.
const LENGTH_BYTES_MAX: usize = 4;

pub(super) fn hello(client: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text("MQTT", &mut body);
    body.extend_from_slice(&[PROTOCOL_LEVEL, CLEAN_SESSION]);
    body.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
    text(client, &mut body);
    packet(CONNECT, &body)
}

pub(super) fn subscription() -> Vec<u8> {
    let mut body = 1u16.to_be_bytes().to_vec();
    text(&format!("{PREFIX}+"), &mut body);
    body.push(0);
    packet(SUBSCRIBE, &body)
}

pub(super) fn publish(station: u32, payload: &[u8], out: &mut Vec<u8>) {
    let topic = format!("{PREFIX}{station}");
    out.push(PUBLISH);
    length(size_of::<u16>() + topic.len() + payload.len(), out);
    text(&topic, out);
    out.extend_from_slice(payload);
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    length(body.len(), &mut packet);
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names of clients and topics are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, length_bytes)) = read_length(rest)? else { return Ok(None) };
    let start = 1 + length_bytes;
    let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
    Ok(Some((event(kind, body)?, start + length)))
}

fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut length = 0;
    for (place, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let is_ours = length <= PAYLOAD_BYTES_MAX;
            return is_ours
                .then_some(Some((length, place + 1)))
                .ok_or(ProtocolError::Malformed("the length of a packet"));
        }
    }
    if bytes.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(ProtocolError::Malformed("a length without an end")) }
}

fn event(kind: u8, body: &[u8]) -> Result<Event<'_>, ProtocolError> {
    let refused = |what: &str| ProtocolError::Refused(format!("{what}, {body:?}"));
    match kind {
        // DUP and RETAIN say nothing that matters here.
        _ if kind & 0b1111_0110 == PUBLISH => message(body),
        CONNACK if body.last() == Some(&0) => Ok(Event::Ready),
        CONNACK => Err(refused("no connection")),
        SUBACK if body.last().is_some_and(|granted| *granted != SUBACK_FAILED) => Ok(Event::Ready),
        SUBACK => Err(refused("no subscription")),
        _ => Ok(Event::Other),
    }
}

fn message(body: &[u8]) -> Result<Event<'_>, ProtocolError> {
    let malformed = ProtocolError::Malformed("a topic that was not asked for");
    let Some((length, rest)) = body.split_first_chunk() else { return Err(malformed) };
    let Some((topic, payload)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else {
        return Err(malformed);
    };
    Ok(Event::Message { station: station(topic, PREFIX).ok_or(malformed)?, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_seven_bits_a_byte() {
        for (value, encoded) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (16_383, &[0xff, 0x7f])] {
            let mut bytes = Vec::new();
            length(value, &mut bytes);
            assert_eq!(bytes, encoded);
            assert_eq!(read_length(&bytes), Ok(Some((value, encoded.len()))));
        }
        assert!(read_length(&[0xff; 4]).is_err());
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(parse(&[CONNACK, 2, 0, 0]), Ok(Some((Event::Ready, 4))));
        assert_eq!(parse(&[SUBACK, 3, 0, 1, 0]), Ok(Some((Event::Ready, 5))));
        assert_eq!(parse(&[0xd0, 0]), Ok(Some((Event::Other, 2))));
        assert!(matches!(parse(&[CONNACK, 2, 0, 5]), Err(ProtocolError::Refused(_))));
        assert!(matches!(parse(&[SUBACK, 3, 0, 1, SUBACK_FAILED]), Err(ProtocolError::Refused(_))));
    }

    #[test]
    fn a_topic_longer_than_its_packet_is_refused() {
        assert!(matches!(parse(&[PUBLISH, 3, 0, 9, b's']), Err(ProtocolError::Malformed(_))));
        assert!(matches!(parse(&[PUBLISH, 1, 0]), Err(ProtocolError::Malformed(_))));
    }
}
