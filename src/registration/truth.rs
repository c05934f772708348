//! The truth: `registrations.db`, one writing thread and one reading thread, each behind a bounded queue.
//!
//! SQLite is the embedded default: nothing to install, and a commit is one `fsync` for all that waits. Look-ups go over
//! a connection of their own, so that they never wait behind a commit. Both threads end with the last handle, or with
//! [`Truth::stop`]; what is queued by then is still written.

mod audit;
mod bindings;
mod devices;
mod journal;
mod keks;
mod moment;
mod requests;
mod revision;
mod rotation;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

pub use audit::AuditRow;
pub(super) use audit::audit;
pub(super) use bindings::{bind, bind_first, binding_by_id, binding_of, bound_after, live_binding_of_plate, update};
pub(super) use devices::{
    DeviceRecord, SealedDevice, activation_owner, count_live, device, each_live, forget_device, insert_device,
    live_dongle, lost_since, mark_owner, open_proof_key, proof_key, save_offsets, set_activation, set_lost,
    set_proof_key,
};
pub use journal::JournalRow;
pub use moment::{Life, Moment};
pub(super) use moment::{has_been_at, moment, moment_of};
pub use requests::Request;
pub(super) use requests::{answered, parted, remember};
pub use revision::Revision;
pub(super) use revision::{Revisions, changed_count, changed_since, revision, store_id};
pub use rotation::{NewKek, NextStep, ROTATION_BATCH, RotateError, Rotated, Rotation};

use super::envelope::{Envelope, KEK_FILE, KEK_NEXT_FILE, KekHex, load_kek};
use super::error::{StartError, Unavailable};
use super::metrics::queues;
use crate::engine::time::UnixMs;
use crate::telemetry::{now, queue::Queue};
use writer::{Order, Settle};

/// The file of the store in the data folder.
pub const STORE_FILE: &str = "registrations.db";

/// With the time from which it waits.
type Lookup = (UnixMs, Box<dyn FnOnce(&Connection) + Send>);

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Truth {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    envelope: Arc<Envelope>,
    orders: mpsc::Sender<Order>,
    writes_waiting: Queue,
    lookups: mpsc::Sender<Lookup>,
    reads_waiting: Queue,
    moments: watch::Receiver<Moment>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Truth {
    /// Opens or makes the store. `queue` bounds the writes and the look-ups that wait, each.
    pub fn open(folder: &Path, kek_hex: Option<&KekHex>, queue: usize) -> Result<Truth, StartError> {
        let db = schema::open_writer(&folder.join(STORE_FILE))?;
        Truth::with(db, folder, kek_hex, queue)
    }

    /// For an import that nobody shares the store with: what is committed is on the disk when this is stopped. A power cut
    /// before may lose the last commits, which the import brings again when it is run again, and nothing else.
    pub fn open_for_import(folder: &Path, kek_hex: Option<&KekHex>, queue: usize) -> Result<Truth, StartError> {
        let db = schema::open_writer(&folder.join(STORE_FILE))?;
        schema::prepare_for_import(&db)?;
        Truth::with(db, folder, kek_hex, queue)
    }

    fn with(db: Connection, folder: &Path, kek_hex: Option<&KekHex>, queue: usize) -> Result<Truth, StartError> {
        let path = folder.join(STORE_FILE);
        let envelope = keks::open_envelope(&db, &load_kek(folder, kek_hex)?).map_err(|error| match error {
            // A rotation that was cut off between its last commit and the switch of the files.
            StartError::WrongKek if kek_hex.is_none() && folder.join(KEK_NEXT_FILE).exists() => StartError::Rotating,
            other => other,
        })?;
        let (orders, mut to_write) = mpsc::channel(queue.max(1));
        let (lookups, mut to_read) = mpsc::channel::<Lookup>(queue.max(1));
        let reader = schema::open_reader(&path)?;
        let (committed, moments) = watch::channel(moment(&db)?);
        let (writes_waiting, reads_waiting) = queues();
        let waiting = writes_waiting.clone();
        let writer = spawn("registration-writer", move || writer::run(&db, &mut to_write, &committed, &waiting))?;
        let waiting = reads_waiting.clone();
        spawn("registration-reader", move || {
            while let Some((since, look_up)) = to_read.blocking_recv() {
                waiting.began(since, to_read.len());
                look_up(&reader);
                waiting.ended();
            }
        })?;
        let writer = Mutex::new(Some(writer));
        let envelope = Arc::new(envelope);
        let inner = Inner { path, envelope, orders, writes_waiting, lookups, reads_waiting, moments, writer };
        Ok(Truth { inner: Arc::new(inner) })
    }

    pub(super) fn envelope(&self) -> Arc<Envelope> {
        Arc::clone(&self.inner.envelope)
    }

    /// The store for one who only reads it, beside the engine that it belongs to or without one.
    pub(super) fn read_only(folder: &Path, kek_hex: Option<&KekHex>) -> Result<(Connection, Envelope), StartError> {
        let db = schema::open_reader(&folder.join(STORE_FILE))?;
        schema::check_version(&db)?;
        let envelope = keks::current(&db, &load_kek(folder, kek_hex)?)?;
        Ok((db, envelope))
    }

    /// The revision of the store as it lies there, once it and its key are found to fit; `None` when there is none yet.
    /// Nothing is made.
    pub fn look(folder: &Path, kek_hex: Option<&KekHex>) -> Result<Option<Revision>, StartError> {
        let (store, kek) = (folder.join(STORE_FILE), folder.join(KEK_FILE));
        if !store.exists() {
            return Ok(None);
        }
        if kek_hex.is_none() && !kek.exists() {
            return Err(StartError::File { path: kek, source: std::io::ErrorKind::NotFound.into() });
        }
        let (db, _) = Truth::read_only(folder, kek_hex)?;
        Ok(Some(revision(&db)?))
    }

    /// The moment of the last commit. It is here before the answer to whoever ordered the commit.
    pub(super) fn moments(&self) -> watch::Receiver<Moment> {
        self.inner.moments.clone()
    }

    /// A look-up connection of one's own, for the long scan of the codebook's secrets.
    pub(super) fn open_reader(&self) -> Result<Connection, StartError> {
        schema::open_reader(&self.inner.path)
    }

    /// Runs `work` in the next commit. `committed` runs on the writer's thread once the change is on the disk, whether
    /// the caller still waits or not.
    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let order = ordered(work, committed, move |outcome| {
            // Nobody waits any more: the change stands all the same.
            let _ = answer.send(outcome);
        });
        self.inner.orders.send(order).await.map_err(|_| Unavailable)?;
        self.inner.writes_waiting.grew(&self.inner.orders);
        answered.await.unwrap_or_else(|_| Err(Unavailable.into()))
    }

    /// [`Truth::write`] for threads of our own: waits.
    pub(super) fn write_waiting<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
    {
        self.order(work, committed)?.wait()
    }

    /// [`Truth::write`] for threads of our own that have something else to do meanwhile.
    pub(super) fn order<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Ordered<T, E>, Unavailable>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
    {
        let (answer, answered) = std::sync::mpsc::channel();
        let mut order = ordered(work, committed, move |outcome| {
            let _ = answer.send(outcome);
        });
        // Polled, because the queue's own blocking call panics on a thread that runs an async executor, as the
        // command line's does.
        loop {
            match self.inner.orders.try_send(order) {
                Ok(()) => {
                    self.inner.writes_waiting.grew(&self.inner.orders);
                    return Ok(Ordered(answered));
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(Unavailable),
                Err(mpsc::error::TrySendError::Full(back)) => order = back,
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let look_up = Box::new(move |db: &Connection| {
            let _ = answer.send(work(db));
        });
        self.inner.lookups.send((now(), look_up)).await.map_err(|_| Unavailable)?;
        self.inner.reads_waiting.grew(&self.inner.lookups);
        Ok(answered.await.map_err(|_| Unavailable)??)
    }

    /// Writes what is queued and closes the store. Waits for the disk.
    pub fn stop(&self) {
        let writer = self.inner.writer.lock().expect("no holder panics").take();
        let Some(writer) = writer else { return };
        let mut stop = Order::Stop;
        while let Err(mpsc::error::TrySendError::Full(back)) = self.inner.orders.try_send(stop) {
            stop = back;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if writer.join().is_err() {
            tracing::error!("the writer of registrations.db had ended in a panic");
        }
    }
}

/// A write that was ordered and not waited for.
pub(super) struct Ordered<T, E>(std::sync::mpsc::Receiver<Result<T, E>>);

impl<T, E: From<Unavailable>> Ordered<T, E> {
    pub(super) fn wait(self) -> Result<T, E> {
        self.0.recv().unwrap_or_else(|_| Err(Unavailable.into()))
    }
}

/// The store's own errors are logged here, once; a caller can only try again later.
impl From<rusqlite::Error> for Unavailable {
    fn from(error: rusqlite::Error) -> Unavailable {
        tracing::error!(%error, "registrations.db failed");
        Unavailable
    }
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::Thread)
}

fn ordered<T, E>(
    work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    committed: impl FnOnce(&T) + Send + 'static,
    answer: impl FnOnce(Result<T, E>) + Send + 'static,
) -> Order
where
    T: Send + 'static,
    E: From<Unavailable> + Send + 'static,
{
    let job = Box::new(move |db: Option<&Connection>| {
        let outcome = db.map_or_else(|| Err(Unavailable.into()), work);
        let keeps = outcome.is_ok();
        let settle: Settle = Box::new(move |is_durable| match outcome {
            Ok(value) if is_durable => {
                committed(&value);
                answer(Ok(value));
            }
            Ok(_) => answer(Err(Unavailable.into())),
            Err(refusal) => answer(Err(refusal)),
        });
        (keeps, settle)
    });
    Order::Run(now(), job)
}
