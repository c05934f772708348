//! How many fuellings a second the engine takes from the selection to the payment, each step durable before it is
//! answered: through HTTP, against the real process, with the PSP simulator.
//!
//! As many cars as are asked for stand at their pumps all the while. Each is served again and again, in a closed loop:
//! selected by its plate, fuelled, shown to the driver's phone by its event stream, proven, paid and cleared. Every
//! session counts that the phone was told to be paid within the time; the PSP's own books are the oracle.

mod chain;
pub mod crashes;
mod customer;
mod disk;
pub mod drains;
mod judgement;
mod place;
mod visitor;

use std::{io, path::Path, time::Duration};

use forecourt::{
    app::Addresses,
    payment::{SessionCharges, Simulator},
    station::SnapshotError,
};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    local_stripe::LocalStripeError,
    people::{CallError, Client},
    process::{Metrics, Serve, ServeError, ServeOptions},
};
use chain::{Chain, ChainError};
use customer::{Customer, Served};
pub use judgement::Judgement;
pub use place::Place;

/// A car is heard each second, and stays on the screen.
const HEARD_EACH: Duration = Duration::from_secs(1);

/// Latencies from a hundredth of a millisecond to a minute, in microseconds.
const LATENCY_US: (u64, u64) = (10, 60_000_000);

#[derive(Debug, Clone)]
pub struct Config {
    pub seconds: u64,
    /// Before the clock starts, so that connections stand and caches are filled.
    pub warm_up_seconds: u64,
    pub cars_per_station: usize,
    /// How long the PSP simulator takes for an answer.
    pub psp_ms: u64,
    pub place: Place,
}

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// From select to paid.
    pub sessions_per_second: f64,
    /// Transactions of the journal, each with one flush of the disk.
    pub ledger_commits_per_second: f64,
    pub ledger_entries_per_second: f64,
    /// What the disk does with nothing else to do: 4 KiB appended and flushed, in the engine's own folder, before and
    /// after the run.
    pub fsyncs_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub sessions: u64,
    /// Sessions that were acknowledged and not paid in the end.
    pub lost: u64,
    pub double_charged: u64,
    /// Sessions that the books hold with another amount than the pump showed.
    pub wrongly_charged: u64,
    /// Calls that were refused or not answered.
    pub failed_calls: u64,
    pub engine_cores: f64,
    pub generator_cores: f64,
    pub engine_cpu_us_per_session: f64,
    pub engine_memory_bytes: u64,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.lost + self.double_charged + self.wrongly_charged + self.failed_calls == 0 && self.sessions > 0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("a driver's phone: {0}")]
    Phone(#[from] CallError),
    #[error("the run's folder: {0}")]
    Folder(#[from] io::Error),
    #[error("the PSP simulator's books: {0}")]
    Books(String),
    #[error("the engine's snapshot of presence: {0}")]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    LocalStripe(#[from] LocalStripeError),
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, SessionsError> {
    let folder = config.place.folder()?;
    let before = disk::flushes_per_second(folder.path())?;
    let latency = ("FORECOURT_PAYMENT_SIMULATOR_LATENCY_MS".to_owned(), config.psp_ms.to_string());
    let engine = Serve::start(config.place.options(&folder, [latency])).await?;
    let operator =
        Client::new(format!("http://{}", engine.addresses().http)).with_token(engine.operator_token().to_owned());
    let chain = Chain {
        seed: config.place.seed,
        cars: config.place.cars,
        cars_per_station: config.cars_per_station,
        means: "tok_ok",
        parked_per_station: 0,
    };
    let radio = chain.open(&operator, &engine, HEARD_EACH).await?;
    let customers = chain.customers(&operator).await?;
    progress(format!("{} cars stand at {} stations", config.place.cars, chain.stations()));

    let starts = Instant::now() + Duration::from_secs(config.warm_up_seconds);
    let ends = starts + Duration::from_secs(config.seconds);
    let serving = join_all(customers.into_iter().map(|customer| customer.be_served(starts, ends)));
    let watching = async {
        tokio::time::sleep_until(starts).await;
        let first = Look::at(&engine).await?;
        progress(format!("measuring for {} s", config.seconds));
        tokio::time::sleep_until(ends).await;
        Ok::<_, ServeError>((first, Look::at(&engine).await?))
    };
    let (served, looks) = tokio::join!(serving, watching);
    let (first, last) = looks?;
    let served = served.into_iter().collect::<Result<Vec<Served>, CallError>>()?;
    drop(radio);
    engine.stop().await?;
    let after = disk::flushes_per_second(folder.path())?;

    let books = simulators_books(folder.data())?;
    Ok(outcome(&served, &books, &first, &last, f64::midpoint(before, after)))
}

/// What the simulator has charged and not given back, per session: its books are no part of the engine's state.
fn simulators_books(data: &Path) -> Result<Vec<SessionCharges>, SessionsError> {
    let books = Simulator::open(data, Duration::ZERO).and_then(|books| books.charges());
    books.map_err(|error| SessionsError::Books(error.to_string()))
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

/// The engine at one moment.
struct Look {
    at: Instant,
    metrics: Metrics,
    engine: crate::process::Usage,
    generator: crate::process::Usage,
}

impl Look {
    async fn at(engine: &Serve) -> Result<Look, ServeError> {
        let generator = crate::process::usage::of(std::process::id())?;
        Ok(Look { at: Instant::now(), metrics: engine.metrics().await?, engine: engine.usage()?, generator })
    }
}

fn outcome(served: &[Served], books: &[SessionCharges], first: &Look, last: &Look, fsyncs_per_second: f64) -> Outcome {
    let seconds = (last.at - first.at).as_secs_f64();
    let mut latencies = Histogram::<u64>::new_with_bounds(LATENCY_US.0, LATENCY_US.1, 3).expect("sensible bounds");
    served.iter().flat_map(|served| &served.latencies_us).for_each(|us| latencies.saturating_record(*us));
    let sessions = latencies.len();
    let per_second = |name: &str| (last.metrics.sum(name, &[]) - first.metrics.sum(name, &[])) / seconds;
    let booked: std::collections::HashMap<_, _> = books.iter().map(|charged| (charged.session, charged)).collect();
    let sales = || served.iter().flat_map(|served| &served.sales);
    let paid_wrongly = sales().filter(|(session, minor)| {
        booked.get(session).is_some_and(|charged| charged.net == 1 && charged.net_minor != *minor)
    });
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let engine_cpu = (last.engine - first.engine).as_secs_f64();
    Outcome {
        sessions_per_second: sessions as f64 / seconds,
        ledger_commits_per_second: per_second("forecourt_ledger_commits_total"),
        ledger_entries_per_second: per_second("forecourt_ledger_entries_total"),
        fsyncs_per_second,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        max_ms: ms(1.0),
        sessions,
        lost: served.iter().map(|served| served.lost).sum::<u64>()
            + sales().filter(|(session, _)| booked.get(session).is_none_or(|charged| charged.net == 0)).count() as u64,
        double_charged: books.iter().filter(|charged| charged.net > 1).count() as u64,
        wrongly_charged: paid_wrongly.count() as u64,
        failed_calls: served.iter().map(|served| served.failed_calls).sum(),
        engine_cores: engine_cpu / seconds,
        generator_cores: (last.generator - first.generator).as_secs_f64() / seconds,
        engine_cpu_us_per_session: engine_cpu * 1e6 / sessions.max(1) as f64,
        engine_memory_bytes: last.engine.resident_bytes,
    }
}
