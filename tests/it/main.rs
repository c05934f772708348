//! The whole, as its users meet it: a real `forecourt serve` process, reached over QUIC and HTTP only.

mod data;
mod engine;
mod site;

mod captures;
mod commands;
mod couplings;
mod events;
mod sessions;
mod traces;
mod vectors;
mod wire;
