//! Keeps the codebook: rolls it off the hot path, and says when what was resolved should be asked for again.
//!
//! One thread owns the secrets. It rolls at the start of each slot; bindings that come or go in between, and clocks that
//! were learned, are in the table at once. All that takes long (a roll, a snapshot) is done in turns of some
//! milliseconds, so that a revocation waits for neither. The table of a slot also knows the next slot's codes, so a
//! roll that takes a while costs nobody a hearing. The thread runs at low priority, behind the stations.
//!
//! The thread is also the only writer of clock offsets: hearings and clock proofs reach it by bounded queues, and
//! what it learned goes to the store in batches. What a crash loses is learned anew from the next hearing. Codes that
//! nobody has, heard strong at a pump, are swept for in what time is left ([`Sweep`]).

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rusqlite::Connection;

use super::clocks::UnsavedClocks;
use super::error::{StartError, Unavailable};
use super::fleet::{Fleet, roll_at_once};
use super::keeping::Keeping;
use super::metrics::Metrics;
use super::truth::{Truth, save_offsets, spawn};
use crate::engine::code::Code;
use crate::engine::codebook::{Codebook, Hit, Reading};
use crate::engine::id::StationId;
use crate::engine::sweep::Sweep;
use crate::engine::time::{Slot, SlotLength, UnixMs};
use crate::telemetry;

/// The store gets a commit of learned clocks in a tenth of the time at most.
const REST_PER_SAVE: u64 = 9;

/// The sweep takes a twentieth of a core at most: strangers stand at some pump at any time, and their codes are tried
/// with every dongle too.
const REST_PER_SWEEP: u64 = 19;

/// What was heard is looked at this often. Waking the thread for each hearing would cost the one who heard it far more
/// than noting it down: a switch of threads, some microseconds, when thousands of stations hear newcomers.
const HEARD_EACH: Duration = Duration::from_millis(200);

/// Hearings that are learned from between two offers of the core: some 0.3 ms.
const LEARN_STEP: usize = 512;

/// A turn of a roll or of a snapshot, after which orders are looked at: a revocation waits for no longer.
const TURN_MS: u64 = 10;

/// As far below the stations as can be, which run at 5 and offer their core often: at 10 a roll had half of it, and frames
/// waited for 100 ms. At 19 it gets a 23rd beside a station's thread that never rests, so that 30 million dongles, of 160
/// to 210 ns each, are rolled in 110 to 145 s of a slot's 300.
const NICENESS: i32 = 19;

/// What wakes the thread.
#[derive(Clone, Copy)]
enum Order {
    Proven(Reading, UnixMs),
    Wake,
    Stop,
}

/// How the thread is to work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) slot: SlotLength,
    pub(super) rebuild_delay_ms: u64,
    pub(super) clock_save_ms: u64,
    pub(super) snapshot_ms: u64,
    pub(super) queue: usize,
}

/// The handle; the thread ends with [`Roller::stop`].
pub(super) struct Roller {
    shared: Arc<Shared>,
    orders: SyncSender<Order>,
    queue: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    codebook: ArcSwap<Codebook>,
    /// Verified hearings that nothing was learned from yet, `queue` of them at most.
    heard: Mutex<Vec<(Hit, UnixMs)>>,
    /// Codes that nobody has and that no sweep has taken up yet, `queue` of them at most.
    missed: Mutex<Vec<(Code, StationId, UnixMs)>>,
}

impl Roller {
    /// Loads the dongles, from `keeping` if it has them, and builds the first book before it answers.
    pub(super) fn start(
        truth: Truth,
        pace: Pace,
        keeping: Keeping,
        metrics: Arc<Metrics>,
    ) -> Result<Roller, StartError> {
        let (orders, inbox) = sync_channel(pace.queue.max(1));
        let codebook = ArcSwap::from_pointee(Codebook::empty());
        let shared = Arc::new(Shared { codebook, heard: Mutex::default(), missed: Mutex::default() });
        let db = truth.open_reader()?;
        let began = telemetry::now();
        let mut fleet = keeping.fleet(pace.slot, &db, &metrics)?;
        let now = telemetry::now();
        roll_at_once(&mut fleet.keeper, now, std::thread::available_parallelism().map_or(1, usize::from));
        tracing::info!(dongles = fleet.keeper.len(), took_ms = telemetry::now().since(began), "codebook ready");
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            truth,
            db,
            pace,
            keeping,
            metrics,
            fleet,
            unsaved: UnsavedClocks::default(),
            retired: Vec::new(),
            rolled: Rolled { slot: pace.slot.slot_at(now), began: now, cpu_before: Duration::ZERO },
            publish_at: None,
            sweep: Sweep::default(),
            sweep_at: now,
            save_at: now.plus(pace.clock_save_ms),
        };
        worker.metrics.roll_began(now);
        worker.publish();
        worker.metrics.roll_ended(now, telemetry::now());
        let thread = spawn("registration-roller", move || worker.run(&inbox))?;
        Ok(Roller { shared, orders, queue: pace.queue, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn codebook(&self) -> Arc<Codebook> {
        self.shared.codebook.load_full()
    }

    /// `false` when too many wait already: the next hearing teaches the same.
    pub(super) fn heard(&self, hit: Hit, at: UnixMs) -> bool {
        let mut heard = self.shared.heard.lock().expect("no holder panics");
        let has_room = heard.len() < self.queue;
        if has_room {
            heard.push((hit, at));
        }
        has_room
    }

    /// A code that nobody has, heard strong at a pump. `false` when too many wait already.
    pub(super) fn missed(&self, code: Code, station: StationId, at: UnixMs) -> bool {
        let mut missed = self.shared.missed.lock().expect("no holder panics");
        let has_room = missed.len() < self.queue;
        if has_room {
            missed.push((code, station, at));
        }
        has_room
    }

    /// Takes over a clock that the phone proved.
    pub(super) fn proven(&self, reading: Reading, at: UnixMs) -> Result<(), Unavailable> {
        self.orders.try_send(Order::Proven(reading, at)).map_err(|_| Unavailable)
    }

    /// Bindings came or went: the truth is asked which, and the next book comes soon.
    pub(super) fn changed(&self) {
        match self.orders.try_send(Order::Wake) {
            // A full queue wakes the thread as well.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => tracing::debug!("a binding changed after the codebook's end"),
        }
    }

    /// Saves what was learned and ends the thread.
    pub(super) fn stop(&self) {
        let Some(thread) = self.thread.lock().expect("no holder panics").take() else { return };
        // A thread that is gone already needs no telling; the join says how it went.
        let _ = self.orders.send(Order::Stop);
        if thread.join().is_err() {
            tracing::error!("the codebook's thread had ended in a panic");
        }
    }
}

/// Whether a turn may go on. Between its steps, of less than a millisecond each, whoever waits for the core gets it: the
/// kernel would let a station's frames wait for the rest of a time slice, whatever the priorities.
fn has_time(until: UnixMs) -> bool {
    std::thread::yield_now();
    telemetry::now() < until
}

/// The last roll: the slot that it was for, when it began, and what CPU the thread had used by then.
struct Rolled {
    slot: Slot,
    began: UnixMs,
    cpu_before: Duration,
}

struct Worker {
    shared: Arc<Shared>,
    truth: Truth,
    db: Connection,
    pace: Pace,
    keeping: Keeping,
    metrics: Arc<Metrics>,
    fleet: Fleet,
    unsaved: UnsavedClocks,
    /// Books that a reader may still hold: the last reference is dropped here, not on a reader's thread, since it may be
    /// that to gigabytes.
    retired: Vec<Arc<Codebook>>,
    rolled: Rolled,
    publish_at: Option<UnixMs>,
    sweep: Sweep,
    sweep_at: UnixMs,
    save_at: UnixMs,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Order>) {
        telemetry::yield_to_others(NICENESS);
        loop {
            match inbox.recv_timeout(self.wait()) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.learn_heard();
            self.advance(telemetry::now());
        }
        self.learn_heard();
        while !self.unsaved.is_empty() {
            self.save();
        }
        self.keep_all();
    }

    fn wait(&self) -> Duration {
        if self.fleet.keeper.is_rolling() || self.keeping.is_writing() {
            return Duration::ZERO;
        }
        let due = self.sweep_due().map_or(self.next_due(), |at| at.min(self.next_due()));
        Duration::from_millis(due.since(telemetry::now())).min(HEARD_EACH)
    }

    fn sweep_due(&self) -> Option<UnixMs> {
        self.sweep.due().map(|due| due.max(self.sweep_at))
    }

    fn learn_heard(&mut self) {
        let heard = std::mem::take(&mut *self.shared.heard.lock().expect("no holder panics"));
        for step in heard.chunks(LEARN_STEP) {
            for &(hit, at) in step {
                self.sweep.heard(hit.device, at);
                if let Some(reading) = self.fleet.keeper.reading(hit) {
                    self.learn(reading, at);
                }
            }
            std::thread::yield_now();
        }
        let missed = std::mem::take(&mut *self.shared.missed.lock().expect("no holder panics"));
        for (code, station, at) in missed {
            self.metrics.offered(self.sweep.add(code, station, at));
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Proven(reading, at) => self.learn(reading, at),
            Order::Wake => self.publish_soon(telemetry::now()),
            Order::Stop => unreachable!("the loop takes it"),
        }
    }

    fn learn(&mut self, reading: Reading, at: UnixMs) {
        let Some(learned) = self.fleet.keeper.learn(reading, at) else { return };
        self.unsaved.learn(reading.device, learned.offset);
        self.metrics.clocks_learned.increment(1);
        if learned.is_moved {
            let now = telemetry::now();
            self.publish_soon(now);
            // What found it may have been the phone, which is not asked again after a crash.
            self.save_at = self.save_at.min(now.plus(self.pace.rebuild_delay_ms));
        }
    }

    fn next_due(&self) -> UnixMs {
        let next_slot = self.pace.slot.start_of(Slot(self.rolled.slot.0 + 1));
        let due = next_slot.min(self.save_at);
        self.publish_at.map_or(due, |at| due.min(at))
    }

    fn publish_soon(&mut self, now: UnixMs) {
        self.publish_at.get_or_insert(now.plus(self.pace.rebuild_delay_ms));
    }

    fn advance(&mut self, now: UnixMs) {
        if now >= self.save_at || self.unsaved.is_full() {
            self.save_some(now);
        }
        if self.publish_at.is_some_and(|at| now >= at) {
            self.publish_at = None;
            self.catch_up(now);
            self.publish();
        }
        // A clock that was set back is a new slot as well.
        let is_new_slot = self.pace.slot.slot_at(now) != self.rolled.slot;
        if !self.fleet.keeper.is_rolling() && (is_new_slot || self.fleet.keeper.wants_roll()) {
            self.begin_roll(now);
        }
        self.go_on(now);
        self.retired.retain(|book| Arc::strong_count(book) > 1);
    }

    fn begin_roll(&mut self, now: UnixMs) {
        self.metrics.roll_began(now);
        self.catch_up(now);
        self.rolled = Rolled { slot: self.pace.slot.slot_at(now), began: now, cpu_before: telemetry::thread_cpu() };
        self.fleet.keeper.begin_roll(now);
    }

    /// A turn of the roll, else of a snapshot.
    fn go_on(&mut self, now: UnixMs) {
        if !self.fleet.keeper.is_rolling() {
            if self.keeping.is_due(now, self.pace.snapshot_ms) {
                self.catch_up(now);
                self.keeping.begin(&self.fleet, &self.db, now);
            }
            if self.keeping.is_writing() {
                let until = now.plus(TURN_MS);
                while self.keeping.step(&self.fleet, &self.metrics) && has_time(until) {}
            } else if self.sweep_due().is_some_and(|at| now >= at) {
                self.sweep_on(now);
            }
            return;
        }
        let until = now.plus(TURN_MS);
        while has_time(until) {
            if !self.fleet.keeper.step() {
                self.publish();
                self.metrics.roll_ended(self.rolled.began, telemetry::now());
                self.metrics.roll_took(telemetry::thread_cpu().saturating_sub(self.rolled.cpu_before));
                return;
            }
        }
    }

    /// A turn of the sweep, and a rest after it.
    fn sweep_on(&mut self, now: UnixMs) {
        let until = now.plus(TURN_MS);
        while self.sweep.due().is_some_and(|at| now >= at) && has_time(until) {
            let keeper = &self.fleet.keeper;
            let swept = self.sweep.step(self.pace.slot, now, |after, count| keeper.dongles_after(after, count));
            self.metrics.swept(&swept);
            for found in swept.found {
                tracing::info!(device = %found.reading.device, "a dongle was found again by a code of another time");
                self.learn(found.reading, found.at);
            }
        }
        self.metrics.sweep_waiting.set(self.sweep.waiting() as f64);
        let took = telemetry::now().since(now);
        self.sweep_at = telemetry::now().plus(took * REST_PER_SWEEP);
    }

    /// Reads what changed.
    fn catch_up(&mut self, now: UnixMs) {
        if let Err(error) = self.fleet.catch_up(&self.db, &self.truth.envelope(), &self.unsaved) {
            tracing::error!(%error, "changed dongles cannot be read; the next codebook tries again");
            self.publish_at = Some(now.plus(self.pace.clock_save_ms));
        }
    }

    fn publish(&mut self) {
        let book = self.fleet.keeper.book();
        tracing::debug!(dongles = book.len(), generation = book.generation(), "codebook published");
        if book.left_out() > 0 {
            tracing::warn!(dongles = book.left_out(), "other dongles have their codes; these stay unseen");
        }
        self.metrics.published(&book, self.fleet.keeper.bytes());
        self.retired.push(self.shared.codebook.swap(Arc::new(book)));
    }

    /// A commit, and when it is time for the next.
    fn save_some(&mut self, now: UnixMs) {
        self.save();
        let rest_ms = telemetry::now().since(now).max(1) * REST_PER_SAVE;
        self.save_at = now.plus(if self.unsaved.is_empty() { self.pace.clock_save_ms } else { rest_ms });
    }

    fn save(&mut self) {
        let offsets = self.unsaved.next_commit();
        if offsets.is_empty() {
            return;
        }
        let saved = self.truth.write_waiting(move |db| Ok(save_offsets(db, &offsets)?), |()| {});
        if let Err(Unavailable) = saved {
            tracing::warn!("learned clocks were not saved; they are learned anew");
        }
    }

    /// The last snapshot, when something changed since the one before.
    fn keep_all(&mut self) {
        let now = telemetry::now();
        self.catch_up(now);
        self.keeping.begin(&self.fleet, &self.db, now);
        while self.keeping.step(&self.fleet, &self.metrics) {}
    }
}
