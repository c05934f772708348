//! Why a flood could not run.

use std::io;

use super::{chain::ChainError, group::GroupError, link::LinkError, load::LoadError, receiver::ReceiverError};
use crate::process::ServeError;

#[derive(Debug, thiserror::Error)]
pub enum FloodError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Engine(#[from] ServeError),
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the probe's question: {0}")]
    Probe(#[from] reqwest::Error),
    #[error("a car that drove up never came onto the terminal's screen")]
    Unseen,
    #[error("the generator: {0}")]
    Machine(#[from] io::Error),
    #[error("no slice of {0} came to anything")]
    Nothing(&'static str),
}
