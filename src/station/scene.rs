//! What is to be seen at one station, behind one lock: its actor takes it for each of its turns, and whoever asks takes it on
//! his own thread. So a terminal's question does not wait in the queue of the thread that reads the uplinks of thousands of
//! stations, which holds it up for milliseconds at its busiest.
//!
//! Rules:
//! - The lock is held for a turn of the actor (some us for a batch, 110 us for a read of 64 KB: 14,000 frames at 8 ns) or for a walk
//!   over the windows, and never across an await.
//! - Whoever looks lets silence take effect first. What that changes is told by the actor at its next turn, a second later at
//!   the most: a window changes once in that time, so no more than `WINDOWS_MAX` changes wait.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    error::SelectError,
    forecourt::{Forecourt, LookedUp, Tally},
    intake::Progress,
    selection::{self, Choice, Chosen, Known, Select, choose, vehicle},
    whereabouts::Whereabouts,
};
use crate::{
    engine::{
        batch::BatchError,
        codebook::Codebook,
        id::{DeviceId, SessionId, StationId},
        presence::{Change, Record, Seen},
        time::UnixMs,
    },
    registration::Registration,
    session::{self, Open, SessionView},
};

/// The smoothed RSSI of the best receiver.
pub(super) fn level(seen: &Seen) -> i8 {
    seen.strongest.map_or(i8::MIN, |(_, dbm)| dbm)
}

/// Whether a car is shown at the station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    /// It stands next door.
    pub(super) is_hidden: bool,
    /// It was otherwise at the last look.
    pub(super) is_new: bool,
}

pub(super) struct Scene {
    station: StationId,
    forecourt: Forecourt,
    /// The open session of each vehicle that is in one.
    taken: HashMap<DeviceId, SessionId>,
    /// Those of the windows whose car stands at a neighbouring station: nobody is shown them here.
    next_door: HashSet<DeviceId>,
    /// What nobody was told yet.
    changes: Vec<Change>,
    has_begun: bool,
}

/// The way to a scene; cheap to clone.
#[derive(Clone)]
pub(super) struct SharedScene(Arc<Mutex<Scene>>);

impl SharedScene {
    pub(super) fn new(station: StationId, mut forecourt: Forecourt, windows: Vec<Record>) -> SharedScene {
        for window in windows {
            forecourt.presence_mut().restore(window);
        }
        SharedScene(Arc::new(Mutex::new(Scene {
            station,
            forecourt,
            taken: HashMap::new(),
            next_door: HashSet::new(),
            changes: Vec::new(),
            has_begun: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Scene> {
        // Outside of tests a panic ends the process, and nobody finds what it left.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scene {
    /// Its open sessions are known: from now on it may be asked.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(super) fn forecourt(&self) -> &Forecourt {
        &self.forecourt
    }

    pub(super) fn forecourt_mut(&mut self) -> &mut Forecourt {
        &mut self.forecourt
    }

    /// As [`Forecourt::observe`], with what was counted.
    pub(super) fn observe(
        &mut self,
        bytes: &[u8],
        book: &Codebook,
        now: UnixMs,
        tell: impl FnMut(LookedUp),
    ) -> (Progress, Option<BatchError>, Tally) {
        let (progress, refused) = self.forecourt.observe(bytes, book, now, &mut self.changes, tell);
        (progress, refused, self.forecourt.take_tally())
    }

    pub(super) fn expire(&mut self, now: UnixMs) {
        self.forecourt.presence_mut().expire(now, &mut self.changes);
    }

    /// The windows that are worth keeping over a restart.
    pub(super) fn records(&mut self, now: UnixMs) -> Vec<Record> {
        self.expire(now);
        self.forecourt.presence().records()
    }

    /// What is to be told; give the list back with [`keep_memory_of`](Self::keep_memory_of).
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn keep_memory_of(&mut self, mut told: Vec<Change>) {
        told.clear();
        self.changes = told;
    }

    /// Keeps the vehicle of an open session here.
    pub(super) fn follow(&mut self, view: &SessionView, now: UnixMs) {
        if view.pins_vehicle {
            self.pin(view.device, view.id, now);
        } else {
            self.unpin(view.device, view.id);
        }
    }

    fn pin(&mut self, device: DeviceId, session: SessionId, now: UnixMs) {
        self.taken.insert(device, session);
        self.forecourt.presence_mut().pin(device, now);
    }

    fn unpin(&mut self, device: DeviceId, session: SessionId) {
        if self.taken.get(&device) == Some(&session) {
            self.taken.remove(&device);
            self.forecourt.presence_mut().unpin(device);
        }
    }

    /// Whether the car stands next door: a neighbour hears it better, or did, and it is not heard as one that is here. Or a car
    /// that enters here by a reflection while it stands there would be shown here when it drives off.
    pub(super) fn is_hidden(&self, seen: &Seen, whereabouts: &Whereabouts) -> bool {
        whereabouts.is_heard_better_elsewhere(seen.device, self.station, level(seen))
            || (self.next_door.contains(&seen.device) && !self.forecourt.presence().is_heard_as_here(seen.device))
    }

    /// Looks whether the car stands next door, and keeps it in mind.
    pub(super) fn look(&mut self, seen: &Seen, whereabouts: &Whereabouts) -> Sight {
        let is_hidden = self.is_hidden(seen, whereabouts);
        let is_new = if is_hidden { self.next_door.insert(seen.device) } else { self.next_door.remove(&seen.device) };
        Sight { is_hidden, is_new }
    }

    /// The car has left, so it does not stand next door either.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.next_door.remove(&device);
    }

    pub(super) fn hides_any(&self) -> bool {
        !self.next_door.is_empty()
    }

    /// Those who may be selected here at this moment: present, and not next door.
    pub(super) fn selectable(&mut self, now: UnixMs, whereabouts: &Whereabouts) -> Vec<Seen> {
        self.expire(now);
        let present = self.forecourt.presence().selectable();
        present.filter(|seen| !self.is_hidden(seen, whereabouts)).collect()
    }

    /// Picks among `present`, which was looked up a moment ago.
    pub(super) fn choose(
        &mut self,
        select: &Select,
        present: Vec<(Seen, Arc<Registration>)>,
        now: UnixMs,
        whereabouts: &Whereabouts,
    ) -> Result<Chosen, SelectError> {
        self.expire(now);
        let known = present.into_iter().map(|(seen, registration)| Known {
            contested: whereabouts.is_contested(seen.device, self.station),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            id::ReceiverId,
            plate::Query,
            presence::{Policy, State},
        },
        session::Request,
    };

    const START: UnixMs = UnixMs(1_800_000_000_000);
    const HERE: StationId = StationId(1);
    const NEXT_DOOR: StationId = StationId(2);
    const CAR: DeviceId = DeviceId(7);
    const OTHER_CAR: DeviceId = DeviceId(8);
    const SESSION: SessionId = SessionId([1; 16]);

    struct Station {
        scene: Scene,
        whereabouts: Whereabouts,
    }

    impl Station {
        /// At which these cars have just driven in.
        fn with(cars: &[DeviceId]) -> Station {
            let SharedScene(scene) = SharedScene::new(HERE, Forecourt::new(Policy::DESIGN, 100), Vec::new());
            let scene = Arc::into_inner(scene).and_then(|scene| scene.into_inner().ok()).unwrap();
            let mut station = Station { scene, whereabouts: Whereabouts::default() };
            for &car in cars {
                station.hear(car, -60, 0);
                station.hear(car, -60, 1_000);
            }
            assert_eq!(station.told(), vec![State::Entered; cars.len()]);
            station
        }

        fn hear(&mut self, car: DeviceId, dbm: i8, ms: u64) {
            let at = START.plus(ms);
            let changes = &mut self.scene.changes;
            self.scene.forecourt.presence_mut().observe(car, ReceiverId(0), dbm, at, at, changes);
        }

        /// What the actor would tell at its next turn.
        fn told(&mut self) -> Vec<State> {
            let changes = self.scene.take_changes();
            let told = changes.iter().map(|change| change.state).collect();
            self.scene.keep_memory_of(changes);
            told
        }

        fn selectable(&mut self, ms: u64) -> Vec<DeviceId> {
            self.seen(ms).into_iter().map(|seen| seen.device).collect()
        }

        fn seen(&mut self, ms: u64) -> Vec<Seen> {
            self.scene.selectable(START.plus(ms), &self.whereabouts)
        }

        /// Types the digits that all cars have, after a look-up that took from `looked_ms` to `ms`.
        fn choose(&mut self, looked_ms: u64, ms: u64) -> Result<Vec<DeviceId>, SelectError> {
            let known = self.seen(looked_ms).into_iter().map(|seen| (seen, registration(seen.device))).collect();
            match self.scene.choose(&select(), known, START.plus(ms), &self.whereabouts)? {
                Chosen::One(open) => Ok(vec![open.vehicle.device]),
                Chosen::Several(candidates) => {
                    Ok(candidates.iter().map(|fit| DeviceId(fit.candidate.0[0].into())).collect())
                }
            }
        }
    }

    fn select() -> Select {
        Select {
            query: Query::parse("3456").unwrap(),
            pump: None,
            candidate: None,
            request: Request { key: [0; 32], body: [0; 32] },
            session: SESSION,
        }
    }

    fn registration(device: DeviceId) -> Arc<Registration> {
        Arc::new(Registration::for_tests(device, &format!("{device}0A3456")))
    }

    #[test]
    fn silence_has_taken_effect_for_who_asks_and_is_told_at_the_next_turn() {
        let mut station = Station::with(&[CAR]);
        assert_eq!(station.selectable(100_000), [CAR]);
        assert_eq!(station.selectable(130_000), []);
        assert_eq!(station.told(), [State::Fading, State::Left]);
        assert_eq!(station.told(), []);
    }

    #[test]
    fn a_car_that_left_while_it_was_looked_up_is_not_chosen() {
        let mut station = Station::with(&[CAR]);
        assert_eq!(station.choose(100_000, 130_000), Err(SelectError::NotPresent));
    }

    #[test]
    fn a_vehicle_in_a_session_is_not_chosen_until_that_very_session_lets_it_go() {
        let mut station = Station::with(&[CAR]);
        assert_eq!(station.choose(2_000, 2_000), Ok(vec![CAR]));
        station.scene.pin(CAR, SESSION, START);
        let taken = Err(session::Error::VehicleTaken(SESSION).into());
        assert_eq!(station.choose(2_000, 2_000), taken);
        station.scene.unpin(CAR, SessionId([2; 16]));
        assert_eq!(station.choose(2_000, 2_000), taken);
        station.scene.unpin(CAR, SESSION);
        assert_eq!(station.choose(2_000, 2_000), Ok(vec![CAR]));
    }

    #[test]
    fn of_two_that_fit_the_one_in_a_session_is_out_of_the_question() {
        let mut station = Station::with(&[CAR, OTHER_CAR]);
        assert_eq!(station.choose(2_000, 2_000), Ok(vec![CAR, OTHER_CAR]));
        station.scene.pin(CAR, SESSION, START);
        assert_eq!(station.choose(2_000, 2_000), Ok(vec![OTHER_CAR]));
    }

    #[test]
    fn a_car_that_stands_next_door_is_not_selectable_until_it_is_heard_as_one_that_is_here() {
        let mut station = Station::with(&[CAR]);
        let place = Some((41.9028, 12.4964));
        let seen = station.seen(2_000)[0];
        station.whereabouts.entered(CAR, HERE, place, -60, START);
        station.whereabouts.entered(CAR, NEXT_DOOR, place, -40, START);
        assert_eq!(station.selectable(2_000), []);
        let look = |station: &mut Station| station.scene.look(&seen, &station.whereabouts);
        assert_eq!(look(&mut station), Sight { is_hidden: true, is_new: true });
        assert_eq!(look(&mut station), Sight { is_hidden: true, is_new: false });
        (3..30).for_each(|second| station.hear(CAR, -95, second * 1_000));
        station.whereabouts.left(CAR, NEXT_DOOR);
        assert_eq!(station.selectable(30_000), [], "only a reflection is heard here");
        (30..40).for_each(|second| station.hear(CAR, -60, second * 1_000));
        assert_eq!(station.selectable(40_000), [CAR]);
        assert_eq!(look(&mut station), Sight { is_hidden: false, is_new: true });
    }
}
