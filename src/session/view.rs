//! What callers see of a session.

use crate::engine::{
    id::{BindingId, DeviceId, PumpNumber, SessionId, StationId},
    money::Money,
    session::{Completion, Notice, StateName, Why},
    time::UnixMs,
};

/// A session as the station and the phone see it. `version` counts its journalled events: of two views the one with
/// the higher version is the later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    pub id: SessionId,
    pub station: StationId,
    pub pump: Option<PumpNumber>,
    pub plate: String,
    pub device: DeviceId,
    pub binding: BindingId,
    pub state: StateName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Why>,
    /// The word that came with the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    pub version: u32,
    pub opened_at: UnixMs,
    pub updated_at: UnixMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Money>,
    /// What is held on the means of payment now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Money>,
    /// What the sale comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
    /// For the phone only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<ChallengeView>,
    /// What was charged and is not refunded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded: Option<Money>,
    /// Nothing more is expected of driver, station or PSP.
    pub is_end: bool,
    /// The vehicle is this session's: it stays pinned at the station and no other session may have it.
    pub pins_vehicle: bool,
}

impl SessionView {
    /// The view for a terminal: the challenge is between the server and the phone.
    pub fn without_challenge(mut self) -> SessionView {
        self.challenge = None;
        self
    }
}

/// The terms that the dongle MACs and the phone signs, and until when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ChallengeView {
    /// 64 hexadecimal digits.
    pub nonce: String,
    pub device: DeviceId,
    pub binding: BindingId,
    pub session: SessionId,
    pub station: StationId,
    pub pump: PumpNumber,
    pub amount: Money,
    pub epoch: u64,
    pub expires_at: UnixMs,
    pub tries_left: u8,
}

/// Proof of payment for the driver.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    pub session: SessionId,
    pub station: StationId,
    pub plate: String,
    pub completion: Completion,
    pub amount: Money,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded: Option<Money>,
    pub paid_at: UnixMs,
    /// The PSP's own reference of the payment.
    pub reference: String,
}
