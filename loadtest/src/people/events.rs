//! Server-sent events out of bytes: the part of the format that the engine speaks (`event`, `data`, `id`, comments).

/// One event with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
    /// By which a stream that was cut goes on.
    pub id: Option<String>,
}

#[derive(Debug, Default)]
pub struct Parser {
    unread: Vec<u8>,
}

impl Parser {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }
}

/// The events that are complete.
impl Iterator for Parser {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.unread.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.unread.drain(..end + 2).collect();
            if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                return Some(event);
            }
        }
    }
}

/// `None` for a comment, which only keeps the connection alive.
fn parse(block: &str) -> Option<Event> {
    let fields = || block.lines().filter_map(|line| line.split_once(':'));
    let data: Vec<&str> = fields().filter(|(name, _)| *name == "data").map(|(_, value)| value.trim_start()).collect();
    let name = fields().find(|(name, _)| *name == "event").map_or("message", |(_, value)| value.trim_start());
    let id = fields().find(|(name, _)| *name == "id").map(|(_, value)| value.trim_start().to_owned());
    (!data.is_empty()).then(|| Event { name: name.into(), data: data.join("\n"), id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for byte in ":\n\nevent: presence\ndata: {\"a\":1}\n\n: keep-alive\n\ndata: x\nid: 7\n\nevent: half".as_bytes()
        {
            parser.feed(&[*byte]);
            events.extend(parser.next());
        }
        let expected = [("presence", "{\"a\":1}", None), ("message", "x", Some("7".into()))];
        assert_eq!(events, expected.map(|(name, data, id)| Event { name: name.into(), data: data.into(), id }));
    }
}
