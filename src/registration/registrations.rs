//! The handle to registrations that the other stages hold.

mod bindings;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};

pub use bindings::Device;

use super::Config;
use super::binding::{Change, Registration};
use super::cache::{Cache, CacheState};
use super::coupling::{Bound, Claim, Claimed, CouplingProof};
use super::effects::Effects;
use super::error::{Error, StartError, Unavailable};
use super::import::{Company, ImportError, ImportReport, Progress, import_devices_then, import_stations_then};
use super::keeping::Keeping;
use super::mandate::{Author, Mandate, Who};
use super::metrics::{self, Metrics};
use super::near::Near;
use super::nonces::{IssuedNonce, Nonces, Purpose};
use super::phone::{ClockProof, PhoneTokenRequest, PresenceProof, Prover};
use super::roller::{Pace, Roller};
use super::stations::{Directory, Station};
use super::tokens::{self, Grant, Role, Token, TokenCache};
use super::truth::{Truth, audit, binding_by_id, binding_of, live_binding_of_plate, moment, proof_key, spawn};
use crate::engine::code::Code;
use crate::engine::codebook::{Codebook, Hit};
use crate::engine::id::{BindingId, DeviceId, StationId};
use crate::engine::plate::Plate;
use crate::engine::proof::ProofKey;
use crate::engine::time::{DAY_MS, SlotLength, UnixMs};
use crate::telemetry;

/// An expired token holds a stream no longer than this.
const EXPIRED_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// Registrations of one engine; clones share them.
#[derive(Clone)]
pub struct Registrations {
    inner: Arc<Inner>,
}

/// A binding that a phone has just made, or taken over from one that was lost.
#[derive(Debug, Clone)]
pub struct Coupled {
    pub registration: Arc<Registration>,
    /// The phone's bearer token.
    pub token: Token,
}

struct Inner {
    config: Config,
    slot: SlotLength,
    truth: Truth,
    effects: Arc<Effects>,
    roller: Arc<Roller>,
    nonces: Arc<Nonces>,
    cache: Option<Cache>,
}

impl Registrations {
    /// Opens the store in `folder` and builds the first codebook before it answers.
    pub fn start(config: Config, folder: &Path, slot: SlotLength) -> Result<Registrations, StartError> {
        let truth = Truth::open(folder, config.kek_hex.as_ref(), config.store_queue)?;
        let metrics = Arc::new(Metrics::new());
        let pace = Pace {
            slot,
            rebuild_delay_ms: config.rebuild_delay_ms.into(),
            clock_save_ms: u64::from(config.clock_save_seconds.max(1)) * 1000,
            snapshot_ms: u64::from(config.snapshot_seconds) * 1000,
            queue: config.clock_queue,
        };
        let keeping = Keeping::new(folder, truth.envelope(), config.redis_url.clone());
        let roller = Arc::new(Roller::start(truth.clone(), pace, keeping, Arc::clone(&metrics))?);
        let stations = Directory::default();
        stations.load(&truth.open_reader()?)?;
        let effects = Effects {
            near: Near::new(config.near_entries),
            tokens: TokenCache::new(config.token_entries),
            stations,
            changes: broadcast::Sender::new(config.changes_queue.max(1)),
            roller: Arc::clone(&roller),
            metrics,
        };
        let effects = Arc::new(effects);
        let nonces = Arc::new(Nonces::new(config.nonces_max, u64::from(config.nonce_seconds) * 1000));
        let cache = config.redis_url.as_ref().map(|url| Cache::start(url, config.redis_wait_ms, &truth, &effects));
        let cache = cache.transpose()?;
        let inner = Inner { config, slot, truth, effects, roller, nonces, cache };
        Ok(Registrations { inner: Arc::new(inner) })
    }

    /// Saves what was learned and closes the store. Waits for the disk; the last step of a drain.
    pub fn stop(&self) {
        if let Some(cache) = &self.inner.cache {
            cache.stop();
        }
        self.inner.roller.stop();
        self.inner.truth.stop();
    }

    /// The codes that are valid now. Keep it for a batch and not for long: it is the memory of the whole fleet.
    pub fn codebook(&self) -> Arc<Codebook> {
        self.inner.roller.codebook()
    }

    /// A verified hearing, from which the dongle's clock is learned. Never waits; dropped with a count when too many
    /// come at once.
    pub fn heard(&self, hit: Hit, at: UnixMs) {
        if !self.inner.roller.heard(hit, at) {
            self.inner.effects.metrics.heard_dropped.increment(1);
        }
    }

    /// A code that nobody has, heard strong at a pump: its dongle may have another clock than it is believed to have.
    /// Never waits; dropped with a count when too many come at once.
    pub fn missed(&self, code: Code, station: StationId, at: UnixMs) {
        if !self.inner.roller.missed(code, station, at) {
            self.inner.effects.metrics.missed_dropped();
        }
    }

    /// The registration as far as the near cache knows it; `None` says nothing but that [`Registrations::find`] has to
    /// be asked.
    pub fn cached(&self, device: DeviceId) -> Option<Arc<Registration>> {
        let cached = self.inner.effects.near.cached(device);
        self.inner.effects.metrics.near_hits.increment(u64::from(cached.is_some()));
        cached
    }

    /// The live binding of the dongle, else its last one, which was revoked: `status` tells.
    pub async fn find(&self, device: DeviceId) -> Result<Option<Arc<Registration>>, Unavailable> {
        if let Some(registration) = self.cached(device) {
            return Ok(Some(registration));
        }
        let effects = &self.inner.effects;
        // Here and nowhere else, or one that asks the near cache first would be counted twice.
        effects.metrics.near_misses.increment(1);
        let since = effects.near.version();
        let found = self.find_beyond(device).await?;
        if let Some(registration) = &found {
            effects.near.fill(registration, since);
            effects.metrics.near_entries.set(effects.near.len() as f64);
        }
        Ok(found)
    }

    /// From Redis, else from the truth.
    async fn find_beyond(&self, device: DeviceId) -> Result<Option<Arc<Registration>>, Unavailable> {
        let Some(cache) = &self.inner.cache else {
            return Ok(self.inner.truth.read(move |db| binding_of(db, device)).await?.map(Arc::new));
        };
        if let Some(registration) = cache.find(device).await {
            return Ok(Some(Arc::new(registration)));
        }
        // The moment first: what is read after it may be newer, and never older.
        let (read_at, found) = self.inner.truth.read(move |db| Ok((moment(db)?, binding_of(db, device)?))).await?;
        let found = found.map(Arc::new);
        if let Some(registration) = &found {
            cache.fill(registration, read_at);
        }
        Ok(found)
    }

    /// How the cache in Redis does; `None` of an engine that has none.
    pub fn cache_state(&self) -> Option<CacheState> {
        self.inner.cache.as_ref().map(Cache::state)
    }

    pub async fn binding(&self, binding: BindingId) -> Result<Option<Arc<Registration>>, Unavailable> {
        Ok(self.inner.truth.read(move |db| binding_by_id(db, binding)).await?.map(Arc::new))
    }

    /// The live binding that holds the plate.
    pub async fn find_plate(&self, plate: Plate) -> Result<Option<Arc<Registration>>, Unavailable> {
        let lookup = move |db: &rusqlite::Connection| match live_binding_of_plate(db, &plate)? {
            Some(device) => binding_of(db, device),
            None => Ok(None),
        };
        Ok(self.inner.truth.read(lookup).await?.map(Arc::new))
    }

    pub async fn proof_key(&self, device: DeviceId) -> Result<Option<ProofKey>, Unavailable> {
        let envelope = self.inner.truth.envelope();
        self.inner.truth.read(move |db| proof_key(db, &envelope, device)).await
    }

    /// Every change of a binding from now on. Who lags loses the oldest, is told so, and looks its dongles up anew.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.effects.changes.subscribe()
    }

    pub fn station_known(&self, station: StationId) -> bool {
        self.inner.effects.stations.known(station)
    }

    pub fn station(&self, station: StationId) -> Option<Arc<Station>> {
        self.inner.effects.stations.station(station)
    }

    /// In the order of their ids.
    pub fn stations(&self) -> Vec<Arc<Station>> {
        self.inner.effects.stations.all()
    }
}

/// Imports, each on a thread of its own: reading and checking rows would hold an executor for minutes.
impl Registrations {
    pub async fn import_stations(
        &self,
        csv: impl Read + Send + 'static,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<ImportReport, ImportError> {
        let (truth, effects) = (self.inner.truth.clone(), Arc::clone(&self.inner.effects));
        self.import(move || import_stations_then(&truth, csv, progress, move |stations| effects.stations.put(stations)))
            .await
    }

    pub async fn import_devices(
        &self,
        csv: impl Read + Send + 'static,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<ImportReport, ImportError> {
        let (truth, effects, slot) = (self.inner.truth.clone(), Arc::clone(&self.inner.effects), self.inner.slot);
        self.import(move || {
            import_devices_then(&truth, slot, Company::Engine, csv, progress, move |imported| {
                effects.imported(imported);
            })
        })
        .await
    }

    async fn import(
        &self,
        import: impl FnOnce() -> Result<ImportReport, ImportError> + Send + 'static,
    ) -> Result<ImportReport, ImportError> {
        let (answer, answered) = oneshot::channel();
        let run = move || {
            // Who asked may be gone; the rows are in all the same.
            let _ = answer.send(import());
        };
        spawn("registration-import", run).map_err(|error| {
            tracing::error!(%error, "an import could not start");
            Unavailable
        })?;
        let report = answered.await.unwrap_or(Err(ImportError::Unavailable(Unavailable)))?;
        self.inner.effects.metrics.rows_accepted.increment(report.accepted);
        self.inner.effects.metrics.rows_refused.increment(report.refused);
        Ok(report)
    }
}

/// Coupling, and what a bound phone may do.
impl Registrations {
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, Error> {
        let outcome = self.open_claim(claim).await;
        metrics::phone_call(outcome)
    }

    async fn open_claim(&self, claim: Claim) -> Result<Claimed, Error> {
        let claim = claim.check()?;
        let (claims_max, ttl_ms) = (self.inner.config.claims_max, u64::from(self.inner.config.claim_seconds) * 1000);
        let now = telemetry::now();
        self.inner.truth.write(move |db| claim.open(db, claims_max, ttl_ms, now), |_| {}).await
    }

    pub async fn prove(&self, proof: CouplingProof) -> Result<Coupled, Error> {
        let now = telemetry::now();
        let (envelope, expires) = (self.inner.truth.envelope(), self.phone_token_expiry(now));
        let effects = Arc::clone(&self.inner.effects);
        let bind = move |db: &rusqlite::Connection| {
            let bound = proof.bind(db, &envelope, expires, now)?;
            Ok(bound.map(|Bound { registration, token, is_new }| {
                (Coupled { registration: Arc::new(registration), token }, is_new)
            }))
        };
        let coupled = self.inner.truth.write(bind, move |coupled: &Result<(Coupled, bool), Error>| {
            if let Ok((coupled, is_new)) = coupled {
                effects.coupled(&coupled.registration, *is_new);
            }
        });
        let outcome = coupled.await.and_then(|coupled| coupled.map(|(coupled, _)| coupled));
        metrics::phone_call(outcome)
    }

    /// A token for the phone of a binding, in place of the binding's earlier ones.
    pub async fn phone_token(&self, request: PhoneTokenRequest) -> Result<Token, Error> {
        let now = telemetry::now();
        let expires = self.phone_token_expiry(now);
        let effects = Arc::clone(&self.inner.effects);
        let issued = self.inner.truth.write(
            move |db| request.issue(db, expires, now),
            move |(binding, _): &(BindingId, Token)| effects.tokens.forget_role(Role::Phone(*binding)),
        );
        let outcome = issued.await.map(|(_, token)| token);
        metrics::phone_call(outcome)
    }

    /// A nonce for the phone's next proof, in place of an earlier one for the same purpose.
    pub fn issue_nonce(&self, binding: BindingId, purpose: Purpose) -> IssuedNonce {
        self.inner.nonces.issue(binding, purpose, telemetry::now())
    }

    /// Checks that dongle and phone of the binding are at the station.
    pub async fn phone_presence(&self, proof: PresenceProof) -> Result<Arc<Registration>, Error> {
        let outcome = async {
            self.inner.nonces.take(proof.binding, Purpose::Presence, &proof.nonce, telemetry::now())?;
            let prover = self.prover(proof.binding).await?;
            prover.check_presence(&proof)?;
            Ok(Arc::new(prover.registration))
        };
        metrics::phone_call(outcome.await)
    }

    /// Catches up a dongle's clock that is further off than its codes can be heard. It is in effect with the next
    /// codebook, which comes at once.
    pub async fn phone_clock(&self, proof: ClockProof) -> Result<(), Error> {
        let outcome = async {
            let now = telemetry::now();
            self.inner.nonces.take(proof.binding, Purpose::Clock, &proof.nonce, now)?;
            match self.prover(proof.binding).await?.check_clock(&proof, now)? {
                Some(hit) => Ok(self.inner.roller.proven(hit, now)?),
                None => Ok(()),
            }
        };
        metrics::phone_call(outcome.await)
    }

    async fn prover(&self, binding: BindingId) -> Result<Prover, Error> {
        let (envelope, slot) = (self.inner.truth.envelope(), self.inner.slot);
        self.inner.truth.read(move |db| Ok(Prover::select(db, &envelope, slot, binding))).await?
    }

    fn phone_token_expiry(&self, now: UnixMs) -> Option<UnixMs> {
        let days = u64::from(self.inner.config.phone_token_days);
        (days > 0).then(|| now.plus(days * DAY_MS))
    }
}

/// Bearer tokens.
impl Registrations {
    /// The operator's token of the data folder, made with its file at the first start. Waits for the disk.
    pub fn ensure_operator_token(&self, folder: &Path) -> Result<Token, StartError> {
        let folder = folder.to_owned();
        self.inner.truth.write_waiting(move |db| tokens::ensure_operator_token(db, &folder), |_| {})
    }

    /// A new token, for `ttl_ms` or for ever.
    pub async fn issue(&self, role: Role, ttl_ms: Option<u64>, who: Who) -> Result<Token, Unavailable> {
        let now = telemetry::now();
        let grant = Grant { role, expires: ttl_ms.map(|ms| now.plus(ms)) };
        let insert = move |db: &rusqlite::Connection| {
            let token = Token::random(role);
            tokens::insert(db, &token, grant, now)?;
            let author = Author { who: &who.to_string(), why: "", what: "token issued" };
            audit(db, now, author, &format!("{role:?}"))?;
            Ok(token)
        };
        self.inner.truth.write(insert, |_| {}).await
    }

    /// Whose token it is; `None` when it is nobody's, or no longer.
    pub async fn resolve(&self, token: &str) -> Result<Option<Role>, Unavailable> {
        let Some(hash) = tokens::hash(token) else { return Ok(None) };
        let cache = &self.inner.effects.tokens;
        let mut grant = cache.known(&hash);
        if grant.is_none() {
            let since = cache.version();
            grant = self.inner.truth.read(move |db| tokens::select(db, &hash)).await?;
            if let Some(grant) = grant {
                cache.remember(hash, grant, since);
            }
        }
        Ok(grant.filter(|grant| grant.is_valid(telemetry::now())).map(|grant| grant.role))
    }

    /// Ends when the token is nobody's any more: taken back, which is noticed at once, or expired, within a minute.
    pub async fn until_void(&self, token: &str) {
        let mut taken_back = self.inner.effects.tokens.taken_back();
        // A store that cannot answer at present takes nothing back.
        while !matches!(self.resolve(token).await, Ok(None)) {
            let _ = tokio::time::timeout(EXPIRED_WITHIN, taken_back.changed()).await;
        }
    }

    /// Takes back every token of a role, at once. `false` when there was none.
    pub async fn revoke_tokens(&self, role: Role, mandate: Mandate) -> Result<bool, Unavailable> {
        let now = telemetry::now();
        let effects = Arc::clone(&self.inner.effects);
        let delete = move |db: &rusqlite::Connection| {
            let count = tokens::delete_of(db, role)?;
            if count > 0 {
                let author = Author { who: &mandate.who.to_string(), why: &mandate.why, what: "tokens revoked" };
                audit(db, now, author, &format!("{role:?}"))?;
            }
            Ok(count > 0)
        };
        self.inner.truth.write(delete, move |_| effects.tokens.forget_role(role)).await
    }
}
