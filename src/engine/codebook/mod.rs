//! Every code that is valid now, and the dongle that it belongs to.
//!
//! A book is immutable: the codes of all dongles as of the last roll ([`Edition`], [`index`]), and the few changes
//! since then ([`Overlay`]), so that a dongle that comes or goes does not have thirty million others built anew. A
//! hit compares all 16 bytes with what the HMAC gave: that is the verification, and nothing is hashed per frame. Each
//! dongle has the codes of its slots -1, 0 and +1, where slot 0 is the one that its clock (the server's, shifted by the
//! learned offset) shows at the moment that the book is made for; a book that is built in each slot therefore always
//! holds the codes around the boundary.
//!
//! Memory: 48 bytes of codes, 12 of id and clock and 18.8 of index come to 79 bytes a dongle; with the 32 of its key,
//! which only the [`Roster`] has, to 111. While a roll makes the next edition it takes 48 more and 24 of entries, which
//! turn into 18.8 of index; 12 more when a clock or a binding changed since the last one. That is 196 at most.
//!
//! ```text
//! changes, learned clocks -> Keeper (roster, changes since the roll) --roll--> Edition --+--> Codebook
//!                               '------------------- Overlay ---------------------------'
//! ```

mod builder;
mod column;
mod dongle;
mod edition;
mod fill;
mod gather;
mod index;
mod keeper;
mod line;
mod merge;
mod overlay;
mod roll;
mod roster;
mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use builder::{AddError, Builder};
pub use dongle::{Dongle, Kind, key_of};
pub use gather::RosterBuilder;
pub use keeper::{Keeper, Learned};
pub use roll::Roll;
pub use roster::{BLOCK_MAX, Roster};
pub use share::Share;

use super::{
    code::Code,
    id::DeviceId,
    time::{Slot, SlotLength, UnixMs},
};
use edition::Edition;
use overlay::Overlay;

/// A code's dongle, and the slot of the dongle's clock that the code belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    pub device: DeviceId,
    pub slot: Slot,
}

/// The codes of all dongles for the slots around one moment.
pub struct Codebook {
    edition: Arc<Edition>,
    overlay: Option<Overlay>,
    generation: u64,
}

impl Codebook {
    /// A book that knows nobody.
    pub fn empty() -> Codebook {
        Codebook { edition: Edition::empty(SlotLength::DEFAULT, UnixMs(0)), overlay: None, generation: 0 }
    }

    #[inline]
    pub fn find(&self, code: &Code) -> Option<Hit> {
        let hash = index::hash(code);
        let entry = self.edition.find(hash, code);
        match &self.overlay {
            None => entry.map(|entry| self.edition.hit(entry)),
            Some(overlay) => overlay.over(entry.map(|entry| (entry, self.edition.hit(entry))), hash, code),
        }
    }

    /// Looks many codes up and tells what was found of each, in order: their reads are under way together, which
    /// takes less time than as many [`find`]s in a book that no cache holds.
    ///
    /// [`find`]: Codebook::find
    pub fn find_all(&self, codes: &[Code], mut tell: impl FnMut(usize, Option<Hit>)) {
        self.edition.find_all(codes, |nth, found| match &self.overlay {
            None => tell(nth, found.map(|(_, hit)| hit)),
            Some(overlay) => tell(nth, overlay.over(found, index::hash(&codes[nth]), &codes[nth])),
        });
    }

    /// Grows with each book that is built: what was resolved against an older one is asked for again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many dongles the book knows.
    pub fn len(&self) -> usize {
        let (gone, added) = self.overlay.as_ref().map_or((0, 0), |overlay| (overlay.gone(), overlay.added()));
        self.edition.len() - gone + added
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dongles that have the code of another one, and are not in the book.
    pub fn left_out(&self) -> usize {
        self.edition.left_out.len() + self.overlay.as_ref().map_or(0, Overlay::left_out)
    }

    /// What the book occupies, all told.
    pub fn bytes(&self) -> usize {
        self.edition.bytes() + self.overlay.as_ref().map_or(0, Overlay::bytes)
    }
}

impl std::fmt::Debug for Codebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codebook(generation {}, {} dongles)", self.generation, self.len())
    }
}
