//! Forecourt: the central presence-and-payment backend of a fuel chain.
//!
//! ```text
//! dongle ~ receiver -> uplink ==QUIC==> ingest -> station -> session -> payment -> PSP
//!                                         |          |          |          |
//!                                     codebook  registration  ledger <-----'
//! terminal, phone, operator ==HTTP==> http --'
//! ```
//!
//! A frame that a receiver heard crosses the wire in a batch ([`uplink`], [`ingest`]), reaches its station's actor
//! ([`station`]), which resolves its code ([`registration`]) and keeps a presence window. The terminal picks a vehicle
//! by its plate; the fuelling becomes a session ([`session`]), the session a charge ([`payment`]), and every step of
//! both is in the journal ([`ledger`]) before anybody hears of it. What no phone shows in time is pushed ([`push`]).
//!
//! What must never be:
//! - [`engine`] decides and does nothing else: no socket, clock, actor, log, metric or randomness in it. Bytes and
//!   `now` go in, values come out.
//! - Dependencies follow the arrows above and never point back; `tests/tidy.rs` fails on one that does.
//! - An actor is a shell around a plain struct that tests drive without an actor system.
//! - Nothing per frame allocates, locks, hashes a key or looks up a metric.
//! - Nothing is charged without a verified proof, and nothing twice.

mod address;
pub mod app;
pub mod config;
pub mod engine;
pub mod http;
pub mod ingest;
pub mod ledger;
mod outgoing;
pub mod payment;
pub mod push;
pub mod registration;
pub mod secret;
pub mod session;
pub mod station;
pub mod telemetry;
pub mod uplink;
