//! The consumer that a chain's team would write: one process that subscribes to all stations, resolves the codes of
//! every record in a hash map, and keeps presence.
//!
//! One thread with blocking reads: on the one core that it shares with its broker nothing is cheaper. It is a process
//! of its own (this program with a hidden command), so that its CPU time is accounted for alone. What it has applied it
//! says on standard output, one line a read while it is busy.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use foldhash::fast::RandomState;
use forecourt::{
    engine::{code::Code, id::DeviceId},
    telemetry,
};

use super::{
    broker::{Broker, Link, LinkError},
    presence::{Keeping, MemoryPresence, RedisPresence, Sighting, Tally},
    record::{self, Record},
};
use crate::flood::dongles::Dongles;

/// A read that brought less than this found the consumer ahead of its broker: it waits a moment, so that the next one
/// brings more messages at the price of one.
const LINGER_BELOW_BYTES: usize = 32 * 1024;
const LINGER: Duration = Duration::from_millis(2);

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
    Broker(#[from] LinkError),
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("presence in Redis needs its address")]
    NoRedis,
    #[error("nobody listens any more: {0}")]
    Deaf(#[from] io::Error),
}

/// Consumes until the broker or who started it is gone.
pub fn consume(options: &ConsumerOptions) -> Result<(), ConsumerError> {
    let mut consumer = Consumer { book: Book::read(&options.codes)?, keeper: Keeper::open(options)? };
    let mut link = Link::open(options.broker, options.address, "consumer")?;
    link.subscribe()?;
    let (mut tally, mut said) = (Tally::default(), Tally::default());
    say(said)?;
    loop {
        let read = link.receive(|station, payload| consumer.apply(station, record::read(payload)))?;
        tally += consumer.keeper.flush()?;
        if read < LINGER_BELOW_BYTES {
            tally += consumer.keeper.settle()?;
        }
        if tally != said {
            say(tally)?;
            said = tally;
        }
        if (1..LINGER_BELOW_BYTES).contains(&read) {
            thread::sleep(LINGER);
        }
    }
}

fn say(tally: Tally) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{tally}")?;
    out.flush()
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

struct Consumer {
    book: Book,
    keeper: Keeper,
}

impl Consumer {
    fn apply(&mut self, station: u32, records: &[Record]) {
        let mut tally = Tally { messages: 1, frames: records.len() as u64, unknown: 0 };
        for record in records {
            match self.book.device(record) {
                Some(device) => self.keeper.see(&Sighting::new(station, device, record)),
                None => tally.unknown += 1,
            }
        }
        self.keeper.close_message(tally);
    }
}

enum Keeper {
    Memory { presence: MemoryPresence, applied: Tally },
    Redis(Box<RedisPresence>),
}

impl Keeper {
    fn open(options: &ConsumerOptions) -> Result<Keeper, ConsumerError> {
        if !options.keeping.needs_redis() {
            return Ok(Keeper::Memory { presence: MemoryPresence::default(), applied: Tally::default() });
        }
        let address = options.redis.ok_or(ConsumerError::NoRedis)?;
        let presence = RedisPresence::connect(address, options.keeping == Keeping::RedisPerVehicle)?;
        Ok(Keeper::Redis(Box::new(presence)))
    }

    fn see(&mut self, seen: &Sighting) {
        match self {
            Keeper::Memory { presence, .. } => presence.see(seen),
            Keeper::Redis(presence) => presence.see(seen),
        }
    }

    fn close_message(&mut self, tally: Tally) {
        match self {
            Keeper::Memory { applied, .. } => *applied += tally,
            Keeper::Redis(presence) => presence.close_message(tally),
        }
    }

    /// The read is at its end; what was applied since the last one.
    fn flush(&mut self) -> Result<Tally, ConsumerError> {
        match self {
            Keeper::Memory { presence, applied } => {
                presence.expire(telemetry::now());
                Ok(std::mem::take(applied))
            }
            Keeper::Redis(presence) => Ok(presence.flush()?),
        }
    }

    fn settle(&mut self) -> Result<Tally, ConsumerError> {
        match self {
            Keeper::Memory { .. } => Ok(Tally::default()),
            Keeper::Redis(presence) => Ok(presence.settle()?),
        }
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
    use super::*;

    #[test]
    fn what_was_applied_is_said_and_understood() {
        let tally = Tally { messages: 4, frames: 100, unknown: 3 };
        assert_eq!(tally.to_string().parse(), Ok(tally));
        assert_eq!("4 100".parse::<Tally>(), Err(()));
    }

    #[test]
    fn a_code_resolves_to_the_dongle_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("codes");
        fs::write(&path, [[1; 16], [2; 16]].as_flattened()).unwrap();
        let book = Book::read(&path).unwrap();
        assert_eq!(book.0[&Code([2; 16])], Dongles::device(1));
        assert_eq!(book.0.len(), 2);
    }
}
