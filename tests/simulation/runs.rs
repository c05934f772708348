//! Many histories, and what is said of them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::{
    chance::Tally,
    oracle::{Invariant, Violation},
    plants::Plant,
    world::{Trace, Verdict, World},
};

/// Steps of a failed history that are shown.
const SHOWN: usize = 60;

const PROGRESS: Duration = Duration::from_secs(10);

/// A planted bug that so many seeds do not show is one that the oracle does not see.
const PLANT_SEEDS: u64 = 400;

pub(crate) enum Runs {
    One(u64),
    Many(u64),
    For { seconds: u64, first: u64 },
}

impl Runs {
    /// Whether every invariant held in every history.
    pub(crate) fn run(&self) -> bool {
        let (mut tally, start, mut told) = (Tally::default(), Instant::now(), Instant::now());
        let mut count = 0;
        while let Some(seed) = self.seed(count, start) {
            let verdict = history(seed, None, None);
            count += 1;
            tally += verdict.tally;
            if let Some(violation) = verdict.violation {
                show(seed, &violation);
                return false;
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                println!("simulation: {count} seeds, {} steps, the last seed was {seed}", tally.steps);
            }
        }
        report(count, &tally, start.elapsed());
        true
    }

    fn seed(&self, count: u64, start: Instant) -> Option<u64> {
        match *self {
            Runs::One(seed) => (count == 0).then_some(seed),
            Runs::Many(seeds) => (count < seeds).then_some(count + 1),
            Runs::For { seconds, first } => (start.elapsed().as_secs() < seconds).then_some(first + count),
        }
    }
}

/// Plants each bug and looks how many seeds it takes to notice it.
pub(crate) fn catch_plants() -> bool {
    let mut caught_all = true;
    for plant in Plant::ALL {
        let caught = (1..=PLANT_SEEDS).find_map(|seed| Some((seed, history(seed, Some(plant), None).violation?)));
        if let Some((seed, violation)) = caught {
            println!("simulation: planted {plant:?}: caught by {:?} after {seed} seeds", violation.of);
        } else {
            println!("simulation: planted {plant:?}: NOT caught in {PLANT_SEEDS} seeds");
            caught_all = false;
        }
    }
    caught_all
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic is a violation like any other, and is told like one.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|panic| PANIC.with_borrow_mut(|text| *text = panic.to_string())));
}

fn history(seed: u64, plant: Option<Plant>, trace: Option<Trace>) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| World::new(seed, plant, trace).run())).unwrap_or_else(|_| {
        let violation = Some(Violation { of: Invariant::NoPanic, what: PANIC.take() });
        Verdict { violation, tally: Tally::default() }
    })
}

/// The same history again, this time with its steps.
fn show(seed: u64, violation: &Violation) {
    let trace = Trace::default();
    history(seed, None, Some(trace.clone()));
    let trace = trace.borrow();
    let all = std::env::var_os("SIMULATION_TRACE").is_some_and(|value| value == "1");
    let from = if all { 0 } else { trace.len().saturating_sub(SHOWN) };
    println!("   step    time (ms)");
    trace[from..].iter().for_each(|line| println!("{line}"));
    println!("simulation: seed {seed} violates {violation}");
    println!("replay: SIMULATION_SEED={seed} cargo test --test simulation");
}

fn report(count: u64, tally: &Tally, took: Duration) {
    let Tally { steps, crashes, entries, faults, ends } = tally;
    let rate = count as f64 / took.as_secs_f64();
    println!("simulation: {count} seeds, {steps} steps, {entries} journal entries, {crashes} crashes");
    println!("simulation: faults: {}", counts(faults));
    println!("simulation: sessions by their end: {}", counts(ends));
    println!("simulation: {:.1} s, {rate:.0} simulations a second", took.as_secs_f64());
}

fn counts<K: Display>(kinds: &BTreeMap<K, u64>) -> String {
    kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}
