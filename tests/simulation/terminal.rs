//! Stations: who stands there, as far as they know, and an attendant with a terminal who does what attendants do.

use std::collections::HashMap;

use forecourt::{
    engine::{
        id::{DeviceId, PumpNumber, SessionId, StationId},
        money::{Currency, Money, amount_minor},
        presence::{Policy, Presence},
        time::UnixMs,
    },
    session::{
        By, Command, Completion, GradePrice, Open, Prices, Quote, Request, SessionView, StateName, plain::PricesSet,
    },
};

use crate::{
    journal::Then,
    letter::{Letter, What},
    world::{Happening, World},
};

/// Sessions that an attendant still thinks of.
const REMEMBERED: usize = 5;

/// One station: its presence windows, and which vehicles it has given away.
pub(crate) struct Site {
    pub(crate) station: StationId,
    pub(crate) presence: Presence,
    taken: HashMap<DeviceId, SessionId>,
    sessions: Vec<SessionId>,
    reported: Vec<Completion>,
    unit_price_milli: i64,
}

impl Site {
    pub(crate) fn new(number: u64) -> Site {
        Site {
            station: StationId(number as u32 + 1),
            presence: Presence::new(Policy::DESIGN),
            taken: HashMap::new(),
            sessions: Vec::new(),
            reported: Vec::new(),
            unit_price_milli: 1_700_000,
        }
    }

    /// As a station follows the changes of its sessions.
    fn follow(&mut self, view: &SessionView, now: UnixMs) {
        if view.pins_vehicle {
            self.taken.insert(view.device, view.id);
            self.presence.pin(view.device, now);
        } else if self.taken.get(&view.device) == Some(&view.id) {
            self.taken.remove(&view.device);
            self.presence.unpin(view.device);
        }
    }

    /// The vehicles that are kept here for a session.
    pub(crate) fn pinned(&self) -> usize {
        self.taken.len()
    }
}

impl World {
    /// Receivers keep the true time.
    pub(crate) fn site_time(&self) -> UnixMs {
        UnixMs(1_000_000_000 + self.clock.now)
    }

    pub(crate) fn follow(&mut self, view: &SessionView) {
        let now = self.site_time();
        if let Some(site) = self.sites.iter_mut().find(|site| site.station == view.station) {
            site.follow(view, now);
        }
    }

    /// After a restart a station knows nothing but what the journal says of its sessions: it takes their vehicles for
    /// present, as if it had heard them now.
    pub(crate) fn reopen_sites(&mut self) {
        let now = self.site_time();
        for (place, site) in self.sites.iter_mut().enumerate() {
            site.presence = Presence::new(Policy::DESIGN);
            site.taken.clear();
            self.process.desk.of_station(site.station).iter().for_each(|view| site.follow(view, now));
            let taken = self.cars.iter_mut().filter(|car| site.taken.contains_key(&car.device));
            taken.for_each(|car| car.heard[place] = Some(self.clock.now));
        }
    }

    pub(crate) fn terminal(&mut self, place: usize) {
        match self.chance.below(100) {
            0..15 => self.select(place),
            15..27 => self.send_again(),
            27..29 => self.set_prices(place),
            _ => self.serve(place),
        }
        self.again(1_000..=20_000, Happening::Terminal(place));
    }

    pub(crate) fn request(&mut self) -> Request {
        Request { key: self.chance.bytes(), body: [1; 32] }
    }

    /// Only a vehicle that is present, and in nobody's session, is there to be selected.
    fn select(&mut self, place: usize) {
        let (now, mut changes) = (self.site_time(), Vec::new());
        let site = &mut self.sites[place];
        site.presence.expire(now, &mut changes);
        let free = |device: &DeviceId| !site.taken.contains_key(device);
        let present: Vec<DeviceId> = site.presence.selectable().map(|seen| seen.device).filter(free).collect();
        let Some(device) = self.chance.pick(&present).copied() else { return };
        let car = self.car_of(device);
        if !car.is_active() {
            return;
        }
        let (vehicle, heard) = (car.vehicle(), car.heard[place]);
        self.oracle.on_selection(heard.map(|at| self.clock.now - at));
        let (request, session) = (self.request(), SessionId(self.chance.bytes()));
        let pump = self.chance.percent(50).then_some(PumpNumber(3));
        let site = &mut self.sites[place];
        site.sessions.push(session);
        let by = By::Station(site.station);
        let open = Box::new(Open { request, session, station: site.station, pump, vehicle, by, heard: None });
        let letter = Letter { by, session, what: What::Open(open) };
        self.post(letter);
    }

    /// The answer was lost, or the terminal is confused: the same letter again, sometimes with another body.
    fn send_again(&mut self) {
        let recent = self.letters.len().saturating_sub(12);
        let Some(mut letter) = self.chance.pick(&self.letters[recent..]).cloned() else { return };
        if matches!(letter.what, What::Open(_)) && !self.process.desk.knows(letter.session) {
            return; // it would be a new selection
        }
        if self.chance.percent(25) {
            match &mut letter.what {
                What::Open(open) => open.request.body = [2; 32],
                What::Order { request: Some(request), .. } => request.body = [2; 32],
                What::Order { request: None, .. } => {}
            }
        }
        self.ask_of_desk(letter);
    }

    fn set_prices(&mut self, place: usize) {
        let unit_price_milli = 1_600_000 + 10_000 * self.chance.below(20) as i64;
        let grades = vec![GradePrice { grade: "diesel".into(), unit_price_milli }];
        let prices = Prices { currency: currency(), grades };
        let set = PricesSet { prices, request: self.request() };
        let station = self.sites[place].station;
        if self.process.desk.prices.check(station, &set) == Ok(true) {
            self.append(set.entry(station, self.clock.wall()), Then::Prices(station, set));
        }
        self.sites[place].unit_price_milli = unit_price_milli;
    }

    fn serve(&mut self, place: usize) {
        let sessions = &self.sites[place].sessions;
        let recent = sessions[sessions.len().saturating_sub(REMEMBERED)..].to_vec();
        let Some(session) = self.chance.pick(&recent).copied() else { return };
        let by = By::Station(self.sites[place].station);
        let Ok(view) = self.process.desk.view(session, by) else { return };
        let Some(command) = self.next_order(place, &view) else { return };
        let letter = Letter { by, session, what: What::Order { command, request: Some(self.request()) } };
        self.post(letter);
    }

    /// What an attendant does next, mostly.
    fn next_order(&mut self, place: usize, view: &SessionView) -> Option<Command> {
        use StateName as S;
        let dice = self.chance.below(100);
        if dice < 4 {
            return Some(self.any_order(place));
        }
        match view.state {
            S::Selected if dice < 40 => Some(self.reserve(place, true)),
            S::Selected if dice < 70 => Some(self.reserve(place, false)),
            S::Selected if dice < 85 => Some(Command::Complete(self.completion(place))),
            S::Selected | S::Holding | S::Reserved if dice < 8 => Some(Command::Release),
            S::Holding if dice > 90 => Some(Command::Complete(self.completion(place))),
            S::Reserved if dice < 70 => Some(Command::StartFuelling { pump: None }),
            S::Reserved if dice < 85 => Some(Command::Complete(self.completion(place))),
            S::Fuelling if dice < 80 => Some(Command::Complete(self.completion(place))),
            S::Completed | S::AwaitingProof if dice < 20 => Some(Command::Correct(self.completion(place))),
            S::Completed | S::AwaitingProof if dice < 25 => Some(Command::PaidAtSite),
            S::Proven | S::Paying | S::InDoubt if dice < 20 => Some(Command::PaidAtSite),
            S::Paid if dice < 50 => Some(Command::Cleared),
            S::Disputed | S::ProofFailed if dice < 40 => Some(Command::Correct(self.completion(place))),
            S::Paid | S::CollectAtSite | S::Disputed | S::ProofFailed if dice < 60 => Some(Command::PaidAtSite),
            S::Released | S::Rejected if dice < 20 => Some(Command::Complete(self.completion(place))),
            _ => None,
        }
    }

    fn any_order(&mut self, place: usize) -> Command {
        match self.chance.below(7) {
            0 => self.reserve(place, false),
            1 => Command::StartFuelling { pump: Some(PumpNumber(9)) },
            2 => Command::Complete(self.completion(place)),
            3 => Command::Correct(self.completion(place)),
            4 => Command::Release,
            5 => Command::PaidAtSite,
            _ => Command::Cleared,
        }
    }

    fn reserve(&mut self, place: usize, hold: bool) -> Command {
        let preset = Some(won(self.chance.within(20_000..=120_000) as i64));
        let quote = Some(Quote { grade: "diesel".into(), unit_price_milli: self.sites[place].unit_price_milli });
        Command::Reserve { pump: PumpNumber(3), preset, hold, quote }
    }

    /// What the forecourt controller reports; now and then a report of another sale, or one that contradicts it.
    fn completion(&mut self, place: usize) -> Completion {
        if self.chance.percent(8)
            && let Some(earlier) = self.chance.pick(&self.sites[place].reported).cloned()
            && self.plan.ended_max > 1
        {
            let other_body = self.chance.percent(50);
            let pump = if other_body { PumpNumber(4) } else { earlier.pump };
            return Completion { pump, ..earlier };
        }
        self.transactions += 1;
        let volume_ml = if self.chance.percent(5) { 0 } else { self.chance.within(5_000..=60_000) as u32 };
        let unit_price_milli = self.sites[place].unit_price_milli;
        let completion = Completion {
            pump: if self.chance.percent(95) { PumpNumber(3) } else { PumpNumber(2) },
            grade: if self.chance.percent(95) { "diesel".into() } else { "petrol".into() },
            volume_ml,
            unit_price_milli,
            amount: won(amount_minor(volume_ml, unit_price_milli).expect("some litres")),
            transaction: format!("T{}", self.transactions),
        };
        self.sites[place].reported.push(completion.clone());
        completion
    }
}

fn currency() -> Currency {
    "KRW".parse().expect("a currency")
}

fn won(minor: i64) -> Money {
    Money { minor, currency: currency() }
}
