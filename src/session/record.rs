//! What is journalled of a session, and the way back.

use super::{By, Error, Heard, Request};
use crate::{
    engine::{
        id::{BindingId, SessionId, StationId},
        session::{Effects, Event, Moment, Opening, Session, StateName},
    },
    ledger::{self, Entry, Kind, Seq},
};

/// 1 did not say who gave an order, nor what was heard of the vehicle.
pub(super) const FORMAT: u16 = 2;

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Record {
    Opened { opening: Opening, by: Who, heard: Option<Heard>, request: Request, moment: Moment },
    Happened { event: Event, by: Who, request: Option<Request>, moment: Moment },
}

/// Who gave an order.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The journal did not say so then.
    Unknown,
    /// The engine: its clock, its payments, its registrations.
    Engine,
    /// A terminal of this station.
    Terminal(StationId),
    /// The phone of this binding.
    Phone(BindingId),
    /// By the name of his token; without one, the bearer of the data folder's own.
    Operator(String),
}

impl From<By> for Who {
    fn from(by: By) -> Who {
        match by {
            By::Station(station) => Who::Terminal(station),
            By::Phone(binding) => Who::Phone(binding),
            By::Operator(name) => Who::Operator(name.as_str().to_owned()),
        }
    }
}

/// The records of format 1.
mod first {
    use super::{Event, Moment, Opening, Request, Who};

    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub(super) enum Record {
        Opened { opening: Opening, request: Request, moment: Moment },
        Happened { event: Event, request: Option<Request>, moment: Moment },
    }

    impl From<Record> for super::Record {
        fn from(record: Record) -> super::Record {
            let by = Who::Unknown;
            match record {
                Record::Opened { opening, request, moment } => {
                    super::Record::Opened { opening, by, heard: None, request, moment }
                }
                Record::Happened { event, request, moment } => super::Record::Happened { event, by, request, moment },
            }
        }
    }
}

/// The journal of a session cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the journal holds a session of format {0}, which this program does not know")]
    Format(u16),
    #[error("a journalled session cannot be read: {0}")]
    Damaged(#[from] ledger::Damaged),
    #[error("the journal of session {0} does not begin with its opening, or contradicts itself")]
    Contradiction(SessionId),
}

impl Record {
    pub(super) fn entry(&self, session: SessionId) -> Entry {
        let (Record::Opened { moment, .. } | Record::Happened { moment, .. }) = self;
        Entry {
            at: moment.at,
            kind: Kind::Session,
            subject: session.0.to_vec(),
            format: FORMAT,
            payload: ledger::encode(self),
        }
    }

    pub fn read(entry: &Entry) -> Result<Record, Unreadable> {
        match entry.format {
            FORMAT => Ok(ledger::decode(&entry.payload)?),
            1 => Ok(ledger::decode::<first::Record>(&entry.payload)?.into()),
            other => Err(Unreadable::Format(other)),
        }
    }
}

/// The last requests of one session, so that a repetition is answered and not carried out.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    opening: Request,
    last: std::collections::VecDeque<(Request, Answered)>,
}

/// How a request was answered: with the session as it is, as it is once a hold is answered, or with a refusal that was
/// an event of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    View,
    ProofWrong {
        tries_left: u8,
    },
    /// A hold was asked for: its outcome is the answer.
    Holding,
    HoldDeclined,
}

impl Answered {
    /// From the session after the event to the answer.
    pub(super) fn kind(event: &Event) -> fn(&Session) -> Answered {
        match event {
            Event::ProofRefused { .. } => |after| Answered::ProofWrong {
                tries_left: after.state().challenge().map_or(0, |challenge| challenge.tries_left),
            },
            Event::ReservationAsked { hold: true, .. } => |_| Answered::Holding,
            _ => |_| Answered::View,
        }
    }

    pub(super) fn refusal(self) -> Option<Error> {
        match self {
            Answered::View | Answered::Holding => None,
            Answered::ProofWrong { tries_left } => Some(Error::ProofWrong { tries_left }),
            Answered::HoldDeclined => Some(Error::Declined),
        }
    }
}

/// Requests remembered per session, 65 bytes each: a fuelling takes about six.
const REQUESTS_MAX: usize = 32;

impl Requests {
    pub(super) fn new(opening: Request) -> Requests {
        Requests { opening, last: std::collections::VecDeque::new() }
    }

    pub(super) fn push(&mut self, request: Request, answered: Answered) {
        if self.last.len() == REQUESTS_MAX {
            self.last.pop_front();
        }
        self.last.push_back((request, answered));
    }

    /// The session went from one state to another: a hold that was declined is what its request was answered with.
    pub(super) fn follow(&mut self, before: StateName, now: StateName) {
        if (before, now) == (StateName::Holding, StateName::Selected) {
            let holding = self.last.iter_mut().filter(|(_, answered)| *answered == Answered::Holding);
            holding.for_each(|(_, answered)| *answered = Answered::HoldDeclined);
        }
    }

    /// `None` for a request that is new.
    pub(super) fn find(&self, request: Request) -> Result<Option<Answered>, Error> {
        let opening = (self.opening, Answered::View);
        let known = self.last.iter().chain([&opening]).find(|(known, _)| known.key == request.key);
        match known {
            Some((known, _)) if known.body != request.body => Err(Error::KeyReused),
            Some((_, answered)) => Ok(Some(*answered)),
            None => Ok(None),
        }
    }
}

/// A session as its records make it.
pub(super) struct Rebuilt {
    pub session: Session,
    /// The requests that it has answered.
    pub requests: Requests,
    /// The place of its last record.
    pub seq: Seq,
}

pub(super) fn rebuild(session: SessionId, entries: &[(Seq, Entry)]) -> Result<Rebuilt, Unreadable> {
    let mut rebuilt: Option<Rebuilt> = None;
    for (seq, entry) in entries {
        match (Record::read(entry)?, &mut rebuilt) {
            (Record::Opened { opening, request, moment, .. }, None) => {
                let (session, requests) = (Session::open(opening, moment.at).0, Requests::new(request));
                rebuilt = Some(Rebuilt { session, requests, seq: *seq });
            }
            (Record::Happened { event, request, moment, .. }, Some(rebuilt)) => {
                replay(session, &mut rebuilt.session, &mut rebuilt.requests, event, request, moment)?;
                rebuilt.seq = *seq;
            }
            _ => return Err(Unreadable::Contradiction(session)),
        }
    }
    rebuilt.ok_or(Unreadable::Contradiction(session))
}

pub(super) fn replay(
    session: SessionId,
    state: &mut Session,
    requests: &mut Requests,
    event: Event,
    request: Option<Request>,
    moment: Moment,
) -> Result<Effects, Unreadable> {
    let kind = Answered::kind(&event);
    let before = state.name();
    let effects = state.on_event(event, moment).map_err(|_| Unreadable::Contradiction(session))?;
    requests.follow(before, state.name());
    if let Some(request) = request {
        requests.push(request, kind(state));
    }
    Ok(effects)
}
