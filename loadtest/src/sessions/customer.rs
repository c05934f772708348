//! One car's fuellings, one after the other, with what terminal and phone do for each.

use std::time::Duration;

use forecourt::{
    engine::{
        id::SessionId,
        money::{Money, amount_minor},
        proof::Terms as _,
    },
    session::{ChallengeView, Completion, SessionView, StateName},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::chain::{Car, plate};
use crate::{
    flood::dongles::Dongles,
    people::{
        CallError, Client,
        attendant::{CURRENCY, PRICES},
        client::EventStream,
        phone,
    },
};

/// A session that is not paid by then is lost.
const PAID_WITHIN: Duration = Duration::from_secs(60);

/// After a call that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// What a sale has at least, and how far the sales of one car differ, so that each has an amount of its own.
const VOLUME_ML: u32 = 31_370;
const VOLUME_SPREAD_ML: u32 = 10_000;

pub(super) struct Customer {
    car: Car,
    terminal: Client,
    phone: Client,
    events: EventStream,
}

/// What became of one car's sessions.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Of sessions that were selected and paid within the measured time.
    pub latencies_us: Vec<u64>,
    /// Every session that the phone was told is paid, with what the pump showed.
    pub sales: Vec<(SessionId, i64)>,
    /// Acknowledged, and not paid in time.
    pub lost: u64,
    pub failed_calls: u64,
}

enum Failed {
    Call(CallError),
    NotPaid,
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Failed {
        Failed::Call(error)
    }
}

impl Customer {
    pub(super) async fn sign_in(car: Car, client: &Client, terminal: Client) -> Result<Customer, CallError> {
        let device = Dongles::device(car.number as u64);
        let phone = client.with_token(phone::log_in(client, &car.phone, device).await?);
        let events = phone.events("/v1/phone/events", None).await?;
        Ok(Customer { car, terminal, phone, events })
    }

    /// From now until `ends`; what is paid after `starts` is measured.
    pub(super) async fn be_served(mut self, starts: Instant, ends: Instant) -> Result<Served, CallError> {
        let mut served = Served::default();
        for number in 0.. {
            let begun = Instant::now();
            if begun >= ends {
                break;
            }
            let sale = sale(&self.car, number);
            match self.serve(&sale).await {
                Ok(session) => {
                    served.sales.push((session, sale.amount.minor));
                    let paid = Instant::now();
                    if begun >= starts && paid <= ends {
                        served.latencies_us.push((paid - begun).as_micros() as u64);
                    }
                    if let Err(error) = self.order::<serde_json::Value>(session, "cleared", &json!({})).await {
                        served.failed(&self.car, &Failed::Call(error));
                    }
                }
                Err(failure) => {
                    served.failed(&self.car, &failure);
                    tokio::time::sleep(PAUSE).await;
                    self.events = self.phone.events("/v1/phone/events", None).await?;
                }
            }
        }
        Ok(served)
    }

    /// From the selection until the phone is told that it is paid.
    async fn serve(&mut self, sale: &Completion) -> Result<SessionId, Failed> {
        let path = format!("/v1/stations/{}/sessions", self.car.station);
        let selecting = json!({ "plate": plate(self.car.number), "pump": self.car.pump });
        let opened: SessionView = self.terminal.post_once(&path, &sale.transaction, &selecting).await?;
        let by = Instant::now() + PAID_WITHIN;
        self.order::<serde_json::Value>(opened.id, "completion", sale).await?;
        let challenge = self.told(by, |session| session.challenge.clone().filter(|_| session.id == opened.id)).await?;
        self.prove(&challenge).await?;
        self.told(by, |session| (session.id == opened.id && session.state == StateName::Paid).then_some(())).await?;
        Ok(opened.id)
    }

    async fn prove(&self, challenge: &ChallengeView) -> Result<(), CallError> {
        let path = format!("/v1/sessions/{}/proof", challenge.session);
        let proof = proof(&self.car, challenge)?;
        self.phone.post_once::<serde_json::Value>(&path, &challenge.nonce, &proof).await.map(drop)
    }

    async fn order<T: serde::de::DeserializeOwned>(
        &self,
        session: SessionId,
        order: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, CallError> {
        self.terminal.post_once(&format!("/v1/sessions/{session}/{order}"), order, body).await
    }

    /// Waits for an event of the phone's stream.
    async fn told<T>(&mut self, by: Instant, wanted: impl Fn(&SessionView) -> Option<T>) -> Result<T, Failed> {
        loop {
            let Ok(Some(event)) = timeout_at(by, self.events.next()).await else { return Err(Failed::NotPaid) };
            let sessions = phone::read(&event).map_err(CallError::Answer)?;
            if let Some(found) = sessions.iter().find_map(&wanted) {
                return Ok(found);
            }
        }
    }
}

/// What dongle and phone answer to a challenge.
pub(super) fn proof(car: &Car, challenge: &ChallengeView) -> Result<phone::Proof, CallError> {
    let terms = phone::terms(challenge).ok_or_else(|| CallError::Answer(serde::de::Error::custom("no nonce")))?;
    Ok(phone::proof(&car.phone, &terms, &terms.mac(&car.proof_key)))
}

/// What the pump shows at the car's fuelling with this number; the site's transaction is its own.
pub(super) fn sale(car: &Car, number: u32) -> Completion {
    let (grade, unit_price_milli) = PRICES[1];
    let volume_ml = VOLUME_ML + number % VOLUME_SPREAD_ML;
    let minor = amount_minor(volume_ml, unit_price_milli).expect("a car's tank is within every bound");
    let amount = Money { minor, currency: CURRENCY.parse().expect("three capital letters") };
    let transaction = format!("{}-{number}", car.number);
    Completion { pump: car.pump, grade: grade.into(), volume_ml, unit_price_milli, amount, transaction }
}

impl Served {
    fn failed(&mut self, car: &Car, failure: &Failed) {
        match failure {
            Failed::Call(error) => {
                self.failed_calls += 1;
                tracing::warn!(car = car.number, %error, "a call failed");
            }
            Failed::NotPaid => {
                self.lost += 1;
                tracing::warn!(car = car.number, "a session was not paid in time");
            }
        }
    }
}
