//! What a codebook of a whole country takes: memory, look-ups, rolls, and a start from its snapshot.
//!
//! In this process and through the engine's own types, with synthetic dongles and no station. Memory is what the
//! kernel says the process holds more than before, not what the book says of itself, which stands beside it. Each
//! figure is measured at 100 thousand dongles as well: what a look-up or a roll costs must not grow with the chain.
//! Look-ups in the two books take turns.
//!
//! Before the roll that is measured there were changes, as there are in a running chain: dongles that came and went all
//! over the book, and clocks that were learned. A second roll goes on beside a thread that looks codes up.

mod cost;
mod dongles;
mod lookups;
mod shelf;
mod snapshot;

use std::{
    io,
    num::NonZero,
    time::{Duration, Instant},
};

use forecourt::{
    engine::{
        codebook::{Keeper, Reading},
        time::{SlotLength, UnixMs},
    },
    registration::{RedisUrl, roll_at_once},
    telemetry::thread_cpu,
};
use serde::Serialize;

use crate::process::usage;
use dongles::Synthetic;
use lookups::{Asked, Growth, Lookups};
use shelf::FromRedis;
use snapshot::Snapshot;

pub const SMALL: usize = 100_000;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const SLOT: SlotLength = SlotLength::DEFAULT;

/// Dongles that go, that come, and whose clocks are learned before the roll, each.
const CHANGES: usize = 500;

#[derive(Debug, Clone)]
pub struct Config {
    pub devices: usize,
    pub seed: u64,
    /// Threads of the first build. A roll has one, and a start from a snapshot has all cores.
    pub threads: NonZero<usize>,
    /// Random codes that are thrown at the full book.
    pub forged: u64,
    /// Where the snapshot is written; without it, in the system's temporary folder.
    pub folder: Option<std::path::PathBuf>,
    /// A Redis to start from as well; what is in it under another name stays.
    pub redis: Option<RedisUrl>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub full: Figures,
    #[serde(flatten)]
    pub growth: Growth,
    /// One code with a key that was not used before, as the rolls compute it and as the plain crates do.
    pub code_ns: f64,
    pub code_floor_ns: f64,
    pub forged: u64,
    /// Random codes that were taken for somebody's.
    pub accepted: u64,
    pub forged_ns: f64,
    pub at_100_thousand: Figures,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    pub devices: usize,
    /// Resident memory, with keys, ids and clocks: after the first build.
    pub bytes_per_device: f64,
    /// What the book and its keeper count of themselves.
    pub bytes_per_device_counted: f64,
    /// The most during a roll.
    pub bytes_per_device_in_roll: f64,
    pub bytes_per_device_after_roll: f64,
    /// CPU time of one core, whoever else used the machine; with more threads, of the first of them.
    pub first_build_ns_per_device: f64,
    pub first_build_wall_ns_per_device: f64,
    pub roll_ns_per_device: f64,
    pub roll_wall_ns_per_device: f64,
    /// The longest that a change would have waited for the roll.
    pub roll_longest_step_ms: f64,
    #[serde(flatten)]
    pub lookups: Lookups,
    /// A look-up of batches of known codes, at the 99th percentile of the batches: by a thread that has the machine to
    /// itself, and by one beside the thread that rolls.
    pub lookup_p99_ns: f64,
    pub lookup_p99_in_roll_ns: f64,
    pub lookup_p99_in_roll_ratio: f64,
    /// One dongle that goes, comes, or moves by a slot, until it is in the table: the median, and the longest, which gets
    /// memory for newcomers from the system.
    pub change_us: f64,
    pub change_longest_us: f64,
    #[serde(flatten)]
    pub snapshot: Snapshot,
    #[serde(flatten)]
    pub redis: Option<FromRedis>,
    /// Dongles that a book did not find, or found for another one.
    pub wrong: u64,
}

pub fn run(config: &Config, mut tell: impl FnMut(&str)) -> io::Result<Outcome> {
    warm_memory(config.devices);
    let (code_ns, code_floor_ns) = cost::of_a_code();
    tell(&format!("a code: {code_ns:.1} ns, by the plain crates {code_floor_ns:.1}"));
    let small = Config { devices: SMALL, forged: 0, ..config.clone() };
    let (mut at_100_thousand, _) = measure(&small, lookups::alone, &mut tell)?;
    // Another like it, for turns beside the full one: what is compared is of the same minute.
    let (synthetic, mut keeper) = (small.synthetic(), Keeper::new(SLOT, small.synthetic().roster()));
    roll_at_once(&mut keeper, NOW, config.threads.get());
    let now = age(&mut keeper, &Resident::now()?)?;
    let book = keeper.book();
    let beside = Asked::of(&book, &synthetic, SLOT.slot_at(now));
    let look_up = |asked: &Asked| {
        let [full, small] = lookups::by_turns([asked, &beside]);
        at_100_thousand.lookups = small;
        full
    };
    let (full, (accepted, forged_ns)) = measure(config, look_up, &mut tell)?;
    let growth = Growth::of(&at_100_thousand.lookups, &full.lookups);
    Ok(Outcome { full, growth, code_ns, code_floor_ns, forged: config.forged, accepted, forged_ns, at_100_thousand })
}

impl Config {
    fn synthetic(&self) -> Synthetic {
        Synthetic { seed: self.seed, count: self.devices }
    }
}

/// Rolls before look-ups are measured: where codes lie after some is what a chain has, not where a new table puts them.
const ROLLS_BEFORE: usize = 6;

fn measure(
    config: &Config,
    look_up: impl FnOnce(&Asked) -> Lookups,
    tell: &mut impl FnMut(&str),
) -> io::Result<(Figures, (u64, f64))> {
    let synthetic = config.synthetic();
    let devices = config.devices as f64;
    let resident = Resident::now()?;
    tell(&format!("{} dongles: making them", config.devices));
    let mut keeper = Keeper::new(SLOT, synthetic.roster());
    let (began, cpu) = (Instant::now(), thread_cpu());
    roll_at_once(&mut keeper, NOW, config.threads.get());
    let first_build_wall_ns = began.elapsed().as_nanos() as f64;
    let first_build_ns = thread_cpu().saturating_sub(cpu).as_nanos() as f64;
    let bytes_per_device = resident.more()? / devices;
    let bytes_per_device_counted = keeper.bytes() as f64 / devices;
    tell(&format!("built in {:.1} s; {bytes_per_device:.1} bytes a dongle", first_build_wall_ns / 1e9));
    let mut wrong = lookups::wrong(&keeper.book(), &synthetic, SLOT.slot_at(NOW), |_| true);
    let mut now = age(&mut keeper, &resident)?;
    let book = keeper.book();
    let lookups = look_up(&Asked::of(&book, &synthetic, SLOT.slot_at(now)));
    tell(&format!("a hit {:.1} ns, a miss {:.1} ns", lookups.lookup_hit_ns, lookups.lookup_miss_ns));
    let forged = lookups::forged(&book, config.forged, config.seed, &mut *tell);

    let (change_us, change_longest_us) = change(&mut keeper, &synthetic, now);
    let is_in = |index: usize| !synthetic.goes(index, CHANGES);
    now = now.plus(SLOT.ms());
    let rolled = roll(&mut keeper, &resident, now)?;
    drop(book);
    let book = keeper.book();
    tell(&format!("rolled in {:.1} s; {:.1} bytes a dongle at most", rolled.ns / 1e9, rolled.bytes_max / devices));
    let bytes_per_device_after_roll = resident.more()? / devices;
    wrong += lookups::wrong(&book, &synthetic, SLOT.slot_at(now), is_in);
    now = now.plus(SLOT.ms());
    let known = lookups::known(&synthetic, SLOT.slot_at(now), is_in);
    let quiet = Duration::from_nanos(rolled.wall_ns as u64);
    let ((), alone) = lookups::beside(&book, &known, || std::thread::sleep(quiet));
    let (again, in_roll) = lookups::beside(&book, &known, || roll(&mut keeper, &resident, now));
    again?;
    wrong += alone.missed + in_roll.missed;
    wrong += lookups::wrong(&keeper.book(), &synthetic, SLOT.slot_at(now), is_in);
    drop(book);
    tell(&format!("p99 of look-ups {:.1} ns, in a roll {:.1} ns", alone.p99_ns, in_roll.p99_ns));
    let (snapshot, keeper) = snapshot::measure(keeper, config, tell)?;
    let redis = config.redis.as_ref().map(|url| shelf::measure(keeper, url, tell)).transpose()?;
    let figures = Figures {
        devices: config.devices,
        bytes_per_device,
        bytes_per_device_counted,
        bytes_per_device_in_roll: rolled.bytes_max / devices,
        bytes_per_device_after_roll,
        first_build_ns_per_device: first_build_ns / devices,
        first_build_wall_ns_per_device: first_build_wall_ns / devices,
        roll_wall_ns_per_device: rolled.wall_ns / devices,
        roll_ns_per_device: rolled.ns / devices,
        roll_longest_step_ms: rolled.longest_ms,
        lookups,
        lookup_p99_ns: alone.p99_ns,
        lookup_p99_in_roll_ns: in_roll.p99_ns,
        lookup_p99_in_roll_ratio: in_roll.p99_ns / alone.p99_ns,
        change_us,
        change_longest_us,
        snapshot,
        redis,
        wrong,
    };
    Ok((figures, forged))
}

/// The most that a dongle takes, here: with the bare lines beside the table that its look-ups are compared with.
const BYTES_EACH_MAX: usize = 200;

/// Takes as much memory as the run will, once, and gives it back. A virtual machine gets its memory from its host at
/// the first touch, at thirty times what a page costs after that; that is not the engine's.
fn warm_memory(devices: usize) {
    for _ in 0..2 {
        let mut memory = memmap2::MmapMut::map_anon(devices * BYTES_EACH_MAX).expect("as much memory as the run takes");
        let _ = memory.advise(memmap2::Advice::HugePage);
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::hint::black_box(&memory);
    }
}

/// Dongles that go, that come, and that are heard in their next slot: the microseconds of each, the median and the most.
fn change(keeper: &mut Keeper, synthetic: &Synthetic, now: UnixMs) -> (f64, f64) {
    let next = forecourt::engine::time::Slot(SLOT.slot_at(now).0 + 1);
    let mut times = Vec::with_capacity(3 * CHANGES);
    let mut measure = |change: &mut dyn FnMut()| {
        let began = Instant::now();
        change();
        times.push(began.elapsed().as_secs_f64() * 1e6);
    };
    for nth in 0..CHANGES {
        let known = synthetic.spread(nth, CHANGES);
        measure(&mut || _ = keeper.change(Synthetic::device(known), None));
        let newcomer = synthetic.dongle(synthetic.count + nth);
        measure(&mut || _ = keeper.change(newcomer.device, Some(newcomer.clone())));
        let reading = Reading { device: Synthetic::device(known + 1), slot: next };
        measure(&mut || _ = keeper.learn(reading, now));
    }
    let median = lookups::median(&mut times);
    (median, times[times.len() - 1])
}

#[derive(Default)]
struct Rolled {
    ns: f64,
    wall_ns: f64,
    longest_ms: f64,
    bytes_max: f64,
}

impl Rolled {
    fn step<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let (began, cpu) = (Instant::now(), thread_cpu());
        let stepped = step();
        let took = began.elapsed();
        self.ns += thread_cpu().saturating_sub(cpu).as_nanos() as f64;
        self.wall_ns += took.as_nanos() as f64;
        self.longest_ms = self.longest_ms.max(took.as_secs_f64() * 1e3);
        stepped
    }
}

/// Rolls a new book until it is as a chain has it, and tells when that is.
fn age(keeper: &mut Keeper, resident: &Resident) -> io::Result<UnixMs> {
    let mut now = NOW;
    for _ in 0..ROLLS_BEFORE {
        now = now.plus(SLOT.ms());
        roll(keeper, resident, now)?;
    }
    Ok(now)
}

/// Rolls to another slot, as the engine does it: in steps.
fn roll(keeper: &mut Keeper, resident: &Resident, now: UnixMs) -> io::Result<Rolled> {
    let mut rolled = Rolled::default();
    rolled.step(|| keeper.begin_roll(now));
    let mut goes_on = true;
    while goes_on {
        rolled.bytes_max = rolled.bytes_max.max(resident.more()?);
        goes_on = rolled.step(|| keeper.step());
    }
    rolled.bytes_max = rolled.bytes_max.max(resident.more()?);
    Ok(rolled)
}

/// The memory of the process, from here on.
struct Resident(u64);

impl Resident {
    fn now() -> io::Result<Resident> {
        Ok(Resident(usage::of_self()?.resident_bytes))
    }

    fn more(&self) -> io::Result<f64> {
        Ok(usage::of_self()?.resident_bytes.saturating_sub(self.0) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_book_is_right_before_and_after_its_roll() {
        let one = NonZero::new(1).unwrap();
        let config = Config { devices: 20_000, seed: 7, threads: one, forged: 10_000, folder: None, redis: None };
        let (figures, (accepted, _)) = measure(&config, lookups::alone, &mut |_: &str| {}).unwrap();
        assert_eq!((figures.wrong, accepted, figures.snapshot.snapshot_devices), (0, 0, 20_000));
    }
}
