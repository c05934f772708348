//! A line of the table: four places, of a word and a dongle's id each.
//!
//! One thread writes, any number read, and nobody waits: the writer empties a place before it writes another dongle's id
//! into it, and writes the word last. A reader looks at the word before and after it reads the id, and believes the id when
//! both have its fingerprint. So it takes no dongle for another, unless it stands still between two reads while the code
//! goes, another dongle gets the place and goes, and the code comes back into the same place.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use memmap2::MmapMut;
use self_cell::{MutBorrow, self_cell};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use super::entry::{Fingerprint, Word};
use super::moment::Turn;
use super::{Phase, column};
use crate::engine::id::DeviceId;

pub(super) const PLACES: usize = 4;

/// `repr(C)` in this order fills the 64 bytes of a cache line exactly.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Line {
    words: [AtomicU64; PLACES],
    devices: [AtomicU64; PLACES],
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

type SharedLines<'a> = &'a [Line];

self_cell!(
    /// The lines of a table.
    pub(super) struct Lines {
        owner: MutBorrow<MmapMut>,

        #[covariant]
        dependent: SharedLines,
    }
);

impl Lines {
    pub(super) fn zeroed(count: usize) -> Lines {
        Lines::new(MutBorrow::new(column::zeroed::<Line>(count)), |map| column::shared(map))
    }

    #[inline]
    pub(super) fn all(&self) -> &[Line] {
        self.borrow_dependent()
    }
}

impl Line {
    #[inline]
    pub(super) fn words(&self) -> [Word; PLACES] {
        std::array::from_fn(|place| Word(self.words[place].load(Acquire)))
    }

    #[inline]
    pub(super) fn device(&self, place: usize) -> DeviceId {
        DeviceId(self.devices[place].load(Relaxed))
    }

    /// Whose code it is, and of which slot, if this line has it.
    #[inline]
    pub(super) fn read(&self, fingerprint: Fingerprint) -> Option<(DeviceId, Phase)> {
        let place = place_of(&self.words(), fingerprint)?;
        let device = self.device(place);
        fence(Acquire);
        let after = Word(self.words[place].load(Acquire));
        (after.fingerprint() == fingerprint).then_some((device, after.phase()))
    }

    /// Whether one with such a fingerprint went on to another line.
    #[inline]
    pub(super) fn has_passed(&self, fingerprint: Fingerprint) -> bool {
        Word(self.words[fingerprint.marked_place()].load(Acquire)).has_passed(fingerprint)
    }

    /// For the one who writes: an entry into an empty place, or other bits of the same entry.
    #[inline]
    pub(super) fn put(&self, place: usize, word: Word, device: DeviceId) {
        let before = Word(self.words[place].load(Relaxed));
        fence(Release);
        self.devices[place].store(device.0, Relaxed);
        self.words[place].store(before.replaced(word).0, Release);
    }

    /// Takes an entry out.
    pub(super) fn clear(&self, place: usize) {
        let before = Word(self.words[place].load(Relaxed));
        self.words[place].store(before.replaced(Word(0)).0, Release);
    }

    /// Takes out what is of a turn, and its marks, and tells what is left.
    #[inline]
    pub(super) fn expire(&self, turn: Turn) -> [Word; PLACES] {
        std::array::from_fn(|place| {
            let left = Word(self.words[place].load(Relaxed)).without(turn);
            self.words[place].store(left.0, Release);
            left
        })
    }

    /// With the entries that it has these marks and no others.
    #[inline]
    pub(super) fn mark(&self, entries: &[Word; PLACES], marks: &[Word; PLACES]) {
        for ((word, entry), marks) in self.words.iter().zip(entries).zip(marks) {
            word.store(marks.replaced(*entry).0, Release);
        }
    }

    /// Writes what is there.
    pub(super) fn touch(&self) {
        self.words[0].store(self.words[0].load(Relaxed), Relaxed);
    }

    /// Marks that an entry with this word went on to another line.
    pub(super) fn pass(&self, entry: Word) {
        let word = &self.words[entry.fingerprint().marked_place()];
        word.store(Word(word.load(Relaxed)).passed(entry).0, Release);
    }
}

/// The place with this fingerprint. Without a branch for each: which place it is, nobody can foresee.
#[inline]
pub(super) fn place_of(words: &[Word; PLACES], fingerprint: Fingerprint) -> Option<usize> {
    let same = (0..PLACES).fold(0_u32, |all, nth| all | u32::from(words[nth].fingerprint() == fingerprint) << nth);
    (same != 0).then(|| same.trailing_zeros() as usize % PLACES)
}

/// The first place that nobody has, in the same way.
#[inline]
pub(super) fn empty_place(words: &[Word; PLACES]) -> Option<usize> {
    let empty = (0..PLACES).fold(0_u32, |all, nth| all | u32::from(words[nth].is_empty()) << nth);
    (empty != 0).then(|| empty.trailing_zeros() as usize % PLACES)
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::super::entry::Hash;
    use super::*;
    use crate::engine::{code::Code, time::Slot};

    #[test]
    fn a_place_that_another_dongle_gets_is_never_that_of_the_one_before() {
        let line = Line::new_zeroed();
        let [one, other] = [1, 2].map(|byte| Hash::of(&Code([byte; 16])).fingerprint);
        let word = |fingerprint| Word::of(fingerprint, Phase::of(Slot(3)), None);
        line.pass(word(one));
        line.put(2, word(one), DeviceId(7));
        assert_eq!(line.read(one), Some((DeviceId(7), Phase::of(Slot(3)))));
        line.clear(2);
        line.put(2, word(other), DeviceId(8));
        assert_eq!((line.read(one), line.read(other).map(|(device, _)| device)), (None, Some(DeviceId(8))));
        assert!(line.has_passed(one), "the marks are the line's");
    }
}
