//! Knows what is true, hears what the engine says, and counts where the two differ.
//!
//! - missed: a registered car stood at a pump, and the terminal could not see or select it.
//! - wrong: a vehicle appeared where it was not, was selected or charged in place of another, or for another amount;
//!   a payment was told that the PSP knows nothing of; or a request that was sent twice had two answers.
//! - double charged: more than one charge of a session stands in the PSP's own books.
//!
//! Beacon to visible is measured from the frame by which the car has entered (the engine's own rule, over what the
//! receivers heard) to the event at the terminal.

use std::collections::{HashMap, HashSet};

use forecourt::{
    engine::{
        id::{DeviceId, SessionId},
        plate::Plate,
        presence::{Policy, Presence, Setup, State},
        time::UnixMs,
    },
    payment::SessionCharges,
};
use hdrhistogram::Histogram;

use crate::fleet::{Car, CarId, Fleet, Heard, Role, Site, SiteId, Trip};

/// A longer wait than this is recorded as this.
const VISIBLE_MS_MAX: u64 = 60_000;

/// Reasons that are kept for the summary; the counts go on.
const NOTES_MAX: usize = 20;

/// What was sold, as the pump showed it.
#[derive(Debug, Clone, Copy)]
struct Sale {
    device: DeviceId,
    minor: Option<i64>,
    /// The terminal was told that it is paid.
    paid: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub vehicles_entered: u64,
    pub sessions_opened: u64,
    pub sessions_paid: u64,
    pub collected_at_site: u64,
    /// Selections for which several cars on the forecourt fitted what was typed.
    pub plates_ambiguous: u64,
    /// Requests that were sent again as if their answer had been lost.
    pub requests_repeated: u64,
    pub missed: u64,
    pub wrong: u64,
    pub double_charged: u64,
    /// Visits that ended with a refusal or a lost answer that nobody expected.
    pub visits_failed: u64,
    /// Visits that the end of the run cut off.
    pub visits_unfinished: u64,
}

pub struct Oracle {
    /// Each station's own rule of entering, to know from when on a car should be visible.
    rules: Vec<Presence>,
    by_plate: HashMap<String, CarId>,
    /// Entered by the rule and not yet visible.
    due: HashMap<(SiteId, DeviceId), UnixMs>,
    visible_ms: Histogram<u64>,
    sales: HashMap<SessionId, Sale>,
    counts: Counts,
    notes: Vec<String>,
}

impl Oracle {
    pub fn new(fleet: &Fleet) -> Oracle {
        let registered = fleet.cars.iter().enumerate().filter(|(_, car)| car.role != Role::Stranger);
        Oracle {
            rules: fleet.sites.iter().map(|site| Presence::new(policy(site))).collect(),
            by_plate: registered.map(|(number, car)| (masked(car), CarId(number))).collect(),
            due: HashMap::new(),
            visible_ms: Histogram::new_with_bounds(1, VISIBLE_MS_MAX, 3).expect("sensible bounds"),
            sales: HashMap::new(),
            counts: Counts::default(),
            notes: Vec::new(),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Why something was counted as missed, wrong or failed; the first few.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub fn visible_ms_at(&self, quantile: f64) -> u64 {
        self.visible_ms.value_at_quantile(quantile)
    }

    /// What a receiver heard, before the engine knows.
    pub fn heard(&mut self, heard: &Heard) {
        if heard.role != Role::Customer {
            return;
        }
        let (hearing, mut changes) = (heard.hearing, Vec::new());
        let rule = &mut self.rules[heard.site.0];
        rule.expire(hearing.at, &mut changes);
        changes.clear();
        rule.observe(heard.device, hearing.receiver, hearing.rssi, hearing.at, hearing.at, &mut changes);
        if changes.iter().any(|change| change.state == State::Entered) {
            self.due.insert((heard.site, heard.device), hearing.at);
        }
    }

    /// The terminal shows a vehicle that it did not show before.
    pub fn appeared(&mut self, fleet: &Fleet, site: SiteId, plate: &str, now: UnixMs) {
        let Some(&id) = self.by_plate.get(plate) else {
            return self.wrong(format!("{plate} appeared, and there is no such car"));
        };
        let car = fleet.car(id);
        if car.trip.site() != Some(site) || matches!(car.trip, Trip::Passing { .. }) {
            return self.wrong(format!("{plate} appeared at {}, and is not there", fleet.sites[site.0].station));
        }
        self.counts.vehicles_entered += 1;
        if let Some(due) = self.due.remove(&(site, car.dongle.device)) {
            self.visible_ms.saturating_record(now.since(due).max(1));
        }
    }

    pub fn missed(&mut self, reason: String) {
        self.counts.missed += 1;
        self.note(reason);
    }

    pub fn wrong(&mut self, reason: String) {
        self.counts.wrong += 1;
        self.note(reason);
    }

    pub fn visit_failed(&mut self, reason: String) {
        self.counts.visits_failed += 1;
        self.note(reason);
    }

    pub fn plate_was_ambiguous(&mut self) {
        self.counts.plates_ambiguous += 1;
    }

    /// One request was sent twice and had these answers.
    pub fn repeated(&mut self, first: SessionId, again: SessionId) {
        self.counts.requests_repeated += 1;
        if first != again {
            self.wrong(format!("one request opened {first} and {again}"));
        }
    }

    /// A session was opened for the car that `device` is in; the engine says it is for `selected`.
    pub fn opened(&mut self, session: SessionId, device: DeviceId, selected: DeviceId) {
        self.counts.sessions_opened += 1;
        if device != selected {
            self.wrong(format!("session {session} selected dongle {selected} in place of {device}"));
        }
        self.sales.insert(session, Sale { device, minor: None, paid: false });
    }

    /// The nozzle is back: what the pump shows.
    pub fn sold(&mut self, session: SessionId, minor: i64) {
        if let Some(sale) = self.sales.get_mut(&session) {
            sale.minor = Some(minor);
        }
    }

    /// The driver reads what the phone shows before approving it.
    pub fn is_asked_rightly(&mut self, session: SessionId, device: DeviceId, minor: i64) -> bool {
        let is_right = self.sales.get(&session).is_some_and(|sale| sale.device == device && sale.minor == Some(minor));
        if !is_right {
            self.wrong(format!("the phone of dongle {device} was asked for {minor} in session {session}"));
        }
        is_right
    }

    pub fn paid(&mut self, session: SessionId) {
        self.counts.sessions_paid += 1;
        if let Some(sale) = self.sales.get_mut(&session) {
            sale.paid = true;
        }
    }

    /// Visits that were cut off when the time was over.
    pub fn unfinished(&mut self, visits: u64) {
        self.counts.visits_unfinished += visits;
    }

    pub fn collected_at_site(&mut self) {
        self.counts.collected_at_site += 1;
    }

    /// Compares the PSP's own books with what was sold.
    pub fn audit(&mut self, books: &[SessionCharges]) {
        for charged in books.iter().filter(|charged| charged.net > 0) {
            let sold = self.sales.get(&charged.session).and_then(|sale| sale.minor);
            if charged.net > 1 {
                self.counts.double_charged += 1;
                self.note(format!("session {} was charged {} times", charged.session, charged.net));
            } else if sold != Some(charged.net_minor) {
                let (session, minor) = (charged.session, charged.net_minor);
                self.wrong(format!("session {session} was charged {minor}, and {sold:?} was sold"));
            }
        }
        let charged: HashSet<SessionId> =
            books.iter().filter(|charged| charged.net > 0).map(|charged| charged.session).collect();
        let unpaid: Vec<SessionId> =
            self.sales.iter().filter(|(id, sale)| sale.paid && !charged.contains(id)).map(|(id, _)| *id).collect();
        for session in unpaid {
            self.wrong(format!("session {session} was told to be paid, and nothing was charged"));
        }
    }

    fn note(&mut self, reason: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(reason);
        }
    }
}

/// The plate as a terminal shows it.
pub fn masked(car: &Car) -> String {
    Plate::parse(&car.plate).expect("our own plates are plates").masked()
}

fn policy(site: &Site) -> Policy {
    let mut policy = Policy::DESIGN;
    for receiver in site.receivers() {
        let enter_dbm = receiver.enter_dbm.unwrap_or(policy.default_enter_dbm);
        policy.receivers[usize::from(receiver.id.0)] = Some(Setup { pump: None, enter_dbm });
    }
    policy
}

#[cfg(test)]
mod tests {
    use forecourt::engine::time::SlotLength;

    use super::*;
    use crate::fleet::FleetConfig;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);
    const SESSION: SessionId = SessionId([1; 16]);
    const CAR: DeviceId = DeviceId(700_003);

    fn fleet() -> Fleet {
        Fleet::new(FleetConfig { seed: 1, stations: 2, pumps: 4, cars: 10, slot: SlotLength::DEFAULT }, NOW)
    }

    fn sold(minor: i64) -> Oracle {
        let mut oracle = Oracle::new(&fleet());
        oracle.opened(SESSION, CAR, CAR);
        oracle.sold(SESSION, minor);
        oracle
    }

    #[test]
    fn a_car_that_appears_where_it_is_not_is_wrong() {
        let fleet = fleet();
        let mut oracle = Oracle::new(&fleet);
        oracle.appeared(&fleet, SiteId(0), &masked(&fleet.cars[2]), NOW);
        oracle.appeared(&fleet, SiteId(0), "**x0000", NOW);
        assert_eq!((oracle.counts().wrong, oracle.counts().vehicles_entered), (2, 0));
    }

    #[test]
    fn another_vehicle_than_the_one_at_the_pump_is_wrong() {
        let mut oracle = Oracle::new(&fleet());
        oracle.opened(SESSION, CAR, DeviceId(1));
        assert_eq!(oracle.counts().wrong, 1);
    }

    #[test]
    fn the_books_may_hold_one_charge_of_what_was_sold() {
        let mut oracle = sold(5_000);
        oracle.audit(&[SessionCharges { session: SESSION, net: 1, net_minor: 5_000 }]);
        assert_eq!((oracle.counts().wrong, oracle.counts().double_charged), (0, 0));
        oracle.audit(&[SessionCharges { session: SESSION, net: 1, net_minor: 5_001 }]);
        oracle.audit(&[SessionCharges { session: SESSION, net: 2, net_minor: 10_000 }]);
        assert_eq!((oracle.counts().wrong, oracle.counts().double_charged), (1, 1));
    }

    #[test]
    fn a_sale_that_is_told_to_be_paid_is_in_the_books() {
        let mut oracle = sold(5_000);
        oracle.paid(SESSION);
        oracle.audit(&[]);
        assert_eq!(oracle.counts().wrong, 1);
    }

    #[test]
    fn a_driver_is_asked_for_what_the_pump_shows() {
        let mut oracle = sold(5_000);
        assert!(oracle.is_asked_rightly(SESSION, CAR, 5_000));
        assert!(!oracle.is_asked_rightly(SESSION, CAR, 5_001));
        assert!(!oracle.is_asked_rightly(SessionId([2; 16]), CAR, 5_000));
        assert_eq!(oracle.counts().wrong, 2);
    }
}
