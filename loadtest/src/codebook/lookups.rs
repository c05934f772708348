//! Look-ups in a book, in batches and one at a time, of codes that it knows and of codes that it does not.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use forecourt::engine::{
    code::Code,
    codebook::{Codebook, Phase},
    time::Slot,
};
use memmap2::MmapMut;
use serde::Serialize;

use super::dongles::{Synthetic, mixed};

/// Codes that a measurement goes through: what they touch (a line of memory each, 64 MB) is more than a cache keeps.
const SAMPLES: usize = 1 << 20;

/// Codes that are looked up between two looks at the clock: a millisecond.
const SLICE: usize = 1 << 15;

/// Codes of one batch: as many as an uplink's table has.
const BATCH: usize = 4096;

/// Codes of a batch whose time is looked at: some microseconds, so that what a roll takes from it shows.
const SMALL_BATCH: usize = 256;

/// Turns of each of the books that are compared: a mood of the machine's lasts for longer than one.
const TURNS: usize = 15;

/// Bytes of a line of memory.
const LINE: usize = 64;

/// Random codes that are made before they are thrown.
const FORGED: usize = 1 << 16;

/// Nanoseconds of a look-up: medians of many slices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "they are keys of the report")]
pub struct Lookups {
    pub lookup_hit_ns: f64,
    pub lookup_miss_ns: f64,
    pub single_lookup_hit_ns: f64,
    pub single_lookup_miss_ns: f64,
    /// Of a hit in a batch right after the other book's turn, when no cache holds the page tables any more.
    pub lookup_after_pause_ns: f64,
    /// One line of memory, at places that no cache foresees, of a table as large as the book's: what a look-up
    /// that takes place alone would cost if it did nothing.
    pub floor_one_line_ns: f64,
}

/// How many times as long as in a smaller book look-ups in batches take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "they are keys of the report")]
pub struct Growth {
    pub lookup_hit_growth: f64,
    pub lookup_miss_growth: f64,
}

impl Growth {
    pub(super) fn of(small: &Lookups, large: &Lookups) -> Growth {
        Growth {
            lookup_hit_growth: large.lookup_hit_ns / small.lookup_hit_ns,
            lookup_miss_growth: large.lookup_miss_ns / small.lookup_miss_ns,
        }
    }
}

/// A book with what it is asked for, and as many bare lines as its table has.
pub(super) struct Asked<'a> {
    book: &'a Codebook,
    hits: Vec<Code>,
    misses: Vec<Code>,
    lines: MmapMut,
}

impl Asked<'_> {
    pub(super) fn of<'a>(book: &'a Codebook, synthetic: &Synthetic, slot: Slot) -> Asked<'a> {
        let mut state = synthetic.seed;
        let hits = (0..SAMPLES)
            .map(|_| {
                let word = mixed(&mut state);
                let around = Slot(slot.0 - 1 + word % 3);
                synthetic.code((word >> 8) as usize % synthetic.count, around)
            })
            .collect();
        let misses = (0..SAMPLES).map(|_| random(&mut state)).collect();
        Asked { book, hits, misses, lines: bare_lines(book.bytes()) }
    }

    /// Nanoseconds of each slice: of the first hits, of hits and misses once the caches are as look-ups leave them, of single
    /// ones of both, and of bare lines.
    fn turn(&self) -> [Vec<f64>; 6] {
        let book = self.book;
        let mut first = slices(&self.hits, |slice| batches(book, slice));
        first.truncate(1);
        [
            first,
            slices(&self.hits, |slice| batches(book, slice)),
            slices(&self.misses, |slice| batches(book, slice)),
            slices(&self.hits, |slice| singles(book, slice)),
            slices(&self.misses, |slice| singles(book, slice)),
            slices(&self.misses, |slice| self.read_lines(slice)),
        ]
    }

    fn read_lines(&self, places: &[Code]) -> u64 {
        let lines = (self.lines.len() / LINE) as u64;
        let line = |code: &Code| {
            let (halves, _) = code.0.as_chunks::<4>();
            ((u64::from(u32::from_le_bytes(halves[0])) * lines) >> 32) as usize
        };
        places.iter().map(|code| u64::from(self.lines[line(code) * LINE])).sum()
    }
}

fn bare_lines(bytes: usize) -> MmapMut {
    let mut lines = MmapMut::map_anon(bytes / LINE * LINE).expect("as much memory as a table takes");
    let _ = lines.advise(memmap2::Advice::HugePage);
    lines.fill(1);
    lines
}

/// Look-ups in one book.
pub(super) fn alone(asked: &Asked) -> Lookups {
    let [lookups] = measure([asked], 1);
    lookups
}

/// Look-ups in books that are compared.
pub(super) fn by_turns<const N: usize>(asked: [&Asked; N]) -> [Lookups; N] {
    measure(asked, TURNS)
}

fn measure<const N: usize>(asked: [&Asked; N], turns: usize) -> [Lookups; N] {
    let mut times = asked.map(|_| <[Vec<f64>; 6]>::default());
    for _ in 0..turns {
        for (asked, times) in asked.iter().zip(&mut times) {
            times.iter_mut().zip(asked.turn()).for_each(|(times, turn)| times.extend(turn));
        }
    }
    times.map(|mut times| {
        let [after_pause, hit, miss, single_hit, single_miss, one_line] = times.each_mut().map(|times| median(times));
        Lookups {
            lookup_hit_ns: hit,
            lookup_miss_ns: miss,
            single_lookup_hit_ns: single_hit,
            single_lookup_miss_ns: single_miss,
            lookup_after_pause_ns: after_pause,
            floor_one_line_ns: one_line,
        }
    })
}

/// How many of a sample of dongles are not found as they should be. `is_in`: whether the book knows the dongle.
pub(super) fn wrong(book: &Codebook, synthetic: &Synthetic, slot: Slot, is_in: impl Fn(usize) -> bool) -> u64 {
    let mut state = synthetic.seed ^ 1;
    let sample = (0..SAMPLES).map(|_| mixed(&mut state) as usize % synthetic.count);
    let fits = |index: &usize| {
        let expected = is_in(*index).then(|| (Synthetic::device(*index), Phase::of(slot)));
        book.find(&synthetic.code(*index, slot)).map(|hit| (hit.device, hit.phase)) == expected
    };
    sample.filter(|index| !fits(index)).count() as u64
}

/// Throws random codes at the book: how many it took for somebody's, and the nanoseconds of each.
pub(super) fn forged(book: &Codebook, count: u64, seed: u64, tell: &mut impl FnMut(&str)) -> (u64, f64) {
    let mut state = seed ^ 0xF0F0;
    let (mut accepted, mut ns, mut thrown) = (0, 0.0, 0);
    let mut codes = Vec::with_capacity(FORGED);
    while thrown < count {
        codes.clear();
        codes.extend((thrown..count).take(FORGED).map(|_| random(&mut state)));
        let began = Instant::now();
        accepted += batches(book, &codes);
        ns += began.elapsed().as_nanos() as f64;
        thrown += codes.len() as u64;
        if thrown / 100_000_000 != (thrown - codes.len() as u64) / 100_000_000 {
            tell(&format!("{thrown} forged codes, {accepted} accepted"));
        }
    }
    (accepted, if count == 0 { 0.0 } else { ns / count as f64 })
}

/// Codes of dongles that the book knows.
pub(super) fn known(synthetic: &Synthetic, slot: Slot, is_in: impl Fn(usize) -> bool) -> Vec<Code> {
    let mut state = synthetic.seed ^ 2;
    let sample = (0..SAMPLES).map(|_| mixed(&mut state) as usize % synthetic.count);
    sample.filter(|index| is_in(*index)).map(|index| synthetic.code(index, slot)).collect()
}

/// What look-ups of known codes came to while something else was done.
pub(super) struct Beside {
    /// Of a look-up, in the slowest hundredth of the batches at least.
    pub(super) p99_ns: f64,
    pub(super) missed: u64,
}

/// Looks known codes up on a thread of its own, for as long as the other work takes.
pub(super) fn beside<T>(book: &Codebook, known: &[Code], work: impl FnOnce() -> T) -> (T, Beside) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| look_up_until(book, known, &is_done));
        let done = work();
        is_done.store(true, Relaxed);
        (done, reader.join().expect("a look-up never panics"))
    })
}

fn look_up_until(book: &Codebook, known: &[Code], is_done: &AtomicBool) -> Beside {
    let (mut times, mut missed) = (Vec::new(), 0);
    for batch in known.chunks_exact(SMALL_BATCH).cycle() {
        let began = Instant::now();
        let found = batches(book, black_box(batch));
        times.push(began.elapsed().as_nanos() as f64 / SMALL_BATCH as f64);
        missed += SMALL_BATCH as u64 - found;
        if is_done.load(Relaxed) {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Beside { p99_ns: times[times.len() * 99 / 100], missed }
}

fn random(state: &mut u64) -> Code {
    let halves = [mixed(state).to_le_bytes(), mixed(state).to_le_bytes()];
    Code(halves.as_flattened().try_into().expect("two words are 16 bytes"))
}

fn batches(book: &Codebook, codes: &[Code]) -> u64 {
    let mut found = 0;
    for batch in codes.chunks(BATCH) {
        book.find_all(batch, |_, hit| found += u64::from(hit.is_some_and(|hit| hit.device.0 != 0)));
    }
    found
}

fn singles(book: &Codebook, codes: &[Code]) -> u64 {
    codes.iter().filter(|code| book.find(code).is_some_and(|hit| hit.device.0 != 0)).count() as u64
}

fn slices(codes: &[Code], look_up: impl Fn(&[Code]) -> u64) -> Vec<f64> {
    let slice = |codes: &[Code]| {
        let began = Instant::now();
        black_box(look_up(black_box(codes)));
        began.elapsed().as_nanos() as f64 / codes.len() as f64
    };
    codes.chunks(SLICE).map(slice).collect()
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
