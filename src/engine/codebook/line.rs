//! A line of the index: twelve places, their tags, and a filter of what went on to the next line.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::MmapMut;
use self_cell::{MutBorrow, self_cell};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use super::column;

pub(super) const PLACES: usize = 12;

/// `repr(C)` in this order fills the 64 bytes of a cache line exactly.
///
/// A place counts when it has a tag: its entry is written before, and stays.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Line {
    entries: [AtomicU32; PLACES],
    tags: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

type SharedLines<'a> = &'a [Line];

self_cell!(
    /// The lines of an index.
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
    pub(super) fn tags(&self) -> Tags {
        Tags([self.tags[0].load(Acquire), self.tags[1].load(Acquire)])
    }

    #[inline]
    pub(super) fn entry(&self, place: usize) -> u32 {
        self.entries[place].load(Relaxed)
    }

    /// Puts an entry into the first empty place, if there is one.
    pub(super) fn put(&self, tag: u8, entry: u32) -> bool {
        self.put_beside(self.tags(), tag, entry)
    }

    /// The same, where nobody has this tag: what has it may be the same code, and an entry of it is not put.
    #[inline]
    pub(super) fn put_unlike(&self, tag: u8, entry: u32) -> bool {
        let tags = self.tags();
        tags.matches(tag).are_none() && self.put_beside(tags, tag, entry)
    }

    #[inline]
    fn put_beside(&self, tags: Tags, tag: u8, entry: u32) -> bool {
        let place = tags.matches(0).first();
        if place >= PLACES {
            return false;
        }
        self.entries[place].store(entry, Relaxed);
        let word = place / 8;
        self.tags[word].store(tags.0[word] | u64::from(tag) << (place % 8 * 8), Release);
        true
    }

    /// Writes what is there: who came meanwhile may be.
    pub(super) fn touch(&self) {
        self.tags[0].store(self.tags[0].load(Relaxed), Relaxed);
    }

    /// Marks that an entry went on to the next line.
    pub(super) fn pass(&self, tag: u8) {
        self.tags[1].store(self.tags[1].load(Relaxed) | filter_bit(tag), Release);
    }
}

/// The tags of a line, a byte each from the lowest on, and behind them its filter: a bit for each eighth of the tags that
/// went on to the next line. No tag is 0, which is that of an empty place.
#[derive(Clone, Copy)]
pub(super) struct Tags([u64; 2]);

#[inline]
fn filter_bit(tag: u8) -> u64 {
    1 << (32 + u32::from(tag & 31))
}

impl Tags {
    /// The places with this tag. Without a branch: which place it is, nobody can foresee, and a wrong guess would wait
    /// for the memory.
    #[inline]
    pub(super) fn matches(self, tag: u8) -> Places {
        Places(same_bytes(self.0, tag) & ((1 << PLACES) - 1))
    }

    #[inline]
    pub(super) fn is_full(self) -> bool {
        self.matches(0).are_none()
    }

    #[inline]
    pub(super) fn has_passed(self, tag: u8) -> bool {
        self.0[1] & filter_bit(tag) != 0
    }
}

/// A bit for each of the 16 bytes that is `wanted`, the lowest first. Every x86-64 has SSE2, so the token costs nothing.
#[cfg(target_arch = "x86_64")]
#[inline]
fn same_bytes(words: [u64; 2], wanted: u8) -> u32 {
    let simd = pulp::core_arch::x86::Sse2::try_new().expect("it is part of x86-64");
    let same = simd._mm_cmpeq_epi8(pulp::cast(words), simd._mm_set1_epi8(wanted.cast_signed()));
    simd._mm_movemask_epi8(same).cast_unsigned()
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn same_bytes(words: [u64; 2], wanted: u8) -> u32 {
    let bytes = words.map(u64::to_le_bytes);
    let same = bytes.as_flattened().iter().enumerate().map(|(nth, byte)| u32::from(*byte == wanted) << nth);
    same.fold(0, |all, bit| all | bit)
}

/// Places of a line, a bit each, taken from the first on.
#[derive(Clone)]
pub(super) struct Places(u32);

impl Places {
    /// The first, or a place that there is not.
    #[inline]
    pub(super) fn first(&self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// The second, or a place that there is not.
    #[inline]
    pub(super) fn second(&self) -> usize {
        (self.0 & self.0.wrapping_sub(1)).trailing_zeros() as usize
    }

    #[inline]
    pub(super) fn are_none(&self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn are_several(&self) -> bool {
        self.0 & self.0.wrapping_sub(1) != 0
    }
}

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (place < PLACES).then_some(place)
    }
}
