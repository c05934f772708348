//! Memory for one thing of every dongle.
//!
//! A column is a mapping of its own and not a part of the heap: room that nobody uses yet is a range of addresses and no
//! memory, gigabytes go back to the system the moment that they are dropped, and large columns ask for huge pages,
//! without which a look-up waits for the page tables as long as for the memory.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};
use self_cell::MutBorrow;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Two huge pages: in a smaller column no whole one may lie.
#[cfg(target_os = "linux")]
const HUGE_FROM_BYTES: usize = 4 << 20;

/// As many values as it was made for, all zero at first, of one owner.
pub(super) struct Column<T> {
    map: MmapMut,
    values: PhantomData<T>,
}

/// Zeros for so many values, and for one at least: nothing cannot be mapped. Not reserved, since most of the room is
/// never used: what it takes is counted when it is.
pub(super) fn zeroed<T>(len: usize) -> MmapMut {
    let bytes = len.max(1).checked_mul(size_of::<T>()).expect("what fits the memory has its bytes counted");
    let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
    let map = map.expect("without memory for its dongles an engine cannot go on");
    #[cfg(target_os = "linux")]
    if bytes >= HUGE_FROM_BYTES {
        // Refused where the system has no huge pages: look-ups are slower, and nothing else.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    map
}

/// The values of a mapping that many threads read while one writes: `T` is made of atomics.
pub(super) fn shared<T: FromBytes + IntoBytes + KnownLayout>(map: &MutBorrow<MmapMut>) -> &[T] {
    <[T]>::mut_from_bytes(map.borrow_mut()).expect("a page fits any value, and the bytes are whole values")
}

impl<T: FromBytes + IntoBytes + Immutable> Column<T> {
    pub(super) fn zeroed(len: usize) -> Column<T> {
        Column { map: zeroed::<T>(len), values: PhantomData }
    }
}

impl<T: FromBytes + Immutable> Deref for Column<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        <[T]>::ref_from_bytes(&self.map).expect("a page fits any value, and the bytes are whole values")
    }
}

impl<T: FromBytes + IntoBytes + Immutable> DerefMut for Column<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        <[T]>::mut_from_bytes(&mut self.map).expect("a page fits any value, and the bytes are whole values")
    }
}
