//! Keeps the codebook: builds it off the hot path, swaps it in, and frees the old one.
//!
//! One thread owns the secrets. It builds a book at the start of each slot, and earlier when bindings came or went:
//! such changes are gathered for a moment, and builds take at most a fifth of the thread's time, so that an import of
//! millions does not keep it building. The book of a slot also knows the next slot's codes, so a build that takes a
//! while costs nobody a hearing.
//!
//! The thread is also the only writer of clock offsets: hearings and clock proofs reach it by bounded queues, and
//! what it learned goes to the store in batches. What a crash loses is learned anew from the next hearing.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rusqlite::Connection;

use super::error::{StartError, Unavailable};
use super::fleet::{Changes, Fleet, place};
use super::metrics::Metrics;
use super::truth::{Truth, live_dongle, save_offsets, spawn};
use crate::engine::clock::ClockOffset;
use crate::engine::codebook::{Codebook, Hit};
use crate::engine::id::DeviceId;
use crate::engine::time::{Slot, SlotLength, UnixMs};
use crate::telemetry;

/// More changed dongles than this, and reading them all is cheaper than reading each: 0.8 MB of ids.
const CHANGED_MAX: usize = 50_000;

/// Learned clocks that wait for the store: 16 bytes each, and a commit of some 100 ms.
const LEARNED_MAX: usize = 20_000;

/// After a build that took a second, four seconds belong to others.
const REST_PER_BUILD: u64 = 4;

/// What was heard is looked at this often. Waking the thread for each hearing would cost the one who heard it far more
/// than noting it down: a switch of threads, some microseconds, when thousands of stations hear newcomers.
const HEARD_EACH: Duration = Duration::from_millis(200);

/// What wakes the thread.
#[derive(Clone, Copy)]
enum Order {
    Proven(Hit, UnixMs),
    Wake,
    Stop,
}

/// The dongles whose bindings changed since the last build.
enum Changed {
    These(BTreeSet<DeviceId>),
    Many,
}

/// How the thread is to work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) slot: SlotLength,
    pub(super) rebuild_delay_ms: u64,
    pub(super) clock_save_ms: u64,
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
    /// Verified hearings that have not taught anything yet, `Pace::queue` of them at most.
    heard: Mutex<Vec<(Hit, UnixMs)>>,
    changed: Mutex<Changed>,
}

impl Roller {
    /// Loads the dongles and builds the first book before it answers.
    pub(super) fn start(truth: Truth, pace: Pace, metrics: Arc<Metrics>) -> Result<Roller, StartError> {
        let (orders, inbox) = sync_channel(pace.queue.max(1));
        let shared = Arc::new(Shared {
            codebook: ArcSwap::from_pointee(Codebook::empty()),
            heard: Mutex::default(),
            changed: Mutex::new(Changed::These(BTreeSet::new())),
        });
        let db = truth.open_reader()?;
        let fleet = Fleet::load(&db, &truth.envelope())?;
        let now = telemetry::now();
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            truth,
            db,
            pace,
            metrics,
            fleet,
            learned: HashMap::new(),
            retired: Vec::new(),
            built_slot: pace.slot.slot_at(now),
            rebuild_at: None,
            rest_until: now,
            save_at: now.plus(pace.clock_save_ms),
        };
        worker.build(now);
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

    /// Takes over a clock that the phone proved.
    pub(super) fn proven(&self, hit: Hit, at: UnixMs) -> Result<(), Unavailable> {
        self.orders.try_send(Order::Proven(hit, at)).map_err(|_| Unavailable)
    }

    /// Has the dongles' bindings looked up before the next build, which comes early.
    pub(super) fn changed(&self, devices: impl IntoIterator<Item = DeviceId>) {
        let mut devices = devices.into_iter().peekable();
        if devices.peek().is_none() {
            return;
        }
        let mut changed = self.shared.changed.lock().expect("no holder panics");
        if let Changed::These(known) = &mut *changed {
            known.extend(devices);
            if known.len() > CHANGED_MAX {
                *changed = Changed::Many;
            }
        }
        drop(changed);
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

struct Worker {
    shared: Arc<Shared>,
    truth: Truth,
    db: Connection,
    pace: Pace,
    metrics: Arc<Metrics>,
    fleet: Fleet,
    learned: HashMap<DeviceId, ClockOffset>,
    /// Books that a reader may still hold: the last reference is dropped here, not on a reader's thread.
    retired: Vec<Arc<Codebook>>,
    built_slot: Slot,
    rebuild_at: Option<UnixMs>,
    rest_until: UnixMs,
    save_at: UnixMs,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Order>) {
        loop {
            let wait = Duration::from_millis(self.next_due().since(telemetry::now()));
            match inbox.recv_timeout(wait.min(HEARD_EACH)) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.learn_heard();
            self.advance(telemetry::now());
        }
        self.learn_heard();
        self.save();
    }

    fn learn_heard(&mut self) {
        let heard = std::mem::take(&mut *self.shared.heard.lock().expect("no holder panics"));
        for (hit, at) in heard {
            self.learn(hit, at);
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Proven(hit, at) => {
                self.learn(hit, at);
                self.rebuild_soon(telemetry::now());
            }
            Order::Wake => self.rebuild_soon(telemetry::now()),
            Order::Stop => unreachable!("the loop takes it"),
        }
    }

    fn learn(&mut self, hit: Hit, at: UnixMs) {
        if let Some(offset) = self.fleet.learn(self.pace.slot, hit, at) {
            self.learned.insert(hit.device, offset);
            self.metrics.clocks_learned.increment(1);
        }
    }

    fn next_due(&self) -> UnixMs {
        let next_slot = self.pace.slot.start_of(Slot(self.built_slot.0 + 1));
        let due = next_slot.min(self.save_at);
        self.rebuild_at.map_or(due, |at| due.min(at))
    }

    fn rebuild_soon(&mut self, now: UnixMs) {
        self.rebuild_at.get_or_insert(now.plus(self.pace.rebuild_delay_ms).max(self.rest_until));
    }

    fn advance(&mut self, now: UnixMs) {
        if now >= self.save_at || self.learned.len() >= LEARNED_MAX {
            self.save();
            self.save_at = now.plus(self.pace.clock_save_ms);
        }
        // A clock that was set back is a new slot as well.
        let is_new_slot = self.pace.slot.slot_at(now) != self.built_slot;
        if is_new_slot || self.rebuild_at.is_some_and(|at| now >= at) {
            self.rebuild_at = None;
            self.build_changed(now);
        }
        self.retired.retain(|book| Arc::strong_count(book) > 1);
    }

    fn build_changed(&mut self, now: UnixMs) {
        if let Err(error) = self.load_changed() {
            tracing::error!(%error, "changed dongles cannot be read; the next codebook tries again");
            self.rebuild_at = Some(now.plus(self.pace.clock_save_ms));
        }
        self.build(now);
    }

    fn build(&mut self, now: UnixMs) {
        let generation = self.shared.codebook.load().generation() + 1;
        let built = self.fleet.book(self.pace.slot, now, generation);
        let took = telemetry::now().since(now);
        tracing::debug!(dongles = built.book.len(), generation, took_ms = took, "codebook built");
        self.metrics.built(&built, took);
        self.retired.push(self.shared.codebook.swap(Arc::new(built.book)));
        self.built_slot = self.pace.slot.slot_at(now);
        self.rest_until = telemetry::now().plus(took * REST_PER_BUILD);
    }

    /// Brings the list up to date. What was learned is saved first, or the rows would take it back.
    fn load_changed(&mut self) -> rusqlite::Result<()> {
        let none = Changed::These(BTreeSet::new());
        let changed = std::mem::replace(&mut *self.shared.changed.lock().expect("no holder panics"), none);
        if matches!(&changed, Changed::These(devices) if devices.is_empty()) {
            return Ok(());
        }
        self.save();
        let loaded = self.load(&changed);
        if loaded.is_err() {
            *self.shared.changed.lock().expect("no holder panics") = Changed::Many;
        }
        loaded
    }

    fn load(&mut self, changed: &Changed) -> rusqlite::Result<()> {
        let envelope = self.truth.envelope();
        match changed {
            Changed::Many => self.fleet = Fleet::load(&self.db, &envelope)?,
            Changed::These(devices) => {
                let rows = devices.iter().map(|&device| Ok((place(device), live_dongle(&self.db, &envelope, device)?)));
                let present = rows.collect::<rusqlite::Result<Changes>>()?;
                self.fleet = std::mem::take(&mut self.fleet).merged(present);
            }
        }
        Ok(())
    }

    fn save(&mut self) {
        if self.learned.is_empty() {
            return;
        }
        let offsets: Vec<_> = self.learned.drain().collect();
        let saved = self.truth.write_waiting(move |db| Ok(save_offsets(db, &offsets)?), |()| {});
        if let Err(Unavailable) = saved {
            tracing::warn!("learned clocks were not saved; they are learned anew");
        }
    }
}
