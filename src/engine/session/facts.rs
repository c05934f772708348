//! The nouns of a session: the vehicle it is for, what was sold, what it asks the phone and the PSP.

use crate::engine::{
    id::{BindingId, DeviceId, PumpNumber, SessionId, StationId},
    money::Money,
    time::UnixMs,
};

/// The longest id that a site may give a transaction, in bytes.
pub const TRANSACTION_BYTES_MAX: usize = 64;

/// The longest name of a grade, in bytes.
pub const GRADE_BYTES_MAX: usize = 64;

/// The registered vehicle as it was when the session opened, kept up to date with its binding.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Vehicle {
    pub device: DeviceId,
    pub binding: BindingId,
    pub epoch: u64,
    pub plate: String,
    /// What it burns, in the words of its registration; `None` when nobody said.
    pub fuel: Option<String>,
    /// The phone's Ed25519 public key.
    pub phone: Option<[u8; 32]>,
    /// PSP tokens, the preferred one first.
    pub means: Vec<String>,
    /// Whether its dongle has a key that can prove anything.
    pub provable: bool,
}

impl Vehicle {
    /// Whether a proof can ever be given and paid with: otherwise the driver pays at the counter.
    pub fn can_pay(&self) -> bool {
        self.provable && self.phone.is_some() && !self.means.is_empty()
    }
}

/// What the forecourt controller reports when the nozzle is back.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    pub pump: PumpNumber,
    /// The grade's name as the site prints it, at most 64 bytes.
    pub grade: String,
    /// Millilitres.
    pub volume_ml: u32,
    /// Thousandths of a minor unit per litre.
    pub unit_price_milli: i64,
    pub amount: Money,
    /// The site's own transaction id, 1 to 64 bytes.
    pub transaction: String,
}

/// The unit price that a reservation was made at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    pub grade: String,
    /// Thousandths of a minor unit per litre.
    pub unit_price_milli: i64,
}

/// What the phone has to prove: the nonce, and the epoch that the proof is bound to. The other terms are the sale's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Challenge {
    pub nonce: [u8; 32],
    pub epoch: u64,
    pub expires_at: UnixMs,
    /// Wrong proofs that are still forgiven.
    pub tries_left: u8,
}

/// A proof that was verified, and the amount that it was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Proof {
    pub nonce: [u8; 32],
    pub epoch: u64,
    pub amount: Money,
    pub verified_at: UnixMs,
}

/// Who opened a session, where, and for which vehicle.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Opening {
    pub session: SessionId,
    pub station: StationId,
    /// The pump that the attendant or the radio named; the completion's pump is the one that counts.
    pub pump: Option<PumpNumber>,
    pub vehicle: Vehicle,
}

/// Why a session is where it is, when its state alone does not say.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The station or the driver called it off.
    Cancelled,
    /// Nobody acted in time.
    TimedOut,
    /// The nozzle was hung up again with nothing sold.
    NothingSold,
    /// The driver says that this is somebody else's fuelling.
    NotMe,
    /// The binding was suspended or revoked on the way.
    Suspended,
    /// The vehicle has no key, phone or means to pay with.
    Unprovable,
    /// Fuel flowed after the session had ended.
    CameLate,
    /// No means of payment was left that the PSP would accept.
    Declined,
    /// No proof came in time.
    NoProof,
    /// The amount is more than was held.
    OverHold,
    /// The grade does not fit the vehicle.
    WrongGrade,
    /// Another pump than the reserved one.
    WrongPump,
    /// Another unit price than the station's.
    PriceChanged,
    /// The driver does not agree with the sale.
    DriverRejected,
    /// A refund that was owed did not go through.
    RefundFailed,
    /// The PSP took another amount than the proven one.
    AmountDiffers,
    /// The PSP never gave a clear answer.
    NeverKnown,
    /// An operator took it over.
    Operator,
}

/// A word to the phone or the station beside the state itself.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// To the phone: your car was selected.
    Selected,
    /// To the station: the hold was declined; the session is back at Selected.
    HoldDeclined,
    /// To the station: fuelling for 20 minutes.
    FuellingLong,
    /// To the phone: please approve this sale.
    PleaseProve,
    /// To the phone: the sale still waits for approval.
    Reminder,
    /// To the phone: something about the sale or the binding changed; approve it anew.
    ProveAnew,
    /// To the phone: that proof was wrong.
    ProofWrong,
    /// To the station: the payment has been in doubt for 15 minutes.
    StillInDoubt,
    /// To both: paid.
    Paid,
    /// To both: pay at the counter.
    PayAtCounter,
    /// To both: a payment came through after all and is being refunded.
    Refunding,
    /// To both: refunded.
    Refunded,
}

impl Notice {
    /// Whether a driver who has not seen it still has to, now that the session is in `state`. Words to the station alone
    /// never; nor that a proof was wrong, which is the answer to the phone that sent it.
    pub(super) fn is_news_in(self, state: StateName) -> bool {
        use StateName as S;
        match self {
            Notice::Selected => matches!(state, S::Selected | S::Holding | S::Reserved | S::Fuelling),
            Notice::PleaseProve | Notice::Reminder | Notice::ProveAnew => {
                matches!(state, S::Completed | S::AwaitingProof | S::CollectAtSite)
            }
            Notice::Paid => matches!(state, S::Paid | S::Cleared | S::Settled),
            Notice::PayAtCounter => state == S::CollectAtSite,
            Notice::Refunding | Notice::Refunded => true,
            Notice::HoldDeclined | Notice::FuellingLong | Notice::ProofWrong | Notice::StillInDoubt => false,
        }
    }
}

/// A word to the driver that no phone has shown yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Unseen {
    pub notice: Notice,
    /// The session's version that it came with: the same word of a session has the same version for ever.
    pub version: u32,
    pub at: UnixMs,
}

/// The names of the states, for views, metrics and logs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub enum StateName {
    Selected,
    Holding,
    Reserved,
    Fuelling,
    Completed,
    AwaitingProof,
    Proven,
    Paying,
    InDoubt,
    Paid,
    Cleared,
    Settled,
    CollectAtSite,
    Disputed,
    ProofFailed,
    Released,
    Rejected,
    PaidElsewhere,
    BackOffice,
}

impl StateName {
    pub const ALL: [StateName; 19] = [
        StateName::Selected,
        StateName::Holding,
        StateName::Reserved,
        StateName::Fuelling,
        StateName::Completed,
        StateName::AwaitingProof,
        StateName::Proven,
        StateName::Paying,
        StateName::InDoubt,
        StateName::Paid,
        StateName::Cleared,
        StateName::Settled,
        StateName::CollectAtSite,
        StateName::Disputed,
        StateName::ProofFailed,
        StateName::Released,
        StateName::Rejected,
        StateName::PaidElsewhere,
        StateName::BackOffice,
    ];

    /// Whether nothing more is expected of driver, station or PSP.
    pub fn is_end(self) -> bool {
        use StateName as S;
        matches!(self, S::Released | S::Rejected | S::PaidElsewhere | S::Cleared | S::Settled | S::BackOffice)
    }

    /// Whether a session in this state keeps its vehicle, unless it has let it go before. From `Paid` on, and while the
    /// driver is sent to the counter, it may go.
    pub(super) fn pins_vehicle(self) -> bool {
        use StateName as S;
        self.expects_payment() || matches!(self, S::Selected)
    }

    /// Whether the session is on its way to a payment, so that a hold for it may stand.
    pub fn expects_payment(self) -> bool {
        use StateName as S;
        match self {
            S::Holding
            | S::Reserved
            | S::Fuelling
            | S::Completed
            | S::AwaitingProof
            | S::Proven
            | S::Paying
            | S::InDoubt => true,
            S::Selected
            | S::Paid
            | S::Cleared
            | S::Settled
            | S::CollectAtSite
            | S::Disputed
            | S::ProofFailed
            | S::Released
            | S::Rejected
            | S::PaidElsewhere
            | S::BackOffice => false,
        }
    }
}
