//! Every code that is valid now, and the dongle that it belongs to.
//!
//! There is one [`table`] of codes, and one writer, the [`Keeper`], changes it in place while any number of readers look
//! codes up without a lock: so a dongle that comes, goes or is heard by another clock is changed by itself and at once,
//! and the end of a slot takes out what is over and puts one new code a dongle in. A hit compares a fingerprint of what
//! the HMAC gave ([`entry`] says how good it is): that is the verification, and nothing is hashed per frame. Each dongle
//! has the codes of its slots -1, 0 and +1, where slot 0 is the one that its clock (the server's, shifted by the learned
//! offset) shows in the middle of the chain's slot.
//!
//! While a roll is under way the codes of the last slot and of the new one are there, which are on the air. The codes of
//! the one after come in with it: those of clocks that are ahead may be a miss until it is over.
//!
//! Memory: the table takes 73.8 bytes a dongle, its id, scheme, key and clock, which only the [`Roster`] has, 45: 119, and
//! in a roll the [`backlog`] one more. A chain that outgrows its table has two while the larger one is made: 194. A look-up
//! reads one line of memory, hit or miss.
//!
//! ```text
//! changes, learned clocks, a new slot -> Keeper (Roster: keys, clocks) --in place--> table <--look-ups-- Codebook
//! ```

mod backlog;
mod builder;
mod column;
mod dongle;
mod entry;
mod four;
mod keeper;
mod line;
mod members;
mod moment;
mod renewal;
mod roster;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

pub use builder::{AddError, Builder};
pub use dongle::{Dongle, Kind, key_of};
pub use entry::Phase;
pub use keeper::{Keeper, Learned, Sink};
pub use renewal::{Fresh, Share};
pub use roster::{Roster, RosterBuilder};

use super::{
    code::Code,
    id::DeviceId,
    time::{Slot, SlotLength, UnixMs},
};
use table::Table;

/// A dongle's codes: of its slots -1, 0 and +1.
const CODES_EACH: usize = 3;

/// A code's dongle, and what the table knows of the slot that the code belongs to: [`Keeper::reading`] tells which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    pub device: DeviceId,
    pub phase: Phase,
    /// Of the table in which it was found.
    pub edition: u8,
}

/// In which slot a dongle's clock was, for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
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
}

impl Codebook {
    /// A book that knows nobody.
    pub fn empty() -> Codebook {
        Codebook { table: Arc::new(Table::empty(0)), generation: 0, len: 0, left_out: 0 }
    }

    #[inline]
    pub fn find(&self, code: &Code) -> Option<Hit> {
        self.table.find(code)
    }

    /// Looks many codes up and tells, by its number, what was found of each: their reads are under way together, which
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
        self.table.bytes()
    }
}

impl std::fmt::Debug for Codebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codebook(generation {}, {} dongles)", self.generation, self.len)
    }
}
