//! What a chain's team would build instead, measured beside us: a broker from Debian's packages, a consumer in Rust that
//! resolves codes in a hash map, and presence in Redis or in its own memory.
//!
//! The same frames, 25 a message, go through each build and through a real engine, on the same cores, in one run. What
//! counts is the CPU time of every process but the sender's, and a frame counts when it was applied. Each build gets
//! what a good engineer would give it: plain records of 24 bytes, protocols spoken directly, large reads, pipelines, no
//! logs, no persistence, and senders that do not drown it; and it has no encryption, no authentication and no
//! acknowledgement to pay for, which the engine has.

mod broker;
mod consumer;
mod ours;
mod outcome;
mod presence;
mod record;
mod sender;
mod server;
mod traffic;
mod trial;

use std::{io, path::PathBuf, time::Duration};

pub use broker::{Broker, LinkError, ProtocolError};
pub use consumer::{ConsumerError, ConsumerOptions, consume};
pub use outcome::{Mode, Outcome, Peer, Presence};
pub use presence::Keeping;
pub use server::ServerError;

use self::{ours::Ours, server::Program, traffic::Air, trial::Trial};
use crate::{
    flood::{dongles::Dongles, load::RECEIVERS, race::FloodError, traffic::Mix},
    process::placement,
};

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
    /// All processes may run everywhere; else the servers share the first core and the sender has the others.
    pub is_unpinned: bool,
    /// The engine's program; without it, the one beside our own.
    pub engine: Option<PathBuf>,
}

impl PeersOptions {
    fn mix(&self) -> Mix {
        Mix { frames: FRAMES, receivers: RECEIVERS, vehicles: self.vehicles, unknown_share: 0.0 }
    }

    fn dongles(&self) -> Dongles {
        Dongles { seed: self.seed, count: self.dongles }
    }

    /// Of what is measured, and of the sender.
    fn cores(&self) -> io::Result<(Option<Vec<usize>>, Vec<usize>)> {
        let cores = placement::current()?;
        Ok(match cores.split_first() {
            Some((first, others)) if !others.is_empty() && !self.is_unpinned => (Some(vec![*first]), others.to_vec()),
            _ => (None, cores),
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the sender: {0}")]
    Link(#[from] LinkError),
    #[error("the consumer of {broker} ended; what it said stands above")]
    ConsumerEnded { broker: &'static str },
    #[error(transparent)]
    Ours(#[from] FloodError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Measures every build in both modes, and the engine in the same.
pub fn run(options: &PeersOptions) -> Result<Outcome, PeersError> {
    for program in Program::ALL {
        program.find()?;
    }
    let (measured, sender) = options.cores()?;
    placement::pin(&sender)?;
    let folder = tempfile::Builder::new().prefix("forecourt-peers-").tempdir()?;
    let book = folder.path().join("codes");
    let air = Air::new(options);
    std::fs::write(&book, air.codes())?;
    let (mut peers, mut forecourt) = (Vec::new(), Vec::new());
    for mode in Mode::ALL {
        for (broker, keeping) in builds() {
            eprintln!("{mode}, {}, {}", broker.name(), keeping.build());
            let cores = measured.as_deref();
            peers.push(Trial { options, air: &air, codes: &book, cores, broker, keeping, mode }.run()?);
        }
        eprintln!("{mode}, forecourt");
        let ours = Ours { options, cores: measured.as_deref(), sender_threads: sender.len(), mode };
        forecourt.push(ours.run()?);
    }
    Ok(Outcome::new(peers, forecourt))
}

fn builds() -> impl Iterator<Item = (Broker, Keeping)> {
    Broker::ALL.into_iter().flat_map(|broker| Keeping::ALL.map(|keeping| (broker, keeping)))
}
