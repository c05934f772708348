//! More than the engine takes: twice its capacity is offered, by the clock, and then again what is normal.
//!
//! A connection that takes no more refuses what is due next, as a gateway's bounded spool drops it, and every such frame
//! is counted. So what was offered is what was applied, what was refused, and nothing else; the engine's memory stays
//! within its windows; and when the flood is over, cars are on the screen as soon as before.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Bench, FloodError, Load, Percentiles,
    cargo::Payload,
    group::Group,
    probe::Probe,
    race::{Look, Target},
    receiver::Receiver,
    sender::Threads,
};

/// The part of its capacity that the engine is normally asked for.
const NORMAL: f64 = 0.5;

const PROBE_EVERY: Duration = Duration::from_millis(50);

/// A car a second while too much is offered: more would be part of the load.
const PROBE_SELDOM: Duration = Duration::from_secs(1);

/// A generator that offers less than this part of what it was to is the limit.
const OFFERED: f64 = 0.9;

/// Latency is back to normal when so many cars in a row were on the screen within twice the usual p99, or within 10 ms
/// where that is longer: a terminal shows no difference below it.
const NORMAL_IN_A_ROW: usize = 10;
const NORMAL_MS_MIN: f64 = 10.0;

const CAPACITY_COUNTED: Duration = Duration::from_secs(3);
const NORMAL_COUNTED: Duration = Duration::from_secs(3);
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
const MEMORY_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct Config {
    /// Its rate is found out.
    pub load: Load,
    /// How many times its capacity the engine is offered.
    pub times: f64,
    pub lasts: Duration,
    pub bench: Bench,
}

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Outcome {
    pub capacity_frames_per_second: f64,
    pub offered_frames_per_second: f64,
    pub applied_frames_per_second: f64,
    /// Offered to capacity: less than was asked for when the generator could not keep its own schedule.
    pub offered_ratio: f64,
    pub offered_frames: u64,
    pub applied_frames: u64,
    pub refused_frames: u64,
    /// Offered, and neither applied nor refused.
    pub lost: u64,
    pub memory_normal_bytes: u64,
    pub memory_overload_bytes_max: u64,
    pub visible_normal_p50_ms: f64,
    pub visible_normal_p99_ms: f64,
    pub visible_overload_p50_ms: f64,
    pub visible_overload_max_ms: f64,
    /// From the end of the overload until latency was normal again; `None`: it never was.
    pub recovered_seconds: Option<f64>,
    /// The generator had no time left while the engine's capacity was found out, or offered less than it was to.
    pub generator_limited: bool,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.recovered_seconds.is_some()
    }
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, FloodError> {
    // One station more, for the probe.
    let load = Load { stations: config.load.connections + 1, ..config.load };
    load.check()?;
    let data = config.bench.prepare(load.chain())?;
    let threads = Threads::start(config.bench.sender_threads)?;
    let engine = config.bench.engine(&data, load.stations).await?;

    progress("finding out the engine's capacity".into());
    let (engine, capacity) = capacity(engine, &load, &data, &threads).await?;
    progress(format!("  {:.2} million frames/s", capacity.frames_per_second / 1e6));
    let rate = capacity.frames_per_second / (load.connections * load.frames_per_batch) as f64;
    let load = Load { batches_per_second: Some(rate), ..load };
    let mut course = Course::begin(engine, &load, &data, &threads).await?;

    progress(format!("{NORMAL} of it for a while"));
    let normal = course.normal(load.registered_vehicles()).await?;
    progress(format!("{} times of it for {:.0} s", config.times, config.lasts.as_secs_f64()));
    let flooded = course.flood(config.times, config.lasts).await?;
    progress(format!("{NORMAL} of it again"));
    let recovered_seconds = course.recover(normal.visible).await?;
    let ended = course.end().await?;
    let offered_ratio = flooded.offered / capacity.frames_per_second;
    Ok(Outcome {
        capacity_frames_per_second: capacity.frames_per_second,
        offered_frames_per_second: flooded.offered,
        applied_frames_per_second: flooded.applied,
        offered_ratio,
        offered_frames: ended.sent + ended.refused,
        applied_frames: ended.applied,
        refused_frames: ended.refused,
        lost: ended.sent.saturating_sub(ended.applied),
        memory_normal_bytes: normal.memory_bytes,
        memory_overload_bytes_max: flooded.memory_bytes_max,
        visible_normal_p50_ms: normal.visible.p50,
        visible_normal_p99_ms: normal.visible.p99,
        visible_overload_p50_ms: flooded.visible_p50_ms,
        visible_overload_max_ms: flooded.visible_max_ms,
        recovered_seconds,
        generator_limited: capacity.generator_limited || offered_ratio < OFFERED * config.times,
    })
}

struct Capacity {
    frames_per_second: f64,
    generator_limited: bool,
}

/// What the engine takes when every connection sends as fast as it goes.
async fn capacity(
    engine: Receiver,
    load: &Load,
    data: &Path,
    threads: &Threads,
) -> Result<(Receiver, Capacity), FloodError> {
    let load = Load { batches_per_second: None, ..*load };
    let mut group = Group::connect(engine, &load, data, threads, false).await?;
    group.send(Payload::Batches);
    group.fill(load.registered_vehicles()).await?;
    let before = Look::at(&mut group, Target::Engine).await?;
    sleep(CAPACITY_COUNTED).await;
    let after = Look::at(&mut group, Target::Engine).await?;
    group.finish().await?;
    let slice = before.slice_to(&after, Target::Engine, 0);
    let capacity =
        Capacity { frames_per_second: slice.frames_per_second(), generator_limited: slice.is_generator_limited(1.0) };
    Ok((group.receiver, capacity))
}

struct Normal {
    visible: Percentiles,
    memory_bytes: u64,
}

struct Flooded {
    offered: f64,
    applied: f64,
    memory_bytes_max: u64,
    visible_p50_ms: f64,
    visible_max_ms: f64,
}

struct End {
    sent: u64,
    applied: u64,
    refused: u64,
}

/// One group of connections through all phases.
struct Course {
    group: Group,
    probe: Probe,
    /// What the engine had applied before the group came.
    applied_before: u64,
}

impl Course {
    async fn begin(mut engine: Receiver, load: &Load, data: &Path, threads: &Threads) -> Result<Course, FloodError> {
        let applied_before = engine.received().await?.frames();
        let Receiver::Engine(serve) = &engine else { unreachable!("a course is run with an engine") };
        let probe = Probe::open(serve, load.dongles, load.stations - 1).await?;
        let group = Group::connect(engine, load, data, threads, false).await?;
        Ok(Course { group, probe, applied_before })
    }

    async fn normal(&mut self, vehicles: u64) -> Result<Normal, FloodError> {
        self.group.send_at(Payload::Batches, NORMAL);
        // All of them entered while the capacity was found out; those that came since drive up now.
        sleep(Duration::from_secs(1)).await;
        self.group.fill(vehicles).await?;
        let took = self.probe.run(PROBE_EVERY, NORMAL_COUNTED).await?;
        let visible = Percentiles::of(took).ok_or(FloodError::Unseen)?;
        Ok(Normal { visible, memory_bytes: self.group.receiver.usage()?.resident_bytes })
    }

    async fn flood(&mut self, times: f64, lasts: Duration) -> Result<Flooded, FloodError> {
        self.group.send_at(Payload::Batches, times);
        let (begun, before) = (Instant::now(), self.counted().await?);
        let watched = watch_memory(&self.group.receiver, begun + lasts);
        let (took, memory_bytes_max) = tokio::join!(self.probe.run(PROBE_SELDOM, lasts), watched);
        let took = took?;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), self.counted().await?);
        let visible = Percentiles::of(took.iter().copied()).ok_or(FloodError::Unseen)?;
        Ok(Flooded {
            offered: (after.sent + after.refused - before.sent - before.refused) as f64 / seconds,
            applied: (after.applied - before.applied) as f64 / seconds,
            memory_bytes_max: memory_bytes_max?,
            visible_p50_ms: visible.p50,
            visible_max_ms: took.into_iter().fold(0.0, f64::max),
        })
    }

    /// Seconds from now until latency is normal.
    async fn recover(&mut self, normal: Percentiles) -> Result<Option<f64>, FloodError> {
        self.group.send_at(Payload::Batches, NORMAL);
        let limit = (2.0 * normal.p99).max(NORMAL_MS_MIN);
        let begun = Instant::now();
        let (mut in_a_row, mut since) = (0, begun);
        while begun.elapsed() < RECOVERY_PATIENCE {
            let due = Instant::now();
            if self.probe.drive_up(due).await?.as_secs_f64() * 1e3 > limit {
                (in_a_row, since) = (0, Instant::now());
            } else {
                in_a_row += 1;
            }
            if in_a_row == NORMAL_IN_A_ROW {
                return Ok(Some((since - begun).as_secs_f64()));
            }
            sleep(PROBE_EVERY).await;
        }
        Ok(None)
    }

    async fn end(mut self) -> Result<End, FloodError> {
        self.group.finish().await?;
        let end = self.counted().await?;
        if let Receiver::Engine(serve) = self.group.receiver {
            serve.stop().await?;
        }
        Ok(end)
    }

    async fn counted(&mut self) -> Result<End, FloodError> {
        let received = self.group.receiver.received().await?;
        let sent = self.group.sent();
        Ok(End {
            sent: sent.amount(Payload::Batches).frames + self.probe.sent_frames(),
            applied: received.frames() - self.applied_before,
            refused: sent.refused_frames(),
        })
    }
}

async fn watch_memory(engine: &Receiver, until: Instant) -> Result<u64, FloodError> {
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(engine.usage()?.resident_bytes);
        sleep(MEMORY_EVERY).await;
    }
    Ok(most)
}
