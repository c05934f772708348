//! The near cache: registrations that this process met lately, so that a car at the pump costs no look-up.
//!
//! Bounded by the clock algorithm ("second chance"): entries stand in a ring; the hand passes over one that was asked
//! for since its last round and takes the first that was not. Each pass clears a mark that a look-up had set, so an
//! insertion costs O(1) amortised, and a hit writes one flag.
//!
//! A change must win over a look-up that read the truth just before it: a look-up names the version that it started
//! from, and is not kept when a change came in between.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;

use super::binding::Registration;
use crate::engine::id::DeviceId;

pub(super) struct Near {
    entries: DashMap<DeviceId, Entry>,
    ring: Mutex<VecDeque<DeviceId>>,
    entries_max: usize,
    version: AtomicU64,
}

struct Entry {
    registration: Arc<Registration>,
    was_asked: AtomicBool,
}

/// When a look-up in the truth began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version(u64);

impl Near {
    pub(super) fn new(entries_max: usize) -> Near {
        Near {
            entries: DashMap::new(),
            ring: Mutex::new(VecDeque::new()),
            entries_max: entries_max.max(1),
            version: AtomicU64::new(0),
        }
    }

    pub(super) fn cached(&self, device: DeviceId) -> Option<Arc<Registration>> {
        let entry = self.entries.get(&device)?;
        entry.was_asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(&entry.registration))
    }

    pub(super) fn version(&self) -> Version {
        Version(self.version.load(Ordering::SeqCst))
    }

    /// Keeps what a look-up found, unless something changed since it began.
    pub(super) fn fill(&self, registration: &Arc<Registration>, since: Version) {
        // The comparison is made under the entry's lock. A change raises the version before it takes that lock, so it
        // is either seen here or overwrites what is written here.
        self.put(registration, |_| self.version.load(Ordering::SeqCst) == since.0);
    }

    /// Puts a change in effect.
    pub(super) fn replace(&self, registration: &Arc<Registration>) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.put(registration, |known| known.is_none_or(|known| known.epoch <= registration.epoch));
    }

    /// Puts a change in effect where the registration is cached, and says whether it was.
    pub(super) fn replace_known(&self, registration: &Arc<Registration>) -> bool {
        self.version.fetch_add(1, Ordering::SeqCst);
        let Some(mut entry) = self.entries.get_mut(&registration.device) else { return false };
        if entry.registration.epoch <= registration.epoch {
            entry.registration = Arc::clone(registration);
        }
        true
    }

    /// Forgets a registration of an earlier epoch, and says whether there was one: somebody else changed it.
    pub(super) fn forget_older(&self, device: DeviceId, epoch: u64) -> bool {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.entries.remove_if(&device, |_, entry| entry.registration.epoch < epoch).is_some()
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.entries.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn put(&self, registration: &Arc<Registration>, is_wanted: impl FnOnce(Option<&Registration>) -> bool) {
        let entry = Entry { registration: Arc::clone(registration), was_asked: AtomicBool::new(false) };
        match self.entries.entry(registration.device) {
            dashmap::Entry::Occupied(mut known) => {
                if is_wanted(Some(&known.get().registration)) {
                    known.insert(entry);
                }
                return;
            }
            dashmap::Entry::Vacant(_) if !is_wanted(None) => return,
            dashmap::Entry::Vacant(place) => drop(place.insert(entry)),
        }
        self.make_room(registration.device);
    }

    /// Called without an entry's lock: the ring's lock is always the outer one.
    fn make_room(&self, newcomer: DeviceId) {
        let mut ring = self.ring.lock().expect("no holder panics");
        ring.push_back(newcomer);
        while ring.len() > self.entries_max {
            let Some(oldest) = ring.pop_front() else { return };
            let was_asked =
                self.entries.get(&oldest).is_some_and(|entry| entry.was_asked.swap(false, Ordering::Relaxed));
            if was_asked {
                ring.push_back(oldest);
            } else {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(device: u64, epoch: u64) -> Arc<Registration> {
        Arc::new(Registration { epoch, ..Registration::for_tests(DeviceId(device), "AB123") })
    }

    #[test]
    fn the_cache_keeps_its_bound_and_what_is_asked_for() {
        let near = Near::new(3);
        for device in 1..=3 {
            near.fill(&registration(device, 1), near.version());
        }
        assert!(near.cached(DeviceId(1)).is_some());
        near.fill(&registration(4, 1), near.version());
        assert_eq!(near.len(), 3);
        assert!(near.cached(DeviceId(1)).is_some(), "it was asked for");
        assert!(near.cached(DeviceId(2)).is_none(), "it was the oldest that nobody asked for");
    }

    #[test]
    fn a_change_wins_over_a_look_up_that_began_before_it() {
        let near = Near::new(3);
        let since = near.version();
        near.replace(&registration(1, 2));
        near.fill(&registration(1, 1), since);
        assert_eq!(near.cached(DeviceId(1)).unwrap().epoch, 2);
    }

    #[test]
    fn an_older_change_that_comes_late_is_dropped() {
        let near = Near::new(3);
        near.replace(&registration(1, 3));
        near.replace(&registration(1, 2));
        assert_eq!(near.cached(DeviceId(1)).unwrap().epoch, 3);
    }
}
