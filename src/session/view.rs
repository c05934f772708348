//! What callers see of a session.

use crate::engine::{
    id::{BindingId, DeviceId, PumpNumber, SessionId, StationId},
    money::Money,
    session::{Completion, Notice, Session, StateName, Unseen, Why},
    time::UnixMs,
};
use crate::ledger::Seq;

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
    /// The last word to the driver, until the phone says that it shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
    pub version: u32,
    /// The place of the last change in the journal: it grows over all sessions, and over restarts.
    pub seq: u64,
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
    pub(super) fn of(session: &Session, seq: Seq) -> SessionView {
        let (opening, state) = (session.opening(), session.state());
        SessionView {
            id: opening.session,
            station: opening.station,
            pump: session.pump(),
            plate: opening.vehicle.plate.clone(),
            device: opening.vehicle.device,
            binding: opening.vehicle.binding,
            state: session.name(),
            reason: state.why(),
            notice: session.notice(),
            unseen: session.unseen(),
            version: session.version(),
            seq: seq.0,
            opened_at: session.opened_at(),
            updated_at: session.updated_at(),
            preset: session.preset(),
            held: session.held(),
            amount: state.sale().map(|sale| sale.amount),
            completion: state.sale().cloned(),
            challenge: ChallengeView::of(session),
            paid: session.paid(),
            refunded: session.refunded(),
            is_end: session.name().is_end(),
            pins_vehicle: session.pins_vehicle(),
        }
    }

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

impl ChallengeView {
    pub(super) fn of(session: &Session) -> Option<ChallengeView> {
        let terms = session.terms()?;
        let challenge = session.state().challenge()?;
        Some(ChallengeView {
            nonce: hex::encode(terms.nonce),
            device: terms.device,
            binding: terms.binding,
            session: terms.session,
            station: terms.station,
            pump: terms.pump,
            amount: terms.amount,
            epoch: terms.epoch,
            expires_at: challenge.expires_at,
            tries_left: challenge.tries_left,
        })
    }
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

impl Receipt {
    /// `None` unless the sale was paid through us.
    pub(super) fn of(session: &Session) -> Option<Receipt> {
        let (opening, state) = (session.opening(), session.state());
        let payment = state.payment()?;
        Some(Receipt {
            session: opening.session,
            station: opening.station,
            plate: opening.vehicle.plate.clone(),
            completion: state.sale()?.clone(),
            amount: payment.amount,
            refunded: session.refunded(),
            paid_at: payment.paid_at,
            reference: payment.reference.clone(),
        })
    }
}
