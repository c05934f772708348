//! The segments of all dongles in Redis, so that a node without a snapshot of its own need not read the truth row by
//! row.
//!
//! ```text
//! ...:s:<life>:<revision>:<n>   the n-th segment
//! ...:segments                  life 8 | revision u64 | segments u64 | dongles u64 | tag 16, all little-endian
//! ```
//!
//! The second is written when all of the first are there, and the ones of before go then: a reader meets a whole set or
//! none. The tag is the envelope's keyed fingerprint of the numbers and of all segments' headers in order, so that no set
//! with a segment left out, or put in from another, passes for whole. As with a snapshot, what changed since its
//! moment is asked of the truth.
//!
//! Calls here wait for Redis, [`WAIT`] at most each.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::cache::{Names, RedisUrl};
use super::envelope::Envelope;
use super::segment::{self, HEADER_BYTES, SEGMENT_MAX, Segment, SegmentError};
use super::truth::{Life, Moment, Revision};
use crate::engine::codebook::{Keeper, Roster, RosterBuilder};
use crate::engine::id::DeviceId;

/// A revocation waits as long behind a Redis that hangs, once for each snapshot.
const WAIT: Duration = Duration::from_millis(500);

/// Seconds for which a set stays when no newer one comes: what a writer that died left behind is gone by then.
const TTL_S: u64 = 30 * 24 * 3600;

/// Segments that a thread reads and opens before they are put together: some 3 MB.
const SEGMENTS_PER_TURN: usize = 8;

/// 327 million dongles. What a set says of itself is proven when all of it is read, and room is made before: of addresses,
/// 200 bytes a dongle or 65 GB, and of memory no more than is read.
const SEGMENTS_MAX: u64 = 40_000;

const DOMAIN: &[u8] = b"forecourt segments v1";

#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("Redis has no dongles of this store")]
    Missing,
    #[error("what Redis has of this store's dongles is incomplete or not ours")]
    Damaged,
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Set {
    life: [u8; 8],
    revision: U64,
    segments: U64,
    dongles: U64,
    tag: [u8; 16],
}

impl Set {
    fn as_of(&self) -> Moment {
        Moment { life: Life(self.life), revision: Revision(self.revision.get()) }
    }

    /// `headers` is the digest of the segments' headers, one after the other.
    fn tag_over(&self, envelope: &Envelope, headers: Sha256) -> [u8; 16] {
        let numbers = &self.as_bytes()[..size_of::<Set>() - 16];
        envelope.mark(&[DOMAIN, numbers, &headers.finalize()].concat())
    }

    fn of(connection: &mut redis::Connection, names: &Names) -> Result<Set, ShelfError> {
        let bytes: Option<Vec<u8>> = redis::cmd("GET").arg(names.segments()).query(connection)?;
        let set = Set::read_from_bytes(&bytes.ok_or(ShelfError::Missing)?).map_err(|_| ShelfError::Damaged)?;
        let (segments, dongles) = (set.segments.get(), set.dongles.get());
        let is_possible = segments <= SEGMENTS_MAX && dongles <= segments * SEGMENT_MAX as u64;
        if is_possible { Ok(set) } else { Err(ShelfError::Damaged) }
    }
}

/// A set that is being written. What is dropped unfinished leaves the last one as it was.
pub struct Shelf {
    connection: redis::Connection,
    names: Names,
    set: Set,
    headers: Sha256,
}

impl Shelf {
    /// `as_of`: every change of the truth up to it is in what is going to be put.
    pub fn begin(url: &RedisUrl, store: [u8; 8], as_of: Moment) -> Result<Shelf, ShelfError> {
        let (segments, dongles) = (0.into(), 0.into());
        let set = Set { life: as_of.life.0, revision: as_of.revision.0.into(), segments, dongles, tag: [0; 16] };
        Ok(Shelf { connection: connect(url)?, names: Names::of_store(store), set, headers: Sha256::new() })
    }

    /// All dongles of the keeper, and the set is whole. `told` hears how many each segment has.
    pub fn put_all(
        &mut self,
        keeper: &Keeper,
        envelope: &Envelope,
        mut told: impl FnMut(usize),
    ) -> Result<(), ShelfError> {
        let (revision, mut after) = (self.set.as_of().revision, None);
        loop {
            let dongles = keeper.dongles_after(after, SEGMENT_MAX);
            let Some(last) = dongles.last() else { return self.finish(envelope) };
            after = Some(last.device);
            self.put(&segment::seal(envelope, &dongles, revision))?;
            told(dongles.len());
        }
    }

    /// The next segment, in the order of the store.
    pub fn put(&mut self, segment: &[u8]) -> Result<(), ShelfError> {
        let header = segment::Header::read(segment)?;
        let key = self.names.segment(self.set.as_of(), self.set.segments.get());
        redis::cmd("SET").arg(key).arg(segment).arg("EX").arg(TTL_S).query::<()>(&mut self.connection)?;
        self.headers.update(&segment[..HEADER_BYTES]);
        self.set.segments += U64::new(1);
        self.set.dongles += U64::new(header.dongles() as u64);
        Ok(())
    }

    /// Puts the set in the last one's place.
    pub fn finish(&mut self, envelope: &Envelope) -> Result<(), ShelfError> {
        let before = Set::of(&mut self.connection, &self.names).ok();
        self.set.tag = self.set.tag_over(envelope, self.headers.clone());
        let mut put = redis::cmd("SET");
        put.arg(self.names.segments()).arg(self.set.as_bytes()).arg("EX").arg(TTL_S);
        put.query::<()>(&mut self.connection)?;
        let Some(before) = before.filter(|before| before.as_of() != self.set.as_of()) else { return Ok(()) };
        for number in 0..before.segments.get() {
            let key = self.names.segment(before.as_of(), number);
            redis::cmd("UNLINK").arg(key).query::<()>(&mut self.connection)?;
        }
        Ok(())
    }
}

/// The dongles that Redis has of a store, opened on that many threads, and the truth's moment that they are of.
pub fn read(
    url: &RedisUrl,
    store: [u8; 8],
    envelope: &Envelope,
    threads: usize,
) -> Result<(Roster, Moment), ShelfError> {
    let names = Names::of_store(store);
    let connections = (0..threads.max(1)).map(|_| connect(url)).collect::<Result<Vec<_>, _>>()?;
    let mut reader = Reader { connections, names, envelope };
    let set = Set::of(&mut reader.connections[0], &reader.names)?;
    let as_of = set.as_of();
    let mut roster = RosterBuilder::new(usize::try_from(set.dongles.get()).map_err(|_| ShelfError::Damaged)?);
    let (mut headers, mut last) = (Sha256::new(), None);
    let turn = threads.max(1) * SEGMENTS_PER_TURN;
    for from in (0..set.segments.get()).step_by(turn) {
        let numbers: Vec<u64> = (from..set.segments.get().min(from + turn as u64)).collect();
        for (header, segment) in reader.segments(as_of, &numbers)? {
            let ascends = last.is_none_or(|last: DeviceId| last.0.cast_signed() < header.first().0.cast_signed());
            if !ascends || segment.revision != as_of.revision {
                return Err(ShelfError::Damaged);
            }
            last = Some(header.last());
            headers.update(header.as_bytes());
            segment.push_onto(&mut roster);
        }
    }
    if roster.len() as u64 != set.dongles.get() || set.tag != set.tag_over(envelope, headers) {
        return Err(ShelfError::Damaged);
    }
    Ok((roster.finish(), as_of))
}

struct Reader<'a> {
    connections: Vec<redis::Connection>,
    names: Names,
    envelope: &'a Envelope,
}

type Opened = (segment::Header, Segment);

impl Reader<'_> {
    /// Reads and opens some segments, each thread a run of them.
    fn segments(&mut self, as_of: Moment, numbers: &[u64]) -> Result<Vec<Opened>, ShelfError> {
        let each = numbers.len().div_ceil(self.connections.len()).max(1);
        let (names, envelope) = (&self.names, self.envelope);
        let parts = self.connections.iter_mut().zip(numbers.chunks(each));
        std::thread::scope(|scope| {
            let parts: Vec<_> = parts
                .map(|(connection, part)| scope.spawn(move || open_all(connection, names, envelope, as_of, part)))
                .collect();
            let opened = parts.into_iter().map(|part| part.join().expect("opening a segment never panics"));
            Ok(opened.collect::<Result<Vec<_>, ShelfError>>()?.into_iter().flatten().collect())
        })
    }
}

fn open_all(
    connection: &mut redis::Connection,
    names: &Names,
    envelope: &Envelope,
    as_of: Moment,
    numbers: &[u64],
) -> Result<Vec<Opened>, ShelfError> {
    let mut get = redis::cmd("MGET");
    for number in numbers {
        get.arg(names.segment(as_of, *number));
    }
    let found: Vec<Option<Vec<u8>>> = get.query(connection)?;
    let opened = found.into_iter().map(|bytes| {
        let bytes = bytes.ok_or(ShelfError::Damaged)?;
        Ok((segment::Header::read(&bytes)?, segment::open(envelope, &bytes)?))
    });
    opened.collect()
}

fn connect(url: &RedisUrl) -> Result<redis::Connection, redis::RedisError> {
    let connection = url.client()?.get_connection_with_timeout(WAIT)?;
    connection.set_read_timeout(Some(WAIT))?;
    connection.set_write_timeout(Some(WAIT))?;
    Ok(connection)
}
