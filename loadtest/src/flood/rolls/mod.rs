//! Whether frames wait while the codebook rolls: a real engine with a short slot, at a constant rate, and how long each
//! batch takes beside a roll and without one.
//!
//! Counted from the time at which a batch was due to the acknowledgement of what was applied; when it rolled, the engine
//! says itself. Cars come and go meanwhile, and their clocks are ahead by more or less: so codes that are new to a station
//! are looked up all the time, and not all of them when a roll begins.

mod outcome;
mod spans;
mod watch;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use self::outcome::Outcome;
use self::watch::Watch;
use super::{
    Bench, FloodError, Load,
    answers::Answers,
    cargo::{Amount, Payload},
    group::Group,
    race::{Look, Target},
    receiver::{Received, Receiver},
    sender::Threads,
};
use crate::{
    process::{Metrics, Serve},
    report::Latencies,
};

/// Between two looks at the engine. One costs it a millisecond or two, and what waits to be told apart is a look's traffic.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// Rolls that do not come are waited for as long as so many more would take.
const ROLLS_SPARE: u32 = 2;

#[derive(Debug, Clone)]
pub struct Config {
    /// It has a rate.
    pub load: Load,
    /// After which the run ends.
    pub rolls: u32,
    bench: Bench,
}

impl Config {
    pub fn new(load: Load, rolls: u32, bench: Bench) -> Config {
        let own = [
            ("FORECOURT_ENGINE_SLOT_SECONDS", load.slot.seconds().to_string()),
            // So that it is known of each batch when it was applied. It costs the engine a third more.
            ("FORECOURT_INGEST_ACK_BATCHES", "1".to_owned()),
            // Presence of a thousand stations is on the disk in tens of milliseconds every five seconds: beside that no
            // roll would be seen.
            ("FORECOURT_STATION_SNAPSHOT_S", "3600".to_owned()),
        ];
        let settings = own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(bench.settings).collect();
        Config { load, rolls, bench: Bench { settings, ..bench } }
    }

    pub fn bench(&self) -> &Bench {
        &self.bench
    }
}

/// What it came to, and the latencies without a roll, beside one and after one.
#[derive(Debug)]
pub struct Measured {
    pub outcome: Outcome,
    pub latencies: [Latencies; 3],
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Measured, FloodError> {
    let load = &config.load;
    load.check()?;
    let data = config.bench.prepare(load.chain())?;
    let threads = Threads::start(config.bench.sender_threads)?;
    progress(format!("starting the engine, and {} connections to it", load.connections));
    let engine = config.bench.engine(&data, load.connections).await?;
    let answers = Answers::default();
    let mut group = Group::connect_timed(engine, load, &data, &threads, &answers).await?;
    group.send(Payload::Batches);
    group.fill(load.registered_vehicles()).await?;

    let begun = Point::at(&mut group).await?;
    let mut watch = Watch::begin(answers);
    config.watch_rolls(&mut watch, &group, &mut progress).await?;
    let ended = Point::at(&mut group).await?;
    group.hold().await?;
    // The last acknowledgements are on their way.
    sleep(LOOK_EACH).await;
    watch.look(serve(&group)).await?;
    let mtu = group.wire().mtu;
    let received = group.finish().await?;
    let (sent, refused_frames) = (group.sent().amount(Payload::Batches), group.sent().refused_frames());
    if let Receiver::Engine(serve) = group.receiver {
        serve.stop().await?;
    }
    let course = Course { begun, ended, watch, mtu, sent, refused_frames, received };
    let outcome = Outcome::of(load, data.imported(), &course);
    Ok(Measured { outcome, latencies: course.watch.into_latencies() })
}

impl Config {
    /// Until there were as many rolls as were asked for, and a second more for what they leave behind.
    async fn watch_rolls(
        &self,
        watch: &mut Watch,
        group: &Group,
        progress: &mut impl FnMut(String),
    ) -> Result<(), FloodError> {
        let patience = Instant::now() + Duration::from_millis(self.load.slot.ms()) * (self.rolls + ROLLS_SPARE);
        let mut seen = 0;
        while seen < self.rolls as usize && Instant::now() < patience {
            sleep(LOOK_EACH).await;
            watch.look(serve(group)).await?;
            if watch.rolls().count() > seen {
                seen = watch.rolls().count();
                progress(format!("  roll {seen} of {}, {} ms", self.rolls, watch.rolls().last().unwrap_or_default()));
            }
        }
        sleep(LOOK_EACH).await;
        watch.look(serve(group)).await
    }
}

/// All that the figures are made of.
struct Course {
    begun: Point,
    ended: Point,
    watch: Watch,
    mtu: u16,
    sent: Amount,
    refused_frames: u64,
    received: Received,
}

/// Where the engine is at some time.
struct Point {
    look: Look,
    metrics: Metrics,
    resident_bytes_max: u64,
}

impl Point {
    async fn at(group: &mut Group) -> Result<Point, FloodError> {
        let look = Look::at(group, Target::Engine).await?;
        let serve = serve(group);
        Ok(Point { look, metrics: serve.metrics().await?, resident_bytes_max: serve.usage()?.resident_bytes_max })
    }
}

fn serve(group: &Group) -> &Serve {
    let Receiver::Engine(serve) = &group.receiver else { unreachable!("a sink has no codebook") };
    serve
}
