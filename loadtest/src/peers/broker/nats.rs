//! The client's side of the NATS protocol: lines of text, and payloads behind them.

use super::{Event, PAYLOAD_BYTES_MAX, Parsed, ProtocolError, station};

pub(super) const PONG: &[u8] = b"PONG\r\n";
const PREFIX: &str = "station.";
/// INFO is the longest, with about 400 bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;
const LINE_END: &[u8] = b"\r\n";

/// The PING is answered when all before it was understood.
pub(super) fn hello() -> Vec<u8> {
    b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n".to_vec()
}

pub(super) fn subscription() -> Vec<u8> {
    format!("SUB {PREFIX}* 1\r\nPING\r\n").into_bytes()
}

pub(super) fn publish(station: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("PUB {PREFIX}{station} {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(LINE_END);
}

pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProtocolError::Malformed("an endless line")) };
    };
    let (line, taken) = (bytes[..end].trim_ascii_end(), end + 1);
    if let Some(header) = line.strip_prefix(b"MSG ") {
        return message(header, &bytes[taken..], taken);
    }
    let event = match line {
        b"PING" => Event::Ping,
        b"PONG" => Event::Ready,
        _ if line.starts_with(b"-ERR") => {
            return Err(ProtocolError::Refused(String::from_utf8_lossy(line).into_owned()));
        }
        _ => Event::Other,
    };
    Ok(Some((event, taken)))
}

/// `<subject> <subscription> [reply] <bytes>`, and the payload in what follows.
fn message<'a>(header: &[u8], rest: &'a [u8], taken: usize) -> Parsed<'a> {
    let mut words = header.split(|byte| *byte == b' ');
    let station = words.next().and_then(|subject| station(subject, PREFIX));
    let station = station.ok_or(ProtocolError::Malformed("a subject that was not asked for"))?;
    let length = words.next_back().and_then(|word| std::str::from_utf8(word).ok()?.parse::<usize>().ok());
    let length = length.filter(|length| *length <= PAYLOAD_BYTES_MAX);
    let length = length.ok_or(ProtocolError::Malformed("the length of a message"))?;
    let Some(payload) = rest.get(..length + LINE_END.len()) else { return Ok(None) };
    Ok(Some((Event::Message { station, payload: &payload[..length] }, taken + payload.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_told_apart() {
        for (line, event) in [("PING\r\n", Event::Ping), ("PONG\r\n", Event::Ready), ("INFO {}\r\n", Event::Other)] {
            assert_eq!(parse(line.as_bytes()), Ok(Some((event, line.len()))));
        }
        assert!(matches!(parse(b"-ERR 'Slow Consumer'\r\n"), Err(ProtocolError::Refused(_))));
    }

    #[test]
    fn a_length_beyond_any_message_is_refused_before_it_arrives() {
        assert!(matches!(parse(b"MSG station.1 1 99999999999\r\n"), Err(ProtocolError::Malformed(_))));
        assert!(matches!(parse(b"MSG elsewhere 1 3\r\nabc\r\n"), Err(ProtocolError::Malformed(_))));
        assert!(matches!(parse(&[b'x'; LINE_BYTES_MAX]), Err(ProtocolError::Malformed(_))));
    }
}
