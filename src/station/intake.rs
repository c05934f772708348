//! The station's end of its uplink: reads the stream of batches and applies what comes, inside the station's actor.
//!
//! The actor owns the stream, so that a batch costs no message: an awaited one takes 480 ns, and two changes of task
//! with cold caches besides, which is what a station that sends ten small batches a second would pay for each. What
//! was applied is told through [`Applied`], which the connection looks at when it is time to acknowledge. Backpressure
//! needs no word at all: what is not read stays in QUIC's window.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context as TaskContext, Poll, ready},
};

use actix::prelude::*;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::Notify,
};

use super::actor::StationActor;
use crate::{
    engine::{batch::BatchError, id::StationId, limits::BATCH_BYTES_MAX},
    telemetry::CoreOffers,
};

/// The stream of an uplink's batches.
pub type BatchStream = Box<dyn AsyncRead + Send + Unpin>;

/// One read: 45 full packets.
const READ_BYTES: usize = 64 * 1024;

/// Reads in a row before the thread's other stations have their turn: 256 KB are 55,000 frames of 4.7 bytes, half a
/// millisecond at 8 ns each.
const READS_MAX: usize = 4;

/// Bytes read after which the thread offers its core to others: some 100 us of work.
const OFFER_BYTES: usize = 64 * 1024;

/// What a read counts for beside its bytes: its packet's way through QUIC, some 20 us.
const READ_COUNTS_FOR: usize = 12 * 1024;

thread_local! {
    /// Shared by all stations of a thread: what one of them keeps from read to read is less than a batch.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BATCH_BYTES_MAX + READ_BYTES].into_boxed_slice());

    /// Work since the core was last offered, in bytes, and the offers.
    static WORKED: Cell<(usize, CoreOffers)> = const { Cell::new((0, CoreOffers::NONE)) };
}

/// Lets a thread run that waits for this one's core: a terminal's question changes threads several times on its way to the
/// journal and back.
fn offer_core(read: usize) {
    let (before, offers) = WORKED.get();
    let worked = before + read + READ_COUNTS_FOR;
    WORKED.set(if worked < OFFER_BYTES { (worked, offers) } else { (0, offers.offer()) });
}

/// How far a station is with an uplink's batches. Written by the station, read by the uplink's connection.
#[derive(Debug, Default)]
pub struct Applied {
    /// The highest sequence applied of this spool.
    highest: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    acknowledged: AtomicU64,
    acknowledge_each: u64,
    /// Of the first acknowledgement: so many batches come before it.
    acknowledge_first: u64,
    end: OnceLock<IntakeEnd>,
    news: Notify,
}

/// How the station's reading of an uplink ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeEnd {
    /// The uplink said all it had.
    Finished,
    /// The stream broke.
    Lost,
    /// A batch was refused; those before it were applied.
    Refused(BatchError),
    /// A newer uplink of the station took over.
    Replaced,
    /// The station's actor ended.
    Gone,
}

/// What was applied since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub highest: u64,
    pub batches: u64,
    pub bytes: u64,
}

impl Applied {
    /// Has the connection told of every so many batches. The first time comes sooner, at another one for each station: after
    /// an outage all uplinks begin at once, and would else be acknowledged at once for ever, which holds up everybody else.
    pub(super) fn new(acknowledge_each: u32, station: StationId) -> Applied {
        let acknowledge_each = u64::from(acknowledge_each.max(1));
        let acknowledge_first = 1 + u64::from(station.0) % acknowledge_each;
        Applied { acknowledge_each, acknowledge_first, ..Applied::default() }
    }

    /// Comes back when it is time to acknowledge, or when the station has stopped reading.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub fn end(&self) -> Option<IntakeEnd> {
        self.end.get().copied()
    }

    /// What was applied since the last call.
    pub fn take(&self) -> Progress {
        let batches = self.batches.load(Relaxed);
        let before = self.acknowledged.swap(batches, Relaxed);
        Progress { highest: self.highest.load(Relaxed), batches: batches - before, bytes: self.bytes.swap(0, Relaxed) }
    }

    /// The station is the only writer, so nothing is lost between a load and a store.
    fn add(&self, progress: Progress) {
        self.highest.store(progress.highest, Relaxed);
        self.bytes.fetch_add(progress.bytes, Relaxed);
        let batches = self.batches.load(Relaxed) + progress.batches;
        self.batches.store(batches, Relaxed);
        let acknowledged = self.acknowledged.load(Relaxed);
        let due = if acknowledged == 0 { self.acknowledge_first } else { acknowledged + self.acknowledge_each };
        if batches >= due {
            self.news.notify_one();
        }
    }

    pub(super) fn finish(&self, end: IntakeEnd) {
        // The first reason counts.
        if self.end.set(end).is_ok() {
            self.news.notify_one();
        }
    }
}

/// Reads one uplink's stream for as long as the actor lets it.
pub(super) struct Intake {
    stream: BatchStream,
    /// The beginning of a batch whose rest is still under way.
    partial: Vec<u8>,
    applied: Arc<Applied>,
}

impl Intake {
    pub(super) fn new(stream: BatchStream, applied: Arc<Applied>) -> Intake {
        Intake { stream, partial: Vec::new(), applied }
    }

    /// One read, applied.
    fn read(
        &mut self,
        buffer: &mut [u8],
        station: &mut StationActor,
        ctx: &mut Context<StationActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Result<(), IntakeEnd>> {
        let held = self.partial.len();
        let mut read = ReadBuf::new(&mut buffer[held..]);
        if ready!(Pin::new(&mut self.stream).poll_read(task, &mut read)).is_err() {
            return Poll::Ready(Err(IntakeEnd::Lost));
        }
        let filled = held + read.filled().len();
        if filled == held {
            let is_whole = self.partial.is_empty();
            let end = if is_whole { IntakeEnd::Finished } else { IntakeEnd::Refused(BatchError::Length) };
            return Poll::Ready(Err(end));
        }
        buffer[..held].copy_from_slice(&self.partial);
        let (progress, refused) = station.observe(&buffer[..filled], ctx);
        self.applied.add(progress);
        self.partial.clear();
        self.partial.extend_from_slice(&buffer[progress.bytes as usize..filled]);
        offer_core(filled - held);
        Poll::Ready(refused.map_or(Ok(()), |error| Err(IntakeEnd::Refused(error))))
    }
}

impl ActorFuture<StationActor> for Intake {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        station: &mut StationActor,
        ctx: &mut Context<StationActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..READS_MAX {
                if let Err(end) = ready!(self.read(buffer, station, ctx, task)) {
                    self.applied.finish(end);
                    return Poll::Ready(());
                }
            }
            task.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.applied.finish(IntakeEnd::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After which batches it is time to acknowledge, of stations in a row.
    #[tokio::test]
    async fn stations_that_begin_at_once_are_acknowledged_by_turns() {
        for station in 0..8 {
            let applied = Applied::new(4, StationId(station));
            let mut told = Vec::new();
            for batch in 1..=12 {
                applied.add(Progress { highest: batch, batches: 1, bytes: 10 });
                let news = std::pin::pin!(applied.news());
                if futures_util::poll!(news).is_ready() {
                    assert_eq!(applied.take().highest, batch);
                    told.push(batch);
                }
            }
            let first = 1 + u64::from(station) % 4;
            assert_eq!(told, (first..=12).step_by(4).collect::<Vec<_>>(), "station {station}");
        }
    }
}
