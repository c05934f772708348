//! A station's terminal: its caller, and the board that its event stream keeps up to date.

use std::{collections::HashMap, sync::Arc, time::Duration};

use forecourt::{
    engine::id::{BindingId, SessionId, StationId},
    session::{SessionView, StateName},
    station::{StationEvent, VehicleView},
};
use tokio::sync::watch;

use super::{client::Client, events::Event};
use crate::{fleet::SiteId, world::World};

/// A stream that ended is opened again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What the terminal shows.
#[derive(Debug, Default)]
pub struct Board {
    vehicles: HashMap<BindingId, VehicleView>,
    sessions: HashMap<SessionId, SessionView>,
}

impl Board {
    /// Whether the vehicle with this masked plate is on the forecourt.
    pub fn shows(&self, plate: &str) -> bool {
        self.vehicles.values().any(|vehicle| vehicle.plate == plate)
    }

    /// The masked plates of those that are in no session, in no order.
    pub fn free(&self) -> impl Iterator<Item = &str> {
        self.vehicles.values().filter(|vehicle| !vehicle.selected).map(|vehicle| vehicle.plate.as_str())
    }

    pub fn session(&self, session: SessionId) -> Option<&SessionView> {
        self.sessions.get(&session)
    }

    fn take(&mut self, event: &Event) -> Result<Turnover, serde_json::Error> {
        if event.name == "snapshot" {
            let Snapshot { vehicles } = serde_json::from_str(&event.data)?;
            return Ok(self.replace(vehicles));
        }
        Ok(match serde_json::from_str(&event.data)? {
            StationEvent::Presence { vehicle, .. } => self.show(vehicle),
            StationEvent::Session { session } => {
                self.update(*session);
                Turnover::default()
            }
        })
    }

    fn replace(&mut self, vehicles: Vec<VehicleView>) -> Turnover {
        let mut before = std::mem::take(&mut self.vehicles);
        let mut turnover = Turnover::default();
        for vehicle in vehicles.into_iter().filter(is_selectable) {
            if before.remove(&vehicle.binding).is_none() {
                turnover.appeared.push(vehicle.plate.clone());
            }
            self.vehicles.insert(vehicle.binding, vehicle);
        }
        turnover.disappeared = before.into_values().map(|vehicle| vehicle.plate).collect();
        turnover
    }

    fn show(&mut self, vehicle: VehicleView) -> Turnover {
        let (plate, mut turnover) = (vehicle.plate.clone(), Turnover::default());
        if is_selectable(&vehicle) {
            let is_new = self.vehicles.insert(vehicle.binding, vehicle).is_none();
            turnover.appeared.extend(is_new.then_some(plate));
        } else {
            let was_here = self.vehicles.remove(&vehicle.binding).is_some();
            turnover.disappeared.extend(was_here.then_some(plate));
        }
        turnover
    }

    /// Keeps the later of two views, and none of a session that the attendant is done with.
    fn update(&mut self, session: SessionView) {
        let is_late = self.sessions.get(&session.id).is_some_and(|known| known.version >= session.version);
        if matches!(session.state, StateName::Cleared | StateName::Settled | StateName::PaidElsewhere) {
            self.sessions.remove(&session.id);
        } else if !is_late {
            self.sessions.insert(session.id, session);
        }
    }
}

/// What an event changed of the list of vehicles, by their plates.
#[derive(Debug, Default, PartialEq, Eq)]
struct Turnover {
    appeared: Vec<String>,
    disappeared: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Snapshot {
    vehicles: Vec<VehicleView>,
}

fn is_selectable(vehicle: &VehicleView) -> bool {
    vehicle.state.is_selectable()
}

pub struct Terminal {
    pub caller: Client,
    pub site: SiteId,
    pub station: StationId,
    board: watch::Sender<Board>,
}

impl Terminal {
    pub fn new(caller: Client, site: SiteId, station: StationId) -> Terminal {
        Terminal { caller, site, station, board: watch::Sender::default() }
    }

    /// Waits until the board shows what is looked for; `None` when it does not within that time.
    pub async fn wait<T>(&self, within: Duration, look: impl Fn(&Board) -> Option<T>) -> Option<T> {
        let mut board = self.board.subscribe();
        let seen = board.wait_for(|board| look(board).is_some());
        let board = tokio::time::timeout(within, seen).await.ok()?.ok()?;
        look(&board)
    }

    /// What is to be seen on the board now.
    pub fn look<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&self.board.borrow())
    }

    /// Keeps the board up to date for as long as it is polled.
    pub async fn watch(self: Arc<Terminal>, world: Arc<World>) {
        let path = format!("/v1/stations/{}/events", self.station);
        loop {
            match self.caller.events(&path, None).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        self.take(&event, &world);
                    }
                }
                Err(error) => tracing::warn!(station = %self.station, %error, "no event stream"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn take(&self, event: &Event, world: &World) {
        let mut changed = Ok(Turnover::default());
        self.board.send_modify(|board| changed = board.take(event));
        match changed {
            Ok(Turnover { appeared, disappeared }) => {
                for plate in appeared {
                    world.appeared(self.site, &plate);
                }
                for plate in disappeared {
                    world.disappeared(self.site, &plate);
                }
            }
            Err(error) => world.oracle().wrong(format!("an event that nobody can read ({error}): {}", event.data)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: &str = "000102030405060708090a0b0c0d0e0f";

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into(), id: None }
    }

    fn vehicle(state: &str) -> String {
        format!(r#"{{"binding":"{BINDING}","plate":"**가3456","state":"{state}","since":1,"selected":false}}"#)
    }

    fn presence(state: &str) -> Event {
        event("presence", &format!(r#"{{"event":"presence","at":1,"vehicle":{}}}"#, vehicle(state)))
    }

    #[test]
    fn a_vehicle_appears_once_however_often_it_is_told() {
        let mut board = Board::default();
        let mut appeared = |event: &Event| board.take(event).unwrap().appeared;
        assert_eq!(appeared(&presence("sighted")), [""; 0], "on the road, perhaps");
        assert_eq!(appeared(&presence("entered")), ["**가3456"]);
        assert_eq!(appeared(&presence("present")), [""; 0]);
        let snapshot = event("snapshot", &format!(r#"{{"at":1,"vehicles":[{}]}}"#, vehicle("present")));
        assert_eq!(appeared(&snapshot), [""; 0]);
        assert!(board.shows("**가3456"));
        assert_eq!(board.take(&presence("left")).unwrap().disappeared, ["**가3456"]);
        assert!(!board.shows("**가3456"));
    }

    #[test]
    fn a_vehicle_that_a_snapshot_lacks_is_gone() {
        let mut board = Board::default();
        board.take(&presence("entered")).unwrap();
        let turnover = board.take(&event("snapshot", r#"{"at":1,"vehicles":[]}"#)).unwrap();
        assert_eq!(turnover, Turnover { appeared: vec![], disappeared: vec!["**가3456".into()] });
    }
}
