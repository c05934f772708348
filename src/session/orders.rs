//! From an order to an event: who may give it, and what it means for this session.

use super::{By, Command, Error, prices::PriceBoard};
use crate::engine::{
    proof::{PayTerms, ProofKey, Terms},
    session::{Completion, Event, Refusal, Session, Standing, StateName},
};

/// What the registrations said when a proof came in.
#[derive(Debug, Clone)]
pub struct Witness {
    pub standing: Standing,
    pub key: Option<ProofKey>,
}

/// Whether the caller may see the session at all: others learn nothing of it.
pub(super) fn may_see(session: &Session, by: By) -> bool {
    match by {
        By::Station(station) => session.opening().station == station,
        By::Phone(binding) => session.vehicle().binding == binding,
        By::Operator(_) => true,
    }
}

fn may_give(command: &Command, by: By) -> bool {
    match command {
        Command::Reserve { .. } | Command::StartFuelling { .. } | Command::Complete(_) | Command::Correct(_) => {
            !matches!(by, By::Phone(_))
        }
        Command::Release | Command::PaidAtSite | Command::Cleared => !matches!(by, By::Phone(_)),
        Command::Notice { .. } | Command::Reject | Command::Prove { .. } => matches!(by, By::Phone(_)),
        Command::Refund { .. } | Command::Settle | Command::HandOver | Command::AllowGrade { .. } => {
            matches!(by, By::Operator(_))
        }
    }
}

/// `None`: there is nothing to do, and the answer is the session as it is.
pub(super) fn event_of(
    session: &Session,
    by: By,
    command: Command,
    prices: &PriceBoard,
    witness: Option<&Witness>,
) -> Result<Option<Event>, Error> {
    if !may_see(session, by) {
        return Err(Error::NotFound);
    }
    if !may_give(&command, by) {
        return Err(Error::NotPermitted);
    }
    let station = session.opening().station;
    Ok(Some(match command {
        Command::Reserve { pump, preset, hold, quote } => {
            if quote.as_ref().is_some_and(|quote| !session.takes_grade(&quote.grade)) {
                return Err(Error::GradeMismatch);
            }
            if quote.is_some_and(|quote| !prices.agrees_now(station, &quote)) {
                return Err(Error::PriceChanged);
            }
            Event::ReservationAsked { pump, preset, hold }
        }
        Command::StartFuelling { pump } => Event::FuellingStarted { pump },
        Command::Complete(completion) => {
            let price_agreed = is_price_agreed(session, &completion, prices);
            Event::FuelDelivered { completion, price_agreed }
        }
        Command::Correct(completion) => {
            let price_agreed = is_price_agreed(session, &completion, prices);
            Event::Corrected { completion, price_agreed }
        }
        Command::Release => Event::ReleaseAsked,
        Command::PaidAtSite => Event::PaidAtCounter,
        Command::Cleared => Event::SiteCleared,
        Command::Notice { version } if !is_last_word(session, version) => return Ok(None),
        Command::Notice { .. } => Event::PhoneNoticed,
        Command::Reject => Event::DriverRejected,
        Command::Prove { mac, signature } => proof_event(session, &mac, &signature, witness.ok_or(Error::Unavailable)?),
        Command::Refund { amount } => Event::RefundOrdered { amount },
        Command::Settle => Event::SettledInBatch,
        Command::HandOver => Event::HandedOver,
        Command::AllowGrade { reason } => Event::GradeAllowed { reason },
    }))
}

/// Whether who saw the session in `version` saw the last word to the driver: another may have come meanwhile.
fn is_last_word(session: &Session, version: Option<u32>) -> bool {
    let last = session.unseen().map_or(0, |word| word.version);
    version.is_none_or(|version| version >= last)
}

fn is_price_agreed(session: &Session, report: &Completion, prices: &PriceBoard) -> bool {
    let currency = Some(report.amount.currency);
    let since = session.opened_at();
    prices.agrees(session.opening().station, &report.grade, report.unit_price_milli, currency, since)
}

/// The verdict on a proof. A binding that changed while the proof was out is told instead: it voids the challenge.
fn proof_event(session: &Session, mac: &[u8; 32], signature: &[u8; 64], witness: &Witness) -> Event {
    let Some(terms) = session.terms() else {
        // Not asked for, or given before: the state machine knows which.
        let nonce = session.state().proof().map_or([0; 32], |proof| proof.nonce);
        return Event::ProofVerified { nonce };
    };
    let standing = &witness.standing;
    if !standing.active || standing.epoch != terms.epoch {
        return Event::BindingChanged(standing.clone());
    }
    if is_proven(&terms, mac, signature, witness) {
        Event::ProofVerified { nonce: terms.nonce }
    } else {
        Event::ProofRefused { nonce: terms.nonce }
    }
}

/// Both channels: the dongle's MAC under its own key, and the signature of the phone that is registered now.
fn is_proven(terms: &PayTerms, mac: &[u8; 32], signature: &[u8; 64], witness: &Witness) -> bool {
    let (Some(key), Some(phone)) = (&witness.key, &witness.standing.phone) else { return false };
    terms.verify(key, mac) && terms.verify_phone(phone, mac, signature)
}

/// `None`: nothing to do, the answer is the session as it is.
pub(super) fn error_of(refusal: Refusal, state: StateName) -> Option<Error> {
    Some(match refusal {
        Refusal::Already => return None,
        Refusal::WrongState => Error::WrongState(state),
        Refusal::Invalid(what) => Error::Invalid(what),
        Refusal::AmountMismatch { expected } => Error::AmountMismatch { expected },
        Refusal::PriceChanged => Error::PriceChanged,
        Refusal::GradeMismatch => Error::GradeMismatch,
        Refusal::TransactionConflict => Error::TransactionConflict,
        Refusal::MeansNotPermitted => Error::MeansNotPermitted,
        Refusal::PaidElsewhere => Error::PaidElsewhere,
        Refusal::AlreadyCleared => Error::AlreadyCleared,
        Refusal::BindingSuspended => Error::BindingSuspended,
    })
}
