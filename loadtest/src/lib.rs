//! A simulated fleet for Forecourt: the model, the people who use the system, and the oracle that knows the truth.
//!
//! [`fleet`] is the world as the radio hears it: pure and seeded. The demo lets it loose on a running engine through
//! the real doors, QUIC and HTTP, and compares what the engine says with what is true.

pub mod fleet;
