//! What happens to a session, and what it has done about it. Events are journalled as they stand here.

use super::facts::{Completion, Notice};
use crate::engine::{
    charge::{Instruction, Outcome},
    id::PumpNumber,
    money::Money,
    time::UnixMs,
};

/// When an event happened, and a random number in case the session must challenge: both are journalled with the event,
/// so that a replay takes the same turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Moment {
    pub at: UnixMs,
    pub nonce: [u8; 32],
}

/// What the registrations say of the vehicle's binding now.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Standing {
    pub active: bool,
    pub epoch: u64,
    pub phone: Option<[u8; 32]>,
    pub means: Vec<String>,
    pub provable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Event {
    ReservationAsked {
        pump: PumpNumber,
        preset: Option<Money>,
        hold: bool,
    },
    FuellingStarted {
        pump: Option<PumpNumber>,
    },
    /// `price_agreed`: the unit price was the station's at some time of this session.
    FuelDelivered {
        completion: Completion,
        price_agreed: bool,
    },
    Corrected {
        completion: Completion,
        price_agreed: bool,
    },
    ReleaseAsked,
    PaidAtCounter,
    SiteCleared,
    PhoneNoticed,
    DriverRejected,
    /// The dongle's MAC and the phone's signature over the challenge with this nonce hold.
    ProofVerified {
        nonce: [u8; 32],
    },
    ProofRefused {
        nonce: [u8; 32],
    },
    BindingChanged(Standing),
    /// The intent is durable and the request is on its way.
    ChargeSent {
        ordinal: u32,
    },
    /// The PSP was silent; it is being asked.
    ChargeInDoubt {
        ordinal: u32,
    },
    ChargeConcluded {
        ordinal: u32,
        outcome: Outcome,
    },
    RefundOrdered {
        amount: Option<Money>,
    },
    SettledInBatch,
    HandedOver,
    DeadlinePassed,
    /// An operator lets the vehicle have a grade that does not fit it by its registration.
    GradeAllowed {
        reason: String,
    },
}

impl Event {
    /// In words that stay, for logs and traces: an event itself holds what is in neither.
    pub fn name(&self) -> &'static str {
        match self {
            Event::ReservationAsked { .. } => "reservation_asked",
            Event::FuellingStarted { .. } => "fuelling_started",
            Event::FuelDelivered { .. } => "fuel_delivered",
            Event::Corrected { .. } => "corrected",
            Event::ReleaseAsked => "release_asked",
            Event::PaidAtCounter => "paid_at_counter",
            Event::SiteCleared => "site_cleared",
            Event::PhoneNoticed => "phone_noticed",
            Event::DriverRejected => "driver_rejected",
            Event::ProofVerified { .. } => "proof_verified",
            Event::ProofRefused { .. } => "proof_refused",
            Event::BindingChanged(_) => "binding_changed",
            Event::ChargeSent { .. } => "charge_sent",
            Event::ChargeInDoubt { .. } => "charge_in_doubt",
            Event::ChargeConcluded { .. } => "charge_concluded",
            Event::RefundOrdered { .. } => "refund_ordered",
            Event::SettledInBatch => "settled_in_batch",
            Event::HandedOver => "handed_over",
            Event::DeadlinePassed => "deadline_passed",
            Event::GradeAllowed { .. } => "grade_allowed",
        }
    }

    /// Whether it comes from the phone, which then has shown the session as it was.
    pub(super) fn is_from_phone(&self) -> bool {
        matches!(
            self,
            Event::PhoneNoticed | Event::DriverRejected | Event::ProofVerified { .. } | Event::ProofRefused { .. }
        )
    }
}

/// Journals hold events of before [`Event::GradeAllowed`]. They read all the same, because an archive is as large as its
/// largest variant and variants are only ever appended: one that is larger needs a format of its own.
const _: () = assert!(size_of::<ArchivedEvent>() == 72, "format 1 of the session records has events of this size");

/// What the stage does once the event is journalled, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Have the PSP do it (a hold, a charge, a void, a refund).
    Instruct(Instruction),
    /// The session wants the charge no more: find out what became of it, and never send it again.
    Ask(Instruction),
    NotifyPhone(Notice),
    NotifyStation(Notice),
}

pub type Effects = Vec<Effect>;

/// Why an event leaves the session as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is so already: a repetition, not an error.
    #[error("it is so already")]
    Already,
    #[error("the session's state does not take this event")]
    WrongState,
    #[error("unusable: {0}")]
    Invalid(&'static str),
    #[error("volume and unit price come to {expected} minor units")]
    AmountMismatch { expected: i64 },
    #[error("the unit price is not the station's")]
    PriceChanged,
    #[error("the grade does not fit the vehicle")]
    GradeMismatch,
    #[error("the transaction was reported with other contents")]
    TransactionConflict,
    #[error("no means of payment permits this")]
    MeansNotPermitted,
    #[error("paid at the counter")]
    PaidElsewhere,
    #[error("cleared already")]
    AlreadyCleared,
    #[error("the binding is suspended")]
    BindingSuspended,
}
