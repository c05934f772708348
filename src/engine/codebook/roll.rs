//! From one edition to the next, in steps that are short beside a second.
//!
//! A dongle that went on by one slot keeps two of its codes and needs one; one that stayed (an EID lasts longer than
//! a slot) keeps all three; one whose clock turned out to be elsewhere, or that is new, needs what it has not. So an
//! edition is the same whether it came from another or from nothing.
//!
//! An edition is made for the middle of the chain's slot, whenever in the slot that is. So a dongle whose clock is up to
//! half a slot from what is believed of it is in the book at every moment of the slot, ahead or behind: at 150 ppm and
//! 300 s that is 11 days of silence at least, and 34 at most.

use std::ops::Range;
use std::sync::Arc;

use super::column::Column;
use super::edition::{Edition, Moment};
use super::fill::{Deal, Filling};
use super::index::CODES_EACH;
use super::roster::Roster;
use super::share::Share;
use crate::engine::time::{SlotLength, UnixMs};

/// Dongles of one step: some milliseconds.
const STEP: usize = 16_384;

/// An edition in the making.
pub struct Roll {
    edition: Edition,
    before: Option<Arc<Edition>>,
    /// Dongles that have a key which the edition before does not know, by number and in order.
    fresh: Vec<u32>,
    is_computed: bool,
    next: usize,
    work: Work,
}

enum Work {
    Deal(Deal),
    Fill(Filling),
    Done,
}

impl Roll {
    pub(super) fn new(
        chain: SlotLength,
        now: UnixMs,
        roster: &Roster,
        before: Option<Arc<Edition>>,
        fresh: Vec<u32>,
    ) -> Roll {
        let middle = chain.start_of(chain.slot_at(now)).plus(chain.ms() / 2);
        Roll { before, fresh, ..Roll::around(chain, middle, roster) }
    }

    /// From nothing, and for `at` itself.
    pub(super) fn around(chain: SlotLength, at: UnixMs, roster: &Roster) -> Roll {
        let edition = Edition {
            moment: Moment::new(chain, at),
            members: roster.members.clone(),
            codes: Column::zeroed(roster.len()),
            index: super::index::Index::default(),
            left_out: Vec::new(),
        };
        let work = Work::Deal(Deal::new(roster.len() * CODES_EACH));
        Roll { edition, before: None, fresh: Vec::new(), is_computed: false, next: 0, work }
    }

    /// What the edition in the making occupies now.
    pub fn bytes(&self) -> usize {
        let work = match &self.work {
            Work::Deal(deal) => deal.bytes(),
            Work::Fill(filling) => filling.bytes(),
            Work::Done => 0,
        };
        self.edition.codes.bytes() + self.edition.index.bytes() + work
    }

    /// Splits the computing of the codes into so many shares, which may be done in any order and on any thread, all
    /// of them before the next step.
    pub fn shares<'a>(&'a mut self, roster: &'a Roster, count: usize) -> Vec<Share<'a>> {
        self.is_computed = true;
        let each = self.edition.codes.len().div_ceil(count.max(1)).max(1);
        let (edition, before) = (&mut self.edition, self.before.as_deref());
        let moment = edition.moment;
        let cut = edition.codes.chunks_mut(each).enumerate();
        let fresh = &self.fresh;
        cut.map(|(nth, codes)| Share { moment, roster, before, fresh, first: nth * each, codes }).collect()
    }

    /// Goes on for some milliseconds. `false` when the edition is ready.
    pub fn step(&mut self, roster: &Roster) -> bool {
        self.work = match std::mem::replace(&mut self.work, Work::Done) {
            Work::Deal(deal) if self.next == roster.len() => Work::Fill(deal.dealt()),
            Work::Deal(mut deal) => {
                let range = self.next..(self.next + STEP).min(roster.len());
                self.compute(roster, range.clone());
                let members = &self.edition.members;
                let is_single = |owner| !members.has_one_kind() && members.kind(owner).is_single();
                deal.add(range.start, &self.edition.codes[range.clone()], is_single);
                self.next = range.end;
                Work::Deal(deal)
            }
            Work::Fill(mut filling) => {
                if filling.step(&self.edition.codes) {
                    Work::Fill(filling)
                } else {
                    (self.edition.index, self.edition.left_out) = filling.finish(&self.edition.codes);
                    Work::Done
                }
            }
            Work::Done => return false,
        };
        true
    }

    fn compute(&mut self, roster: &Roster, range: Range<usize>) {
        if self.is_computed {
            return;
        }
        let Edition { moment, codes, .. } = &mut self.edition;
        let (before, fresh) = (self.before.as_deref(), &self.fresh);
        let (first, codes) = (range.start, &mut codes[range]);
        Share { moment: *moment, roster, before, fresh, first, codes }.compute();
    }

    pub(super) fn finish(mut self, roster: &Roster) -> Arc<Edition> {
        while self.step(roster) {}
        Arc::new(self.edition)
    }
}
