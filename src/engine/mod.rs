//! What Forecourt decides, free of everything that would make a decision hard to test.
//!
//! No socket, clock, actor, log, metric or randomness: bytes and `now` go in, values come out. Every stage may use
//! it; it uses none of them.

pub mod batch;
pub mod candidate;
pub mod charge;
pub mod clock;
pub mod code;
pub mod codebook;
pub mod control;
pub mod eid;
pub mod id;
pub mod limits;
pub mod money;
pub mod plate;
pub mod presence;
pub mod proof;
pub mod session;
pub mod sweep;
pub mod time;
