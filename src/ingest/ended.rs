//! How a connection ended: what its peer is told, and under which label it is counted.

use crate::{
    engine::{
        batch::BatchError,
        control::{Goodbye, Refusal},
    },
    station::{AttachError, IntakeEnd},
};

/// The closed set of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The uplink said all it had, in order.
    Finished,
    /// The connection went away: closed by the peer, or silent for too long.
    Lost,
    Drained,
    Replaced,
    /// No TLS session, so no certificate of ours either.
    Handshake,
    /// No hello, or no batch stream after it, in time.
    HelloTimeout,
    /// A control stream that is stuck or reset.
    Control,
    Hello(Refusal),
    Batch(BatchError),
    /// The station's actor stopped.
    Gone,
}

impl Ended {
    /// The code that the connection is closed with. Part of the protocol: numbers are never used again.
    pub(super) fn close_code(self) -> u32 {
        match self {
            Ended::Finished | Ended::Lost | Ended::Handshake => 0x00,
            Ended::Drained => Goodbye::Drain.close_code(),
            Ended::Replaced => Goodbye::Replaced.close_code(),
            Ended::HelloTimeout => 0x20,
            Ended::Control => 0x21,
            Ended::Gone => 0x22,
            Ended::Hello(refusal) => refusal.close_code(),
            Ended::Batch(error) => error.close_code(),
        }
    }

    /// The label under which it is counted.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Ended::Finished => "finished",
            Ended::Lost => "lost",
            Ended::Drained => "drained",
            Ended::Replaced => "replaced",
            Ended::Handshake => "handshake",
            Ended::HelloTimeout => "hello_timeout",
            Ended::Control => "control",
            Ended::Gone => "gone",
            Ended::Hello(refusal) => refusal.reason(),
            Ended::Batch(error) => error.reason(),
        }
    }

    /// Every label there is.
    pub(super) fn reasons() -> impl Iterator<Item = &'static str> {
        let plain = [
            Ended::Finished,
            Ended::Lost,
            Ended::Drained,
            Ended::Replaced,
            Ended::Handshake,
            Ended::HelloTimeout,
            Ended::Control,
            Ended::Gone,
        ];
        let hello = Refusal::ALL.into_iter().map(Ended::Hello);
        let batch = BatchError::ALL.into_iter().map(Ended::Batch);
        plain.into_iter().chain(hello).chain(batch).map(Ended::reason)
    }

    /// What is said on the control stream before the connection is closed.
    pub(super) fn goodbye(self) -> Option<Goodbye> {
        match self {
            Ended::Drained => Some(Goodbye::Drain),
            Ended::Replaced => Some(Goodbye::Replaced),
            Ended::Hello(refusal) => Some(Goodbye::Refused(refusal)),
            _ => None,
        }
    }
}

impl From<IntakeEnd> for Ended {
    fn from(end: IntakeEnd) -> Ended {
        match end {
            IntakeEnd::Finished => Ended::Finished,
            IntakeEnd::Lost => Ended::Lost,
            IntakeEnd::Refused(error) => Ended::Batch(error),
            IntakeEnd::Replaced => Ended::Replaced,
            IntakeEnd::Gone => Ended::Gone,
        }
    }
}

impl From<AttachError> for Ended {
    fn from(error: AttachError) -> Ended {
        match error {
            AttachError::Unknown => Ended::Hello(Refusal::Station),
            AttachError::Gone => Ended::Gone,
        }
    }
}
