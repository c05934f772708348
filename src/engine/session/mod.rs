//! One fuelling, from selection to settlement: a pure state machine.

mod facts;

pub use facts::{
    Challenge, Completion, GRADE_BYTES_MAX, Notice, Opening, Proof, Quote, StateName, TRANSACTION_BYTES_MAX, Vehicle,
    Why,
};
