//! The attendant of a station: serves the cars that stop at its pumps, with nothing but the terminal.
//!
//! Sees a car, waits until the terminal shows it, types its last four digits, lets it fuel, reports what the pump
//! shows, waits for the payment and waves the car off. Some sessions take the pump first (with a hold or without),
//! some are plain attended sales; now and then an answer is taken for lost and the request is sent again.

use std::{sync::Arc, time::Duration};

use forecourt::{
    engine::{
        id::{BindingId, PumpNumber, SessionId},
        money::{Money, amount_minor},
    },
    session::{Completion, SessionView, StateName},
    telemetry,
};
use rand::{RngExt as _, rngs::SmallRng};
use serde::Serialize;
use serde_json::json;

use super::{
    client::{CallError, Problem},
    phone::Phone,
    terminal::{Board, Terminal},
};
use crate::{
    fleet::{Arrival, plates::last_four},
    oracle::masked,
    world::World,
};

/// A car at a pump that the terminal does not show for so long is missed.
const VISIBLE_WITHIN: Duration = Duration::from_secs(8);

/// A payment whose answers are lost takes some look-ups.
const PAID_WITHIN: Duration = Duration::from_secs(60);

/// Won, which has no smaller unit.
pub const CURRENCY: &str = "KRW";

/// Thousandths of a won per litre.
pub const PRICES: [(&str, i64); 2] = [("gasoline", 1_655_000), ("diesel", 1_498_000)];

/// More than any sale here comes to.
const PRESET_MINOR: i64 = 300_000;

/// The largest tank, and what a driver fetches for the lawn mower.
const LITRES: (f64, f64) = (1.0, 130.0);

/// How people fuel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habits {
    /// Of which 10, 50, 90 and 99 % of the sales have no more.
    pub litres: [f64; 4],
    pub litres_per_minute: f64,
    /// From the selection to the nozzle's return, whatever the litres say.
    pub fuelling_ms: (u64, u64),
}

impl Habits {
    /// The litres of a sale at this part (0 to 1) of all sales: straight lines between what is known.
    fn litres_at(&self, part: f64) -> f64 {
        let [p10, p50, p90, p99] = self.litres;
        let known =
            [(0.0, LITRES.0.min(p10)), (0.1, p10), (0.5, p50), (0.9, p90), (0.99, p99), (1.0, LITRES.1.max(p99))];
        let after = known.iter().position(|(at, _)| *at > part).unwrap_or(known.len() - 1).max(1);
        let ((from, less), (to, more)) = (known[after - 1], known[after]);
        less + (more - less) * ((part - from) / (to - from)).clamp(0.0, 1.0)
    }

    fn fuelling(&self, litres: f64) -> Duration {
        let ms = litres / self.litres_per_minute * 60_000.0;
        Duration::from_millis((ms as u64).clamp(self.fuelling_ms.0, self.fuelling_ms.1))
    }
}

#[derive(Debug, thiserror::Error)]
enum VisitError {
    #[error("the terminal never showed the car")]
    NotVisible,
    #[error("the car could not be selected: {0}")]
    NotSelectable(CallError),
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the session stopped at {0:?}")]
    Stopped(Option<StateName>),
}

/// What the attendant sees from the window.
struct Customer {
    plate: String,
    masked: String,
    fuel: &'static str,
    has_good_card: bool,
}

pub struct Visit {
    world: Arc<World>,
    terminal: Arc<Terminal>,
    phone: Arc<Phone>,
    habits: Habits,
    arrival: Arrival,
    rng: SmallRng,
    /// Tells this visit's requests from those of all others.
    name: String,
}

impl Visit {
    pub fn new(
        world: Arc<World>,
        terminal: Arc<Terminal>,
        phone: Arc<Phone>,
        habits: Habits,
        arrival: Arrival,
        rng: SmallRng,
    ) -> Visit {
        let name = format!("{}-{}-{}", arrival.site.0, arrival.pump, telemetry::now().0);
        Visit { world, terminal, phone, habits, arrival, rng, name }
    }

    /// From the stop at the pump to the departure. The driver has the app open all the while.
    pub async fn serve(mut self) {
        let customer = self.customer();
        let (phone, world) = (self.phone.clone(), self.world.clone());
        let served = tokio::select! {
            served = self.serve_customer(&customer) => served,
            never = phone.live(world) => match never {},
        };
        let reason = |error: &VisitError| format!("{} at {}: {error}", customer.masked, self.terminal.station);
        match &served {
            Ok(()) => {}
            Err(error @ (VisitError::NotVisible | VisitError::NotSelectable(_))) => {
                self.world.missed(self.arrival.site, self.arrival.car, &reason(error));
            }
            Err(error) => self.world.oracle().visit_failed(reason(error)),
        }
        self.world.fleet().depart(self.arrival.car, telemetry::now());
    }

    fn customer(&self) -> Customer {
        let fleet = self.world.fleet();
        let car = fleet.car(self.arrival.car);
        Customer {
            plate: car.plate.clone(),
            masked: masked(car),
            fuel: car.fuel,
            has_good_card: car.means.first().is_some_and(|means| means.starts_with("tok_ok")),
        }
    }

    async fn serve_customer(&mut self, customer: &Customer) -> Result<(), VisitError> {
        let shown = |board: &Board| board.shows(&customer.masked).then_some(());
        self.terminal.wait(VISIBLE_WITHIN, shown).await.ok_or(VisitError::NotVisible)?;
        let session = self.select(customer).await?;
        self.authorise(session, customer).await?;
        let litres = self.habits.litres_at(self.rng.random());
        tokio::time::sleep(self.habits.fuelling(litres)).await;
        self.complete(session, customer, litres).await?;
        self.world.fleet().ignite(self.arrival.car);
        self.settle(session).await
    }

    /// Opens a session for the car at the pump, whatever else is on the forecourt.
    async fn select(&mut self, customer: &Customer) -> Result<SessionId, VisitError> {
        let plate = last_four(&customer.plate);
        let opened = match self.open("select", plate, None).await {
            Err(CallError::Refused(problem)) if problem.code == "PLATE_AMBIGUOUS" => {
                self.world.oracle().plate_was_ambiguous();
                let candidate = recognise(&problem, customer)?;
                self.open("pick", plate, Some(candidate)).await
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| match error.code() {
            "VEHICLE_NOT_PRESENT" | "PLATE_NO_MATCH" | "CONCURRENT_PRESENCE" => VisitError::NotSelectable(error),
            _ => VisitError::Call(error),
        })?;
        let device = self.world.device(self.arrival.car);
        self.world.oracle().opened(opened.id, device, opened.device);
        Ok(opened.id)
    }

    async fn open(&mut self, what: &str, plate: &str, candidate: Option<BindingId>) -> Result<SessionView, CallError> {
        let path = format!("/v1/stations/{}/sessions", self.terminal.station);
        let body = json!({ "plate": plate, "pump": self.arrival.pump, "candidate": candidate });
        let opened = self.write(&path, what, &body).await?;
        if self.rng.random_ratio(1, 4) {
            let again = self.write(&path, what, &body).await?;
            self.world.oracle().repeated(opened.id, again.id);
        }
        Ok(opened)
    }

    /// Half of the sales take their pump beforehand, half of those with a hold. A hold on a card whose answers are
    /// lost would release the session, so only drivers with a good card are asked for one.
    async fn authorise(&mut self, session: SessionId, customer: &Customer) -> Result<(), CallError> {
        if self.rng.random_ratio(1, 2) {
            return Ok(());
        }
        let preset = (customer.has_good_card && self.rng.random_ratio(1, 2)).then(|| won(PRESET_MINOR));
        let body = json!({ "pump": self.arrival.pump, "preset": preset, "hold": preset.is_some() });
        self.write(&format!("/v1/sessions/{session}/reservation"), "reserve", &body).await?;
        self.write(&format!("/v1/sessions/{session}/fuelling"), "fuel", &json!({})).await.map(drop)
    }

    async fn complete(&mut self, session: SessionId, customer: &Customer, litres: f64) -> Result<(), CallError> {
        let completion = sale(self.arrival.pump, customer.fuel, (litres * 1000.0) as u32, &self.name);
        // Said before the server can pass it on.
        self.world.oracle().sold(session, completion.amount.minor);
        let path = format!("/v1/sessions/{session}/completion");
        let completed = self.write(&path, "complete", &completion).await?;
        if self.rng.random_ratio(1, 4) {
            // A controller that lost the answer reports the same site transaction under a new key.
            let again = self.write(&path, "complete-again", &completion).await?;
            self.world.oracle().repeated(completed.id, again.id);
        }
        Ok(())
    }

    /// Waits for the payment and books it, or takes the money at the counter.
    async fn settle(&mut self, session: SessionId) -> Result<(), VisitError> {
        let ended = self.terminal.wait(PAID_WITHIN, |board| {
            let state = board.session(session)?.state;
            (state == StateName::Paid || is_stuck(state)).then_some(state)
        });
        match ended.await {
            Some(StateName::Paid) => {
                self.write(&format!("/v1/sessions/{session}/cleared"), "clear", &json!({})).await?;
                self.world.oracle().paid(session);
                Ok(())
            }
            Some(StateName::CollectAtSite) => {
                self.write(&format!("/v1/sessions/{session}/paid-at-site"), "cash", &json!({})).await?;
                self.world.oracle().collected_at_site();
                Ok(())
            }
            stopped => Err(VisitError::Stopped(stopped)),
        }
    }

    async fn write(&self, path: &str, what: &str, body: &impl Serialize) -> Result<SessionView, CallError> {
        self.terminal.caller.post_once(path, &format!("{what}-{}", self.name), body).await
    }
}

/// The candidate that is the car outside.
fn recognise(problem: &Problem, customer: &Customer) -> Result<BindingId, VisitError> {
    let fits = problem.candidates.iter().find(|candidate| candidate.plate == customer.masked);
    let absent = || VisitError::NotSelectable(CallError::Refused(Box::new(problem.clone())));
    fits.map(|candidate| candidate.candidate).ok_or_else(absent)
}

/// Nothing more comes by itself.
fn is_stuck(state: StateName) -> bool {
    use StateName::{BackOffice, CollectAtSite, Disputed, PaidElsewhere, ProofFailed, Rejected, Released};
    matches!(state, BackOffice | CollectAtSite | Disputed | PaidElsewhere | ProofFailed | Rejected | Released)
}

fn sale(pump: PumpNumber, fuel: &str, volume_ml: u32, transaction: &str) -> Completion {
    let (grade, unit_price_milli) = *PRICES.iter().find(|(grade, _)| *grade == fuel).unwrap_or(&PRICES[0]);
    let minor = amount_minor(volume_ml, unit_price_milli).expect("a car's tank is within every bound");
    let (grade, transaction) = (grade.into(), transaction.into());
    Completion { pump, grade, volume_ml, unit_price_milli, amount: won(minor), transaction }
}

fn won(minor: i64) -> Money {
    Money { minor, currency: CURRENCY.parse().expect("three capital letters") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litres_come_out_as_the_quantiles_say() {
        let habits = Habits { litres: [4.0, 22.0, 36.0, 114.0], litres_per_minute: 35.0, fuelling_ms: (0, 300_000) };
        let at = |part| habits.litres_at(part);
        for (part, litres) in
            [(0.0, 1.0), (0.1, 4.0), (0.3, 13.0), (0.5, 22.0), (0.9, 36.0), (0.99, 114.0), (1.0, 130.0)]
        {
            assert!((at(part) - litres).abs() < 1e-9, "{part}");
        }
        assert_eq!(habits.fuelling(35.0), Duration::from_secs(60));
    }
}
