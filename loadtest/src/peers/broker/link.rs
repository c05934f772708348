//! One client's connection to a broker.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{Broker, Event, ProtocolError};

/// What is read at once: 400 messages of 25 records.
const INBOX_BYTES: usize = 256 * 1024;

const PATIENCE: Duration = Duration::from_secs(10);

/// After so long without a message a subscriber has time for something else.
const QUIET: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the broker's connection: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

#[derive(Debug)]
pub(crate) struct Link {
    broker: Broker,
    stream: TcpStream,
    inbox: Vec<u8>,
    /// What was read and not taken yet.
    unread: std::ops::Range<usize>,
}

impl Link {
    /// Connects and waits until the broker has answered.
    pub(crate) fn open(broker: Broker, address: SocketAddr, client: &str) -> Result<Link, LinkError> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        let mut link = Link { broker, stream, inbox: vec![0; INBOX_BYTES], unread: 0..0 };
        link.ask(&broker.hello(client))?;
        Ok(link)
    }

    /// Waits until the broker will send what all stations send.
    pub(crate) fn subscribe(&mut self) -> Result<(), LinkError> {
        self.ask(&self.broker.subscription())?;
        Ok(self.stream.set_read_timeout(Some(QUIET))?)
    }

    /// For a sender, who has nothing to hear any more.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Waits for bytes, gives every whole message in them to `take`, and says how many bytes there were: none if it was
    /// quiet for a while.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(u32, &[u8])) -> Result<usize, LinkError> {
        let read = match self.fill() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            read => read?,
        };
        while let Some(event) = self.next()? {
            if let Event::Message { station, payload } = event {
                take(station, payload);
            }
        }
        Ok(read)
    }

    fn ask(&mut self, question: &[u8]) -> Result<(), LinkError> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.write_all(question)?;
        loop {
            self.fill()?;
            while let Some(event) = self.next()? {
                if event == Event::Ready {
                    return Ok(());
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.inbox.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        match self.stream.read(&mut self.inbox[self.unread.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread.end += read;
                Ok(read)
            }
        }
    }

    fn next(&mut self) -> Result<Option<Event<'_>>, LinkError> {
        let Some((event, taken)) = self.broker.parse(&self.inbox[self.unread.clone()])? else { return Ok(None) };
        self.unread.start += taken;
        if event == Event::Ping {
            self.stream.write_all(&self.broker.pong())?;
        }
        Ok(Some(event))
    }
}
