//! The actor of one station: a shell around [`Forecourt`] that tells the time, resolves dongles and publishes changes.
//!
//! After each message [`StationActor::settle`] restores what must hold: silence has taken effect, the directory of
//! whereabouts knows, and the watchers are told.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::broadcast;
use tracing::Span;

use super::{
    directory::Stations,
    error::{SelectError, StationError},
    forecourt::{Forecourt, LookedUp},
    health::StationHealth,
    intake::{Applied, BatchStream, Intake, IntakeEnd, Progress},
    selection::{self, Choice, Chosen, Known, Select, choose, vehicle},
    view::{StationEvent, VehicleView},
    whereabouts::{Place, REFRESH_MS},
};
use crate::{
    engine::{
        batch::BatchError,
        control::Receiver,
        id::{DeviceId, SessionId, SpoolId, StationId},
        presence::{Change, Record, Seen, State},
        time::UnixMs,
    },
    registration::{Registration, Registrations, Unavailable},
    session::{self, Open, SessionChanged, SessionView},
    telemetry::{now, trace::InSpan as _},
};

/// How often it is looked at again whether a neighbour still hears a car better.
const NEXT_DOOR_MS: u64 = 500;

/// How often silence is looked for when nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// A newer uplink takes the station over. Answered with how far the spool was applied before.
#[derive(Message)]
#[rtype(result = "Option<u64>")]
pub(super) struct AttachUplink {
    pub(super) spool: SpoolId,
    pub(super) receivers: Vec<Receiver>,
    pub(super) applied: Arc<Applied>,
}

/// The stream of an attached uplink has begun.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Feed {
    pub(super) applied: Arc<Applied>,
    pub(super) stream: BatchStream,
}

#[derive(Message)]
#[rtype(result = "Result<Vec<VehicleView>, StationError>")]
pub(super) struct Vehicles;

#[derive(Message)]
#[rtype(result = "broadcast::Receiver<StationEvent>")]
pub(super) struct Watch;

/// Answered with the session that is to be opened for the vehicle.
#[derive(Message)]
#[rtype(result = "Result<Chosen, SelectError>")]
pub(super) struct ChooseVehicle(pub(super) Select, pub(super) Span);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct EnteredElsewhere(pub(super) DeviceId);

/// The binding of a vehicle that stands here is another one, or is suspended, restored or revoked.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct BindingChanged(pub(super) DeviceId);

#[derive(Message)]
#[rtype(result = "Vec<Record>")]
pub(super) struct Snapshot;

/// Answered with what was noted since it was last asked.
#[derive(Message)]
#[rtype(result = "StationHealth")]
pub(super) struct Health;

struct Uplink {
    applied: Arc<Applied>,
    /// Once its stream has begun.
    intake: Option<SpawnHandle>,
}

pub(super) struct StationActor {
    station: StationId,
    place: Option<Place>,
    forecourt: Forecourt,
    uplink: Option<Uplink>,
    /// The open session of each vehicle that is in one.
    taken: HashMap<DeviceId, SessionId>,
    /// Those of the windows whose car stands at a neighbouring station: nobody is shown them here.
    next_door: HashSet<DeviceId>,
    events: broadcast::Sender<StationEvent>,
    /// Filled and emptied within one message; kept for its memory.
    changes: Vec<Change>,
    refreshed: UnixMs,
    saw_neighbours: UnixMs,
    stations: Stations,
}

impl StationActor {
    pub(super) fn new(station: StationId, windows: Vec<Record>, stations: Stations) -> StationActor {
        let config = stations.config();
        let mut forecourt = Forecourt::new(config.policy(), config.hearings_per_receiver_s);
        for window in windows {
            forecourt.presence_mut().restore(window);
        }
        StationActor {
            station,
            place: None,
            forecourt,
            uplink: None,
            taken: HashMap::new(),
            next_door: HashSet::new(),
            events: broadcast::Sender::new(config.events_max),
            changes: Vec::new(),
            refreshed: UnixMs(0),
            saw_neighbours: UnixMs(0),
            stations,
        }
    }

    /// Restores the invariants after a message.
    fn settle(&mut self, now: UnixMs, ctx: &mut Context<Self>) {
        self.forecourt.presence_mut().expire(now, &mut self.changes);
        let changes = std::mem::take(&mut self.changes);
        for change in &changes {
            self.stations.metrics().changed(change);
            self.tell_whereabouts(change, now);
            self.publish(change, ctx);
            self.time_entry(change, now);
        }
        self.changes = changes;
        self.changes.clear();
        if now.since(self.refreshed) >= REFRESH_MS {
            self.refreshed = now;
            self.refresh_whereabouts();
        }
        // A car that has just driven in is soon heard better here: its attendant does not wait for the next refresh.
        let every_ms = if self.next_door.is_empty() { REFRESH_MS } else { NEXT_DOOR_MS };
        if now.since(self.saw_neighbours) >= every_ms {
            self.saw_neighbours = now;
            self.see_neighbours(now, ctx);
        }
    }

    /// From the hearing to those who watch: what an attendant waits for.
    fn time_entry(&self, change: &Change, now: UnixMs) {
        if change.state == State::Entered {
            self.stations.metrics().entered_after(now.since(change.at));
        }
    }

    fn tell_whereabouts(&self, change: &Change, now: UnixMs) {
        let whereabouts = self.stations.whereabouts();
        match change.state {
            State::Entered => {
                let dbm = self.forecourt.presence().seen(change.device).map_or(i8::MIN, level);
                for other in whereabouts.entered(change.device, self.station, self.place, dbm, now) {
                    self.stations.tell(other, EnteredElsewhere(change.device));
                }
            }
            State::Left => whereabouts.left(change.device, self.station),
            State::Sighted | State::Present | State::Fading | State::Parked => {}
        }
    }

    fn refresh_whereabouts(&self) {
        for seen in self.forecourt.presence().selectable() {
            self.stations.whereabouts().refresh(seen.device, self.station, level(seen), seen.last);
        }
    }

    /// Cars that a neighbour hears better by now leave the list, those that it does not any more come back to it.
    fn see_neighbours(&mut self, at: UnixMs, ctx: &mut Context<Self>) {
        let selectable: Vec<Seen> = self.forecourt.presence().selectable().collect();
        for seen in selectable {
            let is_hidden = self.is_hidden(&seen);
            if is_hidden && self.next_door.insert(seen.device) {
                self.tell(at, departed(seen.device, at), ctx);
            } else if !is_hidden && self.next_door.remove(&seen.device) {
                self.tell(at, seen, ctx);
            }
        }
    }

    /// Whether the car stands next door: a neighbour hears it better, or did, and it is not heard as one that is here. Or a car
    /// that enters here by a reflection while it stands there would be shown here when it drives off.
    fn is_hidden(&self, seen: &Seen) -> bool {
        let whereabouts = self.stations.whereabouts();
        whereabouts.is_heard_better_elsewhere(seen.device, self.station, level(*seen))
            || (self.next_door.contains(&seen.device) && !self.forecourt.presence().is_heard_as_here(seen.device))
    }

    /// Tells the watchers, unless the car stands next door.
    fn publish(&mut self, change: &Change, ctx: &mut Context<Self>) {
        if change.state == State::Left {
            self.next_door.remove(&change.device);
            return self.tell(change.at, departed(change.device, change.at), ctx);
        }
        let Some(seen) = self.forecourt.presence().seen(change.device) else { return };
        if self.is_hidden(&seen) {
            self.next_door.insert(seen.device);
        } else {
            self.next_door.remove(&seen.device);
            self.tell(change.at, seen, ctx);
        }
    }

    /// A newcomer's registration is fetched even when nobody watches: the attendant's query comes next.
    fn tell(&self, at: UnixMs, seen: Seen, ctx: &mut Context<Self>) {
        match self.stations.registrations().cached(seen.device) {
            Some(registration) => self.send(at, &seen, &registration),
            None if seen.state == State::Entered || self.events.receiver_count() > 0 => {
                let registrations = self.stations.registrations().clone();
                let find = async move { registrations.find(seen.device).await };
                ctx.spawn(find.into_actor(self).map(move |found, actor, _| {
                    if let Ok(Some(registration)) = found {
                        actor.send(at, &seen, &registration);
                    }
                }));
            }
            None => {}
        }
    }

    fn send(&self, at: UnixMs, seen: &Seen, registration: &Registration) {
        // One that was suspended meanwhile still leaves the list of those who watch.
        if registration.is_active() || seen.state == State::Left {
            // An error says that nobody watches.
            let _ = self.events.send(StationEvent::Presence { at, vehicle: VehicleView::new(seen, registration) });
        }
    }

    /// Those who may be selected here: present, and not next door.
    fn selectable(&self) -> Vec<Seen> {
        self.forecourt.presence().selectable().filter(|seen| !self.is_hidden(seen)).collect()
    }

    fn pin(&mut self, device: DeviceId, session: SessionId) {
        self.taken.insert(device, session);
        self.forecourt.presence_mut().pin(device, now());
    }

    fn unpin(&mut self, device: DeviceId, session: SessionId) {
        if self.taken.get(&device) == Some(&session) {
            self.taken.remove(&device);
            self.forecourt.presence_mut().unpin(device);
        }
    }

    /// Picks among `present`, which was looked up a moment ago.
    fn choose(&self, select: &Select, present: Vec<(Seen, Arc<Registration>)>) -> Result<Chosen, SelectError> {
        let known = present.into_iter().map(|(seen, registration)| Known {
            contested: self.stations.whereabouts().is_contested(seen.device, self.station),
            seen,
            registration,
        });
        let (taken, free): (Vec<Known>, Vec<Known>) =
            known.partition(|known| self.taken.contains_key(&known.seen.device));
        match choose(select, &free) {
            Ok(Choice::Several(candidates)) => Ok(Chosen::Several(candidates)),
            Ok(Choice::One(picked)) => self.one(select, picked),
            Err(refusal @ (SelectError::NoMatch | SelectError::NotPresent)) => match choose(select, &taken) {
                Ok(Choice::One(picked)) => Err(session::Error::VehicleTaken(self.taken[&picked.seen.device]).into()),
                Ok(Choice::Several(candidates)) => Ok(Chosen::Several(candidates)),
                Err(_) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        }
    }

    fn one(&self, select: &Select, picked: &Known) -> Result<Chosen, SelectError> {
        // The look-up took a moment, and the vehicle may have left in it.
        if self.forecourt.presence().seen(picked.seen.device).is_none_or(|seen| !seen.state.is_selectable()) {
            return Err(SelectError::NotPresent);
        }
        let heard = self.forecourt.presence().heard(picked.seen.device);
        Ok(Chosen::One(Box::new(Open {
            request: select.request,
            session: select.session,
            station: self.station,
            pump: select.pump,
            vehicle: vehicle(&picked.registration),
            by: session::By::Station(self.station),
            heard: heard.map(|(first, levels)| selection::heard(select, picked, first, &levels)),
        })))
    }

    /// Before the first message: which of the station's vehicles are in a session.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        let station = self.stations.registrations().station(self.station);
        self.place = station.and_then(|station| station.lat.zip(station.lon));
        let (sessions, station, recipient) =
            (self.stations.sessions().clone(), self.station, ctx.address().recipient());
        let open = async move { sessions.attach_station(station, recipient).await };
        ctx.wait(open.into_actor(self).map(|open, actor, ctx| match open {
            Ok(open) => open.iter().for_each(|view| actor.follow(view)),
            Err(error) => {
                // Without its open sessions it would give a vehicle away twice: the directory starts another.
                tracing::error!(station = %actor.station, %error, "open sessions cannot be asked for");
                ctx.stop();
            }
        }));
    }
}

/// A vehicle that is gone, as it is told to the watchers.
fn departed(device: DeviceId, at: UnixMs) -> Seen {
    Seen { device, state: State::Left, pinned: false, entered: at, last: at, hearings: 0, strongest: None, pump: None }
}

/// The smoothed RSSI of the best receiver.
fn level(seen: Seen) -> i8 {
    seen.strongest.map_or(i8::MIN, |(_, dbm)| dbm)
}

/// The registrations of those seen, from the near cache or the truth. Dongles that have none are left out.
async fn resolve(registrations: Registrations, seen: Vec<Seen>) -> Result<Vec<(Seen, Arc<Registration>)>, Unavailable> {
    let mut known = Vec::with_capacity(seen.len());
    for seen in seen {
        let registration = match registrations.cached(seen.device) {
            Some(registration) => Some(registration),
            None => registrations.find(seen.device).await?,
        };
        known.extend(registration.map(|registration| (seen, registration)));
    }
    Ok(known)
}

impl Actor for StationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.stations.config().mailbox);
        self.stations.metrics().actors.increment(1.0);
        self.begin(ctx);
        ctx.run_interval(TICK, |actor, ctx| actor.settle(now(), ctx));
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.stations.metrics().actors.decrement(1.0);
    }
}

impl Handler<AttachUplink> for StationActor {
    type Result = Option<u64>;

    fn handle(&mut self, attach: AttachUplink, ctx: &mut Context<Self>) -> Option<u64> {
        let newer = Uplink { applied: attach.applied, intake: None };
        if let Some(older) = self.uplink.replace(newer) {
            older.applied.finish(IntakeEnd::Replaced);
            older.intake.map(|intake| ctx.cancel_future(intake));
        }
        let setups = self.stations.config().setups(&attach.receivers);
        self.forecourt.pulse_mut().announce(&setups, now());
        self.forecourt.attach(attach.spool, setups)
    }
}

impl Handler<Feed> for StationActor {
    type Result = ();

    fn handle(&mut self, Feed { applied, stream }: Feed, ctx: &mut Context<Self>) {
        match &mut self.uplink {
            Some(uplink) if Arc::ptr_eq(&uplink.applied, &applied) => {
                uplink.intake = Some(ctx.spawn(Intake::new(stream, applied)));
            }
            // A newer one took over meanwhile, and it was told so.
            _ => {}
        }
    }
}

impl StationActor {
    /// Applies the whole batches at the front of what was read of the uplink.
    pub(super) fn observe(&mut self, bytes: &[u8], ctx: &mut Context<Self>) -> (Progress, Option<BatchError>) {
        let (now, registrations) = (now(), self.stations.registrations());
        let book = registrations.codebook();
        let observed = self.forecourt.observe(bytes, &book, now, &mut self.changes, |code| match code {
            LookedUp::Found(hit, at) => registrations.heard(hit, at),
            LookedUp::Missed(code, at) => registrations.missed(code, self.station, at),
        });
        self.stations.metrics().add(&self.forecourt.take_tally());
        self.settle(now, ctx);
        observed
    }
}

impl Handler<Vehicles> for StationActor {
    type Result = ResponseActFuture<Self, Result<Vec<VehicleView>, StationError>>;

    fn handle(&mut self, _: Vehicles, ctx: &mut Context<Self>) -> Self::Result {
        self.settle(now(), ctx);
        let resolved = resolve(self.stations.registrations().clone(), self.selectable());
        Box::pin(resolved.into_actor(self).map(|known, _, _| {
            let known = known.map_err(|Unavailable| StationError::Unavailable)?;
            let active = known.iter().filter(|(_, registration)| registration.is_active());
            Ok(active.map(|(seen, registration)| VehicleView::new(seen, registration)).collect())
        }))
    }
}

impl Handler<Watch> for StationActor {
    type Result = MessageResult<Watch>;

    fn handle(&mut self, _: Watch, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.events.subscribe())
    }
}

impl Handler<ChooseVehicle> for StationActor {
    type Result = ResponseActFuture<Self, Result<Chosen, SelectError>>;

    fn handle(&mut self, ChooseVehicle(select, span): ChooseVehicle, ctx: &mut Context<Self>) -> Self::Result {
        self.settle(now(), ctx);
        let resolved = resolve(self.stations.registrations().clone(), self.selectable());
        let chosen = resolved.into_actor(self).map(move |known, actor, _| {
            let known = known.map_err(|Unavailable| SelectError::Unavailable);
            known.and_then(|known| actor.choose(&select, known))
        });
        Box::pin(chosen.within(span))
    }
}

impl Handler<EnteredElsewhere> for StationActor {
    type Result = ();

    fn handle(&mut self, EnteredElsewhere(device): EnteredElsewhere, ctx: &mut Context<Self>) {
        self.forecourt.presence_mut().entered_elsewhere(device);
        self.settle(now(), ctx);
    }
}

impl Handler<BindingChanged> for StationActor {
    type Result = ();

    fn handle(&mut self, BindingChanged(device): BindingChanged, ctx: &mut Context<Self>) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let registrations = self.stations.registrations().clone();
        let find = async move { registrations.find(device).await };
        ctx.spawn(find.into_actor(self).map(move |found, actor, _| {
            if let Ok(Some(registration)) = found {
                actor.tell_again(device, &registration);
            }
        }));
    }
}

impl StationActor {
    /// The vehicle as it is to be shown from now on; one that is not served any more leaves the list.
    fn tell_again(&self, device: DeviceId, registration: &Registration) {
        let Some(seen) = self.forecourt.presence().seen(device).filter(|seen| seen.state.is_selectable()) else {
            return;
        };
        let at = now();
        if !registration.is_active() {
            self.send(at, &departed(device, at), registration);
        } else if !self.is_hidden(&seen) {
            self.send(at, &seen, registration);
        }
    }
}

impl Handler<SessionChanged> for StationActor {
    type Result = ();

    fn handle(&mut self, SessionChanged(view): SessionChanged, ctx: &mut Context<Self>) {
        self.follow(&view);
        let session = Box::new(view.without_challenge());
        // An error says that nobody watches.
        let _ = self.events.send(StationEvent::Session { session });
        self.settle(now(), ctx);
    }
}

impl StationActor {
    /// Keeps the vehicle of an open session here.
    fn follow(&mut self, view: &SessionView) {
        if view.pins_vehicle {
            self.pin(view.device, view.id);
        } else {
            self.unpin(view.device, view.id);
        }
    }
}

impl Handler<Snapshot> for StationActor {
    type Result = Vec<Record>;

    fn handle(&mut self, _: Snapshot, ctx: &mut Context<Self>) -> Vec<Record> {
        self.settle(now(), ctx);
        self.forecourt.presence().records()
    }
}

impl Handler<Health> for StationActor {
    type Result = MessageResult<Health>;

    fn handle(&mut self, _: Health, ctx: &mut Context<Self>) -> Self::Result {
        let now = now();
        self.settle(now, ctx);
        let silent_after_ms = u64::from(self.stations.config().silent_after_s) * 1_000;
        MessageResult(StationHealth {
            linked: self.uplink.as_ref().is_some_and(|uplink| uplink.applied.end().is_none()),
            vehicles: self.selectable().len() as u32,
            ..self.forecourt.pulse_mut().take(self.station, silent_after_ms, now)
        })
    }
}
