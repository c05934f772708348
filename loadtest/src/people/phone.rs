//! A driver's phone: coupled or logged in, it listens for sales, shows them, and approves with the dongle's answer.
//!
//! The dongle answers only with power, so a sale waits until the driver has turned the key.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ed25519_dalek::{Signer as _, SigningKey};
use forecourt::{
    engine::{
        id::DeviceId,
        proof::{CoupleTerms, Nonce, PayTerms, Terms},
        time::UnixMs,
    },
    registration::{claim_message, phone_token_message},
    session::{ChallengeView, SessionView, StateName},
    telemetry,
};
use serde::{Deserialize, Serialize};

use super::{
    client::{CallError, Client},
    events::Event,
};
use crate::{
    fleet::{Car, CarId, Enrolment},
    world::World,
};

/// How often the phone tries to reach its dongle, and a server that ended its stream.
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct LoggingIn {
    device: DeviceId,
    at: UnixMs,
    signature: String,
}

#[derive(Serialize)]
struct Claiming<'a> {
    activation_code: &'a str,
    phone_key: String,
    plate: &'a str,
    fuel: &'a str,
    means: &'a [String],
    signature: String,
}

#[derive(Deserialize)]
struct Claimed {
    coupling: String,
    device: DeviceId,
    nonce: String,
}

#[derive(Serialize)]
pub(crate) struct Proof {
    mac: String,
    signature: String,
}

/// Both logins end with it; what else they say is of no use to the demo.
#[derive(Deserialize)]
struct TokenGiven {
    token: String,
}

#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the dongle did not answer")]
    Silent,
    #[error("the server's nonce is not one: {0}")]
    Nonce(#[from] hex::FromHexError),
}

pub struct Phone {
    caller: Client,
    key: SigningKey,
    pub car: CarId,
}

impl Phone {
    /// Gets the phone its token, as its car's enrolment asks: by coupling, or by login.
    pub async fn enrol(client: &Client, id: CarId, car: &Car) -> Result<Phone, EnrolError> {
        let key = SigningKey::from_bytes(&car.phone_seed);
        let token = match &car.enrolment {
            Enrolment::Coupled { activation_code } => couple(client, &key, car, activation_code).await?,
            Enrolment::Imported | Enrolment::Unknown => log_in(client, &key, car.dongle.device).await?,
        };
        Ok(Phone { caller: client.with_token(token), key, car: id })
    }

    /// The driver has the app open: listens and answers for as long as it is polled.
    pub async fn live(&self, world: Arc<World>) -> Infallible {
        // The challenge that was answered last: its events come more than once.
        let mut answered = None;
        let mut last = None;
        loop {
            match self.caller.events("/v1/phone/events", last.as_deref()).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        last = event.id.clone().or(last);
                        self.take(&event, &mut answered, &world).await;
                    }
                }
                Err(error) => tracing::warn!(car = self.car.0, %error, "no event stream"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn take(&self, event: &Event, answered: &mut Option<String>, world: &World) {
        let sessions = match read(event) {
            Ok(sessions) => sessions,
            Err(error) => {
                return world.oracle().wrong(format!("an event that nobody can read ({error}): {}", event.data));
            }
        };
        for session in sessions {
            if let Err(error) = self.show(&session, answered, world).await {
                tracing::warn!(session = %session.id, %error, "the phone was refused");
            }
        }
    }

    async fn show(&self, session: &SessionView, answered: &mut Option<String>, world: &World) -> Result<(), CallError> {
        match (session.state, &session.challenge) {
            (StateName::Completed, _) => {
                let path = format!("/v1/sessions/{}/notice", session.id);
                self.caller.post(&path, &serde_json::json!({})).await.map(drop_answer)
            }
            (StateName::AwaitingProof, Some(challenge)) if answered.as_ref() != Some(&challenge.nonce) => {
                *answered = Some(challenge.nonce.clone());
                self.approve(challenge, world).await
            }
            _ => Ok(()),
        }
    }

    /// Approves what the pump shows, and nothing else.
    async fn approve(&self, challenge: &ChallengeView, world: &World) -> Result<(), CallError> {
        let device = world.device(self.car);
        let is_right = world.oracle().is_asked_rightly(challenge.session, device, challenge.amount.minor);
        let Some(terms) = terms(challenge).filter(|_| is_right) else { return Ok(()) };
        let mac = loop {
            let answer = world.fleet().car(self.car).dongle.answer(challenge.device, &terms);
            match answer {
                Some(mac) => break mac,
                None => tokio::time::sleep(AGAIN).await,
            }
        };
        let path = format!("/v1/sessions/{}/proof", challenge.session);
        let proof = proof(&self.key, &terms, &mac);
        self.caller.post_once(&path, &challenge.nonce, &proof).await.map(drop_answer)
    }
}

fn drop_answer(_: serde_json::Value) {}

async fn couple(client: &Client, key: &SigningKey, car: &Car, code: &str) -> Result<String, EnrolError> {
    let phone_key = key.verifying_key().to_bytes();
    let claiming = Claiming {
        activation_code: code,
        phone_key: hex::encode(phone_key),
        plate: &car.plate,
        fuel: car.fuel,
        means: &car.means,
        signature: hex::encode(key.sign(&claim_message(code, &phone_key, &car.plate)).to_bytes()),
    };
    let claimed: Claimed = client.post("/v1/couplings", &claiming).await?;
    let terms = CoupleTerms { nonce: nonce(&claimed.nonce)?, device: claimed.device, phone_key };
    let mac = car.dongle.answer(claimed.device, &terms).ok_or(EnrolError::Silent)?;
    let path = format!("/v1/couplings/{}/proof", claimed.coupling);
    let TokenGiven { token } = client.post(&path, &proof(key, &terms, &mac)).await?;
    Ok(token)
}

/// The phone's token, for one that was imported.
pub(crate) async fn log_in(client: &Client, key: &SigningKey, device: DeviceId) -> Result<String, CallError> {
    let at = telemetry::now();
    let signature = hex::encode(key.sign(&phone_token_message(device, at)).to_bytes());
    let TokenGiven { token } = client.post("/v1/phone/tokens", &LoggingIn { device, at, signature }).await?;
    Ok(token)
}

/// What dongle and phone answer.
pub(crate) fn proof(key: &SigningKey, terms: &impl Terms, mac: &[u8; 32]) -> Proof {
    let signature = key.sign(&terms.phone_message(mac)).to_bytes();
    Proof { mac: hex::encode(mac), signature: hex::encode(signature) }
}

/// `None` when the nonce is none.
pub(crate) fn terms(challenge: &ChallengeView) -> Option<PayTerms> {
    Some(PayTerms {
        nonce: nonce(&challenge.nonce).ok()?,
        device: challenge.device,
        binding: challenge.binding,
        session: challenge.session,
        station: challenge.station,
        pump: challenge.pump,
        amount: challenge.amount,
        epoch: challenge.epoch,
    })
}

fn nonce(text: &str) -> Result<Nonce, hex::FromHexError> {
    let mut nonce = Nonce::default();
    hex::decode_to_slice(text, &mut nonce).map(|()| nonce)
}

/// The sessions that an event of the phone tells of.
pub(crate) fn read(event: &Event) -> Result<Vec<SessionView>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Snapshot {
        sessions: Vec<SessionView>,
    }
    if event.name == "snapshot" {
        return serde_json::from_str(&event.data).map(|Snapshot { sessions }| sessions);
    }
    serde_json::from_str(&event.data).map(|session| vec![session])
}
