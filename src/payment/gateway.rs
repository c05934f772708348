//! The PSPs that Forecourt can speak to, behind one enum: every outcome is matched wherever it is used.

use super::Simulator;
use crate::engine::{
    charge::{ChargeKey, Instruction},
    money::Money,
};

/// What an instruction came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Succeeded {
        amount: Money,
        reference: String,
    },
    Declined,
    /// Silence, or a broken connection: anything may have happened.
    NoAnswer,
}

/// What a look-up by key came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Succeeded { amount: Money, reference: String },
    Declined,
    NotFound,
    NoAnswer,
}

#[derive(Debug, Clone)]
pub enum Gateway {
    Simulator(Simulator),
}

impl Gateway {
    /// Sends an instruction under its key. It may never answer: the caller sets the limit.
    pub async fn perform(&self, instruction: Instruction) -> Answer {
        match self {
            Gateway::Simulator(simulator) => simulator.perform(instruction).await,
        }
    }

    pub async fn look_up(&self, key: ChargeKey) -> Finding {
        match self {
            Gateway::Simulator(simulator) => simulator.look_up(key).await,
        }
    }
}
