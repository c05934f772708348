//! The states of a session.

use super::facts::{Challenge, Completion, Proof, StateName, Why};
use crate::engine::{id::PumpNumber, money::Money, time::UnixMs};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

pub const SELECTED_MS: u64 = 15 * MINUTE;
pub const HOLDING_MS: u64 = 30 * SECOND;
/// From the reservation to the nozzle being lifted.
pub const NOZZLE_MS: u64 = 180 * SECOND;
pub const FUELLING_ALERT_MS: u64 = 20 * MINUTE;
pub const NOTICE_MS: u64 = 5 * SECOND;
pub const REMIND_MS: u64 = 120 * SECOND;
pub const PROOF_MS: u64 = 300 * SECOND;
pub const PAYING_MS: u64 = 30 * SECOND;
pub const DOUBT_ALERT_MS: u64 = 15 * MINUTE;
/// After a day people take over.
pub const BACK_OFFICE_MS: u64 = DAY;

/// A charge that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Of the instruction that took the money.
    pub ordinal: u32,
    pub amount: Money,
    /// The PSP's reference.
    pub reference: String,
    pub paid_at: UnixMs,
}

/// ```text
///            hold declined
///          +---------------+
///          v               |
/// Selected --reserve--> Holding --approved--> Reserved --fuelling--> Fuelling
///   |  |  \-----------------------------------^    |                  |    |
///   |  |                  not asked for a hold     |                  |    |
///   |  +--not me--> Rejected      release, time out, nothing sold <---'    | completion
///   |                     \                |                               |
///   |                      \               v                               |
///   |             completion\          Released                            |
///   |                 late   \             | completion, late              |
///   | completion              v            v                               v
///   | (attended) ------------------------------------------------------> Completed
///   |                     CollectAtSite <--- suspended, unprovable,        |    \ over the hold,
///   |                      |  |    ^  ^      not me, no proof in 300 s     |     \ wrong grade,
///   |                      |  |    |  |                                    v      v pump or price
///   |          late proof  |  |    |  +------------------------- AwaitingProof   Disputed
///   |         .------------'  |    |         no means left         |   |  ^  \      |  ^
///   |         |     paid at   |    |                               |   |  |   rejected  |
///   |         |     counter   |    |                               |   |  +-corrected,--+
///   |         v               |    |                               |   |    grade allowed
///   |       Proven <----------+----+---------------proof ok--------'   |  |
///   |         |               |    |                                   +--+--3 wrong--> ProofFailed
///   |         v               v    |
///   |       Paying ------> PaidElsewhere (from every state with a sale that is not cleared; a charge that
///   |         |    \                      succeeds all the same is refunded)
///   |         |     no clear answer --> InDoubt --looked up--> Paid, next means or CollectAtSite
///   |         v
///   '       Paid --site acknowledges--> Cleared --batch match--> Settled
///
/// BackOffice: after 24 h in Fuelling, InDoubt, Paid, CollectAtSite, Disputed or ProofFailed; by an operator; when a
/// refund fails.
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Selected {
        until: UnixMs,
    },
    Holding {
        pump: PumpNumber,
        preset: Money,
        ordinal: u32,
        until: UnixMs,
    },
    Reserved {
        pump: PumpNumber,
        preset: Option<Money>,
        until: UnixMs,
    },
    Fuelling {
        pump: Option<PumpNumber>,
        preset: Option<Money>,
        since: UnixMs,
        alerted: bool,
    },
    Completed {
        sale: Completion,
        challenge: Challenge,
        until: UnixMs,
    },
    AwaitingProof {
        sale: Completion,
        challenge: Challenge,
        since: UnixMs,
        reminded: bool,
    },
    Proven {
        sale: Completion,
        proof: Proof,
        ordinal: u32,
        until: UnixMs,
    },
    Paying {
        sale: Completion,
        proof: Proof,
        ordinal: u32,
        until: UnixMs,
    },
    InDoubt {
        sale: Completion,
        proof: Proof,
        ordinal: u32,
        since: UnixMs,
        told: bool,
    },
    Paid {
        sale: Completion,
        proof: Proof,
        payment: Payment,
    },
    Cleared {
        sale: Completion,
        proof: Proof,
        payment: Payment,
    },
    Settled {
        sale: Completion,
        proof: Proof,
        payment: Payment,
    },
    CollectAtSite {
        sale: Completion,
        why: Why,
        /// What a late proof has to prove; `None` when none can come.
        challenge: Option<Challenge>,
        until: UnixMs,
    },
    Disputed {
        sale: Completion,
        why: Why,
        until: UnixMs,
    },
    ProofFailed {
        sale: Completion,
        until: UnixMs,
    },
    Released {
        why: Why,
    },
    Rejected,
    PaidElsewhere {
        sale: Completion,
    },
    BackOffice {
        sale: Option<Completion>,
        why: Why,
    },
}

impl State {
    pub fn name(&self) -> StateName {
        match self {
            State::Selected { .. } => StateName::Selected,
            State::Holding { .. } => StateName::Holding,
            State::Reserved { .. } => StateName::Reserved,
            State::Fuelling { .. } => StateName::Fuelling,
            State::Completed { .. } => StateName::Completed,
            State::AwaitingProof { .. } => StateName::AwaitingProof,
            State::Proven { .. } => StateName::Proven,
            State::Paying { .. } => StateName::Paying,
            State::InDoubt { .. } => StateName::InDoubt,
            State::Paid { .. } => StateName::Paid,
            State::Cleared { .. } => StateName::Cleared,
            State::Settled { .. } => StateName::Settled,
            State::CollectAtSite { .. } => StateName::CollectAtSite,
            State::Disputed { .. } => StateName::Disputed,
            State::ProofFailed { .. } => StateName::ProofFailed,
            State::Released { .. } => StateName::Released,
            State::Rejected => StateName::Rejected,
            State::PaidElsewhere { .. } => StateName::PaidElsewhere,
            State::BackOffice { .. } => StateName::BackOffice,
        }
    }

    pub fn sale(&self) -> Option<&Completion> {
        match self {
            State::Selected { .. }
            | State::Holding { .. }
            | State::Reserved { .. }
            | State::Fuelling { .. }
            | State::Released { .. }
            | State::Rejected => None,
            State::BackOffice { sale, .. } => sale.as_ref(),
            State::Completed { sale, .. }
            | State::AwaitingProof { sale, .. }
            | State::Proven { sale, .. }
            | State::Paying { sale, .. }
            | State::InDoubt { sale, .. }
            | State::Paid { sale, .. }
            | State::Cleared { sale, .. }
            | State::Settled { sale, .. }
            | State::CollectAtSite { sale, .. }
            | State::Disputed { sale, .. }
            | State::ProofFailed { sale, .. }
            | State::PaidElsewhere { sale } => Some(sale),
        }
    }

    /// The challenge that a proof is accepted for now.
    pub fn challenge(&self) -> Option<&Challenge> {
        match self {
            State::Completed { challenge, .. } | State::AwaitingProof { challenge, .. } => Some(challenge),
            State::CollectAtSite { challenge, .. } => challenge.as_ref(),
            _ => None,
        }
    }

    pub fn proof(&self) -> Option<&Proof> {
        match self {
            State::Proven { proof, .. }
            | State::Paying { proof, .. }
            | State::InDoubt { proof, .. }
            | State::Paid { proof, .. }
            | State::Cleared { proof, .. }
            | State::Settled { proof, .. } => Some(proof),
            _ => None,
        }
    }

    pub fn payment(&self) -> Option<&Payment> {
        match self {
            State::Paid { payment, .. } | State::Cleared { payment, .. } | State::Settled { payment, .. } => {
                Some(payment)
            }
            _ => None,
        }
    }

    /// The instruction whose success makes the session Paid.
    pub fn charging(&self) -> Option<u32> {
        match self {
            State::Proven { ordinal, .. } | State::Paying { ordinal, .. } | State::InDoubt { ordinal, .. } => {
                Some(*ordinal)
            }
            _ => None,
        }
    }

    pub fn why(&self) -> Option<Why> {
        match self {
            State::CollectAtSite { why, .. }
            | State::Disputed { why, .. }
            | State::Released { why }
            | State::BackOffice { why, .. } => Some(*why),
            _ => None,
        }
    }

    /// When the state changes by itself.
    pub fn deadline(&self) -> Option<UnixMs> {
        match self {
            State::Fuelling { since, alerted, .. } => {
                Some(since.plus(if *alerted { BACK_OFFICE_MS } else { FUELLING_ALERT_MS }))
            }
            State::AwaitingProof { since, reminded, .. } => {
                Some(since.plus(if *reminded { PROOF_MS } else { REMIND_MS }))
            }
            State::InDoubt { since, told, .. } => Some(since.plus(if *told { BACK_OFFICE_MS } else { DOUBT_ALERT_MS })),
            State::Paid { payment, .. } => Some(payment.paid_at.plus(BACK_OFFICE_MS)),
            State::Selected { until }
            | State::Holding { until, .. }
            | State::Reserved { until, .. }
            | State::Completed { until, .. }
            | State::Proven { until, .. }
            | State::Paying { until, .. }
            | State::CollectAtSite { until, .. }
            | State::Disputed { until, .. }
            | State::ProofFailed { until, .. } => Some(*until),
            State::Cleared { .. }
            | State::Settled { .. }
            | State::Released { .. }
            | State::Rejected
            | State::PaidElsewhere { .. }
            | State::BackOffice { .. } => None,
        }
    }
}
