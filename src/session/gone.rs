//! Sessions that were purged lately: what was read of them before must not bring them back.

use std::collections::{HashSet, VecDeque};

use crate::engine::id::SessionId;

/// A purge takes 256 in a tenth of a second at most, so that these are those of the last 25 s; 3 MB.
const GONE_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Gone {
    sessions: HashSet<SessionId>,
    order: VecDeque<SessionId>,
}

impl Gone {
    pub(super) fn contains(&self, id: SessionId) -> bool {
        self.sessions.contains(&id)
    }

    pub(super) fn insert(&mut self, id: SessionId) {
        if self.sessions.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > GONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
    }

    /// Its place in the order is given up in its turn.
    pub(super) fn remove(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }
}
