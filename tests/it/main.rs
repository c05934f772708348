//! The whole, as its users meet it: a real `forecourt serve` process, reached over QUIC and HTTP only.

mod collector;
mod data;
mod engine;
mod leaks;
mod local_stripe;
mod redis_server;
mod site;
mod tools;

mod access;
mod alerts;
mod beacons;
mod cache;
mod captures;
mod clocks;
mod commands;
mod couplings;
mod doctor;
mod events;
mod evidence;
mod grafana;
mod ledger;
mod metrics;
mod openapi;
mod packaging;
mod push;
mod reconciliation;
mod reload;
mod secrets;
mod sessions;
mod silence;
mod spans;
mod stripe;
mod traces;
mod vectors;
mod wire;
