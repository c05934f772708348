//! A simulated fleet for Forecourt: the model, the people who use the system, and the oracle that knows the truth.
//!
//! [`fleet`] is the world as the radio hears it: pure and seeded. The demo lets it loose on a running engine through
//! the real doors, QUIC and HTTP, and compares what the engine says with what is true.

pub mod attendant;
pub mod client;
pub mod demo;
pub mod engine;
pub mod events;
pub mod fleet;
pub mod flood;
pub mod oracle;
pub mod outcome;
pub mod peers;
pub mod phone;
pub mod process;
pub mod report;
pub mod setup;
pub mod terminal;
pub mod world;
