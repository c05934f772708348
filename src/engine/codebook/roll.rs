//! From one edition to the next, in steps that are short beside a second.
//!
//! A dongle that went on by one slot keeps two of its codes and needs one; one that stayed (an EID lasts longer than
//! a slot) keeps all three; one whose clock turned out to be elsewhere, or that is new, needs what it has not. So an
//! edition is the same whether it came from another or from nothing.
//!
//! An edition is made for the start of the chain's slot, whenever in the slot that is: a dongle shows the code of its
//! slot then, or the next, until the slot is over.

use std::ops::Range;
use std::sync::Arc;

use super::column::Column;
use super::edition::{Edition, codes_around, middle_slot};
use super::index::{CODES_EACH, Deal, Filling};
use super::roster::{Kind, Roster};
use crate::engine::code::{Code, hmac_codes};
use crate::engine::time::{Slot, SlotLength, UnixMs};

/// Dongles of one step: some milliseconds.
const STEP: usize = 16_384;

/// Dongles that are computed together: the lanes are full, and what is noted of them lies in the nearest cache.
const CHUNK: usize = 256;

const NO_CODE: Code = Code([0; 16]);

/// Where the codes of a dongle are in the edition before.
#[derive(Clone, Copy)]
struct Before<'a> {
    codes: &'a [Code; CODES_EACH],
    middle: Slot,
}

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
        Roll { before, fresh, ..Roll::around(chain, chain.start_of(chain.slot_at(now)), roster) }
    }

    /// From nothing, and for `at` itself.
    pub(super) fn around(chain: SlotLength, at: UnixMs, roster: &Roster) -> Roll {
        let edition = Edition {
            at,
            chain,
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
        let (chain, at) = (edition.chain, edition.at);
        let cut = edition.codes.chunks_mut(each).enumerate();
        let fresh = &self.fresh;
        cut.map(|(nth, codes)| Share { chain, at, roster, before, fresh, first: nth * each, codes }).collect()
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
        let Edition { chain, at, codes, .. } = &mut self.edition;
        let (before, fresh) = (self.before.as_deref(), &self.fresh);
        let (first, codes) = (range.start, &mut codes[range]);
        Share { chain: *chain, at: *at, roster, before, fresh, first, codes }.compute();
    }

    pub(super) fn finish(mut self, roster: &Roster) -> Arc<Edition> {
        while self.step(roster) {}
        Arc::new(self.edition)
    }
}

/// The codes of some dongles, to be computed.
pub struct Share<'a> {
    chain: SlotLength,
    at: UnixMs,
    roster: &'a Roster,
    before: Option<&'a Edition>,
    fresh: &'a [u32],
    first: usize,
    codes: &'a mut [[Code; CODES_EACH]],
}

impl Share<'_> {
    pub fn compute(self) {
        let Share { chain, at, roster, before, fresh, mut first, mut codes } = self;
        let mut earlier = Earlier::new(before, fresh, roster, first);
        while !codes.is_empty() {
            let keys = roster.keys_from(first);
            let (chunk, rest) = codes.split_at_mut(keys.len().min(CHUNK).min(codes.len()));
            let count = chunk.len();
            let mut slots = [Slot(0); CHUNK];
            let mut known = [None; CHUNK];
            for nth in 0..count {
                let owner = first + nth;
                slots[nth] = middle_slot(chain, at, roster.members.all()[owner], roster.members.kind(owner));
                known[nth] = earlier.next(owner);
            }
            let chunk = Chunk { first, keys: &keys[..count], slots: &slots[..count], codes: chunk };
            chunk.compute(roster, &known);
            (first, codes) = (first + count, rest);
        }
    }
}

/// Walks through the edition before, beside a walk through the roster.
struct Earlier<'a> {
    edition: Option<&'a Edition>,
    roster: &'a Roster,
    fresh: &'a [u32],
    at: usize,
}

impl<'a> Earlier<'a> {
    fn new(edition: Option<&'a Edition>, fresh: &'a [u32], roster: &'a Roster, first: usize) -> Earlier<'a> {
        let fresh = &fresh[fresh.partition_point(|owner| (*owner as usize) < first)..];
        let place = roster.members.all().get(first).map(|member| member.place());
        let before = |edition: &Edition| edition.members.all().partition_point(|member| Some(member.place()) < place);
        Earlier { edition, roster, fresh, at: edition.map_or(0, before) }
    }

    /// Of the dongle with this number; they come in order.
    #[inline]
    fn next(&mut self, owner: usize) -> Option<Before<'a>> {
        let edition = self.edition?;
        let place = self.roster.members.all()[owner].place();
        let members = edition.members.all();
        while members.get(self.at).is_some_and(|member| member.place() < place) {
            self.at += 1;
        }
        if self.fresh.first().is_some_and(|fresh| *fresh as usize == owner) {
            self.fresh = &self.fresh[1..];
            return None;
        }
        let is_there = members.get(self.at).is_some_and(|member| member.place() == place);
        is_there.then(|| Before { codes: &edition.codes[self.at], middle: edition.middle_slot(self.at) })
    }
}

/// Some dongles in a row, of one block.
struct Chunk<'a> {
    first: usize,
    keys: &'a [[u8; 32]],
    slots: &'a [Slot],
    codes: &'a mut [[Code; CODES_EACH]],
}

impl Chunk<'_> {
    fn compute(self, roster: &Roster, known: &[Option<Before<'_>>; CHUNK]) {
        let all_hmac = roster.members.has_one_kind();
        let known = &known[..self.keys.len()];
        let went_on =
            |(before, slot): (&Option<Before<'_>>, &Slot)| before.is_some_and(|before| before.middle.0 + 1 == slot.0);
        if all_hmac && known.iter().all(Option::is_none) && self.slots.iter().all(|slot| slot.0 > 0) {
            let first = first_slots(self.slots, -1);
            hmac_codes(self.keys, &first[..self.keys.len()], self.codes);
        } else if all_hmac && known.iter().zip(self.slots).all(went_on) {
            self.go_on(known);
        } else {
            self.one_by_one(roster, known);
        }
    }

    /// All of them went on by one slot.
    fn go_on(self, known: &[Option<Before<'_>>]) {
        let mut new = [[NO_CODE]; CHUNK];
        let new = &mut new[..self.keys.len()];
        hmac_codes(self.keys, &first_slots(self.slots, 1)[..self.keys.len()], new);
        for ((codes, before), new) in self.codes.iter_mut().zip(known).zip(new) {
            let [_, middle, last] = *before.expect("all are known").codes;
            *codes = [middle, last, new[0]];
        }
    }

    /// What can be kept is kept; of the rest, HMAC codes are computed together.
    fn one_by_one(self, roster: &Roster, known: &[Option<Before<'_>>]) {
        let mut wanted = Wanted::default();
        for (nth, (codes, before)) in self.codes.iter_mut().zip(known).enumerate() {
            let (middle, kind) = (self.slots[nth], roster.members.kind(self.first + nth));
            if kind != Kind::HMAC && before.is_none_or(|before| before.middle != middle) {
                *codes = codes_around(&kind.secret(&self.keys[nth]), middle);
                continue;
            }
            for (which, code) in codes.iter_mut().enumerate() {
                let slot = Slot((middle.0 + which as u64).saturating_sub(1));
                match before.and_then(|before| kept(before, slot)) {
                    Some(kept) => *code = kept,
                    None => wanted.push((nth, which), &self.keys[nth], slot),
                }
            }
        }
        wanted.compute(self.codes);
    }
}

/// The code of a slot, when the edition before has it.
fn kept(before: Before<'_>, slot: Slot) -> Option<Code> {
    let which = (slot.0 + 1).checked_sub(before.middle.0)?;
    before.codes.get(usize::try_from(which).ok()?).copied()
}

fn first_slots(slots: &[Slot], shift: i64) -> [Slot; CHUNK] {
    let mut shifted = [Slot(0); CHUNK];
    for (shifted, slot) in shifted.iter_mut().zip(slots) {
        *shifted = Slot(slot.0.saturating_add_signed(shift));
    }
    shifted
}

/// Single codes of HMAC dongles.
#[derive(Default)]
struct Wanted {
    places: Vec<(usize, usize)>,
    keys: zeroize::Zeroizing<Vec<[u8; 32]>>,
    slots: Vec<Slot>,
}

impl Wanted {
    fn push(&mut self, place: (usize, usize), key: &[u8; 32], slot: Slot) {
        if self.places.is_empty() {
            // From the start as large as it gets: what a vector leaves behind when it grows is not wiped.
            self.keys.reserve_exact(CHUNK * CODES_EACH);
        }
        self.places.push(place);
        self.keys.push(*key);
        self.slots.push(slot);
    }

    fn compute(self, codes: &mut [[Code; CODES_EACH]]) {
        let mut computed = vec![[NO_CODE]; self.places.len()];
        hmac_codes(&self.keys, &self.slots, &mut computed);
        for ((nth, which), code) in self.places.into_iter().zip(computed) {
            codes[nth][which] = code[0];
        }
    }
}
