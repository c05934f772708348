//! What is remembered of an uplink: its codes by number, and how far its spool was applied.

use std::collections::VecDeque;

use crate::engine::{
    batch::Batch,
    code::Code,
    codebook::{Codebook, Hit},
    id::{DeviceId, SpoolId},
    presence::WindowHandle,
    time::UnixMs,
};

/// Starts of a gateway that are told apart. A late batch of an older one is applied as if it were new.
const SPOOLS_MAX: usize = 4;

/// A code that an uplink introduced, and what it stood for when it was last looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    code: Code,
    generation: u64,
    owner: Option<DeviceId>,
    /// The owner's window, as of its last hearing.
    pub(super) window: Option<WindowHandle>,
}

/// The codes of one uplink by the numbers that it gave them. At most `CODES_MAX`: a batch that goes beyond is refused.
#[derive(Debug, Default)]
pub(super) struct CodeTable {
    entries: Vec<Entry>,
}

impl CodeTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in what the batch introduces.
    pub(super) fn introduce(&mut self, batch: &Batch<'_>) {
        if batch.starts_table() {
            self.entries.clear();
        }
        // No book has this generation, so that the first hearing looks the code up.
        let unknown = |&code| Entry { code, generation: u64::MAX, owner: None, window: None };
        self.entries.extend(batch.introductions().iter().map(unknown));
    }

    /// The owner of the code with this number, looked up once per codebook; `found` is told of each look-up that
    /// found one.
    pub(super) fn resolve(
        &mut self,
        number: u16,
        book: &Codebook,
        found: impl FnOnce(Hit),
    ) -> (Option<DeviceId>, &mut Entry) {
        let entry = &mut self.entries[usize::from(number)];
        if entry.generation != book.generation() {
            let hit = book.find(&entry.code);
            entry.generation = book.generation();
            entry.owner = hit.map(|hit| hit.device);
            hit.map(found);
        }
        (entry.owner, entry)
    }
}

/// The highest applied sequence of the last few spools.
#[derive(Debug, Default)]
pub(super) struct Spools {
    applied: VecDeque<(SpoolId, u64)>,
}

impl Spools {
    pub(super) fn applied(&self, spool: SpoolId) -> Option<u64> {
        self.applied.iter().find(|(known, _)| *known == spool).map(|(_, sequence)| *sequence)
    }

    /// Whether the batch is new; it counts as applied from now on.
    pub(super) fn advance(&mut self, spool: SpoolId, sequence: u64) -> bool {
        if let Some((_, applied)) = self.applied.iter_mut().find(|(known, _)| *known == spool) {
            let is_new = sequence > *applied;
            *applied = sequence.max(*applied);
            return is_new;
        }
        if self.applied.len() == SPOOLS_MAX {
            self.applied.pop_front();
        }
        self.applied.push_back((spool, sequence));
        true
    }
}

/// Hearings of each receiver in the current second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    second: u64,
    counts: [u32; crate::engine::limits::RECEIVERS_MAX],
}

impl Rates {
    /// Begins a new second when it is time.
    pub(super) fn tick(&mut self, now: UnixMs) {
        if now.0 / 1000 != self.second {
            *self = Rates { second: now.0 / 1000, ..Rates::default() };
        }
    }

    /// Whether the receiver may be heard once more in this second.
    pub(super) fn admit(&mut self, receiver: u8, max: u32) -> bool {
        let count = &mut self.counts[usize::from(receiver) % self.counts.len()];
        *count += 1;
        *count <= max
    }
}
