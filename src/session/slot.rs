//! One session in memory: what is durable, what is being journalled, who waits.

use std::collections::{BTreeSet, VecDeque};

use tokio::sync::oneshot;
use tracing::Span;

use super::{
    By, Command, Error, Request, SessionView, Word,
    orders::Witness,
    record::{Answered, Rebuilt, Requests},
};
use crate::{
    engine::{
        charge::Instruction,
        id::SessionId,
        session::{Effects, Event, Session, StateName},
        time::UnixMs,
    },
    ledger::Seq,
    payment::{News, Report},
};

/// Orders that may wait while one is being journalled.
pub(super) const WAITING_MAX: usize = 16;

pub type Reply = oneshot::Sender<Result<SessionView, Error>>;

pub enum Cause {
    /// From outside, with what the registrations said if it is a proof.
    Order { by: By, command: Command, witness: Option<Box<Witness>> },
    /// From payments, the registrations or the clock.
    Event(Event),
}

/// One thing that wants to happen to a session.
pub struct Job {
    pub cause: Cause,
    pub request: Option<Request>,
    pub reply: Option<Reply>,
    /// Within which it was made: that of the trace in which its event is told.
    pub(super) span: Span,
}

impl Job {
    pub fn event(event: Event) -> Job {
        Job { cause: Cause::Event(event), request: None, reply: None, span: Span::current() }
    }

    pub fn order(cause: Cause, request: Option<Request>, reply: Reply) -> Job {
        Job { cause, request, reply: Some(reply), span: Span::current() }
    }

    /// Payments took the instruction, so its intent is durable.
    pub fn taken(instruction: &Instruction) -> Option<Job> {
        let sent = Event::ChargeSent { ordinal: instruction.ordinal };
        instruction.operation.takes_money().then(|| Job::event(sent))
    }

    /// What payments report of an instruction.
    pub fn reported(Report { ordinal, news, .. }: Report) -> Job {
        Job::event(match news {
            News::InDoubt => Event::ChargeInDoubt { ordinal },
            News::Concluded(outcome) => Event::ChargeConcluded { ordinal, outcome },
        })
    }

    pub(super) fn answer(self, answer: Result<SessionView, Error>) {
        answer_to(self.reply, answer);
    }
}

/// Who went away does not need the answer.
pub(super) fn answer_to(reply: Option<Reply>, answer: Result<SessionView, Error>) {
    if let Some(reply) = reply {
        let _ = reply.send(answer);
    }
}

/// The session as it will be once its event is durable.
pub(super) struct Tentative {
    pub session: Session,
    pub effects: Effects,
    pub answered: Answered,
    pub request: Option<Request>,
    pub reply: Option<Reply>,
    /// A site transaction that this event claims for the session.
    pub transaction: Option<String>,
    /// The event, if it has to come again should the journal not take it.
    pub again: Option<Event>,
    pub span: Span,
}

pub(super) struct Slot {
    pub session: Session,
    pub requests: Requests,
    /// The place of the last event in the journal.
    pub seq: Seq,
    pub tentative: Option<Tentative>,
    pub waiting: VecDeque<Job>,
    /// Reservations that are answered when the PSP has answered the hold.
    pub parked: Vec<Reply>,
    /// Its place in the table of deadlines.
    armed: Option<UnixMs>,
}

impl Slot {
    pub(super) fn new(Rebuilt { session, requests, seq }: Rebuilt) -> Slot {
        Slot { session, requests, seq, tentative: None, waiting: VecDeque::new(), parked: Vec::new(), armed: None }
    }

    pub(super) fn arm(&mut self, deadlines: &mut BTreeSet<(UnixMs, SessionId)>, at: Option<UnixMs>) {
        let id = self.session.opening().session;
        if let Some(armed) = self.armed {
            deadlines.remove(&(armed, id));
        }
        deadlines.extend(at.map(|at| (at, id)));
        self.armed = at;
    }

    /// At an end, with nothing under way: what the journal holds of it is all there is to know.
    pub(super) fn is_at_rest(&self) -> bool {
        self.session.name().is_end() && self.session.pending().next().is_none() && self.tentative.is_none()
    }

    pub(super) fn view(&self) -> SessionView {
        SessionView::of(&self.session, self.seq)
    }

    pub(super) fn word(&self) -> Word {
        let opening = self.session.opening();
        Word { session: opening.session, binding: opening.vehicle.binding, unseen: self.session.unseen() }
    }

    /// Answers a repetition as the first was answered; a job that is new comes back.
    pub(super) fn answer_repetition(&mut self, job: Job) -> Option<Job> {
        let Some(request) = job.request else { return Some(job) };
        match self.requests.find(request) {
            Ok(None) => return Some(job),
            Ok(Some(answered)) => self.answer(job.reply, answered),
            Err(error) => job.answer(Err(error)),
        }
        None
    }

    /// Answers with the session as it is; who asked for a hold that is open, with the session as it will be then.
    pub(super) fn answer(&mut self, reply: Option<Reply>, answered: Answered) {
        if let Some(refusal) = answered.refusal() {
            return answer_to(reply, Err(refusal));
        }
        match reply {
            Some(reply)
                if answered == Answered::Holding
                    && self.session.name() == StateName::Holding
                    && self.parked.len() < WAITING_MAX =>
            {
                self.parked.push(reply);
            }
            reply => answer_to(reply, Ok(self.view())),
        }
    }

    /// Answers who waited for a hold, once it is answered.
    pub(super) fn answer_parked(&mut self) {
        let state = self.session.name();
        if state == StateName::Holding {
            return;
        }
        for reply in std::mem::take(&mut self.parked) {
            let answer = if state == StateName::Selected { Err(Error::Declined) } else { Ok(self.view()) };
            answer_to(Some(reply), answer);
        }
    }
}
