//! The codebook rolls at the end of a slot, beside uplinks that go on: what `cargo loadtest -- rolls` measures.

use std::path::Path;

use forecourt::engine::time::SlotLength;
use loadtest::flood::{
    Bench, Load,
    dongles::Dongles,
    rolls::{self, Config},
};

use crate::engine::FORECOURT;

fn load() -> Load {
    Load {
        connections: 2,
        stations: 2,
        frames_per_batch: 25,
        batches_per_second: Some(10.0),
        vehicles: 12,
        turnover_s: Some(0.5),
        codes_s: None,
        clocks_s: 7.5,
        unknown_share: 0.0,
        dongles: Dongles { seed: 1, count: 500 },
        slot: SlotLength::from_seconds(15).expect("the shortest slot"),
    }
}

fn bench(data: &Path) -> Bench {
    Bench { sender_threads: 1, data: Some(data.into()), engine: Some(FORECOURT.into()), ..Bench::default() }
}

/// It takes as long as a slot at most: there is no shorter one.
#[tokio::test]
async fn a_roll_is_told_by_the_engine_and_every_batch_beside_it_is_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = Config::new(load(), 1, bench(folder.path()));
    let outcome = rolls::run(&config, |_| {}).await.expect("it runs").outcome;
    assert_eq!((outcome.rolls_seen, outcome.lost, outcome.unacknowledged_batches), (1, 0, 0), "{outcome:?}");
    assert!(outcome.roll_cpu_ns_per_device > 0.0, "{outcome:?}");
    assert!(outcome.batches + outcome.batches_in_roll > 0 && outcome.batches_after_roll > 0, "{outcome:?}");
    assert_eq!(outcome.ingest_p99_in_roll_ms, None, "so few batches say nothing of the hundredth part");
    assert!(outcome.near_hits + outcome.near_misses > 0 && outcome.import_lines_per_minute.is_some(), "{outcome:?}");
}
