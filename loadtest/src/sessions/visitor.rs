//! Terminal and phone of one car, who send again what is not answered.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use forecourt::{
    engine::id::SessionId,
    session::{Completion, SessionView, StateName},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    chain::{Car, Chain, plate},
    customer::{proof, sale},
};
use crate::{
    flood::dongles::Dongles,
    people::{CallError, Client, phone},
};

/// Between two tries of a call, and between two looks at a session.
const AGAIN: Duration = Duration::from_millis(20);

/// A call that is not answered for so long, whatever happens to the engine, is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A charge whose request was lost is known to be so two seconds into a life of the engine at the earliest, and there may
/// be none as long before the last kill.
const SETTLED_WITHIN: Duration = Duration::from_secs(900);

/// Counts the calls that were sent again.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats(Arc<AtomicU64>);

impl Repeats {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Calls until there is an answer that is about the call, and not about the engine's state of health.
    pub(super) async fn insist<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let begun = Instant::now();
        loop {
            match call().await {
                Err(error) if is_passing(&error) && begun.elapsed() < PATIENCE => {
                    self.0.fetch_add(1, Ordering::Relaxed);
                    sleep(AGAIN).await;
                }
                answer => return answer,
            }
        }
    }
}

/// The engine is away, cannot answer at present, still has the same call in hand, or has yet to hear the car again.
fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::Transport(_) | CallError::Answer(_) => true,
        CallError::Refused(problem) => {
            problem.status >= 500
                || ["IDEMPOTENCY_KEY_IN_USE", "VEHICLE_NOT_PRESENT", "PLATE_NO_MATCH"].contains(&problem.code.as_str())
        }
    }
}

/// A session that was acknowledged, and what was sold in it.
#[derive(Debug, Clone)]
pub(super) struct Sale {
    pub(super) session: SessionId,
    pub(super) minor: i64,
    /// The completion was acknowledged.
    pub(super) is_completed: bool,
}

pub(super) struct Visitor {
    pub(super) car: Car,
    pub(super) terminal: Client,
    /// Without a token yet.
    pub(super) phone: Client,
    pub(super) repeats: Repeats,
}

/// A visitor of every car that is not parked for good.
pub(super) fn all(
    chain: &Chain,
    terminals: &[Client],
    phone: &Client,
    repeats: &Repeats,
    closing: &CancellationToken,
) -> Vec<Visit> {
    let cars = (0..chain.cars).filter(|car| !chain.is_parked(*car));
    cars.map(|car| {
        let terminal = terminals[car / chain.cars_per_station].clone();
        let visitor = Visitor { car: chain.car(car), terminal, phone: phone.clone(), repeats: repeats.clone() };
        tokio::spawn(visitor.come_again(closing.clone()))
    })
    .collect()
}

type Visit = JoinHandle<Result<Vec<Sale>, CallError>>;

/// What was acknowledged to all of them, once each has ended.
pub(super) async fn sales(visits: Vec<Visit>) -> Result<Vec<Sale>, CallError> {
    let mut sales = Vec::new();
    for visit in join_all(visits).await {
        sales.extend(visit.expect("a visitor does not panic")?);
    }
    Ok(sales)
}

impl Visitor {
    /// One sale after the other until `closing`; the one that is under way then is brought to its end.
    pub(super) async fn come_again(mut self, closing: CancellationToken) -> Result<Vec<Sale>, CallError> {
        let device = Dongles::device(self.car.number as u64);
        let token = self.repeats.insist(|| phone::log_in(&self.phone, &self.car.phone, device)).await?;
        self.phone = self.phone.with_token(token);
        let mut sales = Vec::new();
        for number in 0.. {
            if closing.is_cancelled() {
                break;
            }
            self.visit(number, &mut sales).await?;
        }
        Ok(sales)
    }

    async fn visit(&self, number: u32, sales: &mut Vec<Sale>) -> Result<(), CallError> {
        let sold = sale(&self.car, number);
        let path = format!("/v1/stations/{}/sessions", self.car.station);
        let selecting = json!({ "plate": plate(self.car.number), "pump": self.car.pump });
        let opened: SessionView =
            self.repeats.insist(|| self.terminal.post_once(&path, &sold.transaction, &selecting)).await?;
        sales.push(Sale { session: opened.id, minor: sold.amount.minor, is_completed: false });
        self.order(opened.id, "completion", &sold).await?;
        sales.last_mut().expect("just pushed").is_completed = true;
        self.settle(opened.id, &sold).await
    }

    /// Proves when asked, and does what the site does with a sale that is paid, or is not.
    async fn settle(&self, session: SessionId, sold: &Completion) -> Result<(), CallError> {
        let path = format!("/v1/sessions/{session}");
        let begun = Instant::now();
        while begun.elapsed() < SETTLED_WITHIN {
            let view: SessionView = self.repeats.insist(|| self.phone.get(&path)).await?;
            match (view.state, &view.challenge) {
                (StateName::Completed | StateName::AwaitingProof, Some(challenge))
                    if challenge.amount == sold.amount =>
                {
                    let proof = proof(&self.car, challenge).expect("a challenge of the engine has a nonce");
                    let path = format!("{path}/proof");
                    let proven: Result<Value, CallError> =
                        self.repeats.insist(|| self.phone.post_once(&path, &challenge.nonce, &proof)).await;
                    proven.map(drop).or_else(late)?;
                }
                (StateName::Paid, _) => self.order(session, "cleared", &json!({})).await?,
                (StateName::CollectAtSite, _) => self.order(session, "paid-at-site", &json!({})).await?,
                _ if view.is_end => return Ok(()),
                _ => sleep(AGAIN).await,
            }
        }
        Ok(())
    }

    async fn order(&self, session: SessionId, order: &str, body: &impl serde::Serialize) -> Result<(), CallError> {
        let path = format!("/v1/sessions/{session}/{order}");
        self.repeats.insist(|| self.terminal.post_once::<Value>(&path, order, body)).await.map(drop).or_else(late)
    }
}

/// The session had moved on when the order came: its state, which is looked at again, says where to.
fn late(error: CallError) -> Result<(), CallError> {
    match error.code() {
        "WRONG_STATE" | "PAID_ELSEWHERE" | "ALREADY_CLEARED" => Ok(()),
        _ => Err(error),
    }
}
