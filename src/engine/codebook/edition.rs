//! The codes of many dongles around one moment, with the index over them: the bulk of a codebook.
//!
//! Three codes a dongle lie together (48 bytes), so that one line of memory has the code that a look-up compares.

use std::sync::Arc;

use super::Hit;
use super::column::Column;
use super::dongle::{Kind, Member};
use super::index::{CODES_EACH, Entry, GROUP, Glance, Index, hash};
use super::roster::Members;
use crate::engine::code::{Code, Secret};
use crate::engine::time::{Slot, SlotLength, UnixMs};

pub(super) struct Edition {
    pub(super) moment: Moment,
    pub(super) members: Members,
    pub(super) codes: Column<[Code; CODES_EACH]>,
    pub(super) index: Index,
    /// By number and in order: those who have the code of an earlier one.
    pub(super) left_out: Vec<u32>,
}

/// The moment whose slots are the middle ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: UnixMs,
    pub(super) chain: SlotLength,
    /// The chain's slot, and how far into it the moment is.
    slot: u64,
    phase_ms: i64,
}

impl Moment {
    pub(super) fn new(chain: SlotLength, at: UnixMs) -> Moment {
        Moment { at, chain, slot: at.0 / chain.ms(), phase_ms: (at.0 % chain.ms()) as i64 }
    }

    /// Slot 0 of a dongle: nearly always the chain's or the one before, which saves a hit its division.
    #[inline]
    pub(super) fn middle_slot(&self, member: Member, kind: Kind) -> Slot {
        let (ms, into) = (self.chain.ms() as i64, self.phase_ms + i64::from(member.offset().0) * 1000);
        if kind.has_chain_slots() && (-ms..ms).contains(&into) && self.slot > 0 {
            return Slot(self.slot - u64::from(into < 0));
        }
        Slot(member.offset().dongle_time(self.at).0 / kind.slot_ms(self.chain))
    }
}

/// One code a slot, -1 to +1. A fixed dongle has its only code in all three places, and one of them in the index.
pub(super) fn codes_around(secret: &Secret, middle: Slot) -> [Code; CODES_EACH] {
    [-1, 0, 1].map(|shift| secret.code(Slot(middle.0.saturating_add_signed(shift))))
}

impl Edition {
    pub(super) fn empty(chain: SlotLength, at: UnixMs) -> Arc<Edition> {
        Arc::new(Edition {
            moment: Moment::new(chain, at),
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
        self.moment.middle_slot(self.members.all()[owner], self.members.kind(owner))
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
        self.hit_of(entry, self.members.all()[entry.owner()])
    }

    #[inline]
    fn hit_of(&self, entry: Entry, member: Member) -> Hit {
        let middle = self.moment.middle_slot(member, self.members.kind(entry.owner()));
        let shift = entry.which() as i64 - 1;
        Hit { device: member.device(), slot: Slot(middle.0.saturating_add_signed(shift)) }
    }

    /// Tells of each code, in order, what was found: in groups, whose reads are under way together.
    pub(super) fn find_all(&self, asked: &[Code], mut tell: impl FnMut(usize, Option<(Entry, Hit)>)) {
        let (codes, members): (&[[Code; CODES_EACH]], &[Member]) = (&self.codes, self.members.all());
        let mut glances = [Glance::default(); GROUP];
        for (group, asked) in asked.chunks(GROUP).enumerate() {
            self.index.glance(asked, &mut glances, |entry| {
                let code = entry.code(codes).map_or(0, |code| code.0[0]);
                code ^ members.get(entry.owner()).map_or(0, Member::first_byte)
            });
            for (nth, (code, glance)) in asked.iter().zip(&glances).enumerate() {
                let entry = glance.candidate;
                let found = if entry.code(codes) == Some(code) {
                    Some((entry, self.hit_of(entry, members[entry.owner()])))
                } else if glance.is_open {
                    self.find(hash(code), code).map(|entry| (entry, self.hit(entry)))
                } else {
                    None
                };
                tell(group * GROUP + nth, found);
            }
        }
    }
}
