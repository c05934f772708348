//! What one frame costs, and how long a car takes to the screen, as the chain grows: along one axis at a time, with
//! the same total of batches a second, each point with an engine of its own.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Bench, FloodError, Load, Percentiles,
    cargo::Payload,
    chain::SLOT,
    dongles::Dongles,
    group::Group,
    probe::Probe,
    race::{Look, Target},
    receiver::Receiver,
    sender::Threads,
    uplinks,
};
use crate::report::{Curve, Line, Table};

/// Uplinks that send where another axis grows.
const UPLINKS: usize = 100;

/// Vehicles of each forecourt: all of them are heard in one batch, so that the slowest uplink's forecourt is full
/// after two.
const VEHICLES: usize = 12;

const FRAMES_PER_BATCH: usize = 25;

/// A car drives up at the probe's station so often.
const PROBE_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Uplinks that send, each of them less the more there are.
    Uplinks,
    /// Stations with vehicles on their forecourts, of which a hundred send.
    Stations,
    /// Dongles in the codebook.
    Dongles,
    /// Frames in a batch.
    Frames,
}

impl Axis {
    pub const ALL: [Axis; 4] = [Axis::Uplinks, Axis::Stations, Axis::Dongles, Axis::Frames];

    pub fn name(self) -> &'static str {
        match self {
            Axis::Uplinks => "uplinks",
            Axis::Stations => "stations",
            Axis::Dongles => "dongles",
            Axis::Frames => "frames a batch",
        }
    }

    /// Where it is measured.
    pub fn points(self, is_quick: bool) -> Vec<usize> {
        let all: &[usize] = match self {
            Axis::Uplinks => &[10, 100, 1_000, 3_500, 10_000],
            Axis::Stations => &[100, 300, 1_000, 3_000, 10_000],
            Axis::Dongles => &[10_000, 30_000, 100_000, 300_000, 1_000_000],
            Axis::Frames => &[1, 5, 10, 25, 50, 100, 250],
        };
        if is_quick { all[..3].into() } else { all.into() }
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    pub axes: Vec<Axis>,
    pub is_quick: bool,
    /// Dongles where another axis grows.
    pub dongles: Dongles,
    /// Of all uplinks together.
    pub batches_per_second: f64,
    /// Counted at each point.
    pub lasts: Duration,
    pub bench: Bench,
}

/// What it came to at one point.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    pub at: usize,
    pub cpu_ns_per_frame: f64,
    pub cpu_us_per_batch: f64,
    pub frames_per_second: f64,
    /// From the batch that is written to the car on the terminal's screen.
    pub visible_p50_ms: f64,
    pub visible_p99_ms: f64,
    pub memory_bytes: u64,
    pub generator_cores: f64,
    pub lost: u64,
}

/// All points of one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    pub axis: Axis,
    pub points: Vec<Point>,
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Vec<Growth>, FloodError> {
    let mut grown = Vec::new();
    for &axis in &config.axes {
        let mut points = Vec::new();
        for at in axis.points(config.is_quick) {
            progress(format!("{at} {}", axis.name()));
            let point = config.measure(axis, at).await?;
            progress(format!(
                "  {:.1} ns a frame, {:.1} us a batch, on the screen after {:.1} ms (p99 {:.1} ms)",
                point.cpu_ns_per_frame, point.cpu_us_per_batch, point.visible_p50_ms, point.visible_p99_ms
            ));
            points.push(point);
        }
        grown.push(Growth { axis, points });
    }
    Ok(grown)
}

impl Config {
    fn load(&self, axis: Axis, at: usize) -> Load {
        let of = |grows: Axis, otherwise: usize| if axis == grows { at } else { otherwise };
        let uplinks = of(Axis::Uplinks, UPLINKS);
        let count = of(Axis::Dongles, self.dongles.count as usize) as u64;
        Load {
            connections: uplinks,
            // One more for the probe.
            stations: of(Axis::Stations, uplinks).max(uplinks) + 1,
            frames_per_batch: of(Axis::Frames, FRAMES_PER_BATCH),
            batches_per_second: Some(self.batches_per_second / uplinks as f64),
            vehicles: VEHICLES,
            turnover_s: None,
            codes_s: None,
            clocks_s: 0.0,
            unknown_share: 0.0,
            dongles: Dongles { count, ..self.dongles },
            slot: SLOT,
        }
    }

    async fn measure(&self, axis: Axis, at: usize) -> Result<Point, FloodError> {
        let load = self.load(axis, at);
        load.check()?;
        let data = self.bench.prepare(load.chain())?;
        let threads = Threads::start(self.bench.sender_threads)?;
        let mut engine = self.bench.engine(&data, load.stations).await?;
        let mut visited = 0;
        if axis == Axis::Stations {
            let all = Load { connections: load.stations - 1, ..load };
            visited = uplinks::visit(&all, &data, &threads, &mut engine).await?;
        }
        let mut group = Group::connect(engine, &load, &data, &threads, false).await?;
        let Receiver::Engine(serve) = &group.receiver else { unreachable!("it was just started") };
        let mut probe = Probe::open(serve, load.dongles, load.stations - 1).await?;
        group.send(Payload::Batches);
        // Two rounds of the slowest, and then until the newcomers are looked up.
        sleep(Duration::from_secs_f64(2.0 / load.batches_per_second.unwrap_or(1.0))).await;
        group.fill(load.registered_vehicles()).await?;
        let before = Look::at(&mut group, Target::Engine).await?;
        let took = probe.run(PROBE_EVERY, self.lasts).await?;
        let after = Look::at(&mut group, Target::Engine).await?;
        let visible = Percentiles::of(took.iter().copied()).ok_or(FloodError::Unseen)?;
        let usage = group.receiver.usage()?;
        let received = group.finish().await?;
        let sent = group.sent().amount(Payload::Batches).frames + probe.sent_frames() + visited;
        if let Receiver::Engine(serve) = group.receiver {
            serve.stop().await?;
        }
        let slice = before.slice_to(&after, Target::Engine, 0);
        Ok(Point {
            at,
            cpu_ns_per_frame: slice.cpu_ns_per_frame(),
            cpu_us_per_batch: slice.cpu_us_per_batch(),
            frames_per_second: slice.frames_per_second(),
            visible_p50_ms: visible.p50,
            visible_p99_ms: visible.p99,
            memory_bytes: usage.resident_bytes,
            generator_cores: slice.generator_cores(),
            lost: sent.saturating_sub(received.frames()),
        })
    }
}

impl Growth {
    /// The key of one of its figures in a summary.
    pub fn key(&self, point: &Point, figure: &str) -> String {
        format!("{}_{}_{figure}", self.axis.name().replace(' ', "_"), point.at)
    }

    /// Its cost and its latency, as charts.
    pub fn curves(&self) -> [Curve; 2] {
        let line = |name: &str, figure: fn(&Point) -> f64| -> Line {
            (name.into(), self.points.iter().map(|point| (point.at as f64, figure(point))).collect())
        };
        let curve = |what: &str, unit: &str, lines| Curve {
            title: format!("{what} over {}", self.axis.name()),
            x_label: self.axis.name().into(),
            y_label: unit.into(),
            log_x: true,
            log_y: true,
            lines,
        };
        let visible = vec![line("p50", |point| point.visible_p50_ms), line("p99", |point| point.visible_p99_ms)];
        [
            curve("CPU of the engine", "ns a frame", vec![line("engine", |point| point.cpu_ns_per_frame)]),
            curve("Batch to screen", "ms", visible),
        ]
    }

    pub fn table(&self) -> Table {
        let row = |point: &Point| {
            vec![
                point.at.to_string(),
                format!("{:.1}", point.cpu_ns_per_frame),
                format!("{:.1}", point.cpu_us_per_batch),
                format!("{:.2}", point.visible_p50_ms),
                format!("{:.2}", point.visible_p99_ms),
                format!("{:.0}", point.frames_per_second),
                (point.memory_bytes / 1_000_000).to_string(),
                format!("{:.2}", point.generator_cores),
                point.lost.to_string(),
            ]
        };
        let columns = ["ns/frame", "us/batch", "p50 ms", "p99 ms", "frames/s", "MB", "generator", "lost"];
        Table {
            title: format!("Growth over {}", self.axis.name()),
            columns: std::iter::once(self.axis.name()).chain(columns).map(str::to_owned).collect(),
            rows: self.points.iter().map(row).collect(),
        }
    }
}
