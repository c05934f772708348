//! One history: a seed goes in, and either nothing comes out, or the first invariant that did not hold.
//!
//! Time is virtual and one thing happens at a time. What will happen lies in one agenda, in the order of true time;
//! the engine's clock is another thing, and jumps.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    rc::Rc,
};

use forecourt::{
    engine::{charge::ChargeKey, id::DeviceId, time::UnixMs},
    session::{Error, SessionView},
};
use tokio::sync::oneshot;

use crate::{
    car::Car,
    chance::{Chance, Tally},
    journal::Journal,
    letter::{Letter, short},
    network::Outside,
    oracle::{Oracle, Violation},
    plants::Plant,
    process::{Inside, Process},
    psp::Psp,
    terminal::Site,
};

/// The true time at which every history begins.
const START: UnixMs = UnixMs(1_700_000_000_000);

const HOUR_MS: u64 = 3_600_000;

/// After a week a charge is left to reconciliation, and that is the longest wait of all.
const END_MS: u64 = 9 * 24 * HOUR_MS;

/// Far more than any history has; one that reaches it goes in a circle.
const STEPS_MAX: u64 = 100_000;

/// True time in milliseconds since the start, and how far the engine's clock is off.
pub(crate) struct Clock {
    pub(crate) now: u64,
    pub(crate) skew: i64,
}

impl Clock {
    pub(crate) fn wall(&self) -> UnixMs {
        START.plus(self.now).shifted(self.skew)
    }

    /// True time of a moment on the engine's clock.
    fn of_wall(&self, at: UnixMs) -> u64 {
        at.shifted(-self.skew).since(START)
    }
}

/// What is different from seed to seed beside what happens.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) sites: u64,
    pub(crate) cars: u64,
    pub(crate) minutes: u64,
    pub(crate) ended_max: usize,
    pub(crate) open_max: usize,
    /// A crash strikes after so many of a thousand steps.
    pub(crate) crash_per_mille: u32,
}

impl Plan {
    fn draw(chance: &mut Chance) -> Plan {
        Plan {
            sites: chance.within(1..=2),
            cars: chance.within(1..=4),
            minutes: chance.within(10..=40),
            ended_max: if chance.percent(30) { chance.below(2) as usize } else { 10_000 },
            open_max: if chance.percent(20) { 1 } else { 1_000 },
            crash_per_mille: if chance.percent(20) { 0 } else { chance.within(1..=12) as u32 },
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Inside(Inside),
    Outside(Outside),
    Terminal(usize),
    Car(usize),
    Driver(usize),
    Post(Letter),
    Operator,
    Sky,
}

/// A letter whose answer is awaited.
struct Call {
    letter: Letter,
    answer: oneshot::Receiver<Result<SessionView, Error>>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) plant: Option<Plant>,
    pub(crate) chance: Chance,
    pub(crate) clock: Clock,
    agenda: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    pub(crate) process: Process,
    pub(crate) journal: Journal,
    pub(crate) psp: Psp,
    pub(crate) oracle: Oracle,
    pub(crate) sites: Vec<Site>,
    pub(crate) cars: Vec<Car>,
    /// Keys that were sent to the PSP before.
    pub(crate) sent: HashSet<ChargeKey>,
    calls: Vec<Call>,
    /// Every letter of the history, to be sent again.
    pub(crate) letters: Vec<Letter>,
    pub(crate) transactions: u64,
    trace: Option<Trace>,
}

/// The steps of a history, which outlive a panic in it.
pub(crate) type Trace = Rc<RefCell<Vec<String>>>;

/// How a history went.
pub(crate) struct Verdict {
    pub(crate) violation: Option<Violation>,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>, trace: Option<Trace>) -> World {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let clock = Clock { now: 0, skew: 0 };
        let cars = (0..plan.cars).map(|number| Car::draw(number, &mut chance)).collect();
        let mut world = World {
            process: Process::new(0, plan.ended_max, plan.open_max, (clock.wall(), 0)),
            sites: (0..plan.sites).map(Site::new).collect(),
            cars,
            plan,
            plant,
            chance,
            clock,
            agenda: BTreeMap::new(),
            scheduled: 0,
            journal: Journal::default(),
            psp: Psp::default(),
            oracle: Oracle::new(),
            sent: HashSet::new(),
            calls: Vec::new(),
            letters: Vec::new(),
            transactions: 0,
            trace,
        };
        world.begin();
        world
    }

    /// Runs to the end, or to the first step after which an invariant does not hold.
    pub(crate) fn run(mut self) -> Verdict {
        while self.oracle.violation.is_none() && self.step() {}
        if self.oracle.violation.is_none() {
            self.conclude();
        }
        Verdict { violation: self.oracle.violation, tally: self.chance.tally }
    }

    fn begin(&mut self) {
        for place in 0..self.sites.len() {
            self.after(0, Happening::Terminal(place));
        }
        for place in 0..self.cars.len() {
            self.after(0, Happening::Car(place));
            self.after(0, Happening::Driver(place));
        }
        self.after(60_000, Happening::Operator);
        self.after(30_000, Happening::Sky);
    }

    /// One thing happens; `false` when nothing more will.
    fn step(&mut self) -> bool {
        let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let wakes = self.wakes();
        let due = next.into_iter().chain(wakes).min();
        let Some(due) = due.filter(|due| *due < END_MS) else { return false };
        self.clock.now = self.clock.now.max(due);
        self.chance.tally.steps += 1;
        let entries = self.chance.tally.entries;
        self.close_when_time_is_up();
        if wakes.is_some_and(|wakes| next.is_none_or(|next| wakes <= next)) {
            self.note(|| "timers".into());
            self.timers();
        } else if let Some((_, happening)) = self.agenda.pop_first() {
            self.note(|| match &happening {
                Happening::Post(_) => "Post".into(),
                happening => format!("{happening:?}"),
            });
            self.happen(happening);
        }
        self.hear_answers();
        self.check();
        self.maybe_crash(entries);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Inside(message) => self.inside(message),
            Happening::Outside(message) => self.outside(message),
            Happening::Terminal(place) => self.terminal(place),
            Happening::Car(place) => self.car(place),
            Happening::Driver(place) => self.driver(place),
            Happening::Post(letter) => self.post(letter),
            Happening::Operator => self.operator(),
            Happening::Sky => self.sky(),
        }
    }

    /// The engine's next timer, in true time.
    fn wakes(&self) -> Option<u64> {
        let desk = self.process.desk.next_deadline().map(|at| self.clock.of_wall(at));
        desk.into_iter().chain(self.process.cashier_wakes()).min()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.chance.faults
    }

    /// People go home, and faults stop: what is left has to come to its end by itself.
    fn close_when_time_is_up(&mut self) {
        if self.clock.now > self.plan.minutes * 60_000 {
            self.chance.faults = false;
        }
    }

    fn check(&mut self) {
        if self.journal.is_idle() && self.process.reading_back == 0 {
            self.oracle.compare(&self.process);
        }
        if self.chance.tally.steps > STEPS_MAX {
            self.oracle.never_rests();
        }
    }

    fn conclude(&mut self) {
        self.chance.tally.ends = self.oracle.conclude(&self.process, &self.psp);
        for site in &mut self.sites {
            self.oracle.on_empty_site(site.pinned());
        }
    }

    /// Mostly when something has just become durable, before anything has come of it.
    fn maybe_crash(&mut self, entries_before: u64) {
        let is_fresh = self.chance.tally.entries > entries_before;
        let odds = self.plan.crash_per_mille * if is_fresh { 5 } else { 1 };
        if self.chance.fault("crash", odds) {
            self.note(|| "crash".into());
            self.crash();
        }
    }

    /// Everything within the process and every connection to it is gone.
    pub(crate) fn forget_life(&mut self) {
        self.agenda.retain(|_, happening| !matches!(happening, Happening::Inside(_)));
        self.calls.clear();
    }

    /// What befalls the machine: its clock is set, its memory tidied.
    fn sky(&mut self) {
        if self.chance.fault("clock jump", 150) {
            // A jump of a day leaves charges unknown for a week, and one of them may hold the only place that there is.
            let is_far = self.plan.open_max > 1 && self.chance.percent(5);
            let far = if is_far { 30 * HOUR_MS } else { HOUR_MS / 4 };
            let jump = self.chance.within(0..=far) as i64;
            self.clock.skew += if self.chance.percent(50) { jump } else { -jump };
        }
        self.soon(10, Inside::Evict);
        self.again(30_000..=300_000, Happening::Sky);
    }

    pub(crate) fn post(&mut self, letter: Letter) {
        self.letters.push(letter.clone());
        self.ask_of_desk(letter);
    }

    pub(crate) fn ask_of_desk(&mut self, letter: Letter) {
        self.note(|| format!("  {letter}"));
        let (reply, answer) = oneshot::channel();
        self.calls.push(Call { letter: letter.clone(), answer });
        self.deliver(letter.session, letter.by, letter.what, reply);
    }

    fn hear_answers(&mut self) {
        let mut heard = Vec::new();
        self.calls.retain_mut(|call| match call.answer.try_recv() {
            Ok(answer) => {
                heard.push((call.letter.clone(), answer));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        for (letter, answer) in heard {
            self.note(|| match &answer {
                Ok(view) => {
                    format!("  {} is {:?} {:?}, version {}", short(view.id), view.state, view.reason, view.version)
                }
                Err(error) => format!("  {} answers {error:?}", short(letter.session)),
            });
            self.oracle.on_answer(&letter, &answer);
        }
    }

    pub(crate) fn at(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.agenda.insert((at, self.scheduled), happening);
    }

    pub(crate) fn after(&mut self, delay: u64, happening: Happening) {
        self.at(self.clock.now + delay, happening);
    }

    pub(crate) fn later(&mut self, delay: u64, message: Inside) {
        self.after(delay, Happening::Inside(message));
    }

    /// Within so many milliseconds, and perhaps after what is sent later.
    pub(crate) fn soon(&mut self, ms_max: u64, message: Inside) {
        let delay = self.chance.within(0..=ms_max);
        self.later(delay, message);
    }

    /// People come again until the place closes.
    pub(crate) fn again(&mut self, within: std::ops::RangeInclusive<u64>, happening: Happening) {
        if self.is_open() {
            let delay = self.chance.within(within);
            self.after(delay, happening);
        }
    }

    pub(crate) fn car_of(&self, device: DeviceId) -> &Car {
        self.cars.iter().find(|car| car.device == device).expect("every vehicle is one of these")
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().push(format!("{:>6} {:>12} {}", self.chance.tally.steps, self.clock.now, line()));
        }
    }
}
