//! A simulated fleet for Forecourt: the model, the people who use the system, and the oracle that knows the truth.
//!
//! [`fleet`] is the world as the radio hears it: pure and seeded. A [`town`] lets it loose on a running engine through
//! the real doors, QUIC ([`uplinks`]) and HTTP ([`people`]), and the [`oracle`] compares what the engine says with what
//! is true. The [`demo`] is a small town with the engine in the same process; [`nation`] is what a [`scenario`] says,
//! against the real engine's process. [`flood`] asks how much the engine takes, [`imports`] how fast dongles come in,
//! [`codebook`] what a country's dongles take, [`sessions`] how many sales a second, [`peers`] what others would make of
//! the same, and [`report`] writes down what came of it. [`fault_proxy`] stands between the engine
//! and a PSP, for which [`local_stripe`] can stand.
//! [`grafana`] asks every query of the dashboards and rules that ship of a real Prometheus.

pub mod codebook;
pub mod demo;
pub mod engine;
pub mod fault_proxy;
pub mod fleet;
pub mod flood;
pub mod grafana;
pub mod imports;
pub mod local_stripe;
pub mod nation;
pub mod oracle;
pub mod outcome;
pub mod peers;
pub mod people;
pub mod process;
pub mod report;
pub mod scenario;
pub mod sessions;
pub mod town;
pub mod uplinks;
pub mod world;
