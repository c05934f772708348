//! What people and machines ask of the engine.

use std::fmt;

use forecourt::{
    engine::id::SessionId,
    registration::OperatorName,
    session::{By, Command, Open, Request},
};

/// The back office.
pub(crate) const OPERATOR: By = By::Operator(OperatorName::FOLDER);

/// What is asked of the desk from outside.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Open(Box<Open>),
    Order { command: Command, request: Option<Request> },
}

#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) by: By,
    pub(crate) session: SessionId,
    pub(crate) what: What,
}

impl Letter {
    pub(crate) fn request(&self) -> Option<Request> {
        match &self.what {
            What::Open(open) => Some(open.request),
            What::Order { request, .. } => *request,
        }
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {}: ", self.by, short(self.session))?;
        match &self.what {
            What::Open(open) => write!(f, "open for {:?}", open.vehicle.device)?,
            What::Order { command: Command::Prove { .. }, .. } => f.write_str("prove")?,
            What::Order { command, .. } => write!(f, "{command:?}")?,
        }
        self.request()
            .map_or(Ok(()), |request| write!(f, " (key {}, body {})", hex::encode(&request.key[..2]), request.body[0]))
    }
}

/// Enough of an id to tell sessions apart.
pub(crate) fn short(session: SessionId) -> String {
    hex::encode(&session.0[..2])
}
