//! Every session of this node, as a plain struct: jobs and `now` in; entries to journal, answers and effects out.
//!
//! One event of a session is journalled at a time. Its outcome is worked out on a copy, which becomes the session
//! once the event is durable; until then nobody sees it, and what else is wanted of the session waits.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
};

use tracing::{Span, field};

use super::{
    By, Error, Open, Receipt, Request, SessionView, Summary, Word,
    gone::Gone,
    index::Index,
    orders,
    prices::{PriceBoard, PricesSet},
    record::{Answered, Rebuilt, Record, Requests, Unreadable, Who, rebuild, replay},
    slot::{Cause, Job, Reply, Slot, Tentative, WAITING_MAX, answer_to},
};
use crate::{
    engine::{
        charge::Instruction,
        id::{BindingId, DeviceId, SessionId, StationId},
        session::{Effect, Effects, Event, Moment, Opening, Session, StateName},
        time::UnixMs,
    },
    ledger::{Claim, Entry, Kind, Seq},
};

/// A deadline that could not be journalled is tried again after this.
const DEADLINE_RETRY_MS: u64 = 5_000;

/// Ended sessions that somebody who comes back is told of, the last first: more than a vehicle ends in a day, and what a
/// station ends while its terminal is started anew. About a kilobyte each.
const ENDED_TOLD_MAX: usize = 64;

/// Events of two sessions that wait for one commit may be told in the other order. Who comes back is told again of what
/// changed up to so many places before the last that he saw: 16 times what the journal lets wait by default, and of one
/// vehicle or station hardly ever anything.
const TOLD_AGAIN: u64 = 65_536;

/// A session that is being opened: its first event is not durable yet.
struct Opened {
    session: Session,
    effects: Effects,
    request: Request,
    replies: Vec<Reply>,
    span: Span,
}

/// What became durable, for the shell to carry out.
#[derive(Default)]
pub struct Done {
    pub effects: Effects,
    /// The session as it is now, for its station and its phone.
    pub changed: Option<Box<SessionView>>,
    /// The next event of the same session.
    pub next: Option<Entry>,
    /// What came from within and was not journalled: to be submitted again after a pause.
    pub again: Option<Event>,
}

/// The plain struct of the sessions stage; the actor is its shell.
pub struct Desk {
    slots: HashMap<SessionId, Slot>,
    opening: HashMap<SessionId, Opened>,
    deadlines: BTreeSet<(UnixMs, SessionId)>,
    index: Index,
    /// Sessions at an end, in the order in which they came there.
    ended: VecDeque<(UnixMs, SessionId)>,
    ended_max: usize,
    ended_ms: u64,
    /// Sessions that were forgotten during the replay and of which more came: how many entries that was.
    missed: BTreeMap<SessionId, usize>,
    gone: Gone,
    /// The latest place in the journal of any event here.
    seq: Seq,
    pub prices: PriceBoard,
    summary: Summary,
}

impl Desk {
    pub fn new(ended_max: usize, ended_ms: u64) -> Desk {
        Desk {
            slots: HashMap::new(),
            opening: HashMap::new(),
            deadlines: BTreeSet::new(),
            index: Index::default(),
            ended: VecDeque::new(),
            ended_max,
            ended_ms,
            missed: BTreeMap::new(),
            gone: Gone::default(),
            seq: Seq(0),
            prices: PriceBoard::default(),
            summary: Summary::default(),
        }
    }

    pub fn knows(&self, session: SessionId) -> bool {
        self.slots.contains_key(&session) || self.opening.contains_key(&session)
    }

    /// Opens a session; the entry is what makes it durable. Without one, the answer is given.
    pub fn open(&mut self, open: Open, reply: Reply, moment: Moment) -> Option<Entry> {
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
        if self.gone.contains(id) {
            answer_to(Some(reply), Err(Error::Unavailable));
            return None;
        }
        if let Some(holder) = self.index.holder(open.vehicle.device) {
            answer_to(Some(reply), Err(Error::VehicleTaken(holder)));
            return None;
        }
        let Open { request, by, heard, .. } = open;
        let opening = Opening { session: id, station: open.station, pump: open.pump, vehicle: open.vehicle };
        self.index.pin(opening.vehicle.device, id);
        let entry = Record::Opened { opening: opening.clone(), by: by.into(), heard, request, moment }.entry(id);
        let (session, effects) = Session::open(opening, moment.at);
        let span = Span::current();
        self.opening.insert(id, Opened { session, effects, request, replies: vec![reply], span });
        Some(entry)
    }

    /// Within which the session's event that is being journalled was made.
    pub(super) fn span(&self, id: SessionId) -> Span {
        let happening = || self.slots.get(&id)?.tentative.as_ref().map(|tentative| tentative.span.clone());
        self.opening.get(&id).map(|opened| opened.span.clone()).or_else(happening).unwrap_or_else(Span::none)
    }

    pub fn is_opening(&self, id: SessionId) -> bool {
        self.opening.contains_key(&id)
    }

    /// The journal knows the session that was to be opened: it was forgotten here, and the request is a repetition.
    pub fn begun_before(&mut self, id: SessionId, entries: &[(Seq, Entry)]) -> Result<(), Unreadable> {
        let Some(opened) = self.opening.remove(&id) else { return Ok(()) };
        self.index.unpin(opened.session.vehicle().device, id);
        let recalled = self.recall(id, entries);
        let answer = match (&recalled, self.knows(id)) {
            (Ok(()), true) => self.repeated(id, opened.request).and_then(|view| view.ok_or(Error::KeyReused)),
            _ => Err(Error::Unavailable),
        };
        opened.replies.into_iter().for_each(|reply| answer_to(Some(reply), answer.clone()));
        recalled
    }

    /// The session that this request opened before, if it did.
    pub fn repeated(&self, session: SessionId, request: Request) -> Result<Option<SessionView>, Error> {
        let Some(slot) = self.slots.get(&session) else { return Ok(None) };
        Ok(slot.requests.find(request)?.map(|_| slot.view()))
    }

    /// What a job wants journalled; without an entry it is answered or waits.
    pub fn submit(&mut self, id: SessionId, job: Job, moment: Moment) -> Option<Entry> {
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
    pub fn committed(&mut self, id: SessionId, seq: Seq, moment: Moment) -> Done {
        self.seq = self.seq.max(seq);
        if let Some(opened) = self.opening.remove(&id) {
            return self.opened(id, opened, seq);
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Done::default() };
        let Some(tentative) = slot.tentative.take() else { return Done::default() };
        let before = slot.session.name();
        slot.session = tentative.session;
        slot.seq = seq;
        slot.requests.follow(before, slot.session.name());
        if let Some(request) = tentative.request {
            slot.requests.push(request, tentative.answered);
        }
        slot.answer(tentative.reply, tentative.answered);
        slot.answer_parked();
        let changed = Some(Box::new(slot.view()));
        self.summary.count(Some(before), slot.session.name(), &tentative.effects);
        self.settle(id, before.is_end());
        Done { effects: tentative.effects, changed, next: self.next(id, moment), again: None }
    }

    /// The journal did not take the event, as far as can be told. `journalled`: where it holds the session's events now,
    /// which says whether this one is among them after all; `None` once it cannot be asked any more.
    pub fn failed(&mut self, id: SessionId, journalled: Option<&[Seq]>, moment: Moment) -> Done {
        let known = self.slots.get(&id).map_or(0, |slot| slot.session.version() as usize);
        if let Some(seq) = journalled.and_then(|places| places.get(known..)?.last()) {
            return self.committed(id, *seq, moment);
        }
        if let Some(opened) = self.opening.remove(&id) {
            self.index.unpin(opened.session.vehicle().device, id);
            opened.replies.into_iter().for_each(|reply| answer_to(Some(reply), Err(Error::Unavailable)));
            return Done::default();
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Done::default() };
        let Some(tentative) = slot.tentative.take() else { return Done::default() };
        answer_to(tentative.reply, Err(Error::Unavailable));
        self.unclaim(id, tentative.transaction.as_deref());
        self.postpone(id, moment.at.plus(DEADLINE_RETRY_MS));
        Done { next: self.next(id, moment), again: tentative.again, ..Done::default() }
    }

    /// The site transaction that the event which is being journalled claims for its session.
    pub(super) fn claim(&self, id: SessionId) -> Option<Claim> {
        let slot = self.slots.get(&id)?;
        let transaction = slot.tentative.as_ref()?.transaction.clone()?;
        Some(Claim { station: slot.session.opening().station, transaction, session: id })
    }

    /// The ledger knows the site transaction of another session, which memory has forgotten.
    pub(super) fn refused(&mut self, id: SessionId, moment: Moment) -> Done {
        let Some(slot) = self.slots.get_mut(&id) else { return Done::default() };
        let Some(tentative) = slot.tentative.take() else { return Done::default() };
        answer_to(tentative.reply, Err(Error::TransactionConflict));
        let was_end = slot.session.name().is_end();
        self.unclaim(id, tentative.transaction.as_deref());
        self.settle(id, was_end);
        Done { next: self.next(id, moment), ..Done::default() }
    }

    /// Sessions whose deadline has passed, at most `max`.
    pub fn due(&self, now: UnixMs, max: usize) -> Vec<SessionId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).take(max).map(|(_, id)| *id).collect()
    }

    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets the sessions that have been at an end for long, or are too many. They stay in the journal. One that
    /// still has something to be done stays.
    pub fn evict(&mut self, now: UnixMs) {
        for _ in 0..self.ended.len() {
            let Some((at, id)) = self.ended.front().copied() else { return };
            if self.ended.len() <= self.ended_max && now.since(at) < self.ended_ms {
                return;
            }
            self.ended.pop_front();
            match self.slots.get(&id) {
                Some(slot) if slot.is_at_rest() => {
                    let slot = self.slots.remove(&id).expect("looked up above");
                    self.index.forget(&slot.session);
                }
                Some(slot) if slot.session.name().is_end() => self.ended.push_back((at, id)),
                _ => {}
            }
        }
    }

    pub fn view(&self, id: SessionId, by: By) -> Result<SessionView, Error> {
        self.seen(id, by).map(Slot::view)
    }

    pub fn receipt(&self, id: SessionId, by: By) -> Result<Receipt, Error> {
        Receipt::of(&self.seen(id, by)?.session).ok_or(Error::NotPaid)
    }

    fn seen(&self, id: SessionId, by: By) -> Result<&Slot, Error> {
        self.slots.get(&id).filter(|slot| orders::may_see(&slot.session, by)).ok_or(Error::NotFound)
    }

    pub fn device(&self, id: SessionId) -> Option<(DeviceId, BindingId, u64)> {
        let vehicle = self.slots.get(&id)?.session.vehicle();
        Some((vehicle.device, vehicle.binding, vehicle.epoch))
    }

    /// The station's sessions that are not at an end.
    pub fn of_station(&self, station: StationId) -> Vec<SessionView> {
        self.views(self.index.of_station(station)).filter(|view| !view.is_end).collect()
    }

    /// The latest place in the journal that any session here knows of.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// The binding's sessions that are not at an end, the last that is, and those that came to one since `after`.
    pub fn told_phone(&self, binding: BindingId, after: Option<Seq>) -> Vec<SessionView> {
        self.told(self.index.of_binding(binding), after, 1)
    }

    /// The station's sessions that are not at an end, and those that came to one since `after`.
    pub(super) fn told_station(&self, station: StationId, after: Option<Seq>) -> Vec<SessionView> {
        self.told(self.index.of_station(station), after, 0)
    }

    /// Sessions that are not at an end, `ended_min` that are, and those that changed since `after`.
    fn told(&self, ids: impl Iterator<Item = SessionId>, after: Option<Seq>, ended_min: usize) -> Vec<SessionView> {
        let slots = ids.filter_map(|id| self.slots.get(&id));
        let (mut ended, open): (Vec<_>, Vec<_>) = slots.partition(|slot| slot.session.name().is_end());
        ended.sort_by_key(|slot| Reverse(slot.seq));
        // A place that this journal does not have yet is of another one, and says nothing.
        let after = after.filter(|after| *after <= self.seq);
        let after = after.map_or(self.seq, |after| Seq(after.0.saturating_sub(TOLD_AGAIN)));
        let missed = ended.iter().take_while(|slot| slot.seq > after).count();
        ended.truncate(missed.clamp(ended_min, ENDED_TOLD_MAX));
        open.into_iter().chain(ended).map(Slot::view).collect()
    }

    /// What drivers have still to be told.
    pub(super) fn words(&self) -> Vec<Word> {
        self.slots.values().map(Slot::word).filter(|word| word.unseen.is_some()).collect()
    }

    fn views<'a>(&'a self, ids: impl Iterator<Item = SessionId> + 'a) -> impl Iterator<Item = SessionView> + 'a {
        ids.filter_map(|id| self.slots.get(&id)).map(Slot::view)
    }

    /// The sessions that a change of the binding concerns.
    pub fn open_of_binding(&self, binding: BindingId) -> Vec<SessionId> {
        self.index.of_binding(binding).filter(|id| self.is_open(*id)).collect()
    }

    pub fn open_views(&self) -> impl Iterator<Item = SessionView> {
        self.slots.values().map(Slot::view).filter(|view| !view.is_end)
    }

    pub fn open_sessions(&self) -> Vec<SessionId> {
        self.slots.keys().copied().filter(|id| self.is_open(*id)).collect()
    }

    fn is_open(&self, id: SessionId) -> bool {
        self.slots.get(&id).is_some_and(|slot| !slot.session.name().is_end())
    }

    /// What a restart takes up again: every instruction without an outcome.
    pub fn unsettled(&self) -> Effects {
        let sessions = self.slots.values().map(|slot| &slot.session);
        let mut pending: Vec<_> = sessions.flat_map(|session| session.pending().map(move |i| (session, i))).collect();
        pending.sort_by_key(|(_, instruction)| (instruction.session, instruction.ordinal));
        pending.into_iter().map(|(session, instruction)| wish(session, instruction)).collect()
    }

    /// What to do about an instruction that payments did not take: by now its session may only want to know, or have
    /// its outcome.
    pub fn again(&self, instruction: &Instruction) -> Option<Effect> {
        let session = self.session(instruction.session)?;
        session.pending().find(|pending| *pending == instruction).map(|pending| wish(session, pending))
    }

    /// The session as it is durable.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.slots.get(&id).map(|slot| &slot.session)
    }

    /// The session that a vehicle belongs to.
    pub fn holder(&self, device: DeviceId) -> Option<SessionId> {
        self.index.holder(device)
    }

    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Takes up one entry of the journal at the start, whatever it is of.
    pub fn recover(&mut self, seq: Seq, entry: &Entry) -> Result<(), Unreadable> {
        match entry.kind {
            Kind::Session => {
                let Ok(id) = entry.subject.as_slice().try_into().map(SessionId) else { return Ok(()) };
                self.take_up(id, seq, entry)?;
                self.evict(entry.at);
            }
            Kind::Prices => {
                if let Some((station, set)) = PricesSet::read(entry) {
                    self.prices.set(station, set, entry.at);
                }
            }
            Kind::Charge | Kind::Purge => {}
        }
        Ok(())
    }

    /// The sessions that were forgotten during the replay although more came of them: to be recalled once it is over.
    pub fn missed(&self) -> Vec<SessionId> {
        self.missed.keys().copied().collect()
    }

    /// Of these sessions, those that are not in memory. They are being purged, and are not recalled any more.
    pub(super) fn let_go(&mut self, mut sessions: Vec<SessionId>) -> Vec<SessionId> {
        sessions.retain(|id| !self.knows(*id));
        for id in &sessions {
            self.gone.insert(*id);
        }
        sessions
    }

    /// They were not purged after all.
    pub(super) fn keep(&mut self, sessions: &[SessionId]) {
        for id in sessions {
            self.gone.remove(*id);
        }
    }

    /// Takes back a session that was forgotten.
    pub fn recall(&mut self, id: SessionId, entries: &[(Seq, Entry)]) -> Result<(), Unreadable> {
        if entries.is_empty() || self.knows(id) || self.gone.contains(id) {
            return Ok(());
        }
        debug_assert!(entries.iter().all(|(_, entry)| entry.kind == Kind::Session));
        let missed = self.missed.remove(&id).unwrap_or(0);
        let (known, missed) = entries.split_at(entries.len().saturating_sub(missed));
        let rebuilt = rebuild(id, known)?;
        self.seq = self.seq.max(rebuilt.seq);
        self.insert(id, rebuilt);
        self.settle(id, false);
        missed.iter().try_for_each(|(seq, entry)| self.take_up(id, *seq, entry))
    }

    fn take_up(&mut self, id: SessionId, seq: Seq, entry: &Entry) -> Result<(), Unreadable> {
        self.seq = self.seq.max(seq);
        let (before, effects) = match Record::read(entry)? {
            Record::Opened { .. } if self.knows(id) => return Err(Unreadable::Contradiction(id)),
            Record::Opened { opening, request, moment, .. } => {
                let (session, effects) = Session::open(opening, moment.at);
                self.insert(id, Rebuilt { session, requests: Requests::new(request), seq });
                (None, effects)
            }
            Record::Happened { event, request, moment, .. } => {
                let Some(slot) = self.slots.get_mut(&id) else {
                    *self.missed.entry(id).or_default() += 1;
                    return Ok(());
                };
                slot.seq = seq;
                let before = slot.session.name();
                (Some(before), replay(id, &mut slot.session, &mut slot.requests, event, request, moment)?)
            }
        };
        let slot = self.slots.get(&id).expect("inserted or found above");
        self.index.claim_transactions(&slot.session);
        self.summary.count(before, slot.session.name(), &effects);
        self.settle(id, before.is_some_and(StateName::is_end));
        Ok(())
    }

    fn opened(&mut self, id: SessionId, opened: Opened, seq: Seq) -> Done {
        let view = SessionView::of(&opened.session, seq);
        opened.replies.into_iter().for_each(|reply| answer_to(Some(reply), Ok(view.clone())));
        self.summary.count(None, opened.session.name(), &opened.effects);
        self.insert(id, Rebuilt { session: opened.session, requests: Requests::new(opened.request), seq });
        self.settle(id, false);
        Done { effects: opened.effects, changed: Some(Box::new(view)), ..Done::default() }
    }

    fn insert(&mut self, id: SessionId, rebuilt: Rebuilt) {
        self.index.know(&rebuilt.session);
        self.slots.insert(id, Slot::new(rebuilt));
    }

    /// Restores what follows from a session's state: its deadline, who holds its vehicle, when it ended.
    fn settle(&mut self, id: SessionId, was_end: bool) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let deadline = slot.session.next_deadline();
        slot.arm(&mut self.deadlines, deadline);
        let name = slot.session.name();
        let device = slot.session.vehicle().device;
        if slot.session.pins_vehicle() {
            self.index.pin(device, id);
        } else {
            self.index.unpin(device, id);
        }
        if name.is_end() && !was_end {
            self.ended.push_back((slot.session.updated_at(), id));
        }
    }

    /// The event that claimed the transaction is not journalled.
    fn unclaim(&mut self, id: SessionId, transaction: Option<&str>) {
        let (Some(slot), Some(transaction)) = (self.slots.get(&id), transaction) else { return };
        self.index.release_transaction(slot.session.opening().station, transaction, id);
        self.index.claim_transactions(&slot.session);
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
        let Job { cause, request, reply, span } = slot.answer_repetition(job)?;
        // Nobody asks a second time for what came from within; a deadline comes by itself.
        let again = match &cause {
            Cause::Event(event) if *event != Event::DeadlinePassed => Some(event.clone()),
            _ => None,
        };
        let (by, event) = match cause {
            Cause::Event(event) => (Who::Engine, Ok(Some(event))),
            Cause::Order { by, command, witness } => {
                (by.into(), orders::event_of(&slot.session, by, command, prices, witness.as_deref()))
            }
        };
        let station = slot.session.opening().station;
        let event = event.and_then(|event| match event.as_ref().and_then(transaction_of) {
            Some(transaction) if index.is_foreign(station, transaction, id) => Err(Error::TransactionConflict),
            _ => Ok(event),
        });
        let mut next = slot.session.clone();
        let turned = event.and_then(|event| {
            let Some(event) = event else { return Ok(None) };
            match next.on_event(event.clone(), moment) {
                Ok(effects) => Ok(Some((event, effects))),
                Err(refusal) => orders::error_of(refusal, slot.session.name()).map_or(Ok(None), Err),
            }
        });
        match turned {
            Err(error) => answer_to(reply, Err(error)),
            Ok(None) => slot.answer(reply, Answered::View),
            Ok(Some((event, effects))) => {
                slot.arm(deadlines, None);
                let transaction = transaction_of(&event).map(str::to_owned);
                if let Some(transaction) = &transaction {
                    index.claim_transaction(station, transaction, id);
                }
                span.record("event", event.name());
                span.record("state", field::debug(next.name()));
                let answered = Answered::kind(&event)(&next);
                let entry = Record::Happened { event, by, request, moment }.entry(id);
                slot.tentative =
                    Some(Tentative { session: next, effects, answered, request, reply, transaction, again, span });
                return Some(entry);
            }
        }
        None
    }
}

/// A pending instruction is to happen, or only to be found out about.
fn wish(session: &Session, pending: &Instruction) -> Effect {
    if session.wants(pending) { Effect::Instruct(pending.clone()) } else { Effect::Ask(pending.clone()) }
}

pub(super) fn transaction_of(event: &Event) -> Option<&str> {
    match event {
        Event::FuelDelivered { completion, .. } | Event::Corrected { completion, .. } => Some(&completion.transaction),
        _ => None,
    }
}
