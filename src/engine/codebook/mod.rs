//! Every code that is valid now, and the dongle that it belongs to.
//!
//! There is one table of [rows](row), and one writer, the [`Keeper`], changes it in place while any number of readers look
//! codes up without a lock: so a dongle that comes, goes or is heard by another clock is changed by itself and at once,
//! and the end of a slot replaces one code of three. Only the [`index`] over the rows is made anew for each slot. A hit
//! compares all 16 bytes with what the HMAC gave: that is the verification, and nothing is hashed per frame. Each dongle
//! has the codes of its slots -1, 0 and +1, where slot 0 is the one that its clock (the server's, shifted by the learned
//! offset) shows in the middle of the chain's slot.
//!
//! What a reader may meet while a roll is under way: dongles that have gone on to the new slot, and dongles that have
//! not. Both have the codes of the slot before and of the new one, and the index of before leads to them. What a roll
//! takes away is by then two slots old, and what it brings is not on the air before its time but from clocks that are
//! ahead; until the roll is over, such a code is a miss. [`row`] says why no reader ever takes one dongle, or one slot,
//! for another.
//!
//! Memory: a row of 64 bytes and 18.8 of index come to 83 a dongle; with the 32 of its key and 4 of its clock, which only
//! the [`Roster`] has, to 119; and in a roll, with the next index, to 138. A hit reads two lines of memory, a miss one.
//!
//! ```text
//! changes, learned clocks, a new slot -> Keeper (Roster: keys, clocks) --in place--> table <--look-ups-- Codebook
//! ```

mod builder;
mod column;
mod dongle;
mod index;
mod keeper;
mod line;
mod members;
mod moment;
mod renewal;
mod roster;
mod row;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

pub use builder::{AddError, Builder};
pub use dongle::{Dongle, Kind, key_of};
pub use keeper::{Keeper, Learned};
pub use renewal::Share;
pub use roster::{Roster, RosterBuilder};

use super::{
    code::Code,
    id::DeviceId,
    time::{Slot, SlotLength, UnixMs},
};
use table::Table;

/// A code's dongle, and the slot of the dongle's clock that the code belongs to: 0 for a fixed code, which has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    pub device: DeviceId,
    pub slot: Slot,
}

/// What a reader holds for a moment: the table, which goes on to change, and what was true of it when it was handed out.
#[derive(Clone)]
pub struct Codebook {
    table: Arc<Table>,
    generation: u64,
    len: usize,
    left_out: usize,
    bytes: usize,
}

impl Codebook {
    /// A book that knows nobody.
    pub fn empty() -> Codebook {
        Codebook { table: Arc::new(Table::empty()), generation: 0, len: 0, left_out: 0, bytes: 0 }
    }

    #[inline]
    pub fn find(&self, code: &Code) -> Option<Hit> {
        self.table.find(code)
    }

    /// Looks many codes up and tells what was found of each, in order: their reads are under way together, which
    /// takes less time than as many [`find`]s in a book that no cache holds.
    ///
    /// [`find`]: Codebook::find
    #[inline]
    pub fn find_all(&self, codes: &[Code], tell: impl FnMut(usize, Option<Hit>)) {
        self.table.find_all(codes, tell);
    }

    /// Grows with each book that is handed out: what was resolved by an older one is asked for again. It is the book's,
    /// whatever happens to the table, so that what changes after it was read is asked for with the next.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many dongles the table knew.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Dongles that have the code of another one, and are not in the table.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// What the table occupies.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl std::fmt::Debug for Codebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codebook(generation {}, {} dongles)", self.generation, self.len)
    }
}
