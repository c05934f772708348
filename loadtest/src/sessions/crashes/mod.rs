//! The engine killed in the middle of everything, again and again, while sales go on: nothing that was acknowledged may
//! be lost, and no sale charged twice.
//!
//! Terminals and phones behave as the field's do: what is not answered is sent again with the same key. The engine is
//! killed (SIGKILL) at random moments, during its start too, and started anew on the same folder and ports. At the end
//! it is left alone until every session has come to an end; the PSP's own books, which are no part of the engine's state,
//! are the oracle.

mod psp;

use std::{ops::Range, path::PathBuf, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Place, SessionsError,
    chain::Chain,
    judgement::{self, Judgement, until_settled},
    pin,
    visitor::{self, Repeats},
};
use crate::{
    people::Client,
    process::{Serve, ServeError, ServeOptions},
};
use psp::Psp;

/// From the start of the engine's process to its end, in milliseconds. It is ready after some hundred.
const LIFE_MS: Range<u64> = 20..1_500;

/// Kills are told in steps of so many.
const TOLD_EACH: u32 = 25;

/// So often that a car is on the screen again soon after a start.
const HEARD_EACH: Duration = Duration::from_millis(200);

const CARS_PER_STATION: usize = 8;

#[derive(Debug, Clone)]
pub struct Config {
    pub kills: u32,
    pub place: Place,
    /// A Python environment with localstripe, which then is the PSP, behind a proxy that loses, delays, doubles and refuses.
    pub stripe: Option<PathBuf>,
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub kills: u32,
    /// Of these, before the engine was ready.
    pub kills_at_start: u32,
    #[serde(flatten)]
    pub sales: Judgement,
    /// Calls that had to be sent again.
    pub repeated_calls: u64,
    /// Requests to the PSP that the proxy spoilt.
    pub faults: u64,
    /// Idempotency keys that came to the PSP with two requests that differ.
    pub key_conflicts: u64,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.sales.is_clean() && self.key_conflicts == 0
    }
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, SessionsError> {
    let folder = config.place.folder()?;
    let psp = Psp::start(config, folder.data()).await?;
    let mut options = config.place.options(&folder, psp.settings());
    let engine = Serve::start(options.clone()).await?;
    pin(&mut options, engine.addresses());
    // Each start after a kill has its warnings.
    options.settings.push(("FORECOURT_LOG_FILTER".into(), "error".into()));
    let client = Client::new(format!("http://{}", engine.addresses().http));
    let operator = client.with_token(engine.operator_token().to_owned());
    let chain = Chain {
        seed: config.place.seed,
        cars: config.place.cars,
        cars_per_station: CARS_PER_STATION,
        means: psp.means(),
        parked_per_station: 0,
    };
    let radio = chain.open(&operator, &engine, HEARD_EACH).await?;
    let terminals = chain.terminals(&operator).await?;

    let (closing, repeats) = (CancellationToken::new(), Repeats::default());
    let visits = visitor::all(&chain, &terminals, &client, &repeats, &closing);
    let (engine, kills_at_start) = kill_again_and_again(config, &options, engine, &mut progress).await?;
    closing.cancel();
    psp.calm_down();
    progress("no more kills: what is under way comes to its end".into());
    let sales = visitor::sales(visits).await?;
    until_settled(&engine).await?;
    let states = judgement::states(&operator, &sales, &repeats).await?;
    drop(radio);
    engine.stop().await?;
    let judged = Judgement::of(&sales, &states, &psp.charges().await?);
    let (faults, key_conflicts) = psp.faults();
    Ok(Outcome {
        kills: config.kills,
        kills_at_start,
        repeated_calls: repeats.count(),
        faults,
        key_conflicts,
        sales: judged,
    })
}

/// The engine of the last start, which is left alone, and how many starts were cut off.
async fn kill_again_and_again(
    config: &Config,
    options: &ServeOptions,
    mut engine: Serve,
    progress: &mut impl FnMut(String),
) -> Result<(Serve, u32), ServeError> {
    let mut rng = SmallRng::seed_from_u64(config.place.seed);
    let mut at_start = 0;
    sleep(Duration::from_millis(rng.random_range(LIFE_MS))).await;
    for kill in 1..=config.kills {
        // Dropped, it is killed.
        drop(engine);
        if kill % TOLD_EACH == 0 {
            progress(format!("killed {kill} times of {}", config.kills));
        }
        let life = Duration::from_millis(rng.random_range(LIFE_MS));
        let born = Instant::now();
        engine = if let Ok(started) = timeout(life, Serve::start(options.clone())).await {
            started?
        } else {
            at_start += 1;
            Serve::start(options.clone()).await?
        };
        if kill < config.kills {
            sleep(life.saturating_sub(born.elapsed())).await;
        }
    }
    Ok((engine, at_start))
}
