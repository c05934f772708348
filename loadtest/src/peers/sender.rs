//! What the stations' gateways do in the peers' world: publish, over one connection as fast as it goes, or over a
//! thousand by the clock.
//!
//! Neither broker keeps a publisher from drowning its consumer at QoS 0: one throws the consumer out, the other drops
//! messages. A good build would hold the publishers back, so the sender never has more than [`WINDOW`] messages on
//! their way that no consumer has applied. What is lost all the same is counted.

use std::{
    io::{self, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// 5 MB of messages: enough to keep broker and consumer busy for some milliseconds.
const WINDOW: u64 = 8_192;

/// What is written at once by a sender that goes as fast as it can.
const WRITE_BYTES: usize = 64 * 1024;

const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_micros(200);

/// What all parts of a trial know of its messages.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) sent: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) frames: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sent_more(&self, messages: u64) {
        self.sent.fetch_add(messages, Ordering::Relaxed);
    }

    fn is_window_full(&self) -> bool {
        self.on_their_way() > WINDOW
    }

    /// Messages that were sent and not applied.
    pub(super) fn on_their_way(&self) -> u64 {
        // What is read second has grown meanwhile.
        let applied = self.applied.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(applied)
    }
}

#[derive(Debug)]
pub(super) struct Sender {
    progress: Arc<Progress>,
    thread: JoinHandle<io::Result<Vec<TcpStream>>>,
}

impl Sender {
    /// As fast as it goes, over one connection, the same messages over and over.
    pub(super) fn fat(stream: TcpStream, messages: &[Vec<u8>], progress: Arc<Progress>) -> io::Result<Sender> {
        let writes = writes(messages);
        Sender::start(progress, move |progress| send_fast(stream, &writes, progress))
    }

    /// Each connection its own messages, so many a second, in turns that are spread evenly.
    pub(super) fn many(stations: Vec<Station>, per_second: f64, progress: Arc<Progress>) -> io::Result<Sender> {
        Sender::start(progress, move |progress| send_by_the_clock(stations, per_second, progress))
    }

    fn start(
        progress: Arc<Progress>,
        send: impl FnOnce(&Progress) -> io::Result<Vec<TcpStream>> + Send + 'static,
    ) -> io::Result<Sender> {
        let shared = progress.clone();
        let thread = thread::Builder::new().name("sender".into()).spawn(move || send(&shared))?;
        Ok(Sender { progress, thread })
    }

    /// Ends it. Its connections must outlive what is on its way: one that is closed before all was read that the broker
    /// had to say is reset, and takes along what the broker has not read.
    pub(super) fn stop(self) -> io::Result<Vec<TcpStream>> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a sender does not panic")
    }
}

/// A station's connection and what it says, over and over.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) stream: TcpStream,
    pub(super) messages: Vec<Vec<u8>>,
}

/// Messages that go out in one write.
struct Write {
    bytes: Vec<u8>,
    messages: u64,
}

fn writes(messages: &[Vec<u8>]) -> Vec<Write> {
    let length = messages.first().map_or(1, Vec::len).max(1);
    let together = messages.chunks((WRITE_BYTES / length).max(1));
    together.map(|chunk| Write { bytes: chunk.concat(), messages: chunk.len() as u64 }).collect()
}

fn send_fast(mut stream: TcpStream, writes: &[Write], progress: &Progress) -> io::Result<Vec<TcpStream>> {
    stream.set_write_timeout(Some(PATIENCE))?;
    for write in writes.iter().cycle() {
        while progress.is_window_full() && !progress.is_stopped() {
            thread::sleep(MOMENT);
        }
        if progress.is_stopped() {
            break;
        }
        stream.write_all(&write.bytes)?;
        progress.sent_more(write.messages);
    }
    Ok(vec![stream])
}

fn send_by_the_clock(mut stations: Vec<Station>, per_second: f64, progress: &Progress) -> io::Result<Vec<TcpStream>> {
    for station in &stations {
        station.stream.set_write_timeout(Some(PATIENCE))?;
    }
    let (start, count) = (Instant::now(), stations.len());
    let period = 1.0 / (per_second * count as f64);
    let mut written = 0;
    while !progress.is_stopped() {
        let due = start + Duration::from_secs_f64(written as f64 * period);
        if due > Instant::now() || progress.is_window_full() {
            thread::sleep(MOMENT);
            continue;
        }
        let station = &mut stations[written % count];
        station.stream.write_all(&station.messages[written / count % station.messages.len()])?;
        progress.sent_more(1);
        written += 1;
    }
    Ok(stations.into_iter().map(|station| station.stream).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_out_together_and_none_is_left_behind() {
        let messages: Vec<Vec<u8>> = (0..500).map(|n| vec![n as u8; 640]).collect();
        let writes = writes(&messages);
        assert_eq!(writes.iter().map(|write| write.messages).sum::<u64>(), 500);
        assert_eq!(writes.iter().flat_map(|write| write.bytes.clone()).collect::<Vec<_>>(), messages.concat());
        assert!(writes.iter().all(|write| write.bytes.len() <= WRITE_BYTES));
    }

    #[test]
    fn the_window_closes_on_what_nobody_applied() {
        let progress = Progress::default();
        progress.sent_more(WINDOW + 1);
        assert!(progress.is_window_full());
        progress.applied.store(1, Ordering::Relaxed);
        assert!(!progress.is_window_full());
    }
}
