//! Every session of this node, as a plain struct: jobs and `now` in; entries to journal, answers and effects out.
//!
//! One event of a session is journalled at a time. Its outcome is worked out on a copy, which becomes the session
//! once the event is durable; until then nobody sees it, and what else is wanted of the session waits.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{
    By, Error, Open, Receipt, Request, SessionView, Summary,
    index::Index,
    orders,
    prices::PriceBoard,
    record::{Answered, Record, Requests, Unreadable, rebuild, replay},
    slot::{Cause, Job, Reply, Slot, Tentative, WAITING_MAX, answer_to},
};
use crate::{
    engine::{
        charge::Instruction,
        id::{BindingId, DeviceId, SessionId, StationId},
        session::{Effects, Event, Moment, Opening, Session, StateName},
        time::UnixMs,
    },
    ledger::{Entry, Kind},
};

/// A deadline that could not be journalled is tried again after this.
const DEADLINE_RETRY_MS: u64 = 5_000;

/// A session that is being opened: its first event is not durable yet.
struct Opened {
    session: Session,
    effects: Effects,
    request: Request,
    replies: Vec<Reply>,
}

/// What became durable, for the shell to carry out.
#[derive(Default)]
pub(super) struct Done {
    pub effects: Effects,
    /// The session as it is now, for its station and its phone.
    pub changed: Option<Box<SessionView>>,
    /// The next event of the same session.
    pub next: Option<Entry>,
}

pub(super) struct Desk {
    slots: HashMap<SessionId, Slot>,
    opening: HashMap<SessionId, Opened>,
    deadlines: BTreeSet<(UnixMs, SessionId)>,
    index: Index,
    /// Sessions at an end, in the order in which they came there.
    ended: VecDeque<(UnixMs, SessionId)>,
    ended_max: usize,
    ended_ms: u64,
    pub(super) prices: PriceBoard,
    summary: Summary,
}

impl Desk {
    pub(super) fn new(ended_max: usize, ended_ms: u64) -> Desk {
        Desk {
            slots: HashMap::new(),
            opening: HashMap::new(),
            deadlines: BTreeSet::new(),
            index: Index::default(),
            ended: VecDeque::new(),
            ended_max,
            ended_ms,
            prices: PriceBoard::default(),
            summary: Summary::default(),
        }
    }

    pub(super) fn knows(&self, session: SessionId) -> bool {
        self.slots.contains_key(&session) || self.opening.contains_key(&session)
    }

    /// Opens a session; the entry is what makes it durable. Without one, the answer is given.
    pub(super) fn open(&mut self, open: Open, reply: Reply, moment: Moment) -> Option<Entry> {
        let id = open.session;
        if let Some(opening) = self.opening.get_mut(&id) {
            if opening.request == open.request {
                opening.replies.push(reply);
            } else {
                answer_to(Some(reply), Err(Error::KeyReused));
            }
            return None;
        }
        if self.slots.contains_key(&id) {
            let repeated = self.repeated(id, open.request);
            answer_to(Some(reply), repeated.and_then(|view| view.ok_or(Error::KeyReused)));
            return None;
        }
        if let Some(holder) = self.index.holder(open.vehicle.device) {
            answer_to(Some(reply), Err(Error::VehicleTaken(holder)));
            return None;
        }
        let opening = Opening { session: id, station: open.station, pump: open.pump, vehicle: open.vehicle };
        self.index.pin(opening.vehicle.device, id);
        let entry = Record::Opened { opening: opening.clone(), request: open.request, moment }.entry(id);
        let (session, effects) = Session::open(opening, moment.at);
        self.opening.insert(id, Opened { session, effects, request: open.request, replies: vec![reply] });
        Some(entry)
    }

    /// The session that this request opened before, if it did.
    pub(super) fn repeated(&self, session: SessionId, request: Request) -> Result<Option<SessionView>, Error> {
        let Some(slot) = self.slots.get(&session) else { return Ok(None) };
        Ok(slot.requests.find(request)?.map(|_| slot.view()))
    }

    /// What a job wants journalled; without an entry it is answered or waits.
    pub(super) fn submit(&mut self, id: SessionId, job: Job, moment: Moment) -> Option<Entry> {
        let Some(slot) = self.slots.get_mut(&id) else {
            job.answer(Err(Error::NotFound));
            return None;
        };
        if slot.tentative.is_none() {
            return self.turn(id, job, moment);
        }
        // What comes from within is bounded by what the session asked for, and must not be lost.
        if slot.waiting.len() >= WAITING_MAX && matches!(job.cause, Cause::Order { .. }) {
            job.answer(Err(Error::Overloaded));
        } else {
            slot.waiting.push_back(job);
        }
        None
    }

    /// The session's event is durable: it takes effect, and its callers hear of it.
    pub(super) fn committed(&mut self, id: SessionId, moment: Moment) -> Done {
        if let Some(opened) = self.opening.remove(&id) {
            return self.opened(id, opened);
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Done::default() };
        let Some(tentative) = slot.tentative.take() else { return Done::default() };
        let before = slot.session.name();
        slot.session = tentative.session;
        if let Some(request) = tentative.request {
            slot.requests.push(request, tentative.answered);
        }
        match tentative.answered {
            Answered::View => slot.answer(tentative.reply),
            Answered::ProofWrong { tries_left } => answer_to(tentative.reply, Err(Error::ProofWrong { tries_left })),
        }
        slot.answer_parked();
        let changed = Some(Box::new(slot.view()));
        self.summary.count(Some(before), slot.session.name(), &tentative.effects);
        self.settle(id, before.is_end());
        Done { effects: tentative.effects, changed, next: self.next(id, moment) }
    }

    /// The event did not become durable, as far as the caller can tell: what the journal holds of the session now is
    /// what counts.
    pub(super) fn failed(&mut self, id: SessionId, journalled: Option<&[Entry]>, moment: Moment) -> Done {
        if let Some(opened) = self.opening.remove(&id) {
            self.index.unpin(opened.session.vehicle().device, id);
            opened.replies.into_iter().for_each(|reply| answer_to(Some(reply), Err(Error::Unavailable)));
            if let Err(error) = self.recall(id, journalled.unwrap_or_default()) {
                tracing::error!(%error, "a session cannot be read back");
            }
            return Done::default();
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Done::default() };
        let Some(tentative) = slot.tentative.take() else { return Done::default() };
        answer_to(tentative.reply, Err(Error::Unavailable));
        let was_end = slot.session.name().is_end();
        if let Some(Ok((session, requests))) = journalled.map(|entries| rebuild(id, entries)) {
            slot.session = session;
            slot.requests = requests;
        }
        if let Some(transaction) = tentative.transaction {
            self.index.release_transaction(slot.session.opening().station, &transaction, id);
            self.index.claim_transactions(&slot.session);
        }
        self.settle(id, was_end);
        self.postpone(id, moment.at.plus(DEADLINE_RETRY_MS));
        Done { next: self.next(id, moment), ..Done::default() }
    }

    /// Sessions whose deadline has passed, at most `max`.
    pub(super) fn due(&self, now: UnixMs, max: usize) -> Vec<SessionId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).take(max).map(|(_, id)| *id).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<UnixMs> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets the sessions that have been at an end for long, or are too many. They stay in the journal.
    pub(super) fn evict(&mut self, now: UnixMs) {
        while let Some((at, id)) = self.ended.front().copied() {
            if self.ended.len() <= self.ended_max && now.since(at) < self.ended_ms {
                break;
            }
            self.ended.pop_front();
            if self.slots.get(&id).is_some_and(|slot| slot.tentative.is_none() && slot.session.name().is_end()) {
                let slot = self.slots.remove(&id).expect("looked up above");
                self.index.forget(&slot.session);
            }
        }
    }

    pub(super) fn view(&self, id: SessionId, by: By) -> Result<SessionView, Error> {
        self.seen(id, by).map(SessionView::of)
    }

    pub(super) fn receipt(&self, id: SessionId, by: By) -> Result<Receipt, Error> {
        Receipt::of(self.seen(id, by)?).ok_or(Error::NotPaid)
    }

    fn seen(&self, id: SessionId, by: By) -> Result<&Session, Error> {
        let session = self.slots.get(&id).map(|slot| &slot.session);
        session.filter(|session| orders::may_see(session, by)).ok_or(Error::NotFound)
    }

    pub(super) fn device(&self, id: SessionId) -> Option<(DeviceId, BindingId, u64)> {
        let vehicle = self.slots.get(&id)?.session.vehicle();
        Some((vehicle.device, vehicle.binding, vehicle.epoch))
    }

    /// The station's sessions that are not at an end.
    pub(super) fn of_station(&self, station: StationId) -> Vec<SessionView> {
        self.views(self.index.of_station(station)).filter(|view| !view.is_end).collect()
    }

    /// The binding's sessions that are not at an end, and the last that is.
    pub(super) fn of_binding(&self, binding: BindingId) -> Vec<SessionView> {
        let (mut ended, mut views): (Vec<_>, Vec<_>) =
            self.views(self.index.of_binding(binding)).partition(|view| view.is_end);
        ended.sort_by_key(|view| view.updated_at);
        views.extend(ended.pop());
        views
    }

    fn views<'a>(&'a self, ids: impl Iterator<Item = SessionId> + 'a) -> impl Iterator<Item = SessionView> + 'a {
        ids.filter_map(|id| self.slots.get(&id)).map(Slot::view)
    }

    /// The sessions that a change of the binding concerns.
    pub(super) fn open_of_binding(&self, binding: BindingId) -> Vec<SessionId> {
        self.index.of_binding(binding).filter(|id| self.is_open(*id)).collect()
    }

    pub(super) fn open_sessions(&self) -> Vec<SessionId> {
        self.slots.keys().copied().filter(|id| self.is_open(*id)).collect()
    }

    fn is_open(&self, id: SessionId) -> bool {
        self.slots.get(&id).is_some_and(|slot| !slot.session.name().is_end())
    }

    /// Instructions without an outcome, and whether their session still wants them.
    pub(super) fn unsettled(&self) -> Vec<(Instruction, bool)> {
        let sessions = self.slots.values().map(|slot| &slot.session);
        sessions
            .flat_map(|session| session.pending().map(|pending| (pending.clone(), session.wants(pending))))
            .collect()
    }

    /// Whether an instruction still has no outcome, and if so whether it is wanted.
    pub(super) fn wants(&self, instruction: &Instruction) -> Option<bool> {
        let session = &self.slots.get(&instruction.session)?.session;
        session.pending().find(|pending| *pending == instruction).map(|pending| session.wants(pending))
    }

    pub(super) fn summary(&self) -> Summary {
        self.summary
    }

    /// Takes up one entry of the journal at the start. `false`: it belongs to a session that was forgotten already,
    /// which has to be recalled as a whole.
    pub(super) fn recover(&mut self, id: SessionId, entry: &Entry) -> Result<bool, Unreadable> {
        let (before, effects) = match Record::read(entry)? {
            Record::Opened { opening, request, moment } => {
                let (session, effects) = Session::open(opening, moment.at);
                self.insert(id, session, Requests::new(request));
                (None, effects)
            }
            Record::Happened { event, request, moment } => {
                let Some(slot) = self.slots.get_mut(&id) else { return Ok(false) };
                let before = slot.session.name();
                (Some(before), replay(id, &mut slot.session, &mut slot.requests, event, request, moment)?)
            }
        };
        let slot = self.slots.get(&id).expect("inserted or found above");
        self.index.claim_transactions(&slot.session);
        self.summary.count(before, slot.session.name(), &effects);
        self.settle(id, before.is_some_and(StateName::is_end));
        self.evict(entry.at);
        Ok(true)
    }

    /// Takes back a session that was forgotten.
    pub(super) fn recall(&mut self, id: SessionId, entries: &[Entry]) -> Result<(), Unreadable> {
        if entries.is_empty() || self.knows(id) {
            return Ok(());
        }
        debug_assert!(entries.iter().all(|entry| entry.kind == Kind::Session));
        let (session, requests) = rebuild(id, entries)?;
        self.insert(id, session, requests);
        self.settle(id, false);
        Ok(())
    }

    fn opened(&mut self, id: SessionId, opened: Opened) -> Done {
        let view = SessionView::of(&opened.session);
        opened.replies.into_iter().for_each(|reply| answer_to(Some(reply), Ok(view.clone())));
        self.summary.count(None, opened.session.name(), &opened.effects);
        self.insert(id, opened.session, Requests::new(opened.request));
        self.settle(id, false);
        Done { effects: opened.effects, changed: Some(Box::new(view)), next: None }
    }

    fn insert(&mut self, id: SessionId, session: Session, requests: Requests) {
        self.index.know(&session);
        self.slots.insert(id, Slot::new(session, requests));
    }

    /// Restores what follows from a session's state: its deadline, who holds its vehicle, when it ended.
    fn settle(&mut self, id: SessionId, was_end: bool) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let deadline = slot.session.next_deadline();
        slot.arm(&mut self.deadlines, deadline);
        let name = slot.session.name();
        let device = slot.session.vehicle().device;
        if name.pins_vehicle() {
            self.index.pin(device, id);
        } else {
            self.index.unpin(device, id);
        }
        if name.is_end() && !was_end {
            self.ended.push_back((slot.session.updated_at(), id));
        }
    }

    fn postpone(&mut self, id: SessionId, until: UnixMs) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(deadline) = slot.session.next_deadline() {
            slot.arm(&mut self.deadlines, Some(deadline.max(until)));
        }
    }

    /// The next waiting job that wants something journalled.
    fn next(&mut self, id: SessionId, moment: Moment) -> Option<Entry> {
        while let Some(job) = self.slots.get_mut(&id)?.waiting.pop_front() {
            if let Some(entry) = self.turn(id, job, moment) {
                return Some(entry);
            }
        }
        None
    }

    fn turn(&mut self, id: SessionId, job: Job, moment: Moment) -> Option<Entry> {
        let Self { slots, index, prices, deadlines, .. } = self;
        let slot = slots.get_mut(&id)?;
        let Job { cause, request, reply } = slot.answer_repetition(job)?;
        let event = match cause {
            Cause::Event(event) => Ok(event),
            Cause::Order { by, command, witness } => {
                orders::event_of(&slot.session, by, command, prices, witness.as_deref())
            }
        };
        let station = slot.session.opening().station;
        let event = event.and_then(|event| match transaction_of(&event) {
            Some(transaction) if index.is_foreign(station, transaction, id) => Err(Error::TransactionConflict),
            _ => Ok(event),
        });
        let mut next = slot.session.clone();
        let turned = event.and_then(|event| match next.on_event(event.clone(), moment) {
            Ok(effects) => Ok(Some((event, effects))),
            Err(refusal) => orders::error_of(refusal, slot.session.name()).map_or(Ok(None), Err),
        });
        match turned {
            Err(error) => answer_to(reply, Err(error)),
            Ok(None) => slot.answer(reply),
            Ok(Some((event, effects))) => {
                slot.arm(deadlines, None);
                let transaction = transaction_of(&event).map(str::to_owned);
                if let Some(transaction) = &transaction {
                    index.claim_transaction(station, transaction, id);
                }
                let answered = Answered::kind(&event)(&next);
                let entry = Record::Happened { event, request, moment }.entry(id);
                slot.tentative = Some(Tentative { session: next, effects, answered, request, reply, transaction });
                return Some(entry);
            }
        }
        None
    }
}

fn transaction_of(event: &Event) -> Option<&str> {
    match event {
        Event::FuelDelivered { completion, .. } | Event::Corrected { completion, .. } => Some(&completion.transaction),
        _ => None,
    }
}
