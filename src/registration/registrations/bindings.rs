//! Bindings after their coupling: who changes what, what was changed, and the dongles that nobody has.

use std::sync::Arc;

use rusqlite::Connection;

use super::Registrations;
use crate::engine::id::{BindingId, DeviceId};
use crate::engine::time::UnixMs;
use crate::registration::amendment::{Amended, Amendment, once};
use crate::registration::binding::Summary;
use crate::registration::coupling::Claimed;
use crate::registration::driver::DriverChange;
use crate::registration::eid::{EidBeacon, resolver};
use crate::registration::error::{Error, Unavailable};
use crate::registration::mandate::{Author, Mandate, Who};
use crate::registration::metrics;
use crate::registration::permits::{Permit, PhoneClaim, permit};
use crate::registration::truth::{
    AuditRow, JournalRow, Request, audit, binding_by_id, binding_of, device, lost_since, parted, set_lost,
};
use crate::telemetry;

/// A dongle as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Device {
    pub device: DeviceId,
    pub scheme: String,
    /// Whether it owns a proof key: one without is seen and never charged.
    pub provable: bool,
    /// When it was reported lost. Nobody couples it until an operator frees it.
    pub lost_at: Option<UnixMs>,
    /// The live binding, else the last one.
    pub binding: Option<Summary>,
}

impl Registrations {
    /// An operator's change of a binding, in effect before this answers.
    pub async fn amend(
        &self,
        binding: BindingId,
        amendment: Amendment,
        mandate: Mandate,
        request: Option<Request>,
    ) -> Result<Summary, Error> {
        let now = telemetry::now();
        self.write_amended(move |db| once(db, request.as_ref(), now, || amendment.apply(db, binding, &mandate, now)))
            .await
    }

    /// A driver's change of his own binding.
    pub async fn change_by_driver(&self, change: DriverChange, request: Option<Request>) -> Result<Summary, Error> {
        let now = telemetry::now();
        let nonces = Arc::clone(&self.inner.nonces);
        let changed = self.write_amended(move |db| once(db, request.as_ref(), now, || change.apply(db, &nonces, now)));
        metrics::phone_call(changed.await)
    }

    /// What was answered to a change that took its own phone's tokens back, known by its [`Request::parting`].
    pub async fn parted(&self, parting: [u8; 32]) -> Result<Option<Summary>, Unavailable> {
        self.inner.truth.read(move |db| parted(db, &parting)).await
    }

    /// Takes a binding's phone away, which was lost, and lets another one come by the code that is answered.
    pub async fn permit_phone(&self, binding: BindingId, mandate: Mandate) -> Result<Permit, Error> {
        let now = telemetry::now();
        let effects = Arc::clone(&self.inner.effects);
        let permitted = self.inner.truth.write(
            move |db| permit(db, binding, &mandate, now),
            move |(_, amended): &(Permit, Amended)| effects.amended(amended),
        );
        permitted.await.map(|(permit, _)| permit)
    }

    /// A new phone claims a binding that an operator permitted it; [`Registrations::prove`] is the same as of any claim.
    pub async fn claim_phone(&self, claim: PhoneClaim) -> Result<Claimed, Error> {
        let (claims_max, ttl_ms) = (self.inner.config.claims_max, u64::from(self.inner.config.claim_seconds) * 1000);
        let now = telemetry::now();
        let outcome = match claim.check() {
            Ok(()) => self.inner.truth.write(move |db| claim.open(db, claims_max, ttl_ms, now), |_| {}).await,
            Err(refusal) => Err(refusal),
        };
        metrics::phone_call(outcome)
    }

    /// What became of a binding: the newest `limit` lines below the epoch `before`, the newest first.
    pub async fn history(&self, binding: BindingId, before: Option<u64>, limit: u32) -> Result<Vec<JournalRow>, Error> {
        let lines = move |db: &Connection| {
            let Some(known) = binding_by_id(db, binding)? else { return Ok(None) };
            JournalRow::of(db, binding, known.device, before, limit).map(Some)
        };
        self.inner.truth.read(lines).await?.ok_or(Error::UnknownBinding)
    }

    pub async fn device(&self, id: DeviceId) -> Result<Device, Error> {
        self.inner.truth.read(move |db| view(db, id)).await?.ok_or(Error::UnknownDevice)
    }

    /// Lets a dongle that was reported lost be coupled again. Doing it twice is doing it once.
    pub async fn free_device(&self, id: DeviceId, mandate: Mandate) -> Result<Device, Error> {
        let now = telemetry::now();
        let free = move |db: &Connection| {
            if lost_since(db, id)?.is_some() {
                set_lost(db, id, None)?;
                let who = mandate.who.to_string();
                let author = Author { who: &who, why: &mandate.why, what: "lost dongle freed" };
                audit(db, now, author, &id.to_string())?;
            }
            view(db, id)?.ok_or(Error::UnknownDevice)
        };
        self.inner.truth.write(free, |_| {}).await
    }

    /// The public key that beacons agree their identity keys with.
    pub async fn eid_resolver(&self) -> Result<[u8; 32], Error> {
        let envelope = self.inner.truth.envelope();
        self.inner.truth.write(move |db| resolver(db, &envelope), |_| {}).await
    }

    /// Makes a beacon known whose EID shows that it has the identity key.
    pub async fn register_beacon(&self, beacon: EidBeacon, who: Who) -> Result<Device, Error> {
        let (envelope, slot, now) = (self.inner.truth.envelope(), self.inner.slot, telemetry::now());
        let register = move |db: &Connection| {
            beacon.register(db, &envelope, slot, &who.to_string(), now)?;
            view(db, beacon.device)?.ok_or(Error::UnknownDevice)
        };
        self.inner.truth.write(register, |_| {}).await
    }

    /// The newest `limit` lines of the audit, the newest first.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditRow>, Unavailable> {
        self.inner.truth.read(move |db| AuditRow::newest(db, limit)).await
    }

    async fn write_amended(
        &self,
        work: impl FnOnce(&Connection) -> Result<Amended, Error> + Send + 'static,
    ) -> Result<Summary, Error> {
        let effects = Arc::clone(&self.inner.effects);
        let amended = self.inner.truth.write(work, move |amended| effects.amended(amended));
        amended.await.map(|amended| amended.summary)
    }
}

fn view(db: &Connection, id: DeviceId) -> rusqlite::Result<Option<Device>> {
    let Some(record) = device(db, id)? else { return Ok(None) };
    Ok(Some(Device {
        device: id,
        scheme: record.exponent.map_or(record.scheme.clone(), |exponent| format!("{}/{exponent}", record.scheme)),
        provable: record.proof_key.is_some(),
        lost_at: lost_since(db, id)?,
        binding: binding_of(db, id)?.as_ref().map(Summary::from),
    }))
}
