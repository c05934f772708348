//! How a connection of an uplink ended, as the uplink sees it.

use quinn::ConnectionError;

use crate::engine::control::{Goodbye, Refusal};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("all is acknowledged")]
    Finished,
    #[error("the server stops")]
    Drain,
    #[error("a newer uplink of this station took over")]
    Replaced,
    #[error("the station is served at {address}")]
    Moved { address: String },
    #[error("the server refused the hello: {0}")]
    Refused(Refusal),
    /// One of the codes of a batch that is refused, mostly.
    #[error("the server closed with code {0:#x}")]
    Closed(u64),
    #[error("no connection: {0}")]
    Lost(String),
}

impl From<Goodbye> for Ended {
    fn from(goodbye: Goodbye) -> Ended {
        match goodbye {
            Goodbye::Drain => Ended::Drain,
            Goodbye::Replaced => Ended::Replaced,
            Goodbye::Moved { address } => Ended::Moved { address },
            Goodbye::Refused(refusal) => Ended::Refused(refusal),
        }
    }
}

impl From<ConnectionError> for Ended {
    /// The close code says what a goodbye would have said that was lost on the way.
    fn from(error: ConnectionError) -> Ended {
        let ConnectionError::ApplicationClosed(close) = &error else { return Ended::Lost(error.to_string()) };
        let code = close.error_code.into_inner();
        let goodbye = u32::try_from(code).ok().and_then(Goodbye::from_code);
        goodbye.map_or(Ended::Closed(code), Ended::from)
    }
}
