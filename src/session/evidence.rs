//! All that the journal holds of a session, as one timeline: who was heard, who selected, what was proven, what was
//! charged.
//!
//! It is read from the journal alone and not from the memory, and each line names its place there, so that an auditor
//! finds what it was read from. No key and no MAC is in the journal; means of payment are masked.

use super::{
    Completion, Heard, StateName, Why,
    record::{Record, Unreadable, Who},
    view::ChallengeView,
};
use crate::{
    engine::{
        charge::{ChargeKey, Instruction, Operation, Outcome},
        id::{BindingId, DeviceId, PumpNumber, SessionId, StationId},
        money::Money,
        session::{Event, Session, Standing},
        time::UnixMs,
    },
    ledger::{Entry, Kind, Ledger, LedgerError, Seq},
    payment,
};

/// One session as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Evidence {
    pub session: SessionId,
    pub station: StationId,
    pub device: DeviceId,
    pub binding: BindingId,
    pub plate: String,
    /// What was heard of the vehicle when it was selected; `null` in sessions that are older than this record.
    pub heard: Option<Heard>,
    /// In the order of the journal.
    pub timeline: Vec<Line>,
    /// What the PSP was told to do.
    pub instructions: Vec<Instructed>,
    /// Where the session is now.
    pub state: StateName,
    pub reason: Option<Why>,
    /// Nothing more is expected of driver, station or PSP.
    pub is_end: bool,
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Line {
    /// Its place in the journal.
    pub seq: u64,
    pub at: UnixMs,
    pub by: Who,
    /// The session's state after it; absent for what is the payment's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateName>,
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    Selected {
        pump: Option<PumpNumber>,
    },
    ReservationAsked {
        pump: PumpNumber,
        preset: Option<Money>,
        hold: bool,
    },
    FuellingStarted {
        pump: Option<PumpNumber>,
    },
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
    /// The phone showed the last word to the driver.
    PhoneNoticed,
    DriverRejected,
    /// Dongle and phone have proven these terms.
    ProofVerified {
        terms: Option<ChallengeView>,
    },
    /// A proof of these terms was wrong.
    ProofRefused {
        terms: Option<ChallengeView>,
    },
    BindingChanged {
        active: bool,
        epoch: u64,
    },
    /// The intent is durable, and the payment has taken the instruction.
    ChargeSent {
        ordinal: u32,
    },
    ChargeInDoubt {
        ordinal: u32,
    },
    /// The session has heard of the outcome.
    ChargeConcluded {
        ordinal: u32,
        outcome: Concluded,
    },
    RefundOrdered {
        amount: Option<Money>,
    },
    SettledInBatch,
    HandedOver,
    DeadlinePassed,
    GradeAllowed {
        reason: String,
    },
    /// The payment's: from here on the PSP may have been told.
    Intended {
        ordinal: u32,
    },
    /// The payment's: the PSP has prepared and named it, and no money has moved.
    Named {
        ordinal: u32,
        reference: String,
    },
    /// The payment's: what the PSP answered.
    Answered {
        ordinal: u32,
        outcome: Concluded,
    },
    /// The payment's: nothing was learnt in a week.
    Unresolved {
        ordinal: u32,
    },
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Concluded {
    Succeeded {
        amount: Money,
        /// The PSP's own.
        reference: String,
    },
    Declined,
    Failed,
}

impl From<Outcome> for Concluded {
    fn from(outcome: Outcome) -> Concluded {
        match outcome {
            Outcome::Succeeded { amount, reference } => Concluded::Succeeded { amount, reference },
            Outcome::Declined => Concluded::Declined,
            Outcome::Failed => Concluded::Failed,
        }
    }
}

/// What the PSP was told to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Instructed {
    pub ordinal: u32,
    #[schema(value_type = String)]
    pub operation: Operation,
    /// The key under which the PSP was told, 64 hexadecimal digits.
    pub key: String,
    /// The last four characters of the means of payment.
    pub means: String,
    pub amount: Money,
    /// The key of what it captures, voids or refunds.
    pub of: Option<String>,
    /// `null` while it is open.
    pub outcome: Option<Concluded>,
}

/// The evidence cannot be read from the journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Session(#[from] Unreadable),
    #[error(transparent)]
    Charge(#[from] payment::Unreadable),
}

/// `None` for a session that the journal does not know.
pub(super) async fn read(ledger: &Ledger, session: SessionId) -> Result<Option<Evidence>, ReadError> {
    let rows = ledger.of(Kind::Session, session.0.to_vec()).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let (mut evidence, charges) = Evidence::of(session, &rows)?;
    for (ordinal, key) in (1..).zip(charges) {
        let rows = ledger.of(Kind::Charge, key.0.to_vec()).await?;
        evidence.add_charge(ordinal, &rows)?;
    }
    Ok(Some(evidence))
}

impl Evidence {
    /// Of the session's own entries, the first of which is its opening; with it the keys of its instructions, in the
    /// order of their ordinals from 1 on, whose entries are still to be put in.
    pub(super) fn of(id: SessionId, rows: &[(Seq, Entry)]) -> Result<(Evidence, Vec<ChargeKey>), Unreadable> {
        let (first, rest) = rows.split_first().ok_or(Unreadable::Contradiction(id))?;
        let Record::Opened { opening, by, heard, moment, .. } = Record::read(&first.1)? else {
            return Err(Unreadable::Contradiction(id));
        };
        let selected = What::Selected { pump: opening.pump };
        let mut session = Session::open(opening, moment.at).0;
        let mut timeline = vec![line(first.0, moment.at, by, Some(&session), selected)];
        for (seq, entry) in rest {
            let Record::Happened { event, by, moment, .. } = Record::read(entry)? else {
                return Err(Unreadable::Contradiction(id));
            };
            let what = What::of(&event, &session);
            session.on_event(event, moment).map_err(|_| Unreadable::Contradiction(id))?;
            timeline.push(line(*seq, moment.at, by, Some(&session), what));
        }
        let instructions = || session.attempts().iter().map(|attempt| &attempt.instruction);
        let evidence = Evidence {
            session: id,
            station: session.opening().station,
            device: session.vehicle().device,
            binding: session.vehicle().binding,
            plate: session.vehicle().plate.clone(),
            heard,
            timeline,
            instructions: instructions().map(Instructed::of).collect(),
            state: session.name(),
            reason: session.state().why(),
            is_end: session.name().is_end(),
        };
        Ok((evidence, instructions().map(Instruction::key).collect()))
    }

    /// Puts in what the journal holds of one instruction.
    fn add_charge(&mut self, ordinal: u32, rows: &[(Seq, Entry)]) -> Result<(), payment::Unreadable> {
        for (seq, entry) in rows {
            let (_, record) = payment::Record::read(entry)?;
            let what = match record {
                payment::Record::Intended(_) => What::Intended { ordinal },
                payment::Record::Named(reference) => What::Named { ordinal, reference },
                payment::Record::Unresolved => What::Unresolved { ordinal },
                payment::Record::Concluded(outcome) => {
                    let outcome = Concluded::from(outcome);
                    self.conclude(ordinal, &outcome);
                    What::Answered { ordinal, outcome }
                }
            };
            self.timeline.push(line(*seq, entry.at, Who::Engine, None, what));
        }
        self.timeline.sort_by_key(|line| line.seq);
        Ok(())
    }

    fn conclude(&mut self, ordinal: u32, outcome: &Concluded) {
        for instructed in self.instructions.iter_mut().filter(|instructed| instructed.ordinal == ordinal) {
            instructed.outcome = Some(outcome.clone());
        }
    }
}

fn line(seq: Seq, at: UnixMs, by: Who, session: Option<&Session>, what: What) -> Line {
    Line { seq: seq.0, at, by, state: session.map(Session::name), what }
}

impl What {
    /// An event that is about to happen to the session.
    fn of(event: &Event, session: &Session) -> What {
        match event.clone() {
            Event::ReservationAsked { pump, preset, hold } => What::ReservationAsked { pump, preset, hold },
            Event::FuellingStarted { pump } => What::FuellingStarted { pump },
            Event::FuelDelivered { completion, price_agreed } => What::FuelDelivered { completion, price_agreed },
            Event::Corrected { completion, price_agreed } => What::Corrected { completion, price_agreed },
            Event::ReleaseAsked => What::ReleaseAsked,
            Event::PaidAtCounter => What::PaidAtCounter,
            Event::SiteCleared => What::SiteCleared,
            Event::PhoneNoticed => What::PhoneNoticed,
            Event::DriverRejected => What::DriverRejected,
            Event::ProofVerified { .. } => What::ProofVerified { terms: ChallengeView::of(session) },
            Event::ProofRefused { .. } => What::ProofRefused { terms: ChallengeView::of(session) },
            Event::BindingChanged(Standing { active, epoch, .. }) => What::BindingChanged { active, epoch },
            Event::ChargeSent { ordinal } => What::ChargeSent { ordinal },
            Event::ChargeInDoubt { ordinal } => What::ChargeInDoubt { ordinal },
            Event::ChargeConcluded { ordinal, outcome } => What::ChargeConcluded { ordinal, outcome: outcome.into() },
            Event::RefundOrdered { amount } => What::RefundOrdered { amount },
            Event::SettledInBatch => What::SettledInBatch,
            Event::HandedOver => What::HandedOver,
            Event::DeadlinePassed => What::DeadlinePassed,
            Event::GradeAllowed { reason } => What::GradeAllowed { reason },
        }
    }
}

impl Instructed {
    fn of(instruction: &Instruction) -> Instructed {
        Instructed {
            ordinal: instruction.ordinal,
            operation: instruction.operation,
            key: hex::encode(instruction.key().0),
            means: masked(&instruction.means),
            amount: instruction.amount,
            of: instruction.of.map(|key| hex::encode(key.0)),
            outcome: None,
        }
    }
}

/// The last four characters, and of a short one the last quarter.
fn masked(means: &str) -> String {
    let length = means.chars().count();
    let shown = (length / 4).min(4);
    let end: String = means.chars().skip(length - shown).collect();
    format!("****{end}")
}
