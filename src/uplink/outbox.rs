//! What was heard and is not acknowledged yet: the batch that is being filled, and the spool behind it.
//!
//! Batches are kept as hearings and not as bytes, because a new connection begins with a fresh code table: the same
//! batch, with the same boundaries and sequence, is encoded again for it. The spool is bounded; when the server is away
//! for long the oldest hearings go, counted, since the newest are those that say who is on the forecourt now.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::engine::{
    batch::{Hearing, SPAN_MS_MAX},
    limits::{HEARINGS_MAX, RECEIVERS_MAX},
    time::UnixMs,
};

/// One closed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spooled {
    pub(super) sequence: u64,
    pub(super) hearings: Vec<Hearing>,
}

/// Whether the sender has to be woken for a hearing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// A flush is due at another time than before.
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) heard: u64,
    /// Hearings with a receiver number out of bounds.
    pub(super) rejected: u64,
    /// Hearings that left the spool unacknowledged; some of them may have been applied.
    pub(super) dropped: u64,
    pub(super) acknowledged: u64,
    pub(super) batches_acknowledged: u64,
}

#[derive(Debug)]
pub(super) struct Outbox {
    flush_after: Duration,
    hearings_max: usize,
    open: Vec<Hearing>,
    /// The earliest and the latest time of any hearing in `open`.
    span: (UnixMs, UnixMs),
    /// When the first hearing of `open` came.
    opened_at: Option<Instant>,
    /// Closed batches, their sequences without a gap.
    spool: VecDeque<Spooled>,
    spooled: usize,
    next_sequence: u64,
    /// The sequence of the next batch to send on the present connection.
    next_unsent: u64,
    counts: Counts,
}

impl Outbox {
    /// `flush_after`: a hearing waits no longer than this for company. `hearings_max`: the spool's bound.
    pub(super) fn new(flush_after: Duration, hearings_max: usize) -> Outbox {
        Outbox {
            flush_after,
            hearings_max: hearings_max.max(HEARINGS_MAX),
            open: Vec::new(),
            span: (UnixMs(0), UnixMs(0)),
            opened_at: None,
            spool: VecDeque::new(),
            spooled: 0,
            next_sequence: 1,
            next_unsent: 1,
            counts: Counts::default(),
        }
    }

    pub(super) fn hear(&mut self, hearing: Hearing, now: Instant) -> Wake {
        self.counts.heard += 1;
        if usize::from(hearing.receiver.0) >= RECEIVERS_MAX {
            self.counts.rejected += 1;
            return Wake::No;
        }
        let (earliest, latest) = self.span_with(hearing.at);
        let too_far = latest.since(earliest) > SPAN_MS_MAX;
        if too_far {
            self.flush();
        }
        self.span = self.span_with(hearing.at);
        let first = self.open.is_empty();
        if first {
            self.opened_at = Some(now);
        }
        self.open.push(hearing);
        let full = self.open.len() == HEARINGS_MAX;
        if full {
            self.flush();
        }
        if first || full || too_far { Wake::Yes } else { Wake::No }
    }

    /// The open batch's span, were there a hearing at this time in it.
    fn span_with(&self, at: UnixMs) -> (UnixMs, UnixMs) {
        if self.open.is_empty() { (at, at) } else { (self.span.0.min(at), self.span.1.max(at)) }
    }

    /// When the open batch has to go.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        self.opened_at.map(|at| at + self.flush_after)
    }

    /// Closes the open batch if it is time.
    pub(super) fn flush_due(&mut self, now: Instant) {
        if self.flush_at().is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    /// Closes the open batch, and makes room for it in the spool.
    pub(super) fn flush(&mut self) {
        self.opened_at = None;
        if self.open.is_empty() {
            return;
        }
        let hearings = std::mem::take(&mut self.open);
        while self.spooled + hearings.len() > self.hearings_max
            && let Some(oldest) = self.pop()
        {
            self.counts.dropped += oldest.hearings.len() as u64;
        }
        self.spooled += hearings.len();
        self.spool.push_back(Spooled { sequence: self.next_sequence, hearings });
        self.next_sequence += 1;
    }

    /// The next batch that the present connection has not carried.
    pub(super) fn next_unsent(&mut self) -> Option<&Spooled> {
        let first = self.spool.front()?.sequence;
        let sequence = self.next_unsent.max(first);
        let batch = self.spool.get((sequence - first) as usize)?;
        self.next_unsent = sequence + 1;
        Some(batch)
    }

    /// A new connection: all that the server does not have goes again.
    pub(super) fn reconnected(&mut self, applied: Option<u64>) {
        if let Some(highest) = applied {
            self.acknowledge(highest);
        }
        self.next_unsent = 1;
    }

    /// The server has applied every batch up to this one.
    pub(super) fn acknowledge(&mut self, highest: u64) {
        while self.spool.front().is_some_and(|batch| batch.sequence <= highest)
            && let Some(batch) = self.pop()
        {
            self.counts.batches_acknowledged += 1;
            self.counts.acknowledged += batch.hearings.len() as u64;
        }
    }

    fn pop(&mut self) -> Option<Spooled> {
        let batch = self.spool.pop_front()?;
        self.spooled -= batch.hearings.len();
        Some(batch)
    }

    /// Every batch was handed to the present connection, and none is being filled.
    pub(super) fn all_sent(&self) -> bool {
        self.open.is_empty() && self.spool.back().is_none_or(|last| last.sequence < self.next_unsent)
    }

    /// Nothing is left that the server could still lack.
    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.spool.is_empty()
    }

    /// Hearings that wait for their acknowledgement.
    pub(super) fn waiting(&self) -> usize {
        self.spooled + self.open.len()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{code::Code, id::ReceiverId};

    const FLUSH: Duration = Duration::from_millis(100);

    fn hearing(at: u64) -> Hearing {
        Hearing { code: Code([1; 16]), receiver: ReceiverId(1), rssi: -60, at: UnixMs(at) }
    }

    fn outbox(batches: u64, hearings_max: usize) -> Outbox {
        let mut outbox = Outbox::new(FLUSH, hearings_max);
        for at in 0..batches * HEARINGS_MAX as u64 {
            outbox.hear(hearing(at), Instant::now());
        }
        outbox
    }

    fn unsent(outbox: &mut Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next_unsent().map(|batch| batch.sequence)).collect()
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_its_time_has_come() {
        let (mut outbox, now) = (Outbox::new(FLUSH, 10_000), Instant::now());
        assert_eq!(outbox.hear(hearing(0), now), Wake::Yes);
        assert_eq!(outbox.hear(hearing(1), now + FLUSH / 2), Wake::No);
        outbox.flush_due(now + FLUSH / 2);
        assert_eq!(unsent(&mut outbox), [] as [u64; 0]);
        outbox.flush_due(now + FLUSH);
        assert_eq!(unsent(&mut outbox), [1]);
        let wakes: Vec<_> = (0..250).map(|at| outbox.hear(hearing(at), now)).collect();
        assert_eq!(wakes[249], Wake::Yes);
        assert_eq!((unsent(&mut outbox), outbox.flush_at()), (vec![2], None));
    }

    #[test]
    fn hearings_too_far_apart_go_in_two_batches() {
        let (mut outbox, now) = (Outbox::new(FLUSH, 10_000), Instant::now());
        outbox.hear(hearing(100_000), now);
        outbox.hear(hearing(100_000 - SPAN_MS_MAX), now);
        outbox.hear(hearing(100_001), now);
        outbox.flush();
        let sizes: Vec<_> = outbox.spool.iter().map(|batch| batch.hearings.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }

    #[test]
    fn after_a_reconnect_what_the_server_lacks_goes_again_as_it_was() {
        let mut outbox = outbox(4, 10_000);
        let before = outbox.spool.clone();
        assert_eq!(unsent(&mut outbox), [1, 2, 3, 4]);
        outbox.acknowledge(1);
        outbox.reconnected(Some(2));
        assert_eq!(unsent(&mut outbox), [3, 4]);
        assert_eq!(outbox.spool, before.range(2..).cloned().collect::<Vec<_>>());
        outbox.reconnected(None);
        assert_eq!(unsent(&mut outbox), [3, 4], "a server that forgot the spool gets what is left");
        assert!(outbox.all_sent() && !outbox.is_settled());
        outbox.acknowledge(4);
        assert!(outbox.is_settled());
        assert_eq!(outbox.counts().acknowledged, 1000);
    }

    #[test]
    fn a_full_spool_drops_its_oldest_and_counts_them() {
        let mut outbox = outbox(5, 750);
        assert_eq!(unsent(&mut outbox), [3, 4, 5]);
        assert_eq!((outbox.counts().dropped, outbox.waiting()), (500, 750));
    }

    #[test]
    fn dropping_what_was_just_sent_leaves_the_order_whole() {
        let mut outbox = outbox(3, 750);
        assert_eq!(unsent(&mut outbox), [1, 2, 3]);
        for at in 0..500 {
            outbox.hear(hearing(at), Instant::now());
        }
        assert_eq!(unsent(&mut outbox), [4, 5]);
        outbox.acknowledge(2);
        assert_eq!(outbox.counts().acknowledged, 0, "those were dropped and are not counted twice");
    }

    #[test]
    fn a_receiver_out_of_bounds_is_counted_and_not_sent() {
        let mut outbox = Outbox::new(FLUSH, 10_000);
        let wrong = Hearing { receiver: ReceiverId(32), ..hearing(0) };
        assert_eq!(outbox.hear(wrong, Instant::now()), Wake::No);
        assert!(outbox.is_settled());
        assert_eq!(outbox.counts().rejected, 1);
    }
}
