//! Bugs that are planted in the simulation's own shell, each of which the oracle has to notice: a simulation that
//! cannot fail proves nothing.

/// A bug of the shell around the plain structs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A charge leaves before its intent is durable.
    SkipIntent,
    /// A charge that is sent again gets another key.
    NewKeyOnRetry,
    /// No hold is ever voided.
    ForgetHold,
    /// Silence is taken for a failure, and the money asked for once more.
    ChargeAgainOnTimeout,
    /// The session hears of an outcome before it is durable.
    ReportEarly,
    /// A proof over an older challenge of the session is taken for one over the present.
    AcceptOldProof,
    /// A restart takes up nothing of what its sessions were waiting for.
    LoseUnsettled,
    /// Callers hear of an event before it is durable.
    AnswerEarly,
}

impl Plant {
    pub(crate) const ALL: [Plant; 8] = [
        Plant::SkipIntent,
        Plant::NewKeyOnRetry,
        Plant::ForgetHold,
        Plant::ChargeAgainOnTimeout,
        Plant::ReportEarly,
        Plant::AcceptOldProof,
        Plant::LoseUnsettled,
        Plant::AnswerEarly,
    ];
}
