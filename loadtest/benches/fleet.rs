//! What the generator itself costs for each hearing: the fleet alone, and with the oracle that follows it. A national
//! fleet at its nominal rate is 882,000 of them a second, on one core with the senders and the people.

use std::{hint::black_box, path::Path, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forecourt::engine::time::UnixMs;
use loadtest::{
    fleet::{Fleet, Tick},
    scenario::Scenario,
    world::World,
};

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const STEP_MS: u64 = 10;

/// Stations: few enough for the caches, and as many as a nation has.
const STATIONS: [usize; 2] = [100, 2_000];

/// A world that has been open for a few seconds.
fn world(stations: usize) -> (World, UnixMs) {
    let mut scenario = Scenario::default();
    scenario.stations.count = stations;
    let plan = scenario.plan(1.0, Path::new(".")).expect("made-up stations need no file");
    let world = World::new(Fleet::new(plan.fleet, NOW), plan.judgement);
    world.fleet().open(NOW);
    let (now, mut tick) = (NOW.plus(5_000), Tick::default());
    world.advance(now, &mut tick);
    (world, now)
}

fn fleet(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fleet");
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for stations in STATIONS {
        let (world, mut now) = world(stations);
        let mut tick = Tick::default();
        // A step's hearings: 5 advertisements of 12 cars, at 6 receivers, 0.7 of them heard.
        group.throughput(Throughput::Elements(stations as u64 * 252 * STEP_MS / 1000));
        group.bench_function(BenchmarkId::new("model", stations), |bench| {
            bench.iter(|| {
                now = now.plus(STEP_MS);
                world.fleet().advance(now, &mut tick);
                black_box(tick.hearings())
            });
        });
        group.bench_function(BenchmarkId::new("model_and_oracle", stations), |bench| {
            bench.iter(|| {
                now = now.plus(STEP_MS);
                world.advance(now, &mut tick);
                black_box(tick.hearings())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fleet);
criterion_main!(benches);
