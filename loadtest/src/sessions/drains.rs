//! The engine told to stop (SIGTERM) under load, and started again, several times: a drain loses nothing.
//!
//! Every station's uplink sends all the while and every car but the parked ones is served again and again. Once a drain is
//! over, what the uplinks were told is applied is compared with the hearings in the windows that the engine wrote down,
//! station by station and life by life: fewer is a loss. More is what was applied and not acknowledged any more, and comes
//! a second time: presence takes it in twice, money never. At the end the spools have to be empty, and the PSP's books
//! decide about the sales.

use std::{collections::HashMap, ops::Range, path::Path, time::Duration};

use forecourt::{
    app::SNAPSHOT_FILE,
    engine::id::StationId,
    station::{VehicleView, hearings_of_snapshot},
};
use hdrhistogram::Histogram;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Judgement, Place, SessionsError,
    chain::{Chain, Radio},
    judgement::{self, until_settled},
    pin, simulators_books,
    visitor::{self, Repeats},
};
use crate::{
    people::{CallError, Client},
    process::{Metrics, STOP_PATIENCE, Serve, ServeOptions},
};

/// From readiness to the signal, in milliseconds.
const LIFE_MS: Range<u64> = 500..2_500;

const HEARD_EACH: Duration = Duration::from_millis(20);

const CARS_PER_STATION: usize = 8;
const PARKED_PER_STATION: usize = 2;

/// A silent car is parked after two seconds; what waits in a spool for less than a minute is not too old for a window.
const HURRIED: [(&str, &str); 2] = [("FORECOURT_STATION_FADE_AFTER_S", "2"), ("FORECOURT_STATION_LEAVE_AFTER_S", "60")];

/// For every parked car to be on its terminal's screen after a start.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// For an uplink to see that it was told goodbye, and for its spool at the end.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Config {
    pub drains: u32,
    pub place: Place,
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    pub drains: u32,
    pub drain_p50_ms: f64,
    pub drain_max_ms: f64,
    /// Drains that did not end, so that the engine was killed.
    pub drains_overrun: u64,
    /// Acknowledged to the uplinks.
    pub frames: u64,
    /// Of these, counted by the engine as of a code that it does not know yet, or too old to say anything.
    pub frames_passed_over: u64,
    /// The others that are in no window.
    pub frames_lost: u64,
    /// Applied, not acknowledged, and sent once more.
    pub frames_repeated: u64,
    /// Left in a spool at the end, or dropped from one.
    pub frames_undelivered: u64,
    /// Parked cars that were on no screen after a start.
    pub parked_forgotten: u64,
    #[serde(flatten)]
    pub sales: Judgement,
    /// Calls that had to be sent again.
    pub repeated_calls: u64,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        let broken = self.drains_overrun + self.frames_lost + self.frames_undelivered + self.parked_forgotten;
        broken == 0 && self.frames > 0 && self.sales.is_clean()
    }
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, SessionsError> {
    let folder = config.place.folder()?;
    let data = folder.data();
    let mut options = config.place.options(&folder, HURRIED.map(|(name, value)| (name.into(), value.into())));
    let engine = Serve::start(options.clone()).await?;
    pin(&mut options, engine.addresses());
    let client = Client::new(format!("http://{}", engine.addresses().http));
    let operator = client.with_token(engine.operator_token().to_owned());
    let chain = Chain {
        seed: config.place.seed,
        cars: config.place.cars,
        cars_per_station: CARS_PER_STATION,
        means: "tok_ok",
        parked_per_station: PARKED_PER_STATION,
    };
    let radio = chain.open(&operator, &engine, HEARD_EACH).await?;
    let terminals = chain.terminals(&operator).await?;
    let (closing, repeats) = (CancellationToken::new(), Repeats::default());
    let visits = visitor::all(&chain, &terminals, &client, &repeats, &closing);
    progress(format!("{} cars stand at {} stations", config.place.cars, chain.stations()));

    let mut run = Run { data, chain, terminals: &terminals, radio, frames: Frames::default(), drains: Drains::new() };
    let engine = run.drain_again_and_again(config, &options, engine, &mut progress).await?;
    closing.cancel();
    let sales = visitor::sales(visits).await?;
    until_settled(&engine).await?;
    let states = judgement::states(&operator, &sales, &repeats).await?;
    run.drain(engine).await?;
    let Run { radio, frames, drains, .. } = run;
    let engine = Serve::start(options).await?;
    let left = radio.fall_silent(DELIVERED_WITHIN).await;
    engine.stop().await?;
    Ok(Outcome {
        drains: config.drains + 1,
        drain_p50_ms: drains.ms(0.5),
        drain_max_ms: drains.ms(1.0),
        drains_overrun: drains.overrun,
        frames: frames.acknowledged.values().sum(),
        frames_passed_over: frames.passed_over,
        frames_lost: frames.lost,
        frames_repeated: frames.repeated,
        frames_undelivered: left.iter().map(|uplink| uplink.stats.waiting + uplink.stats.dropped).sum(),
        parked_forgotten: drains.forgotten,
        sales: Judgement::of(&sales, &states, &simulators_books(data)?),
        repeated_calls: repeats.count(),
    })
}

struct Run<'a> {
    data: &'a Path,
    chain: Chain,
    terminals: &'a [Client],
    radio: Radio,
    frames: Frames,
    drains: Drains,
}

impl Run<'_> {
    /// The engine of the last start.
    async fn drain_again_and_again(
        &mut self,
        config: &Config,
        options: &ServeOptions,
        mut engine: Serve,
        progress: &mut impl FnMut(String),
    ) -> Result<Serve, SessionsError> {
        let mut rng = SmallRng::seed_from_u64(config.place.seed);
        for drain in 1..=config.drains {
            sleep(Duration::from_millis(rng.random_range(LIFE_MS))).await;
            let took = self.drain(engine).await?;
            progress(format!("drain {drain} of {} took {} ms", config.drains, took.as_millis()));
            engine = Serve::start(options.clone()).await?;
            self.drains.forgotten += self.forgotten().await?;
        }
        Ok(engine)
    }

    async fn drain(&mut self, engine: Serve) -> Result<Duration, SessionsError> {
        let passed_over = passed_over(&engine.metrics().await?);
        let begun = Instant::now();
        engine.stop().await?;
        let took = begun.elapsed();
        self.drains.took(took);
        let told = Instant::now() + TOLD_WITHIN;
        while self.radio.stats().any(|uplink| uplink.connected) && Instant::now() < told {
            sleep(Duration::from_millis(5)).await;
        }
        self.compare(passed_over)?;
        Ok(took)
    }

    fn compare(&mut self, passed_over: u64) -> Result<(), SessionsError> {
        let counted: HashMap<StationId, u64> =
            hearings_of_snapshot(&self.data.join(SNAPSHOT_FILE))?.into_iter().collect();
        let stations = (1..).map(StationId).zip(self.radio.stats()).map(|(station, uplink)| {
            (station, uplink.acknowledged, counted.get(&station).copied().unwrap_or_default())
        });
        self.frames.end_of_life(stations, passed_over);
        Ok(())
    }

    /// Cars that are not on their terminal's screen, though they never left.
    async fn forgotten(&self) -> Result<u64, CallError> {
        let known_by = Instant::now() + KNOWN_WITHIN;
        loop {
            let mut known = 0;
            for (station, terminal) in (1..).zip(self.terminals) {
                let seen: Seen = terminal.get(&format!("/v1/stations/{station}/vehicles")).await?;
                known += seen.vehicles.len();
            }
            let missing = self.chain.cars.saturating_sub(known) as u64;
            if missing == 0 || Instant::now() >= known_by {
                return Ok(missing);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[derive(Deserialize)]
struct Seen {
    vehicles: Vec<VehicleView>,
}

/// Acknowledged and counted so far, of each station.
#[derive(Debug, Default)]
struct Frames {
    acknowledged: HashMap<StationId, u64>,
    counted: HashMap<StationId, u64>,
    passed_over: u64,
    lost: u64,
    repeated: u64,
}

impl Frames {
    /// Of each station, what was acknowledged and what was counted; both sums go on over all lives of the engine.
    fn end_of_life(&mut self, stations: impl Iterator<Item = (StationId, u64, u64)>, passed_over: u64) {
        let since = |before: Option<u64>, now: u64| now.saturating_sub(before.unwrap_or_default());
        let mut missing = 0;
        for (station, acknowledged, counted) in stations {
            let acknowledged_now = since(self.acknowledged.insert(station, acknowledged), acknowledged);
            let counted_now = since(self.counted.insert(station, counted), counted);
            missing += acknowledged_now.saturating_sub(counted_now);
            self.repeated += counted_now.saturating_sub(acknowledged_now);
        }
        self.lost += missing.saturating_sub(passed_over);
        self.passed_over += passed_over;
    }
}

/// Frames that the engine counted and that changed nothing.
fn passed_over(metrics: &Metrics) -> u64 {
    metrics.count("forecourt_station_frames_total", &[("code", "unknown")])
        + metrics.count("forecourt_station_frames_dropped_total", &[])
}

struct Drains {
    ms: Histogram<u64>,
    overrun: u64,
    forgotten: u64,
}

impl Drains {
    fn new() -> Drains {
        let most = STOP_PATIENCE.as_millis() as u64 * 2;
        Drains { ms: Histogram::new_with_bounds(1, most, 3).expect("sensible bounds"), overrun: 0, forgotten: 0 }
    }

    fn took(&mut self, took: Duration) {
        self.ms.saturating_record(took.as_millis() as u64);
        self.overrun += u64::from(took >= STOP_PATIENCE);
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.ms.value_at_quantile(quantile) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_and_is_in_no_window_is_lost_whatever_came_twice_elsewhere() {
        let mut frames = Frames::default();
        let life =
            |one: (u64, u64), other: (u64, u64)| [(StationId(1), one.0, one.1), (StationId(2), other.0, other.1)];
        frames.end_of_life(life((100, 103), (100, 90)).into_iter(), 10);
        assert_eq!((frames.lost, frames.repeated), (0, 3), "what is counted as unknown is not lost");
        frames.end_of_life(life((150, 150), (150, 145)).into_iter(), 0);
        assert_eq!((frames.lost, frames.repeated), (3, 8));
    }
}
