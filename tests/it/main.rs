//! The whole, as its users meet it: a real `forecourt serve` process, reached over QUIC and HTTP only.

mod data;
mod engine;
mod leaks;
mod site;

mod beacons;
mod captures;
mod commands;
mod couplings;
mod events;
mod secrets;
mod sessions;
mod vectors;
mod wire;
