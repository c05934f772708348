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
        let member = self.members.all()[entry.owner()];
        let middle = self.moment.middle_slot(member, self.members.kind(entry.owner()));
        let shift = entry.which() as i64 - 1;
        Hit { device: member.device(), slot: Slot(middle.0.saturating_add_signed(shift)) }
    }

    /// Tells of each code, in order, what was found. Groups of them go through three stages one behind the other, so that
    /// the memory is always asked for one group's lines and another's codes while a third is compared.
    pub(super) fn find_all(&self, asked: &[Code], mut tell: impl FnMut(usize, Option<(Entry, Hit)>)) {
        if self.index.is_empty() {
            return (0..asked.len()).for_each(|nth| tell(nth, None));
        }
        let mut spots = [[(0, 0); GROUP]; 2];
        let mut glances = [[Glance::default(); GROUP]; 2];
        let group = |nth: usize| asked.get(nth * GROUP..asked.len().min((nth + 1) * GROUP)).unwrap_or_default();
        for stage in 0..asked.len().div_ceil(GROUP) + 2 {
            self.index.ask(group(stage), &mut spots[stage % 2]);
            if let Some(before) = stage.checked_sub(1) {
                let spots = &spots[before % 2][..group(before).len()];
                self.index.glance(spots, &mut glances[before % 2], |entry| self.touch(entry));
            }
            if let Some(first) = stage.checked_sub(2) {
                for (nth, (code, glance)) in group(first).iter().zip(&glances[first % 2]).enumerate() {
                    tell(first * GROUP + nth, self.compare(code, *glance));
                }
            }
        }
    }

    /// Asks the memory for a dongle's codes and its id.
    #[inline]
    fn touch(&self, entry: Entry) -> u8 {
        let code = entry.code(&self.codes).map_or(0, |code| code.0[0]);
        code ^ self.members.all().get(entry.owner()).map_or(0, Member::first_byte)
    }

    #[inline]
    fn compare(&self, code: &Code, glance: Glance) -> Option<(Entry, Hit)> {
        let entry = glance.candidate;
        if entry.code(&self.codes) == Some(code) {
            return Some((entry, self.hit(entry)));
        }
        // Seldom: the line is full and its neighbour has some of its codes, or two of them look alike.
        let entry = if glance.is_open { self.find(hash(code), code) } else { None }?;
        Some((entry, self.hit(entry)))
    }
}
