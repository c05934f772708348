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
    /// One line of memory, at places that no cache foresees, of a table as large as the book's: what a look-up
    /// that takes place alone would cost if it did nothing.
    pub floor_one_line_ns: f64,
}

pub(super) fn measure(book: &Codebook, synthetic: &Synthetic, slot: Slot) -> Lookups {
    let mut state = synthetic.seed;
    let hits: Vec<Code> = (0..SAMPLES)
        .map(|_| {
            let word = mixed(&mut state);
            let around = Slot(slot.0 - 1 + word % 3);
            synthetic.code((word >> 8) as usize % synthetic.count, around)
        })
        .collect();
    let misses: Vec<Code> = (0..SAMPLES).map(|_| random(&mut state)).collect();
    Lookups {
        lookup_hit_ns: slices(&hits, |slice| batches(book, slice)),
        lookup_miss_ns: slices(&misses, |slice| batches(book, slice)),
        single_lookup_hit_ns: slices(&hits, |slice| singles(book, slice)),
        single_lookup_miss_ns: slices(&misses, |slice| singles(book, slice)),
        floor_one_line_ns: one_line(book.bytes(), &misses),
    }
}

fn one_line(bytes: usize, places: &[Code]) -> f64 {
    let lines = (bytes / 64) as u64;
    let mut table = memmap2::MmapMut::map_anon(lines as usize * 64).expect("as much memory as a table takes");
    let _ = table.advise(memmap2::Advice::HugePage);
    table.fill(1);
    let line = |code: &Code| {
        let (halves, _) = code.0.as_chunks::<4>();
        ((u64::from(u32::from_le_bytes(halves[0])) * lines) >> 32) as usize
    };
    slices(places, |slice| slice.iter().map(|code| u64::from(table[line(code) * 64])).sum())
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

fn slices(codes: &[Code], look_up: impl Fn(&[Code]) -> u64) -> f64 {
    let slice = |codes: &[Code]| {
        let began = Instant::now();
        black_box(look_up(black_box(codes)));
        began.elapsed().as_nanos() as f64 / codes.len() as f64
    };
    // Twice, so that the first round finds the book's page tables as they will be.
    let mut all: Vec<f64> = codes.chunks(SLICE).chain(codes.chunks(SLICE)).map(slice).collect();
    median(&mut all)
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
