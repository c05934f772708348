//! All stations of this node: who runs where, and the way to each.

use std::{path::PathBuf, sync::Arc, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Config,
    actor::{
        Applied, AttachUplink, DetachUplink, EnteredElsewhere, Observe, SelectVehicle, Snapshot, StationActor,
        Vehicles, Watch,
    },
    error::{AttachError, ObserveError, SelectError, StationError},
    metrics::Metrics,
    selection::{Select, Selection},
    snapshot,
    view::{StationEvent, VehicleView},
    whereabouts::Whereabouts,
};
use crate::{
    engine::{
        control::Receiver,
        id::{DeviceId, SpoolId, StationId},
        presence::Record,
    },
    registration::Registrations,
    session::Sessions,
};

/// A station's uplink, after its hello was accepted.
#[derive(Debug)]
pub struct Attach {
    pub station: StationId,
    pub spool: SpoolId,
    pub receivers: Vec<Receiver>,
    /// Fired when a newer uplink takes over.
    pub replaced: oneshot::Sender<()>,
}

#[derive(Debug)]
pub struct Attached {
    pub link: UplinkLink,
    /// The highest sequence that was applied of this spool before.
    pub applied: Option<u64>,
}

/// The way of one uplink's batches to its station. Dropping it detaches the uplink.
#[derive(Debug)]
pub struct UplinkLink {
    actor: Addr<StationActor>,
    uplink: u64,
}

impl UplinkLink {
    /// Whole batches as they stand in the stream, length prefixes included; checked and applied in order. Await it
    /// before reading on: that is the backpressure.
    pub async fn observe(&self, batches: Bytes) -> Result<Applied, ObserveError> {
        let observe = Observe { uplink: self.uplink, batches };
        self.actor.send(observe).await.unwrap_or(Err(ObserveError::Gone))
    }
}

impl Drop for UplinkLink {
    fn drop(&mut self) {
        // A full mailbox keeps a dead uplink's record until a newer one comes; nothing else depends on it.
        let _ = self.actor.try_send(DetachUplink(self.uplink));
    }
}

/// The directory of stations; cheap to clone.
#[derive(Clone)]
pub struct Stations(Arc<Directory>);

struct Directory {
    config: Config,
    registrations: Registrations,
    sessions: Sessions,
    whereabouts: Whereabouts,
    metrics: Metrics,
    arbiters: Vec<Arbiter>,
    actors: DashMap<StationId, Addr<StationActor>>,
    /// Windows of the last run whose station has not been asked for yet.
    restored: DashMap<StationId, Vec<Record>>,
    snapshot: PathBuf,
}

impl Stations {
    /// Must be called within an actix system. `snapshot` is the file in which presence outlives a restart.
    pub fn start(config: Config, registrations: Registrations, sessions: Sessions, snapshot: PathBuf) -> Stations {
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let restored = snapshot::read(&snapshot).unwrap_or_else(|error| {
            tracing::warn!(path = %snapshot.display(), %error, "presence starts empty: its snapshot cannot be used");
            snapshot::Windows::new()
        });
        Stations(Arc::new(Directory {
            config,
            registrations,
            sessions,
            whereabouts: Whereabouts::default(),
            metrics: Metrics::new(),
            arbiters: (0..threads).map(|_| Arbiter::new()).collect(),
            actors: DashMap::new(),
            restored: restored.into_iter().collect(),
            snapshot,
        }))
    }

    /// Whether the chain has this station.
    pub fn known(&self, station: StationId) -> bool {
        self.0.registrations.station_known(station)
    }

    pub async fn attach(&self, attach: Attach) -> Result<Attached, AttachError> {
        let actor = self.actor(attach.station).ok_or(AttachError::Unknown)?;
        let Attach { spool, receivers, replaced, .. } = attach;
        let attach = AttachUplink { spool, receivers, replaced };
        let attachment = actor.send(attach).await.map_err(|_| AttachError::Gone)?;
        Ok(Attached { link: UplinkLink { actor, uplink: attachment.uplink }, applied: attachment.applied })
    }

    /// The vehicles that may be selected.
    pub async fn vehicles(&self, station: StationId) -> Result<Vec<VehicleView>, StationError> {
        let actor = self.actor(station).ok_or(StationError::UnknownStation)?;
        actor.send(Vehicles).await.unwrap_or(Err(StationError::Unavailable))
    }

    /// The vehicles that may be selected, and every change from then on. A receiver that lags asks anew.
    pub async fn watch(
        &self,
        station: StationId,
    ) -> Result<(Vec<VehicleView>, broadcast::Receiver<StationEvent>), StationError> {
        let actor = self.actor(station).ok_or(StationError::UnknownStation)?;
        // Subscribed first: a change between the two is told twice rather than never.
        let events = actor.send(Watch).await.map_err(|_| StationError::Unavailable)?;
        Ok((self.vehicles(station).await?, events))
    }

    /// Finds the vehicle that the attendant means and opens its session.
    pub async fn select(&self, station: StationId, select: Select) -> Result<Selection, SelectError> {
        let actor = self.actor(station).ok_or(SelectError::UnknownStation)?;
        if let Some(view) = self.0.sessions.repeated(select.session, select.request).await? {
            return Ok(Selection::Opened(Box::new(view)));
        }
        actor.send(SelectVehicle(select)).await.unwrap_or(Err(SelectError::Unavailable))
    }

    /// The driver has proven, with dongle and phone, to be at `station`.
    pub fn presence_proven(&self, station: StationId, device: DeviceId) {
        for other in self.0.whereabouts.proven(device, station) {
            self.tell(other, EnteredElsewhere(device));
        }
    }

    /// Writes the presence windows down now and then, and once more when `shutdown` comes.
    pub async fn keep_snapshots(self, shutdown: CancellationToken) {
        let period = Duration::from_secs(self.0.config.snapshot_s.max(1).into());
        loop {
            let is_last = tokio::select! {
                () = tokio::time::sleep(period) => false,
                () = shutdown.cancelled() => true,
            };
            self.write_snapshot().await;
            if is_last {
                return;
            }
        }
    }

    async fn write_snapshot(&self) {
        let actors: Vec<_> = self.0.actors.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        let mut windows: snapshot::Windows =
            self.0.restored.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        for (station, actor) in actors {
            if let Ok(records) = actor.send(Snapshot).await
                && !records.is_empty()
            {
                windows.push((station, records));
            }
        }
        let path = self.0.snapshot.clone();
        let written = tokio::task::spawn_blocking(move || snapshot::write(&path, &windows)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "presence windows cannot be written down"),
            Err(error) => tracing::error!(%error, "the writer of presence windows broke"),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(super) fn registrations(&self) -> &Registrations {
        &self.0.registrations
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(super) fn whereabouts(&self) -> &Whereabouts {
        &self.0.whereabouts
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Tells another station, if its actor runs; one that does not has nothing to forget.
    pub(super) fn tell(&self, station: StationId, elsewhere: EnteredElsewhere) {
        if let Some(actor) = self.0.actors.get(&station)
            && actor.try_send(elsewhere).is_err()
        {
            self.0.metrics.mailbox_full.increment(1);
        }
    }

    /// The station's actor, started when it does not run.
    fn actor(&self, station: StationId) -> Option<Addr<StationActor>> {
        if let Some(actor) = self.0.actors.get(&station)
            && actor.connected()
        {
            return Some(actor.clone());
        }
        if !self.known(station) {
            return None;
        }
        let mut entry = self.0.actors.entry(station).or_insert_with(|| self.start_actor(station));
        if !entry.connected() {
            *entry = self.start_actor(station);
        }
        Some(entry.clone())
    }

    fn start_actor(&self, station: StationId) -> Addr<StationActor> {
        let windows = self.0.restored.remove(&station).map(|(_, windows)| windows).unwrap_or_default();
        let arbiter = &self.0.arbiters[station.0 as usize % self.0.arbiters.len()];
        let stations = self.clone();
        StationActor::start_in_arbiter(&arbiter.handle(), move |_| StationActor::new(station, windows, stations))
    }
}
