//! Connections that send when they are told to: as fast as each is let, or by the clock.
//!
//! Each thread has a current-thread runtime and its share of the connections. Without a rate every connection is a task
//! that writes whenever its stream takes more. With one, a single loop a thread writes to all connections in turn, at
//! times that were fixed beforehand: thousands of sleeping tasks would cost more than what they send, and a late batch
//! must not delay the schedule of the next.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use forecourt::{engine::time::UnixMs, telemetry};
use futures_util::FutureExt as _;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    cargo::{Amount, Cargo, Payload, Sent},
    link::Link,
};

/// Batches of one write of a connection that sends as fast as it may: 30 full packets.
const WRITE_BYTES: usize = 48 * 1024;

/// What a connection may be behind before the clock's batches are refused: some seconds of a station's traffic.
const BACKLOG_BYTES: usize = 64 * 1024;

/// Connections are written to in portions of this many, and QUIC's own tasks have their turn in between.
const PORTION: u64 = 64;

/// What all connections of a group are to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Hold,
    /// By the clock at so many times the rate that was given; who sends as fast as it goes knows no other speed.
    Send(Payload, f64),
    /// Say the end of the stream, and wait until the other side has all of it.
    Finish,
}

/// The generator's threads.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<Handle>,
    running: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Threads {
    /// They run where the calling thread may run.
    pub fn start(count: usize) -> io::Result<Threads> {
        let stop = CancellationToken::new();
        let mut threads = Threads { handles: Vec::new(), running: Vec::new(), stop: stop.clone() };
        for _ in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let stopped = stop.clone().cancelled_owned();
            threads.handles.push(runtime.handle().clone());
            let run = move || runtime.block_on(stopped);
            threads.running.push(thread::Builder::new().name("sender".into()).spawn(run)?);
        }
        Ok(threads)
    }

    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.running.drain(..) {
            // A sender that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

/// Gives a group of connections its orders.
#[derive(Debug)]
pub struct Senders {
    orders: watch::Sender<Order>,
    sent: Arc<Sent>,
    /// Closed when the last connection has finished.
    finished: mpsc::Receiver<()>,
}

impl Senders {
    /// `lanes` of each thread. `batches_per_second` of each connection; `None`: as fast as it goes.
    pub fn start(lanes: Vec<(Handle, Vec<Lane>)>, batches_per_second: Option<f64>) -> Senders {
        let (orders, told) = watch::channel(Order::Hold);
        let (finishing, finished) = mpsc::channel(1);
        let sent = Arc::new(Sent::default());
        for (thread, lanes) in lanes {
            let post = Post { orders: told.clone(), sent: sent.clone(), _finishing: finishing.clone() };
            if let Some(rate) = batches_per_second {
                thread.spawn(by_the_clock(lanes, rate, post));
            } else {
                for lane in lanes {
                    thread.spawn(as_fast_as_it_goes(lane, post.clone()));
                }
            }
        }
        Senders { orders, sent, finished }
    }

    pub fn tell(&self, order: Order) {
        self.orders.send_replace(order);
    }

    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Ends all streams and waits until the other side has them.
    pub async fn finish(&mut self) {
        self.tell(Order::Finish);
        while self.finished.recv().await.is_some() {}
    }
}

/// A connection and what it has to send.
#[derive(Debug)]
pub struct Lane {
    pub link: Link,
    pub cargo: Cargo,
}

#[derive(Clone)]
struct Post {
    orders: watch::Receiver<Order>,
    sent: Arc<Sent>,
    _finishing: mpsc::Sender<()>,
}

impl Post {
    fn order(&mut self) -> Order {
        *self.orders.borrow_and_update()
    }

    /// Waits for another order; one that nobody can give any more is the last.
    async fn next_order(&mut self) {
        if self.orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn as_fast_as_it_goes(mut lane: Lane, mut post: Post) {
    loop {
        match post.order() {
            Order::Hold => post.next_order().await,
            Order::Send(payload, _) => {
                let (bytes, amount) = lane.fill(payload);
                if lane.link.batches.write_all_chunks(&mut [bytes]).await.is_err() {
                    return post.sent.broke();
                }
                post.sent.add(payload, amount);
            }
            Order::Finish => return lane.finish(&post.sent).await,
        }
    }
}

impl Lane {
    fn fill(&mut self, payload: Payload) -> (Bytes, Amount) {
        let now = telemetry::now();
        // One batch more than the write is meant to have, whatever its size.
        let mut bytes = Vec::with_capacity(2 * WRITE_BYTES);
        let mut batches = 0;
        while bytes.len() < WRITE_BYTES {
            self.cargo.write(payload, now, &mut bytes);
            batches += 1;
        }
        let frames = batches * self.cargo.frames_per_batch() as u64;
        let amount = Amount { batches, frames, bytes: bytes.len() as u64 };
        (bytes.into(), amount)
    }

    async fn finish(mut self, sent: &Sent) {
        // Only a stream that broke refuses its end.
        let _ = self.link.batches.finish();
        match self.link.batches.stopped().await {
            Ok(None) => self.link.cut(),
            _ => sent.broke(),
        }
    }
}

/// When a group of connections is to write, fixed from the start: each connection in its turn, so that their phases are
/// spread evenly. Where more is due than there are connections, each gets its part of it in one write.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    per_second: f64,
    written: u64,
}

impl Schedule {
    /// When the next batch is due.
    fn next(&self) -> Instant {
        self.after(0)
    }

    /// When the one is that comes so many after the next.
    fn after(&self, more: u64) -> Instant {
        self.start + Duration::from_secs_f64((self.written + more) as f64 / self.per_second)
    }

    /// Batches that are due and not written.
    fn due(&self, now: Instant) -> u64 {
        let asked = (now - self.start).as_secs_f64() * self.per_second;
        (asked as u64 + 1).saturating_sub(self.written)
    }
}

async fn by_the_clock(lanes: Vec<Lane>, rate: f64, mut post: Post) {
    let per_second = rate * lanes.len().max(1) as f64;
    let mut lanes: Vec<_> = lanes.into_iter().map(|lane| Clocked { lane, backlog: Vec::new() }).collect();
    // In the first period after a pause the turn goes on where it was.
    let mut turn = 0;
    loop {
        match post.order() {
            _ if lanes.is_empty() => post.next_order().await,
            Order::Hold => {
                flush(&mut lanes);
                tokio::select! {
                    () = post.next_order() => {}
                    () = tokio::time::sleep(Duration::from_millis(5)), if lanes.iter().any(|lane| !lane.backlog.is_empty()) => {}
                }
            }
            Order::Send(payload, speed) => {
                let schedule = Schedule { start: Instant::now(), per_second: per_second * speed, written: 0 };
                keep(schedule, &mut lanes, &mut turn, payload, &mut post).await;
            }
            Order::Finish => {
                for lane in lanes.drain(..) {
                    lane.finish(&post.sent).await;
                }
                return;
            }
        }
    }
}

/// Writes what is due until there is another order.
async fn keep(mut schedule: Schedule, lanes: &mut [Clocked], turn: &mut usize, payload: Payload, post: &mut Post) {
    while !post.orders.has_changed().unwrap_or(false) {
        let (now, wall) = (Instant::now(), telemetry::now());
        let due = schedule.due(now);
        if due == 0 {
            // Tokio's clock ticks in milliseconds: what falls into one is written together.
            sleep_until(schedule.next()).await;
            continue;
        }
        post.sent.late_by((now - schedule.next()).as_micros() as u64);
        let each = (due / lanes.len() as u64).max(1);
        for _ in 0..due.min(lanes.len() as u64).min(PORTION) {
            lanes[*turn].write(payload, wall, each, &schedule, &post.sent);
            *turn = (*turn + 1) % lanes.len();
            schedule.written += each;
        }
        tokio::task::yield_now().await;
    }
}

fn flush(lanes: &mut [Clocked]) {
    lanes.iter_mut().for_each(Clocked::push);
}

struct Clocked {
    lane: Lane,
    /// Written and not yet taken by QUIC.
    backlog: Vec<u8>,
}

impl Clocked {
    /// The schedule's next batches.
    fn write(&mut self, payload: Payload, now: UnixMs, batches: u64, schedule: &Schedule, sent: &Sent) {
        let frames = self.lane.cargo.frames_per_batch() as u64;
        let mut taken = Amount::default();
        for nth in 0..batches {
            if self.is_full() {
                sent.refuse((batches - nth) * frames);
                break;
            }
            let before = self.backlog.len();
            self.lane.cargo.write(payload, now, &mut self.backlog);
            self.lane.link.wrote(self.lane.cargo.batches.sequence(), schedule.after(nth));
            taken.batches += 1;
            taken.frames += frames;
            taken.bytes += (self.backlog.len() - before) as u64;
        }
        sent.add(payload, taken);
        self.push();
    }

    fn is_full(&mut self) -> bool {
        if self.backlog.len() > BACKLOG_BYTES {
            self.push();
        }
        self.backlog.len() > BACKLOG_BYTES
    }

    /// Gives QUIC what it takes now.
    fn push(&mut self) {
        while !self.backlog.is_empty() {
            match self.lane.link.batches.write(&self.backlog).now_or_never() {
                Some(Ok(taken)) => drop(self.backlog.drain(..taken)),
                // A connection that broke takes nothing more; its backlog fills, and what follows is refused.
                Some(Err(_)) | None => return,
            }
        }
    }

    async fn finish(mut self, sent: &Sent) {
        if self.lane.link.batches.write_all(&self.backlog).await.is_err() {
            return sent.broke();
        }
        self.lane.finish(sent).await;
    }
}
