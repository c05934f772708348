//! The flood: as many frames as an engine takes, beside floors that show what the wire itself would take.

mod cargo;
pub mod chain;
pub mod dongles;
mod link;
mod receiver;
mod sender;
pub mod sink;
pub mod source;
pub mod traffic;
