//! What the engine costs by itself: decoding, look-ups, presence windows, plates.
//!
//! `cargo bench --bench engine`; a part by its name: `cargo bench --bench engine -- codebook`. One core, no I/O; the
//! printed throughput is of frames, look-ups or plates. Each has its floor beside it: the same bytes only added up, one
//! line of memory, the plates' ends compared as text. `FORECOURT_BENCH_DONGLES` (default 10,000,000) sets the size of the
//! large codebook: it takes 119 bytes and three codes to build for each. `cargo loadtest -- codebook` measures one with
//! thirty million, its rolls and its snapshot.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use forecourt::{
    engine::{
        batch::{self, Batch, Encoder, Hearing, Hearings, WireHearing},
        candidate::{Candidate, pick},
        clock::ClockOffset,
        code::{Code, Secret, hmac_codes},
        codebook::{Codebook, Dongle, Keeper, RosterBuilder},
        id::{DeviceId, ReceiverId, SpoolId},
        limits::RECEIVERS_MAX,
        plate::{Plate, Query},
        presence::{Policy, Presence, WindowHandle},
        time::{SlotLength, UnixMs},
    },
    station::Forecourt,
};

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const DEFAULT_DONGLES: u64 = 10_000_000;

/// Look-ups cycle through this many codes: the lines that they touch (64 MB of each kind) are more than a cache keeps.
const SAMPLES: u64 = 1_000_000;

fn secret_of(dongle: u64) -> Secret {
    let mut code_key = [0; 32];
    code_key[..8].copy_from_slice(&dongle.to_le_bytes());
    Secret::Hmac { code_key }
}

fn code_of(dongle: u64) -> Code {
    secret_of(dongle).code(SlotLength::DEFAULT.slot_at(NOW))
}

fn book_of(dongles: u64) -> Codebook {
    let mut roster = RosterBuilder::new(dongles as usize);
    for dongle in 0..dongles {
        let (device, secret) = (DeviceId(dongle), secret_of(dongle));
        roster.push(&Dongle { device, secret, offset: ClockOffset::default() });
    }
    let mut keeper = Keeper::new(SlotLength::DEFAULT, roster.finish());
    keeper.begin_roll(NOW);
    while keeper.step() {}
    keeper.book()
}

/// `frames` hearings of `codes` codes.
fn batch_of(frames: u64, codes: u64, sequence: u64, encoder: &mut Encoder) -> Vec<u8> {
    let hearings: Vec<Hearing> = (0..frames)
        .map(|frame| Hearing {
            code: code_of(frame % codes),
            // Several receivers hear each advertisement.
            receiver: ReceiverId(((frame + frame / codes) % 8) as u8),
            rssi: -60 - (frame % 20) as i8,
            at: NOW.plus(frame / 3),
        })
        .collect();
    let mut bytes = Vec::new();
    encoder.encode(sequence, &hearings, &mut bytes).expect("within the bounds of a batch");
    bytes
}

fn decode(c: &mut Criterion) {
    for (frames, codes) in [(250, 40), (25, 12)] {
        let mut encoder = Encoder::new();
        batch_of(frames, codes, 1, &mut encoder);
        let bytes = batch_of(frames, codes, 2, &mut encoder);
        let mut group = c.benchmark_group(format!("decode/{frames}_frames_{codes}_codes"));
        group.throughput(Throughput::Elements(frames));
        group.bench_function("floor/read_bytes", |b| {
            b.iter(|| black_box(&bytes).iter().fold(0_u64, |sum, &byte| sum + u64::from(byte)));
        });
        group.bench_function("batch", |b| {
            b.iter(|| {
                let body = batch::split(black_box(&bytes)).next().expect("a batch").expect("a whole one");
                let batch = Batch::read(body).expect("a valid one");
                batch
                    .groups()
                    .flat_map(|group| group.hearings.wire())
                    .map(|hearing| u64::from(hearing.receiver))
                    .sum::<u64>()
            });
        });
        group.finish();
    }
}

/// Codes of keys that were not used before, as a roll of the codebook computes them.
fn code(c: &mut Criterion) {
    const KEYS: u64 = 4096;
    let keys: Vec<[u8; 32]> = (0..KEYS).map(|key| [key.to_be_bytes(); 4].as_flattened().try_into().unwrap()).collect();
    let slots = vec![SlotLength::DEFAULT.slot_at(NOW); keys.len()];
    let mut codes = vec![[Code([0; 16])]; keys.len()];
    let mut group = c.benchmark_group("code");
    group.throughput(Throughput::Elements(KEYS));
    group.bench_function("floor/plain_crates", |b| {
        b.iter(|| {
            for code_key in black_box(&keys) {
                black_box(Secret::Hmac { code_key: *code_key }.code(slots[0]));
            }
        });
    });
    group.bench_function("many_at_once", |b| b.iter(|| hmac_codes(black_box(&keys), &slots, &mut codes)));
    group.finish();
}

/// Codes that are looked up together: those of a full forecourt.
const TOGETHER: usize = 40;

fn codebook(c: &mut Criterion) {
    let large = std::env::var("FORECOURT_BENCH_DONGLES").ok().and_then(|text| text.parse().ok());
    for dongles in [100_000, large.unwrap_or(DEFAULT_DONGLES)] {
        let book = book_of(dongles);
        // A stride that is odd and large visits the dongles in an order that no cache foresees.
        let spread = |sample: u64| sample.wrapping_mul(0x9E37_79B9_7F4A_7C15) % dongles;
        let hits: Vec<Code> = (0..SAMPLES).map(|sample| code_of(spread(sample))).collect();
        let misses: Vec<Code> = (0..SAMPLES).map(|sample| code_of(dongles + sample)).collect();
        let mut group = c.benchmark_group(format!("codebook/{dongles}_dongles"));
        group.throughput(Throughput::Elements(1));
        // One line of a table as large, at a place that no cache foresees: what any look-up costs at least.
        let lines = vec![[1_u64; 8]; (dongles as usize * 4).div_ceil(3)];
        let mut at = 0_u64;
        group.bench_function("floor/one_line", |b| {
            b.iter(|| {
                at = at.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(lines[0][0]);
                black_box(lines[((u128::from(at) * lines.len() as u128) >> 64) as usize][7])
            });
        });
        drop(lines);
        let mut next = hits.iter().cycle();
        group.bench_function("hit", |b| b.iter(|| assert!(book.find(next.next().expect("a cycle")).is_some())));
        let mut next = misses.iter().cycle();
        group.bench_function("miss", |b| b.iter(|| assert!(book.find(next.next().expect("a cycle")).is_none())));
        group.throughput(Throughput::Elements(TOGETHER as u64));
        for (name, codes, is_known) in [("hit", &hits, true), ("miss", &misses, false)] {
            let mut next = codes.chunks_exact(TOGETHER).cycle();
            group.bench_function(format!("{name}_together"), |b| {
                b.iter(|| {
                    let codes = next.next().expect("a cycle");
                    book.find_all(codes, |_, hit| assert_eq!(hit.is_some(), is_known));
                });
            });
        }
        group.finish();
        println!("codebook/{dongles}_dongles: {} bytes a dongle", book.bytes() as u64 / dongles);
    }
}

fn presence(c: &mut Criterion) {
    const CARS: u64 = 40;
    for hearings in [6, 2] {
        let mut presence = Presence::new(Policy::DESIGN);
        let mut changes = Vec::new();
        let mut windows: Vec<Option<WindowHandle>> = vec![None; CARS as usize];
        let wire: Vec<_> = (0..hearings).map(|receiver| WireHearing::at_base(ReceiverId(receiver), -60)).collect();
        let mut hear_all = |now| {
            for (car, window) in (0..CARS).zip(&mut windows) {
                let hearings = Hearings::new(now, black_box(&wire));
                *window = presence.observe_all(DeviceId(car), *window, hearings, now, &mut changes).window;
            }
            changes.clear();
        };
        let mut now = NOW;
        // They enter, and are present after ten seconds.
        for _ in 0..12 {
            now = now.plus(1_000);
            hear_all(now);
        }
        let mut group = c.benchmark_group("presence");
        group.throughput(Throughput::Elements(CARS * u64::from(hearings)));
        group.bench_function(format!("floor/read_{hearings}_hearings"), |b| {
            let strongest = |wire: &[WireHearing]| wire.iter().map(|hearing| hearing.rssi).max();
            b.iter(|| (0..CARS).filter_map(|_| strongest(black_box(&wire))).max());
        });
        group.bench_function(format!("{hearings}_hearings_at_once"), |b| {
            b.iter(|| {
                now = now.plus(20);
                hear_all(now);
            });
        });
        group.finish();
    }
}

/// Everything between the bytes of a read and the windows, for cars that have been there for a while.
fn frame_path(c: &mut Criterion) {
    const BATCHES: u64 = 64;
    let book = book_of(1_000);
    for (frames, codes) in [(250, 40), (25, 12)] {
        let mut encoder = Encoder::new();
        let introducing = batch_of(frames, codes, 0, &mut encoder);
        let following: Vec<Vec<u8>> = (0..BATCHES).map(|_| batch_of(frames, codes, 0, &mut encoder)).collect();
        let mut stream = Stream::new();
        stream.observe(vec![introducing], &book);
        // After eleven seconds of it all are present.
        (0..2).for_each(|_| stream.observe(following.clone(), &book));
        let mut group = c.benchmark_group("frame_path");
        group.throughput(Throughput::Elements(frames * BATCHES));
        let read = |batches: &[Vec<u8>]| batches.iter().flatten().fold(0_u64, |sum, &byte| sum + u64::from(byte));
        group.bench_function(format!("floor/read_bytes_{frames}"), |b| b.iter(|| read(black_box(&following))));
        group.bench_function(format!("{frames}_frames_{codes}_codes"), |b| {
            b.iter_batched(|| following.clone(), |batches| stream.observe(batches, &book), BatchSize::SmallInput);
        });
        group.finish();
    }
}

/// The same for one small batch of each of thousands of stations in turn: what no cache holds any more is most of its cost.
fn frame_path_of_many(c: &mut Criterion) {
    const STATIONS: u64 = 3_500;
    let (frames, codes) = (25, 12);
    let book = book_of(1_000);
    let mut encoder = Encoder::new();
    let [introducing, following] = [0, 1].map(|_| batch_of(frames, codes, 0, &mut encoder));
    let mut streams: Vec<Stream> = (0..STATIONS).map(|_| Stream::new()).collect();
    for stream in &mut streams {
        stream.observe(vec![introducing.clone()], &book);
        stream.observe(vec![following.clone()], &book);
        stream.now = stream.now.plus(11_000);
        stream.observe(vec![following.clone()], &book);
    }
    let mut group = c.benchmark_group("frame_path_of_3500_stations");
    group.throughput(Throughput::Elements(STATIONS));
    group.bench_function("floor/the_same_station", |b| {
        b.iter_batched(
            || vec![following.clone(); STATIONS as usize],
            |batches| streams[0].observe(batches, &book),
            BatchSize::LargeInput,
        );
    });
    group.bench_function(format!("batches_of_{frames}_frames_{codes}_codes"), |b| {
        b.iter_batched(
            || vec![following.clone(); STATIONS as usize],
            |batches| streams.iter_mut().zip(batches).for_each(|(stream, batch)| stream.observe(vec![batch], &book)),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// One uplink's, in which batches that are sent again pass for new ones, 100 ms apart.
struct Stream {
    forecourt: Forecourt,
    sequence: u64,
    now: UnixMs,
}

impl Stream {
    fn new() -> Stream {
        let mut forecourt = Forecourt::new(Policy::DESIGN, u32::MAX);
        forecourt.attach(SpoolId(1), [None; RECEIVERS_MAX]);
        Stream { forecourt, sequence: 0, now: NOW }
    }

    fn observe(&mut self, mut batches: Vec<Vec<u8>>, book: &Codebook) {
        for batch in &mut batches {
            self.sequence += 1;
            self.now = self.now.plus(100);
            batch::restamp(&mut batch[batch::PREFIX_BYTES..], self.sequence, self.now);
            let (_, refused) = self.forecourt.observe(batch, book, self.now, &mut Vec::new(), |_| {});
            assert_eq!(refused, None);
        }
    }
}

fn plates(c: &mut Criterion) {
    let mut presence = Presence::new(Policy::DESIGN);
    let mut changes = Vec::new();
    for _ in 0..2 {
        for car in 0..40 {
            presence.observe(DeviceId(car), ReceiverId(0), -50, NOW, NOW, &mut changes);
        }
    }
    let plates: Vec<Plate> = (0..40)
        .map(|car| Plate::parse(&format!("{}\u{ac00}{}", 10 + car, 3400 + car % 20)).expect("a plate"))
        .collect();
    let candidates: Vec<Candidate<'_>> =
        presence.selectable().map(|seen| Candidate { seen, plate: &plates[seen.device.0 as usize] }).collect();
    let mut group = c.benchmark_group("plate");
    group.throughput(Throughput::Elements(candidates.len() as u64));
    let texts: Vec<String> = (0..40).map(|car| format!("{}\u{ac00}{}", 10 + car, 3400 + car % 20)).collect();
    group.bench_function("floor/ends_with", |b| {
        b.iter(|| texts.iter().filter(|text| text.ends_with(black_box("3419"))).count());
    });
    group.bench_function("match_among_40", |b| {
        b.iter(|| pick(&Query::parse(black_box("3419")).expect("four digits"), None, &candidates));
    });
    group.finish();
}

criterion_group!(benches, decode, code, codebook, presence, frame_path, frame_path_of_many, plates);
criterion_main!(benches);
