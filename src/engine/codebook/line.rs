//! A line of the index: twelve places, their tags, and a filter of what went on to the next line.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const PLACES: usize = 12;

/// `repr(C)` in this order fills the 64 bytes of a cache line exactly.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Line {
    pub(super) entries: [u32; PLACES],
    pub(super) tags: Tags,
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

/// The tags of a line, a byte each from the lowest on, and behind them its filter: a bit for each sixteenth of the tags
/// that went on to the next line. No tag is 0, which is that of an empty place.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Tags([u64; 2]);

const FILTER_SHIFT: u32 = 48;
impl Tags {
    /// The places with this tag. Without a branch: which place it is, nobody can foresee, and a wrong guess would wait
    /// for the memory.
    #[inline]
    pub(super) fn matches(self, tag: u8) -> Places {
        Places(same_bytes(self.0, tag) & ((1 << PLACES) - 1))
    }

    #[inline]
    pub(super) fn has_passed(self, tag: u8) -> bool {
        self.0[1] >> (FILTER_SHIFT + u32::from(tag & 15)) & 1 == 1
    }

    pub(super) fn pass(&mut self, tag: u8) {
        self.0[1] |= 1 << (FILTER_SHIFT + u32::from(tag & 15));
    }

    pub(super) fn put(&mut self, place: usize, tag: u8) {
        self.0[place / 8] |= u64::from(tag) << (place % 8 * 8);
    }

    /// The first empty place, if there is one.
    #[inline]
    pub(super) fn room(self) -> Option<usize> {
        self.matches(0).next()
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
