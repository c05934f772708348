//! The consumer that a chain's team would write: one process that subscribes to all stations, resolves the codes of
//! every record in a hash map, and keeps presence.
//!
//! A current-thread runtime, as all share one core: one worker of a multi-thread one costs the same. It is a process of
//! its own (this program with a hidden command), so that its CPU time is accounted for alone. What it has applied it
//! says on standard output, a line each [`SAID_EVERY`] while that grows.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use foldhash::fast::RandomState;
use forecourt::engine::{code::Code, id::DeviceId};
use futures_util::StreamExt as _;
use tokio::{sync::watch, time::sleep};

use super::{
    broker::{Broker, BrokerError, Inbox, Message},
    presence::{Keeper, Keeping, Sighting, Tally},
    record::{self, Record},
};
use crate::flood::dongles::Dongles;

/// What has arrived is taken together, and goes to Redis in one pipeline: of so many messages at most, 6,400 commands
/// if each frame is one. In memory it is the same one by one (14.6 million frames a CPU-second, and 14.4).
const MESSAGES_MAX: usize = 256;

/// The sender's window is open for 8,192 messages, and nobody takes so many in this time.
const SAID_EVERY: Duration = Duration::from_millis(2);

#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    pub broker: Broker,
    pub address: SocketAddr,
    pub keeping: Keeping,
    /// Where presence goes unless it stays in memory.
    pub redis: Option<SocketAddr>,
    /// The codes of all dongles, in the order of their numbers.
    pub codes: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    #[error("{path}: {error}")]
    Codes { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the broker is gone")]
    Gone,
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("presence in Redis needs its address")]
    NoRedis,
    #[error("nobody listens any more: {0}")]
    Deaf(#[from] io::Error),
}

/// Consumes until the broker or who started it is gone.
pub fn consume(options: &ConsumerOptions) -> Result<(), ConsumerError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options))
}

async fn run(options: &ConsumerOptions) -> Result<(), ConsumerError> {
    let book = Book::read(&options.codes)?;
    let keeper = Keeper::open(options.keeping, options.redis).await?;
    let inbox = options.broker.subscribe(options.address).await?;
    let (applied, news) = watch::channel(Tally::default());
    tokio::select! {
        ended = Consumer { book, keeper, applied }.attend(inbox) => ended,
        deaf = tell(news) => Ok(deaf?),
    }
}

/// The first line says that all is ready.
async fn tell(mut applied: watch::Receiver<Tally>) -> io::Result<()> {
    loop {
        let tally = *applied.borrow_and_update();
        writeln!(io::stdout(), "{tally}")?;
        sleep(SAID_EVERY).await;
        if applied.changed().await.is_err() {
            return Ok(());
        }
    }
}

struct Consumer {
    book: Book,
    keeper: Keeper,
    applied: watch::Sender<Tally>,
}

impl Consumer {
    async fn attend(mut self, inbox: Inbox) -> Result<(), ConsumerError> {
        let mut inbox = inbox.ready_chunks(MESSAGES_MAX);
        while let Some(messages) = inbox.next().await {
            let mut tally = Tally::default();
            for message in messages {
                tally += self.apply(&message?);
            }
            self.keeper.settle().await?;
            self.applied.send_modify(|applied| *applied += tally);
        }
        Err(ConsumerError::Gone)
    }

    fn apply(&mut self, message: &Message) -> Tally {
        let records = record::read(&message.payload);
        let mut tally = Tally { messages: 1, frames: records.len() as u64, unknown: 0 };
        for record in records {
            match self.book.device(record) {
                Some(device) => self.keeper.see(&Sighting::new(message.station, device, record)),
                None => tally.unknown += 1,
            }
        }
        tally
    }
}

#[derive(Debug)]
struct Book(HashMap<Code, DeviceId, RandomState>);

impl Book {
    fn read(path: &Path) -> Result<Book, ConsumerError> {
        let bytes = fs::read(path).map_err(|error| ConsumerError::Codes { path: path.into(), error })?;
        let (codes, _) = bytes.as_chunks();
        let devices = (0..).map(Dongles::device);
        Ok(Book(codes.iter().copied().map(Code).zip(devices).collect()))
    }

    fn device(&self, record: &Record) -> Option<DeviceId> {
        self.0.get(&Code(record.code)).copied()
    }
}

/// A line of the consumer's standard output.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.messages, self.frames, self.unknown)
    }
}

impl FromStr for Tally {
    type Err = ();

    fn from_str(line: &str) -> Result<Tally, ()> {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        match numbers[..] {
            [messages, frames, unknown] => Ok(Tally { messages, frames, unknown }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use forecourt::engine::{batch::Hearing, id::ReceiverId, time::UnixMs};
    use futures_util::stream;

    use super::*;

    #[test]
    fn what_was_applied_is_said_and_understood() {
        let tally = Tally { messages: 4, frames: 100, unknown: 3 };
        assert_eq!(tally.to_string().parse(), Ok(tally));
        assert_eq!("4 100".parse::<Tally>(), Err(()));
    }

    fn book(codes: &[[u8; 16]]) -> Book {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("codes");
        fs::write(&path, codes.as_flattened()).unwrap();
        Book::read(&path).unwrap()
    }

    #[test]
    fn a_code_resolves_to_the_dongle_in_its_place() {
        let book = book(&[[1; 16], [2; 16]]);
        assert_eq!(book.0[&Code([2; 16])], Dongles::device(1));
        assert_eq!(book.0.len(), 2);
    }

    #[tokio::test]
    async fn every_frame_is_counted_and_those_of_unknown_codes_apart() {
        let heard = |code| Hearing {
            code: Code([code; 16]),
            receiver: ReceiverId(1),
            rssi: -60,
            at: UnixMs(1_800_000_000_000),
        };
        let message = |codes: &[u8]| {
            let payload = Bytes::from(record::write(&codes.iter().copied().map(heard).collect::<Vec<_>>()));
            Ok(Message { station: 7, payload })
        };
        let keeper = Keeper::open(Keeping::Memory, None).await.unwrap();
        let (applied, told) = watch::channel(Tally::default());
        let consumer = Consumer { book: book(&[[1; 16], [2; 16]]), keeper, applied };
        let inbox = stream::iter([message(&[1, 2, 9]), message(&[1])]).boxed();
        assert!(matches!(consumer.attend(inbox).await, Err(ConsumerError::Gone)));
        assert_eq!(*told.borrow(), Tally { messages: 2, frames: 4, unknown: 1 });
    }
}
