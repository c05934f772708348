//! Who hears of a session's changes: the actor of its station, and the phones of its binding that listen.

use std::collections::HashMap;

use actix::prelude::*;
use tokio::sync::broadcast;

use super::{Follow, SessionChanged, SessionView, Word, metrics::Metrics};
use crate::engine::id::{BindingId, StationId};

pub(super) struct Watchers {
    stations: HashMap<StationId, (Follow, Recipient<SessionChanged>)>,
    phones: HashMap<BindingId, broadcast::Sender<SessionView>>,
    words: broadcast::Sender<Word>,
    watch_max: usize,
}

/// Changes that who tells drivers by another channel may lag behind, 56 bytes each; past it, he asks anew.
const WORDS_MAX: usize = 1_024;

impl Watchers {
    pub(super) fn new(watch_max: usize) -> Watchers {
        Watchers {
            stations: HashMap::new(),
            phones: HashMap::new(),
            words: broadcast::Sender::new(WORDS_MAX),
            watch_max: watch_max.max(1),
        }
    }

    pub(super) fn attach(&mut self, station: StationId, follow: Follow, actor: Recipient<SessionChanged>) {
        self.stations.insert(station, (follow, actor));
    }

    pub(super) fn watch(&mut self, binding: BindingId) -> broadcast::Receiver<SessionView> {
        let watch_max = self.watch_max;
        self.phones.entry(binding).or_insert_with(|| broadcast::channel(watch_max).0).subscribe()
    }

    pub(super) fn watch_words(&self) -> broadcast::Receiver<Word> {
        self.words.subscribe()
    }

    /// Never waits: a station whose mailbox is full does not tell its terminals of a view, which is counted; the next one is
    /// complete again.
    pub(super) fn publish(&mut self, view: &SessionView, metrics: &Metrics) {
        if let Some(phones) = self.phones.get(&view.binding)
            && phones.send(view.clone()).is_err()
        {
            self.phones.remove(&view.binding);
        }
        // An error says that nobody listens.
        let _ = self.words.send(Word::of(view));
        let Some((follow, station)) = self.stations.get(&view.station) else { return };
        follow(view);
        match station.try_send(SessionChanged(view.clone().without_challenge())) {
            Ok(()) => {}
            Err(SendError::Full(_)) => {
                metrics.station_refusals.increment(1);
                tracing::warn!(station = %view.station, session = %view.id, "a station's mailbox is full");
            }
            Err(SendError::Closed(_)) => {
                self.stations.remove(&view.station);
            }
        }
    }

    /// Forgets the phones that went away.
    pub(super) fn sweep(&mut self) {
        self.phones.retain(|_, phones| phones.receiver_count() > 0);
    }
}
