//! Memory for one thing of every dongle.
//!
//! A column is a mapping of its own and not a part of the heap: hundreds of megabytes go back to the system the
//! moment that a book is dropped, where an allocator would keep them for later; and large ones ask for huge pages,
//! without which a look-up waits for the page tables as long as for the memory.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Two huge pages: in a smaller column no whole one may lie.
#[cfg(target_os = "linux")]
const HUGE_FROM_BYTES: usize = 4 << 20;

/// As many values as it was made for, all zero at first.
pub(crate) struct Column<T> {
    /// `None` for no values: nothing cannot be mapped.
    map: Option<MmapMut>,
    values: PhantomData<T>,
}

impl<T> Default for Column<T> {
    fn default() -> Column<T> {
        Column { map: None, values: PhantomData }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Column<T> {
    pub(crate) fn zeroed(len: usize) -> Column<T> {
        if len == 0 {
            return Column::default();
        }
        let bytes = len.checked_mul(size_of::<T>()).expect("what fits the memory has its bytes counted");
        let map = MmapMut::map_anon(bytes).expect("without memory for its dongles an engine cannot go on");
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_FROM_BYTES {
            // Refused where the system has no huge pages: look-ups are slower, and nothing else.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Column { map: Some(map), values: PhantomData }
    }

    pub(crate) fn copied(values: &[T]) -> Column<T>
    where
        T: Copy,
    {
        let mut column = Column::zeroed(values.len());
        column.copy_from_slice(values);
        column
    }

    pub(crate) fn bytes(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len())
    }
}

impl<T: FromBytes + Immutable> Deref for Column<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.map {
            Some(map) => <[T]>::ref_from_bytes(map).expect("a page fits any value, and the bytes are whole values"),
            None => &[],
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> DerefMut for Column<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.map {
            Some(map) => <[T]>::mut_from_bytes(map).expect("a page fits any value, and the bytes are whole values"),
            None => &mut [],
        }
    }
}
