//! The composition root: the only place where stages are built, and where they are told to stop.
//!
//! Built from the money outwards (ledger, payment, session, station, HTTP, and the uplinks last), so that nothing
//! comes in before all of it can be dealt with; drained in reverse, so that nothing is in flight when the ledger
//! closes.

mod reload;

use std::{
    fs::{self, File, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use actix::{Arbiter, ArbiterHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    http::{self, Http, Part, Readiness, Reloaded, Reloads, Surface},
    ingest::{self, Ingest},
    ledger::{self, Ledger},
    payment::{
        self, Nights, Payments,
        reconciliation::{self, Facts, FactsOf},
    },
    push,
    registration::{self, Registrations},
    session::{self, Sessions},
    station::{self, Stations},
    telemetry::{self, catalogue::Catalogue},
};

use reload::Reload;
pub use reload::Reread;

const LOCK_FILE: &str = "lock";
/// The file of the data folder in which a running engine says where it is reached.
pub const ADDRESSES_FILE: &str = "engine.json";
/// The file of the data folder that presence outlives a restart in.
pub const SNAPSHOT_FILE: &str = "presence.snapshot";

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Registration(#[from] registration::StartError),
    #[error(transparent)]
    Ledger(#[from] ledger::OpenError),
    #[error(transparent)]
    Payment(#[from] payment::StartError),
    #[error(transparent)]
    Session(#[from] session::StartError),
    #[error(transparent)]
    Http(#[from] http::StartError),
    #[error(transparent)]
    Ingest(#[from] ingest::StartError),
}

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("another engine owns the data folder {0}")]
    InUse(PathBuf),
    #[error("data folder: {path}: {source}")]
    File { path: PathBuf, source: io::Error },
}

/// The data folder, owned until this is dropped: one engine (or one import) at a time.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes the folder, and makes it when there is none: for its owner only, since plates and keys lie in it.
    pub fn take(path: &Path) -> Result<DataFolder, FolderError> {
        let failed = |source| FolderError::File { path: path.into(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK_FILE)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataFolder { path: path.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.into())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody owns the folder at this moment. Makes nothing.
    pub fn is_in_use(path: &Path) -> bool {
        let lock = File::open(path.join(LOCK_FILE));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// Where a running engine is reached: kept in its data folder, for the commands that talk to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Addresses {
    pub ingest: SocketAddr,
    pub http: SocketAddr,
    pub metrics: SocketAddr,
}

impl Addresses {
    /// Those of the engine that runs on this data folder; `None` when they cannot be read.
    pub fn of_running(folder: &Path) -> Option<Addresses> {
        serde_json::from_slice(&fs::read(folder.join(ADDRESSES_FILE)).ok()?).ok()
    }

    /// So that nobody sends a token to whoever listens now where an engine did before.
    fn forget(folder: &Path) -> Result<(), FolderError> {
        let path = folder.join(ADDRESSES_FILE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FolderError::File { path, source }),
            _ => Ok(()),
        }
    }

    fn write(&self, folder: &Path) -> Result<(), FolderError> {
        let path = folder.join(ADDRESSES_FILE);
        let text = serde_json::to_string_pretty(self).expect("addresses are plain text");
        fs::write(&path, text).map_err(|source| FolderError::File { path, source })
    }
}

/// The running engine.
pub struct App {
    addresses: Addresses,
    uplinks: CancellationToken,
    snapshots: CancellationToken,
    surface: CancellationToken,
    push: CancellationToken,
    pushing: Option<tokio::task::JoinHandle<()>>,
    ingest: Ingest,
    snapshot_writer: tokio::task::JoinHandle<()>,
    http: Http,
    reloads: Reloads,
    readiness: Readiness,
    sessions: Sessions,
    ledger: Ledger,
    registrations: Registrations,
    folder: DataFolder,
}

impl App {
    /// Starts every stage. Must be called within an actix system. `reread` is for [`App::reload`].
    pub async fn start(settings: Settings, reread: Reread) -> Result<App, StartError> {
        let in_force = settings.clone();
        let folder = DataFolder::take(&settings.engine.data)?;
        Addresses::forget(folder.path())?;
        let slot = settings.slot_length();
        let readiness = Readiness::new();
        let recorder = telemetry::Recorder::install(folder.path());
        let [uplinks, snapshots, surface_end, push_end] = std::array::from_fn(|_| CancellationToken::new());

        let registrations = Registrations::start(settings.registration, folder.path(), slot)?;
        registrations.ensure_operator_token(folder.path())?;
        let ledger = Ledger::open(&settings.ledger, folder.path())?;
        let payments = Payments::start(&settings.payment, folder.path(), ledger.clone(), &Arbiter::current())?;
        let retention = settings.ledger.clone();
        let sessions = Sessions::start(
            &settings.session,
            ledger.clone(),
            payments.clone(),
            registrations.clone(),
            &Arbiter::current(),
        )
        .await?;
        let pushing = push::start(&settings.push, sessions.clone(), push_end.clone());
        let reconciliations = reconciliation::folder(folder.path());
        let nights = Nights {
            ledger: ledger.clone(),
            facts: facts_of_sessions(),
            folder: reconciliations.clone(),
            hour: settings.payment.reconcile_hour,
        };
        tokio::spawn(payments.clone().keep_reconciled(nights, snapshots.clone()));
        let snapshot = folder.path().join(SNAPSHOT_FILE);
        let workers = start_workers(settings.engine.workers);
        let (known, open) = (registrations.clone(), sessions.clone());
        let stations = Stations::start(settings.station, known, open, workers.clone(), snapshot);
        let snapshot_writer = tokio::spawn(stations.clone().keep_snapshots(snapshots.clone()));
        tokio::spawn(stations.clone().follow_bindings(snapshots.clone()));
        tokio::spawn(stations.clone().keep_surveyed(snapshots.clone()));
        tokio::spawn(sessions.clone().keep_retention(retention, ledger.clone(), snapshots.clone()));
        let journal = ledger.clone();
        let (reloads, reload_orders) = Reloads::channel();
        let surface = Surface {
            stations: stations.clone(),
            registrations: registrations.clone(),
            sessions: sessions.clone(),
            payments,
            reconciliations,
            prometheus: Arc::new(move || recorder.render()),
            readiness: readiness.clone(),
            ledger_lack: Arc::new(move || journal.lack()),
            reloads: reloads.clone(),
        };
        let http = http::start(&settings.http, surface, surface_end.clone())?;
        let (ingest, renewal) =
            ingest::start(settings.ingest, stations, folder.path(), slot, workers, uplinks.clone()).await?;

        let (limits, told) = (http.limits(), readiness.clone());
        let reload = Reload { reread, in_force, uplinks: renewal, limits, readiness: told };
        tokio::spawn(reload.serve(reload_orders));

        let addresses =
            Addresses { ingest: ingest.local_addr(), http: http.local_addr(), metrics: http.metrics_addr() };
        addresses.write(folder.path())?;
        readiness.set_ready(Part::Engine);
        tracing::info!(uplinks = %addresses.ingest, http = %addresses.http, metrics = %addresses.metrics, "serving");
        Ok(App {
            addresses,
            uplinks,
            snapshots,
            surface: surface_end,
            push: push_end,
            pushing,
            ingest,
            snapshot_writer,
            http,
            reloads,
            readiness,
            sessions,
            ledger,
            registrations,
            folder,
        })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Reads settings and certificates again, and takes over what a running engine can.
    pub async fn reload(&self) -> Reloaded {
        self.reloads.ask().await.unwrap_or_else(|| Reloaded::refused("the engine stops"))
    }

    /// Drains: readiness off, uplinks told, presence written down, requests answered, ledger closed.
    pub async fn stop(self) {
        tracing::info!("draining");
        self.readiness.set_unready(Part::Engine, "draining");
        self.uplinks.cancel();
        self.ingest.stopped().await;
        self.snapshots.cancel();
        if let Err(error) = self.snapshot_writer.await {
            tracing::error!(%error, "presence was not written down");
        }
        self.surface.cancel();
        self.http.stopped().await;
        self.push.cancel();
        if let Some(pushing) = self.pushing
            && let Err(error) = pushing.await
        {
            tracing::error!(%error, "the second channel broke");
        }
        if let Err(error) = self.ledger.close().await {
            tracing::error!(%error, "the ledger did not close cleanly");
        }
        self.registrations.stop();
        if let Err(error) = Addresses::forget(self.folder.path()) {
            tracing::warn!(%error, "the addresses of this engine are still written down");
        }
        tracing::info!("stopped");
    }
}

/// Every metric of an engine.
pub fn catalogue() -> Catalogue {
    Catalogue::of(|| {
        telemetry::register_metrics();
        reload::register_metrics();
        ledger::register_metrics();
        registration::register_metrics();
        payment::register_metrics();
        session::register_metrics();
        station::register_metrics();
        http::register_metrics();
        push::register_metrics();
        ingest::register_metrics();
    })
}

/// What reconciliation has to know of sessions, read from the journal.
pub fn facts_of_sessions() -> FactsOf {
    Arc::new(|journal, id| {
        let session = session::from_journal(journal, id)?;
        let is_uncleared = session.name() == session::StateName::Paid;
        Some(Facts { station: session.opening().station, is_uncleared })
    })
}

/// Another thread gets three times a worker's share: where cores are short, a terminal's question and a payment's commit
/// wait behind no frames. Frames wait in the socket's buffer.
const WORKER_NICENESS: i32 = 5;

/// The threads of uplinks and stations. Uplinks and HTTP apart, no terminal waits behind a flood of frames.
fn start_workers(count: usize) -> Vec<ArbiterHandle> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = if count == 0 { cores.saturating_sub(1).max(1) } else { count };
    let worker = |_| {
        let worker = Arbiter::new().handle();
        worker.spawn(async { telemetry::yield_to_others(WORKER_NICENESS) });
        worker
    };
    (0..count).map(worker).collect()
}
