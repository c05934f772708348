//! The engine killed in the middle of everything, again and again, while sales go on: nothing that was acknowledged may
//! be lost, and no sale charged twice.
//!
//! Terminals and phones behave as the field's do: what is not answered is sent again with the same key. The engine is
//! killed (SIGKILL) at random moments, during its start too, and started anew on the same folder and ports. At the end
//! it is left alone until every session has come to an end; the PSP's own books, which are no part of the engine's state,
//! are the oracle.

mod psp;
mod visitor;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use forecourt::{
    app::Addresses,
    engine::id::SessionId,
    payment::SessionCharges,
    session::{SessionView, StateName},
};
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{SessionsError, chain::Chain};
use crate::{
    people::{CallError, Client},
    process::{Serve, ServeError, ServeOptions},
};
use psp::Psp;
use visitor::{Repeats, Sale, Visitor};

/// From the start of the engine's process to its end, in milliseconds. It is ready after some hundred.
const LIFE_MS: Range<u64> = 20..1_500;

/// Kills are told in steps of so many.
const TOLD_EACH: u32 = 25;

/// So often that a car is on the screen again soon after a start.
const HEARD_EACH: Duration = Duration::from_millis(200);

/// For the charges that are open at the end: one in doubt is asked about after half a second, then ever less often.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

const CARS_PER_STATION: usize = 8;

#[derive(Debug, Clone)]
pub struct Config {
    pub kills: u32,
    pub cars: usize,
    pub seed: u64,
    /// The data folder's parent; without it, the system's temporary folder.
    pub folder: Option<PathBuf>,
    pub engine: Option<PathBuf>,
    pub settings: Vec<(String, String)>,
    /// A Python environment with localstripe, which then is the PSP, behind a proxy that loses, delays, doubles and refuses.
    pub stripe: Option<PathBuf>,
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub kills: u32,
    /// Of these, before the engine was ready.
    pub kills_at_start: u32,
    /// Sessions that were acknowledged.
    pub sessions: u64,
    /// Sales that were acknowledged.
    pub completions: u64,
    /// Sessions by the state in which they ended.
    pub ends: BTreeMap<String, u64>,
    /// Sessions that were acknowledged, and that the engine knows no more.
    pub lost: u64,
    /// Sessions with a sale that came to no end.
    pub stuck: u64,
    pub double_charged: u64,
    /// Paid with another amount than the pump showed or with nothing charged, or charged and not paid.
    pub wrongly_charged: u64,
    /// Calls that had to be sent again.
    pub repeated_calls: u64,
    /// Requests to the PSP that the proxy spoilt.
    pub faults: u64,
    /// Idempotency keys that came to the PSP with two requests that differ.
    pub key_conflicts: u64,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.lost + self.stuck + self.double_charged + self.wrongly_charged + self.key_conflicts == 0
            && self.completions > 0
    }
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, SessionsError> {
    let folder = match &config.folder {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let psp = Psp::start(config, &data).await?;
    let (binary, mut settings) = (config.engine.clone(), psp.settings());
    settings.extend(config.settings.clone());
    let mut options = ServeOptions { data: data.clone(), settings, binary, ..ServeOptions::default() };
    let engine = Serve::start(options.clone()).await?;
    pin(&mut options, engine.addresses());
    // Each start after a kill has its warnings.
    options.settings.push(("FORECOURT_LOG_FILTER".into(), "error".into()));
    let client = Client::new(format!("http://{}", engine.addresses().http));
    let operator = client.with_token(engine.operator_token().to_owned());
    let chain = Chain { seed: config.seed, cars: config.cars, cars_per_station: CARS_PER_STATION, means: psp.means() };
    let radio = chain.open(&operator, &engine, HEARD_EACH).await?;
    let terminals = chain.terminals(&operator).await?;

    let (closing, repeats) = (CancellationToken::new(), Repeats::default());
    let visits: Vec<_> = (0..config.cars)
        .map(|car| {
            let terminal = terminals[car / CARS_PER_STATION].clone();
            let visitor = Visitor { car: chain.car(car), terminal, phone: client.clone(), repeats: repeats.clone() };
            tokio::spawn(visitor.come_again(closing.clone()))
        })
        .collect();
    let (engine, kills_at_start) = kill_again_and_again(config, &options, engine, &mut progress).await?;
    closing.cancel();
    psp.calm_down();
    progress("no more kills: what is under way comes to its end".into());
    let mut sales = Vec::new();
    for visit in join_all(visits).await {
        sales.extend(visit.expect("a visitor does not panic")?);
    }
    until_settled(&engine).await?;
    let states = states(&operator, &sales, &repeats).await?;
    drop(radio);
    engine.stop().await?;
    let judged = judge(&sales, &states, &psp.charges().await?);
    let (faults, key_conflicts) = psp.faults();
    Ok(Outcome {
        kills: config.kills,
        kills_at_start,
        repeated_calls: repeats.count(),
        faults,
        key_conflicts,
        ..judged
    })
}

/// Every further start takes the ports of the first.
fn pin(options: &mut ServeOptions, addresses: Addresses) {
    for (name, address) in [
        ("INGEST_LISTEN", addresses.ingest),
        ("HTTP_LISTEN", addresses.http),
        ("HTTP_METRICS_LISTEN", addresses.metrics),
    ] {
        options.settings.push((format!("FORECOURT_{name}"), address.to_string()));
    }
}

/// The engine of the last start, which is left alone, and how many starts were cut off.
async fn kill_again_and_again(
    config: &Config,
    options: &ServeOptions,
    mut engine: Serve,
    progress: &mut impl FnMut(String),
) -> Result<(Serve, u32), ServeError> {
    let mut rng = SmallRng::seed_from_u64(config.seed);
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

/// Waits until no charge is open, so that what is owed has been given back.
async fn until_settled(engine: &Serve) -> Result<(), ServeError> {
    let begun = Instant::now();
    while engine.metrics().await?.sum("forecourt_payment_open_charges", &[]) > 0.0 && begun.elapsed() < SETTLED_WITHIN {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Where each session is in the end; those that the engine does not know are not in it.
async fn states(
    operator: &Client,
    sales: &[Sale],
    repeats: &Repeats,
) -> Result<HashMap<SessionId, SessionView>, CallError> {
    let mut states = HashMap::new();
    for Sale { session, .. } in sales {
        let path = format!("/v1/sessions/{session}");
        match repeats.insist(|| operator.get::<SessionView>(&path)).await {
            Ok(view) => drop(states.insert(*session, view)),
            Err(error) if error.code() == "NOT_FOUND" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

fn judge(sales: &[Sale], states: &HashMap<SessionId, SessionView>, books: &[SessionCharges]) -> Outcome {
    let booked: HashMap<SessionId, &SessionCharges> = books.iter().map(|charged| (charged.session, charged)).collect();
    let mut outcome = Outcome { sessions: sales.len() as u64, ..Outcome::default() };
    outcome.double_charged = books.iter().filter(|charged| charged.net > 1).count() as u64;
    for sale in sales {
        outcome.completions += u64::from(sale.is_completed);
        let Some(view) = states.get(&sale.session) else {
            outcome.lost += 1;
            continue;
        };
        *outcome.ends.entry(format!("{:?}", view.state)).or_default() += 1;
        outcome.stuck += u64::from(sale.is_completed && !view.is_end);
        let charged = booked.get(&sale.session).map_or(0, |charged| charged.net_minor);
        let expected = if is_paid(view.state) { sale.minor } else { 0 };
        outcome.wrongly_charged += u64::from(charged != expected);
    }
    outcome
}

fn is_paid(state: StateName) -> bool {
    matches!(state, StateName::Paid | StateName::Cleared | StateName::Settled)
}
