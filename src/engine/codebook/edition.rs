//! The codes of many dongles around one moment, with the index over them: the bulk of a codebook.
//!
//! Three codes a dongle lie together (48 bytes), so that one line of memory has the code that a look-up compares.

use std::sync::Arc;

use super::Hit;
use super::column::Column;
use super::index::{CODES_EACH, Entry, Index, Line, glance};
use super::roster::{Kind, Member, Members};
use crate::engine::code::{Code, Secret};
use crate::engine::time::{Slot, SlotLength, UnixMs};

/// Look-ups of a batch that are under way at once: more than a core's dozens of outstanding reads, and their notes
/// still lie in its nearest cache.
const GROUP: usize = 32;

pub(super) struct Edition {
    /// The moment whose slots are the middle ones, and the chain's slot length.
    pub(super) at: UnixMs,
    pub(super) chain: SlotLength,
    pub(super) members: Members,
    pub(super) codes: Column<[Code; CODES_EACH]>,
    pub(super) index: Index,
    /// By number and in order: those who have the code of an earlier one.
    pub(super) left_out: Vec<u32>,
}

/// Slot 0 of a dongle whose clock is `member`'s.
#[inline]
pub(super) fn middle_slot(chain: SlotLength, at: UnixMs, member: Member, kind: Kind) -> Slot {
    Slot(member.offset().dongle_time(at).0 / kind.slot_ms(chain))
}

/// One code a slot, -1 to +1. A fixed dongle has its only code in all three places, and one of them in the index.
pub(super) fn codes_around(secret: &Secret, middle: Slot) -> [Code; CODES_EACH] {
    [-1, 0, 1].map(|shift| secret.code(Slot(middle.0.saturating_add_signed(shift))))
}

impl Edition {
    pub(super) fn empty(chain: SlotLength, at: UnixMs) -> Arc<Edition> {
        Arc::new(Edition {
            at,
            chain,
            members: Members::default(),
            codes: Column::default(),
            index: Index::default(),
            left_out: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.members.all().len() - self.left_out.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.members.bytes() + self.codes.bytes() + self.index.bytes()
    }

    /// Without the members, which the roster counts.
    pub(super) fn codes_bytes(&self) -> usize {
        self.codes.bytes() + self.index.bytes()
    }

    pub(super) fn middle_slot(&self, owner: usize) -> Slot {
        middle_slot(self.chain, self.at, self.members.all()[owner], self.members.kind(owner))
    }

    pub(super) fn is_left_out(&self, owner: usize) -> bool {
        self.left_out.binary_search(&(owner as u32)).is_ok()
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, code: &Code) -> Option<Entry> {
        self.index.find(hash, code, &self.codes)
    }

    #[inline]
    pub(super) fn hit(&self, entry: Entry) -> Hit {
        let member = self.members.all()[entry.owner()];
        let middle = middle_slot(self.chain, self.at, member, self.members.kind(entry.owner()));
        let shift = entry.which() as i64 - 1;
        Hit { device: member.device(), slot: Slot(middle.0.saturating_add_signed(shift)) }
    }

    /// The entries of up to [`GROUP`] codes. Each of the loops reads for all of them before the next one needs what
    /// was read, so that the memory answers many at once: independent reads in one loop are their own prefetch.
    fn find_group(&self, asked: &[Code], found: &mut [Option<Entry>; GROUP]) {
        let lines: &[Line] = self.index.lines();
        let codes: &[[Code; CODES_EACH]] = &self.codes;
        let mut glances = [super::index::Glance::default(); GROUP];
        for (code, seen) in asked.iter().zip(&mut glances) {
            *seen = glance(lines, code);
        }
        for ((code, seen), found) in asked.iter().zip(&glances).zip(&mut *found) {
            *found = seen.candidate.filter(|entry| entry.code(codes) == Some(code));
        }
        for ((code, seen), found) in asked.iter().zip(&glances).zip(found) {
            if found.is_none() && seen.is_open {
                *found = self.find(super::index::hash(code), code);
            }
        }
    }

    /// Tells of each code, in order, what was found.
    pub(super) fn find_all(&self, asked: &[Code], mut tell: impl FnMut(usize, Option<Entry>, Option<Hit>)) {
        for (group, asked) in asked.chunks(GROUP).enumerate() {
            let mut found = [None; GROUP];
            self.find_group(asked, &mut found);
            let hits = found.map(|entry| entry.map(|entry| self.hit(entry)));
            for nth in 0..asked.len() {
                tell(group * GROUP + nth, found[nth], hits[nth]);
            }
        }
    }
}
