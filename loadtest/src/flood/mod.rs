//! The flood: as many frames as an engine takes, beside floors that show what the wire itself would take.

mod cargo;
pub mod chain;
pub mod dongles;
mod group;
mod link;
pub mod load;
pub mod race;
mod receiver;
mod sender;
pub mod sink;
pub mod source;
mod spread;
pub mod summary;
pub mod traffic;

pub use load::Load;
pub use spread::Spread;
