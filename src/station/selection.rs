//! Whom the attendant means, out of the vehicles present.

use std::sync::Arc;

use super::{error::SelectError, view::Candidate as CandidateView};
use crate::{
    engine::{
        candidate::{Candidate, Pick, pick},
        id::{BindingId, PumpNumber, ReceiverId, SessionId},
        plate::Query,
        presence::Seen,
        time::UnixMs,
    },
    registration::{BindingStatus, Registration},
    session::{Heard, Level, Matched, Open, RECEIVERS_KEPT_MAX, Request, SessionView, Vehicle},
};

/// A terminal asks for the vehicle with this part of a plate.
#[derive(Debug, Clone)]
pub struct Select {
    pub query: Query,
    pub pump: Option<PumpNumber>,
    /// The pick out of an earlier, ambiguous answer.
    pub candidate: Option<BindingId>,
    pub request: Request,
    /// The session that this request opens: the same request names the same session.
    pub session: SessionId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Opened(Box<SessionView>),
    /// Nothing was created; the likeliest first.
    Ambiguous(Vec<CandidateView>),
}

/// What a station says to a [`Select`].
#[derive(Debug)]
pub(super) enum Chosen {
    /// What is to be opened.
    One(Box<Open>),
    Several(Vec<CandidateView>),
}

/// A vehicle on the forecourt whose registration is known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) seen: Seen,
    pub(super) registration: Arc<Registration>,
    pub(super) contested: bool,
}

/// What [`choose`] came to.
#[derive(Debug)]
pub(super) enum Choice<'a> {
    One(&'a Known),
    Several(Vec<CandidateView>),
}

/// Decides among those present; nothing is changed by it.
pub(super) fn choose<'a>(select: &Select, present: &'a [Known]) -> Result<Choice<'a>, SelectError> {
    let live: Vec<&Known> =
        present.iter().filter(|known| known.registration.status != BindingStatus::Revoked).collect();
    let candidates: Vec<Candidate<'_>> = (live.iter())
        .filter(|known| select.candidate.is_none_or(|picked| known.registration.binding == picked))
        .map(|known| Candidate { seen: known.seen, plate: &known.registration.plate })
        .collect();
    let of = |device| live.iter().find(|known| known.seen.device == device).copied().expect("picked from these");
    match pick(&select.query, select.pump, &candidates) {
        Pick::Nobody if select.candidate.is_some() => Err(SelectError::NotPresent),
        Pick::Nobody => Err(SelectError::NoMatch),
        Pick::One(device) => permitted(of(device)).map(Choice::One),
        Pick::Several(devices) => Ok(Choice::Several(
            devices.into_iter().map(of).map(|known| CandidateView::new(&known.seen, &known.registration)).collect(),
        )),
    }
}

fn permitted(known: &Known) -> Result<&Known, SelectError> {
    match known.registration.status {
        _ if known.contested => Err(SelectError::Contested),
        BindingStatus::Active => Ok(known),
        BindingStatus::Suspended => Err(SelectError::Suspended),
        BindingStatus::Revoked => Err(SelectError::NotPresent),
    }
}

/// What the session keeps of how the vehicle was found.
pub(super) fn heard(select: &Select, picked: &Known, first: UnixMs, levels: &[(ReceiverId, i8)]) -> Heard {
    let level = |&(receiver, rssi_dbm): &(ReceiverId, i8)| Level { receiver, rssi_dbm };
    let fit = picked.registration.plate.fit(&select.query).expect("it was chosen because it fits");
    Heard {
        first,
        last: picked.seen.last,
        hearings: picked.seen.hearings,
        receivers: levels.iter().take(RECEIVERS_KEPT_MAX).map(level).collect(),
        pump: picked.seen.pump,
        matched: Matched { query: select.query.masked(), fit, picked: select.candidate.is_some() },
    }
}

/// The facts of a registration that a session keeps.
pub(super) fn vehicle(registration: &Registration) -> Vehicle {
    Vehicle {
        device: registration.device,
        binding: registration.binding,
        epoch: registration.epoch,
        plate: registration.plate.as_str().to_owned(),
        fuel: registration.fuel.clone(),
        phone: registration.phone,
        means: registration.means.clone(),
        provable: registration.provable,
    }
}
