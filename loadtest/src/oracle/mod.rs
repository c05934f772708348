//! Knows what is true, hears what the engine says, and counts where the two differ.
//!
//! - missed: a registered car stood on a forecourt, and the terminal could not see or select it.
//! - late: it was shown, but longer after it had entered than the run allows.
//! - ghost: a vehicle was shown at a forecourt that it never entered: it drove past, or stands at the neighbour's.
//! - wrong: a vehicle that does not exist was shown, another than the one at the pump was selected or charged, or
//!   another amount; or a payment was told that the PSP knows nothing of.
//! - duplicate: one request, sent twice, made two sessions.
//! - double charged: more than one charge of a session stands in the PSP's own books.
//!
//! Beacon to visible is measured from the frame by which the car has entered (the engine's own rule, over what the
//! receivers heard) to the event at the terminal.

mod books;
mod entry;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use crate::{
    fleet::{Car, CarId, Fleet, Frame, Role, Sender, SiteId},
    report::Latencies,
};
use books::Sales;
use entry::Rules;
use forecourt::engine::{batch::Hearing, id::SessionId, plate::Plate, presence::State, time::UnixMs};

/// A car that has entered and is not shown for so long is missed.
pub const MISSED_AFTER_MS: u64 = 8_000;

/// A parked car may be shown for 15 minutes after its driver left it, and a busy terminal is told late.
const SHOWN_FOR_MS: u64 = 16 * 60_000;

/// Reasons that are kept for the summary; the counts go on.
const NOTES_MAX: usize = 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub vehicles_entered: u64,
    pub sessions_opened: u64,
    pub sessions_paid: u64,
    pub collected_at_site: u64,
    /// Selections for which several cars on the forecourt fitted what was typed.
    pub plates_ambiguous: u64,
    /// Requests that were sent again as if their answer had been lost.
    pub requests_repeated: u64,
    /// Visits that ended with a refusal or a lost answer that nobody expected.
    pub visits_failed: u64,
    /// Visits that the end of the run cut off.
    pub visits_unfinished: u64,
    pub missed: u64,
    pub late: u64,
    pub ghost: u64,
    pub wrong: u64,
    pub duplicate: u64,
    pub double_charged: u64,
}

impl Counts {
    /// Nothing happened that must never happen.
    pub fn is_clean(&self) -> bool {
        [self.missed, self.ghost, self.wrong, self.duplicate, self.double_charged].iter().all(|count| *count == 0)
    }
}

/// How the oracle judges.
#[derive(Debug, Clone, Copy)]
pub struct Judgement {
    /// Shown later than this after entering is late.
    pub late_ms: u64,
}

pub struct Oracle {
    judgement: Judgement,
    watched: Vec<bool>,
    rules: Rules,
    by_plate: HashMap<String, CarId>,
    /// Entered by the rule and not yet shown, since when.
    due: HashMap<(SiteId, CarId), UnixMs>,
    /// The same in the order of time; those that were shown meanwhile are passed over.
    waiting: VecDeque<(UnixMs, SiteId, CarId)>,
    shown: HashSet<(SiteId, CarId)>,
    /// Visits that were missed, each counted once.
    missed_visits: HashSet<(CarId, u32)>,
    /// Latencies before this are not recorded.
    measured_from: UnixMs,
    visible: Latencies,
    sales: Sales,
    counts: Counts,
    notes: Vec<String>,
}

impl Oracle {
    pub fn new(fleet: &Fleet, judgement: Judgement) -> Oracle {
        let registered = fleet.cars.iter().enumerate().filter(|(_, car)| car.role != Role::Stranger);
        Oracle {
            judgement,
            watched: (0..fleet.sites.len() as u32).map(|site| fleet.is_watched(SiteId(site))).collect(),
            rules: Rules::new(fleet),
            by_plate: registered.map(|(number, car)| (masked(car), CarId(number as u32))).collect(),
            due: HashMap::new(),
            waiting: VecDeque::new(),
            shown: HashSet::new(),
            missed_visits: HashSet::new(),
            measured_from: UnixMs(0),
            visible: Latencies::new("visible", "Beacon to visible"),
            sales: Sales::default(),
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

    /// The warm-up is over: latencies count from here on.
    pub fn measure_from(&mut self, now: UnixMs) {
        self.measured_from = now;
    }

    /// From the frame by which a car has entered to the terminal's event.
    pub fn visible(&self) -> &Latencies {
        &self.visible
    }

    /// What the receivers heard of a frame, before the engine knows.
    pub fn heard(&mut self, frame: &Frame, hearings: &[Hearing]) {
        let Sender::Car(car, Role::Customer | Role::Guest) = frame.sender else { return };
        if frame.is_next_door || !self.watched[frame.site.index()] {
            return;
        }
        let site = frame.site;
        if let Some(at) = self.rules.entered(site, car, hearings)
            && !self.shown.contains(&(site, car))
        {
            self.due.insert((site, car), at);
            self.waiting.push_back((at, site, car));
        }
    }

    /// The terminal shows a vehicle that it did not show before.
    pub fn appeared(&mut self, fleet: &Fleet, site: SiteId, plate: &str, now: UnixMs) {
        let Some(&id) = self.by_plate.get(plate) else {
            return self.wrong(format!("{plate} appeared, and there is no such car"));
        };
        self.shown.insert((site, id));
        self.counts.vehicles_entered += 1;
        if !fleet.may_be_shown(id, site, now, SHOWN_FOR_MS) {
            let (station, role) = (fleet.site(site).station, fleet.car(id).role);
            self.ghost(format!("{plate} ({role:?}) appeared at {station}, and never was on that forecourt"));
        } else if let Some(due) = self.due.remove(&(site, id)) {
            self.shown_after(due, now);
        }
    }

    /// The car with this masked plate.
    pub fn car(&self, plate: &str) -> Option<CarId> {
        self.by_plate.get(plate).copied()
    }

    /// The terminal shows it no more.
    pub fn disappeared(&mut self, site: SiteId, plate: &str) {
        if let Some(&car) = self.by_plate.get(plate) {
            self.shown.remove(&(site, car));
        }
    }

    fn shown_after(&mut self, due: UnixMs, now: UnixMs) {
        if due < self.measured_from {
            return;
        }
        let ms = now.since(due);
        self.visible.record(Duration::from_millis(due.since(self.measured_from)), Duration::from_millis(ms));
        self.counts.late += u64::from(ms > self.judgement.late_ms);
    }

    /// Looks for cars that should have been shown by now.
    pub fn look_for_missed(&mut self, fleet: &Fleet, now: UnixMs) {
        while let Some(&(due, site, car)) = self.waiting.front()
            && now.since(due) >= MISSED_AFTER_MS
        {
            self.waiting.pop_front();
            if self.due.get(&(site, car)) == Some(&due) {
                self.due.remove(&(site, car));
                let (plate, station) = (&fleet.car(car).plate, fleet.site(site).station);
                self.missed(fleet, car, format!("{plate} entered {station} at {due} and was not shown"));
            }
        }
    }

    /// What the engine's own rule makes of a car.
    pub fn by_rule(&self, site: SiteId, car: CarId) -> Option<State> {
        self.rules.state(site, car)
    }

    /// A car on a forecourt could not be seen or selected.
    pub fn missed(&mut self, fleet: &Fleet, car: CarId, reason: String) {
        let about = fleet.car(car);
        let is_excused = about.trip.forecourt().is_some_and(|site| fleet.is_flooded(site));
        if !is_excused && self.missed_visits.insert((car, about.visit)) {
            self.counts.missed += 1;
            self.note(reason);
        }
    }

    pub fn ghost(&mut self, reason: String) {
        self.counts.ghost += 1;
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
            self.counts.duplicate += 1;
            self.note(format!("one request opened {first} and {again}"));
        }
    }

    /// Visits that were cut off when the time was over.
    pub fn unfinished(&mut self, visits: u64) {
        self.counts.visits_unfinished += visits;
    }

    pub fn collected_at_site(&mut self) {
        self.counts.collected_at_site += 1;
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

#[cfg(test)]
mod tests;
