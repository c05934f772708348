//! Who holds a vehicle, and which sessions belong to a station, a binding, a site transaction.

use std::collections::{BTreeSet, HashMap};

use crate::engine::{
    id::{BindingId, DeviceId, SessionId, StationId},
    session::Session,
};

#[derive(Default)]
pub(super) struct Index {
    pins: HashMap<DeviceId, SessionId>,
    stations: HashMap<StationId, BTreeSet<SessionId>>,
    bindings: HashMap<BindingId, BTreeSet<SessionId>>,
    /// Only of sessions in memory, and of events that are being journalled. Of the others the ledger knows.
    transactions: HashMap<StationId, HashMap<String, SessionId>>,
}

impl Index {
    pub(super) fn holder(&self, device: DeviceId) -> Option<SessionId> {
        self.pins.get(&device).copied()
    }

    pub(super) fn pin(&mut self, device: DeviceId, session: SessionId) {
        self.pins.insert(device, session);
    }

    /// Only the holder lets go: a session that ended long ago must not free the vehicle of the next one.
    pub(super) fn unpin(&mut self, device: DeviceId, session: SessionId) {
        if self.pins.get(&device) == Some(&session) {
            self.pins.remove(&device);
        }
    }

    pub(super) fn know(&mut self, session: &Session) {
        let opening = session.opening();
        self.stations.entry(opening.station).or_default().insert(opening.session);
        self.bindings.entry(opening.vehicle.binding).or_default().insert(opening.session);
        self.claim_transactions(session);
    }

    pub(super) fn forget(&mut self, session: &Session) {
        let opening = session.opening();
        self.unpin(opening.vehicle.device, opening.session);
        take_out(&mut self.stations, &opening.station, opening.session);
        take_out(&mut self.bindings, &opening.vehicle.binding, opening.session);
        for transaction in session.transactions() {
            self.release_transaction(opening.station, transaction, opening.session);
        }
    }

    pub(super) fn of_station(&self, station: StationId) -> impl Iterator<Item = SessionId> + '_ {
        self.stations.get(&station).into_iter().flatten().copied()
    }

    pub(super) fn of_binding(&self, binding: BindingId) -> impl Iterator<Item = SessionId> + '_ {
        self.bindings.get(&binding).into_iter().flatten().copied()
    }

    /// Whether the site's transaction belongs to another session than `session`.
    pub(super) fn is_foreign(&self, station: StationId, transaction: &str, session: SessionId) -> bool {
        let owner = self.transactions.get(&station).and_then(|known| known.get(transaction));
        owner.is_some_and(|owner| *owner != session)
    }

    pub(super) fn claim_transaction(&mut self, station: StationId, transaction: &str, session: SessionId) {
        let known = self.transactions.entry(station).or_default();
        if !known.contains_key(transaction) {
            known.insert(transaction.to_owned(), session);
        }
    }

    pub(super) fn claim_transactions(&mut self, session: &Session) {
        for transaction in session.transactions() {
            self.claim_transaction(session.opening().station, transaction, session.opening().session);
        }
    }

    pub(super) fn release_transaction(&mut self, station: StationId, transaction: &str, session: SessionId) {
        if let Some(known) = self.transactions.get_mut(&station) {
            if known.get(transaction) == Some(&session) {
                known.remove(transaction);
            }
            if known.is_empty() {
                self.transactions.remove(&station);
            }
        }
    }
}

fn take_out<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, BTreeSet<SessionId>>, key: &K, session: SessionId) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&session);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
