//! What Forecourt decides, free of everything that would make a decision hard to test.
//!
//! No socket, clock, actor, log, metric or randomness: bytes and `now` go in, values come out. Every stage may use
//! it; it uses none of them.
//!
//! What a dongle and a phone compute as well is the whole of [`code`], [`proof`] and [`eid`], and of [`id`], [`money`] and
//! [`time`] what they need. Those name nothing of `std` (`core` and `alloc` are enough), so that firmware may take them over
//! as they are; `forecourt vectors` prints what they come to for fixed inputs.

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
