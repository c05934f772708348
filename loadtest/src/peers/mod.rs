//! What a chain's team would build instead, measured beside us: a broker from Debian's packages, a consumer in Rust
//! that resolves codes in a hash map, and presence in Redis or in its own memory.
//!
//! The same frames, 25 a message, go through each build and through a real engine, on the same cores, in one run. What
//! counts is the CPU time of every process but the sender's, and a frame counts when it was applied. Each build gets
//! what a good engineer would give it: the usual clients for Rust, plain records of 24 bytes, a runtime on one thread,
//! pipelines for what has arrived together, no logs, no persistence, and senders that do not drown it; and it has no
//! encryption, no authentication and no acknowledgement to pay for, which the engine has.

mod broker;
mod client;
mod consumer;
mod ours;
mod outcome;
mod presence;
mod record;
mod sender;
pub(crate) mod server;
mod traffic;
mod trial;

use std::{io, time::Duration};

pub use broker::{Broker, BrokerError};
pub use consumer::{ConsumerError, ConsumerOptions, consume};
pub use outcome::{Mode, Outcome, Peer, Presence};
pub use presence::Keeping;
pub use server::ServerError;

use self::{ours::Ours, server::Program, traffic::Air, trial::Trial};
use crate::flood::{Bench, FloodError, dongles::Dongles, load::RECEIVERS, traffic::Mix};

/// Frames of a batch, of about 12 codes.
const FRAMES: usize = 25;

#[derive(Debug, Clone)]
pub struct PeersOptions {
    /// Of each measurement, after the warm-up.
    pub lasts: Duration,
    pub dongles: u64,
    pub seed: u64,
    pub vehicles: usize,
    /// Connections of the mode with many senders, and how many batches each sends in a second.
    pub senders: usize,
    pub batches_per_second: f64,
    /// The receiver's cores are those of all processes but the sender.
    pub bench: Bench,
}

impl PeersOptions {
    fn mix(&self) -> Mix {
        Mix { frames: FRAMES, receivers: RECEIVERS, vehicles: self.vehicles, unknown_share: 0.0 }
    }

    fn dongles(&self) -> Dongles {
        Dongles { seed: self.seed, count: self.dongles }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the sender: {0}")]
    Broker(#[from] BrokerError),
    #[error("the consumer of {broker} ended; what it said stands above")]
    ConsumerEnded { broker: &'static str },
    #[error(transparent)]
    Ours(#[from] FloodError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Measures every build in both modes, and the engine in the same.
pub async fn run(options: &PeersOptions) -> Result<Outcome, PeersError> {
    for program in Program::ALL {
        program.find()?;
    }
    let folder = tempfile::Builder::new().prefix("forecourt-peers-").tempdir()?;
    let codes = folder.path().join("codes");
    let air = Air::new(options);
    std::fs::write(&codes, air.codes())?;
    let (mut peers, mut forecourt) = (Vec::new(), Vec::new());
    for mode in Mode::ALL {
        for (broker, keeping) in builds() {
            peers.push(Trial { options, air: &air, codes: &codes, broker, keeping, mode }.run().await?);
            progress(peers.last());
        }
        forecourt.push(Ours { options, mode }.run().await?);
        progress(forecourt.last());
    }
    Ok(Outcome::new(peers, forecourt))
}

/// The peers' programs and what each says of its version; their clients, and how those are used.
pub fn versions() -> Vec<(String, String)> {
    let programs = Program::ALL.iter().map(|program| (program.name().into(), program.version()));
    programs.chain(client::all()).collect()
}

fn progress(measured: Option<&Peer>) {
    if let Some(peer) = measured {
        eprintln!("{peer}");
    }
}

fn builds() -> impl Iterator<Item = (Broker, Keeping)> {
    Broker::ALL.into_iter().flat_map(|broker| Keeping::ALL.map(|keeping| (broker, keeping)))
}
