//! The codes of some dongles of an edition: kept from the one before where they are the same, else computed.

use super::dongle::Kind;
use super::edition::{Edition, Moment, codes_around};
use super::index::CODES_EACH;
use super::roster::Roster;
use crate::engine::code::{Code, hmac_codes};
use crate::engine::time::Slot;

/// Dongles that are computed together: the lanes are full, and what is noted of them lies in the nearest cache.
const CHUNK: usize = 256;

const NO_CODE: Code = Code([0; 16]);

/// Where the codes of a dongle are in the edition before.
#[derive(Clone, Copy)]
struct Before<'a> {
    codes: &'a [Code; CODES_EACH],
    middle: Slot,
}

/// The codes of some dongles, to be computed.
pub struct Share<'a> {
    pub(super) moment: Moment,
    pub(super) roster: &'a Roster,
    pub(super) before: Option<&'a Edition>,
    /// Dongles that have a key which the edition before does not know, by number and in order.
    pub(super) fresh: &'a [u32],
    pub(super) first: usize,
    pub(super) codes: &'a mut [[Code; CODES_EACH]],
}

impl Share<'_> {
    pub fn compute(self) {
        let Share { moment, roster, before, fresh, mut first, mut codes } = self;
        let mut earlier = Earlier::new(before, fresh, roster, first);
        while !codes.is_empty() {
            let keys = roster.keys_from(first);
            let (chunk, rest) = codes.split_at_mut(keys.len().min(CHUNK).min(codes.len()));
            let count = chunk.len();
            let mut slots = [Slot(0); CHUNK];
            let mut known = [None; CHUNK];
            for nth in 0..count {
                let owner = first + nth;
                slots[nth] = moment.middle_slot(roster.members.all()[owner], roster.members.kind(owner));
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
