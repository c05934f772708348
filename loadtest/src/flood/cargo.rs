//! What one connection has to send, in either form, and the counts of what was sent.

use std::sync::atomic::{AtomicU64, Ordering};

use forecourt::engine::time::UnixMs;

use super::source::{Batches, Records};

/// In which form hearings go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Plain records of 24 bytes.
    Records,
    /// The batches of the protocol.
    Batches,
}

/// A connection's frames in both forms; those that the server does not take are not made.
#[derive(Debug)]
pub struct Cargo {
    pub records: Option<Records>,
    pub batches: Batches,
}

impl Cargo {
    /// Appends one batch.
    pub fn write(&mut self, payload: Payload, now: UnixMs, out: &mut Vec<u8>) {
        match (payload, &self.records) {
            (Payload::Records, Some(records)) => records.write(out),
            _ => self.batches.write(now, out),
        }
    }

    pub fn frames_per_batch(&self) -> usize {
        self.batches.frames_per_batch()
    }
}

/// What was handed to the wire, and what was not.
#[derive(Debug, Default)]
pub struct Sent {
    records: Counts,
    batches: Counts,
    refused_frames: AtomicU64,
    late_us_max: AtomicU64,
    broken: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    batches: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// A look at [`Sent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    pub batches: u64,
    pub frames: u64,
    pub bytes: u64,
}

impl Sent {
    pub fn add(&self, payload: Payload, amount: Amount) {
        let counts = self.of(payload);
        counts.batches.fetch_add(amount.batches, Ordering::Relaxed);
        counts.frames.fetch_add(amount.frames, Ordering::Relaxed);
        counts.bytes.fetch_add(amount.bytes, Ordering::Relaxed);
    }

    pub fn amount(&self, payload: Payload) -> Amount {
        let counts = self.of(payload);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Amount { batches: read(&counts.batches), frames: read(&counts.frames), bytes: read(&counts.bytes) }
    }

    /// Frames that were due and not sent, because the connection would take no more.
    pub fn refuse(&self, frames: u64) {
        self.refused_frames.fetch_add(frames, Ordering::Relaxed);
    }

    pub fn refused_frames(&self) -> u64 {
        self.refused_frames.load(Ordering::Relaxed)
    }

    /// A batch left the generator this much later than it was due.
    pub fn late_by(&self, us: u64) {
        self.late_us_max.fetch_max(us, Ordering::Relaxed);
    }

    /// The worst since the last call.
    pub fn take_late_us(&self) -> u64 {
        self.late_us_max.swap(0, Ordering::Relaxed)
    }

    /// A connection broke.
    pub fn broke(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    fn of(&self, payload: Payload) -> &Counts {
        match payload {
            Payload::Records => &self.records,
            Payload::Batches => &self.batches,
        }
    }
}

impl std::ops::Sub for Amount {
    type Output = Amount;

    fn sub(self, earlier: Amount) -> Amount {
        Amount {
            batches: self.batches - earlier.batches,
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_in_either_form_is_counted_apart() {
        let sent = Sent::default();
        let one = Amount { batches: 1, frames: 25, bytes: 172 };
        sent.add(Payload::Batches, one);
        sent.add(Payload::Batches, one);
        let before = sent.amount(Payload::Batches);
        sent.add(Payload::Batches, one);
        assert_eq!(sent.amount(Payload::Batches) - before, one);
        assert_eq!(sent.amount(Payload::Records), Amount::default());
    }

    #[test]
    fn the_worst_lateness_is_told_once() {
        let sent = Sent::default();
        [30, 70, 50].map(|us| sent.late_by(us));
        assert_eq!((sent.take_late_us(), sent.take_late_us()), (70, 0));
    }
}
