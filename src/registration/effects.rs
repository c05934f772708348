//! What a committed change sets off, on the writer's thread and in the order of the commits.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::amendment::Amended;
use super::binding::{Change, Registration};
use super::import::Imported;
use super::metrics::Metrics;
use super::near::Near;
use super::roller::Roller;
use super::stations::Directory;
use super::tokens::{Role, TokenCache};
use crate::engine::id::DeviceId;

/// Where a committed change takes effect: all that the writer's thread needs to know.
pub(super) struct Effects {
    pub(super) near: Near,
    pub(super) tokens: TokenCache,
    pub(super) stations: Directory,
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) roller: Arc<Roller>,
    pub(super) metrics: Arc<Metrics>,
}

impl Effects {
    fn changed(&self, registration: &Arc<Registration>) {
        self.near.replace(registration);
        self.tell(registration);
    }

    /// By a phone that proved it: `is_new` unless it took the place of another one.
    pub(super) fn coupled(&self, registration: &Arc<Registration>, is_new: bool) {
        self.changed(registration);
        if is_new {
            self.metrics.couplings.increment(1);
            self.roller.changed();
        }
    }

    pub(super) fn amended(&self, amended: &Amended) {
        let Some(registration) = &amended.changed else { return };
        let registration = Arc::new(registration.clone());
        self.changed(&registration);
        if amended.tokens_void {
            self.tokens.forget_role(Role::Phone(registration.binding));
        }
        if !registration.status.is_live() {
            self.roller.changed();
        }
    }

    /// Bindings that nobody can have met are neither cached nor told of: an import of millions would push out what
    /// is in use, and every subscriber would lag.
    pub(super) fn imported(&self, imported: &[Imported]) {
        let changed = imported.iter().filter_map(|import| match import {
            Imported::New(device) => Some(*device),
            Imported::Changed { registration, was_known, phone_changed } => {
                let shared = Arc::new(registration.clone());
                let was_cached = self.near.replace_known(&shared);
                if *phone_changed {
                    self.tokens.forget_role(Role::Phone(shared.binding));
                }
                if *was_known || was_cached {
                    self.tell(&shared);
                }
                (!was_known).then_some(shared.device)
            }
        });
        if changed.count() > 0 {
            self.roller.changed();
        }
    }

    /// Another process changed a binding: it is looked up anew.
    pub(super) fn heard_of(&self, device: DeviceId, epoch: u64) {
        if self.near.forget_older(device, epoch) {
            self.roller.changed();
        }
    }

    fn tell(&self, registration: &Registration) {
        self.metrics.bindings_changed.increment(1);
        // Without a subscriber there is nobody to tell.
        let _ = self.changes.send(registration.change());
    }
}
