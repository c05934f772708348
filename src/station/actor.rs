//! The actor of one station: a shell around its [`Scene`] that tells the time, resolves dongles and publishes changes.
//!
//! After each message [`StationActor::settle`] restores what must hold: silence has taken effect, the directory of
//! whereabouts knows, and the watchers are told.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::sync::broadcast;

use super::{
    directory::Stations,
    forecourt::LookedUp,
    health::StationHealth,
    intake::{Applied, BatchStream, Intake, IntakeEnd, Progress},
    scene::{Scene, SharedScene, level},
    view::{StationEvent, VehicleView},
    whereabouts::{Place, REFRESH_MS},
};
use crate::{
    engine::{
        batch::BatchError,
        control::Receiver,
        id::{DeviceId, SpoolId, StationId},
        presence::{Change, Seen, State},
        time::UnixMs,
    },
    registration::Registration,
    session::{SessionChanged, SessionView},
    telemetry::now,
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

/// Answered once the station may be asked who is there.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Begun;

#[derive(Message)]
#[rtype(result = "broadcast::Receiver<StationEvent>")]
pub(super) struct Watch;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct EnteredElsewhere(pub(super) DeviceId);

/// The binding of a vehicle that stands here is another one, or is suspended, restored or revoked.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct BindingChanged(pub(super) DeviceId);

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
    scene: SharedScene,
    uplink: Option<Uplink>,
    events: broadcast::Sender<StationEvent>,
    refreshed: UnixMs,
    saw_neighbours: UnixMs,
    stations: Stations,
}

impl StationActor {
    pub(super) fn new(station: StationId, scene: SharedScene, stations: Stations) -> StationActor {
        let before_first = now().minus(turn_ms(station));
        StationActor {
            station,
            place: None,
            scene,
            uplink: None,
            events: broadcast::Sender::new(stations.config().events_max),
            refreshed: before_first,
            saw_neighbours: before_first,
            stations,
        }
    }

    /// One turn: the work with the scene, and then its invariants.
    fn turn<T>(&mut self, ctx: &mut Context<Self>, work: impl FnOnce(&mut Self, &mut Scene, UnixMs) -> T) -> T {
        let (scene, now) = (self.scene.clone(), now());
        let mut scene = scene.lock();
        let done = work(self, &mut scene, now);
        self.settle(&mut scene, now, ctx);
        done
    }

    /// Restores the invariants after a message.
    fn settle(&mut self, scene: &mut Scene, now: UnixMs, ctx: &mut Context<Self>) {
        scene.expire(now);
        let changes = scene.take_changes();
        for change in &changes {
            self.stations.metrics().changed(change);
            self.tell_whereabouts(scene, change, now);
            self.publish(scene, change, ctx);
            self.time_entry(change, now);
        }
        scene.keep_memory_of(changes);
        if now.since(self.refreshed) >= REFRESH_MS {
            self.refreshed = now;
            self.refresh_whereabouts(scene);
        }
        // A car that has just driven in is soon heard better here: its attendant does not wait for the next refresh.
        let every_ms = if scene.hides_any() { NEXT_DOOR_MS } else { REFRESH_MS };
        if now.since(self.saw_neighbours) >= every_ms {
            self.saw_neighbours = now;
            self.see_neighbours(scene, now, ctx);
        }
    }

    /// From the hearing to those who watch: what an attendant waits for.
    fn time_entry(&self, change: &Change, now: UnixMs) {
        if change.state == State::Entered {
            self.stations.metrics().entered_after(now.since(change.at));
        }
    }

    fn tell_whereabouts(&self, scene: &Scene, change: &Change, now: UnixMs) {
        let whereabouts = self.stations.whereabouts();
        match change.state {
            State::Entered => {
                let dbm = scene.forecourt().presence().seen(change.device).map_or(i8::MIN, |seen| level(&seen));
                for other in whereabouts.entered(change.device, self.station, self.place, dbm, now) {
                    self.stations.tell(other, EnteredElsewhere(change.device));
                }
            }
            State::Left => whereabouts.left(change.device, self.station),
            State::Sighted | State::Present | State::Fading | State::Parked => {}
        }
    }

    fn refresh_whereabouts(&self, scene: &Scene) {
        for seen in scene.forecourt().presence().selectable() {
            self.stations.whereabouts().refresh(seen.device, self.station, level(&seen), seen.last);
        }
    }

    /// Cars that a neighbour hears better by now leave the list, those that it does not any more come back to it.
    fn see_neighbours(&self, scene: &mut Scene, at: UnixMs, ctx: &mut Context<Self>) {
        let selectable: Vec<Seen> = scene.forecourt().presence().selectable().collect();
        for seen in selectable {
            let sight = scene.look(&seen, self.stations.whereabouts());
            if sight.is_new {
                self.tell(at, if sight.is_hidden { departed(seen.device, at) } else { seen }, ctx);
            }
        }
    }

    /// Tells the watchers, unless the car stands next door.
    fn publish(&self, scene: &mut Scene, change: &Change, ctx: &mut Context<Self>) {
        if change.state == State::Left {
            scene.forget(change.device);
            return self.tell(change.at, departed(change.device, change.at), ctx);
        }
        let Some(seen) = scene.forecourt().presence().seen(change.device) else { return };
        if !scene.look(&seen, self.stations.whereabouts()).is_hidden {
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

    /// Before the first message: which of the station's vehicles are in a session.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        let station = self.stations.registrations().station(self.station);
        self.place = station.and_then(|station| station.lat.zip(station.lon));
        let (sessions, station, recipient) =
            (self.stations.sessions().clone(), self.station, ctx.address().recipient());
        let scene = self.scene.clone();
        let follow = Box::new(move |view: &SessionView| scene.lock().follow(view, now()));
        let attached = async move { sessions.attach_station(station, follow, recipient).await };
        ctx.wait(attached.into_actor(self).map(|attached, actor, ctx| match attached {
            Ok(()) => actor.scene.lock().begin(),
            Err(error) => {
                // Without its open sessions it would give a vehicle away twice: the directory starts another.
                tracing::error!(station = %actor.station, %error, "open sessions cannot be asked for");
                ctx.stop();
            }
        }));
    }
}

/// How much sooner than after a whole period the station first refreshes its whereabouts. Each has a turn of its own: stations
/// that began at once would else do it at once for ever, and hold up all frames for as long as it takes a thousand of them.
fn turn_ms(station: StationId) -> u64 {
    // The golden ratio of the period, and without a common divisor with it: numbers in a row are spread evenly.
    const STEP_MS: u64 = 6_181;
    u64::from(station.0) * STEP_MS % REFRESH_MS
}

/// A vehicle that is gone, as it is told to the watchers.
fn departed(device: DeviceId, at: UnixMs) -> Seen {
    Seen { device, state: State::Left, pinned: false, entered: at, last: at, hearings: 0, strongest: None, pump: None }
}

impl Actor for StationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.stations.config().mailbox);
        self.stations.metrics().actors.increment(1.0);
        self.begin(ctx);
        ctx.run_interval(TICK, |actor, ctx| actor.turn(ctx, |_, _, _| ()));
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
        let mut scene = self.scene.lock();
        scene.forecourt_mut().pulse_mut().announce(&setups, now());
        scene.forecourt_mut().attach(attach.spool, setups)
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
        self.turn(ctx, |actor, scene, now| {
            let registrations = actor.stations.registrations();
            let book = registrations.codebook();
            let (progress, refused, tally) = scene.observe(bytes, &book, now, |code| match code {
                LookedUp::Found(hit, at) => registrations.heard(hit, at),
                LookedUp::Missed(code, at) => registrations.missed(code, actor.station, at),
            });
            actor.stations.metrics().add(&tally);
            (progress, refused)
        })
    }
}

impl Handler<Begun> for StationActor {
    type Result = ();

    fn handle(&mut self, _: Begun, _: &mut Context<Self>) {}
}

impl Handler<Watch> for StationActor {
    type Result = MessageResult<Watch>;

    fn handle(&mut self, _: Watch, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.events.subscribe())
    }
}

impl Handler<EnteredElsewhere> for StationActor {
    type Result = ();

    fn handle(&mut self, EnteredElsewhere(device): EnteredElsewhere, ctx: &mut Context<Self>) {
        self.turn(ctx, |_, scene, _| scene.forecourt_mut().presence_mut().entered_elsewhere(device));
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
        let (scene, at) = (self.scene.lock(), now());
        let Some(seen) = scene.forecourt().presence().seen(device).filter(|seen| seen.state.is_selectable()) else {
            return;
        };
        if !registration.is_active() {
            self.send(at, &departed(device, at), registration);
        } else if !scene.is_hidden(&seen, self.stations.whereabouts()) {
            self.send(at, &seen, registration);
        }
    }
}

/// The scene has followed already.
impl Handler<SessionChanged> for StationActor {
    type Result = ();

    fn handle(&mut self, SessionChanged(view): SessionChanged, ctx: &mut Context<Self>) {
        let session = Box::new(view.without_challenge());
        // An error says that nobody watches.
        let _ = self.events.send(StationEvent::Session { session });
        self.turn(ctx, |_, _, _| ());
    }
}

impl Handler<Health> for StationActor {
    type Result = MessageResult<Health>;

    fn handle(&mut self, _: Health, ctx: &mut Context<Self>) -> Self::Result {
        self.turn(ctx, |actor, scene, now| {
            let silent_after_ms = u64::from(actor.stations.config().silent_after_s) * 1_000;
            let vehicles = scene.selectable(now, actor.stations.whereabouts()).len() as u32;
            MessageResult(StationHealth {
                linked: actor.uplink.as_ref().is_some_and(|uplink| uplink.applied.end().is_none()),
                vehicles,
                ..scene.forecourt_mut().pulse_mut().take(actor.station, silent_after_ms, now)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_in_a_row_take_turns_that_are_spread_over_the_period() {
        for stations in [10, 1_000] {
            let mut turns: Vec<u64> = (1..=stations).map(|station| turn_ms(StationId(station))).collect();
            turns.sort_unstable();
            let ends = [turns[turns.len() - 1], turns[0] + REFRESH_MS];
            let gap_max = turns.array_windows().chain([&ends]).map(|[one, next]| next - one).max().unwrap();
            assert!(gap_max * u64::from(stations) <= 3 * REFRESH_MS, "{stations} stations, {gap_max} ms apart");
        }
    }
}
