//! The flood: as many frames as an engine takes, beside floors that show what the wire itself would take.
//!
//! [`traffic`] knows what a station's receivers hear, [`source`] makes bytes of it ahead, [`sender`] writes them to the
//! connections of a [`group`], and a [`receiver`] says what has arrived: the engine's process, or that of a bare
//! [`sink`]. [`race`] lets them take turns, [`summary`] says what came of it. [`growth`] asks how the cost grows with the chain,
//! [`uplinks`] how many can be held, [`overload`] what becomes of more than it takes, [`rolls`] whether frames wait while the
//! codebook rolls.

pub mod answers;
pub mod bench;
pub mod cargo;
pub mod chain;
pub mod dongles;
mod error;
pub mod group;
pub mod growth;
pub mod link;
pub mod load;
pub mod overload;
pub mod probe;
pub mod race;
pub mod receiver;
pub mod rolls;
mod scraper;
pub mod sender;
pub mod sink;
pub mod source;
mod spread;
pub mod summary;
pub mod traffic;
pub mod uplinks;

pub use bench::Bench;
pub use error::FloodError;
pub use load::Load;
pub use spread::{Percentiles, Spread};
