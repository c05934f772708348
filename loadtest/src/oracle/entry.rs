//! When a car has entered: the engine's own rule, over what the receivers of its station heard and without any codes.

use forecourt::engine::{
    batch::{Hearing, Hearings, WireHearing},
    control::Role,
    id::DeviceId,
    presence::{Policy, Presence, Setup, State, WindowHandle},
    time::UnixMs,
};

use crate::fleet::{CarId, Fleet, Site, SiteId};

pub(super) struct Rules {
    sites: Vec<Presence>,
    /// Each car's window at the station where it was heard last.
    windows: Vec<Option<(SiteId, WindowHandle)>>,
    /// The frame at hand; kept for its memory.
    wire: Vec<WireHearing>,
}

impl Rules {
    pub(super) fn new(fleet: &Fleet) -> Rules {
        let rule = |site| Presence::new(policy(site));
        Rules { sites: fleet.sites.iter().map(rule).collect(), windows: vec![None; fleet.cars.len()], wire: Vec::new() }
    }

    /// Takes in one frame's hearings; the moment at which the car has entered, if it was this frame that did it.
    pub(super) fn entered(&mut self, site: SiteId, car: CarId, hearings: &[Hearing]) -> Option<UnixMs> {
        let at = hearings.first()?.at;
        let (rule, mut changes) = (&mut self.sites[site.index()], Vec::new());
        rule.expire(at, &mut changes);
        changes.clear();
        let device = device(car);
        self.wire.clear();
        self.wire.extend(hearings.iter().map(|hearing| WireHearing::at_base(hearing.receiver, hearing.rssi)));
        let frame = Hearings::new(at, &self.wire);
        let window = &mut self.windows[car.index()];
        let hint = window.filter(|(heard_at, _)| *heard_at == site).map(|(_, handle)| handle);
        *window = rule.observe_all(device, hint, frame, at, &mut changes).window.map(|handle| (site, handle));
        changes.iter().find(|change| change.state == State::Entered).map(|change| change.at)
    }

    /// How far the car's visit has come; `None` when it was not heard there lately.
    pub(super) fn state(&self, site: SiteId, car: CarId) -> Option<State> {
        self.sites[site.index()].seen(device(car)).map(|seen| seen.state)
    }
}

fn device(car: CarId) -> DeviceId {
    DeviceId(u64::from(car.0))
}

fn policy(site: &Site) -> Policy {
    let mut policy = Policy::DESIGN;
    for receiver in site.receivers() {
        let enter_dbm = receiver.enter_dbm.unwrap_or(policy.default_enter_dbm);
        let pump = match receiver.role {
            Role::Pump(pump) => Some(pump),
            Role::Entrance | Role::Exit | Role::Canopy => None,
        };
        policy.receivers[usize::from(receiver.id.0)] = Some(Setup { pump, enter_dbm });
    }
    policy
}
