//! The whole, as its users meet it: a real `forecourt serve` process, reached over QUIC and HTTP only.

mod data;
mod engine;
mod leaks;
mod local_stripe;
mod python;
mod redis_server;
mod site;

mod access;
mod beacons;
mod cache;
mod captures;
mod clocks;
mod commands;
mod couplings;
mod events;
mod evidence;
mod ledger;
mod openapi;
mod push;
mod reconciliation;
mod secrets;
mod sessions;
mod stripe;
mod traces;
mod vectors;
mod wire;
