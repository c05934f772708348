//! One station with its uplink and terminal, and cars with dongle and phone that come to it.

use std::{path::Path, time::Duration};

use ed25519_dalek::{Signer, SigningKey};
use forecourt::{
    engine::{
        batch::Hearing,
        code::Secret,
        control::{Receiver, Role},
        id::{DeviceId, PumpNumber, ReceiverId, StationId},
        money::Money,
        proof::{PayTerms, ProofKey, Terms},
        time::{Slot, SlotLength},
    },
    ingest::pki,
    registration::phone_token_message,
    telemetry::now,
    uplink::{Identity, Uplink, UplinkConfig, UplinkHandle},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::engine::{Answer, Engine, eventually};

pub(crate) const STATION: StationId = StationId(101);
pub(crate) const OTHER_STATION: StationId = StationId(102);
pub(crate) const PUMP: u16 = 3;

/// A registered car: what its dongle and its driver's phone know.
pub(crate) struct Car {
    pub(crate) device: DeviceId,
    pub(crate) plate: &'static str,
    means: &'static str,
    root: [u8; 32],
    phone: SigningKey,
}

impl Car {
    pub(crate) fn new(device: u64, plate: &'static str, means: &'static str) -> Car {
        let mut root = [0x42; 32];
        root[..8].copy_from_slice(&device.to_be_bytes());
        let mut phone = root;
        phone[31] ^= 0xff;
        Car { device: DeviceId(device), plate, means, root, phone: SigningKey::from_bytes(&phone) }
    }

    pub(crate) fn root(&self) -> [u8; 32] {
        self.root
    }

    fn row(&self) -> String {
        let (root, phone) = (hex::encode(self.root), hex::encode(self.phone.verifying_key().to_bytes()));
        format!("{},hmac,{root},,{},gasoline,{phone},{}\n", self.device, self.plate, self.means)
    }

    pub(crate) fn hearing(&self, rssi: i8) -> Hearing {
        self.hearing_by(SlotLength::DEFAULT.slot_at(now()), rssi)
    }

    /// By a clock that shows this slot.
    pub(crate) fn hearing_by(&self, slot: Slot, rssi: i8) -> Hearing {
        let code = Secret::from_root(&self.root).code(slot);
        Hearing { code, receiver: ReceiverId(PUMP as u8), rssi, at: now() }
    }

    pub(crate) async fn phone_token(&self, engine: &Engine) -> String {
        let at = now();
        let signature = self.phone.sign(&phone_token_message(self.device, at));
        let login = json!({ "device": self.device, "at": at, "signature": hex::encode(signature.to_bytes()) });
        engine.post("/v1/phone/tokens", "", login).await.is(201).text("token")
    }

    /// What dongle and phone answer to the challenge of a session.
    pub(crate) fn proof(&self, session: &Value) -> Value {
        let challenge = &session["challenge"];
        let id = |field: &str| serde_json::from_value(challenge[field].clone()).expect("an id");
        let mut nonce = [0; 32];
        hex::decode_to_slice(challenge["nonce"].as_str().expect("a nonce"), &mut nonce).expect("32 bytes");
        let terms = PayTerms {
            nonce,
            device: self.device,
            binding: serde_json::from_value(challenge["binding"].clone()).expect("a binding"),
            session: serde_json::from_value(challenge["session"].clone()).expect("a session"),
            station: id("station"),
            pump: PumpNumber(challenge["pump"].as_u64().expect("a pump") as u16),
            amount: serde_json::from_value::<Money>(challenge["amount"].clone()).expect("an amount"),
            epoch: challenge["epoch"].as_u64().expect("an epoch"),
        };
        let mac = terms.mac(&ProofKey::from_root(&self.root));
        let signature = self.phone.sign(&terms.phone_message(&mac)).to_bytes();
        json!({ "mac": hex::encode(mac), "signature": hex::encode(signature) })
    }
}

/// A station with its cars registered, its uplink up and its terminal signed in.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) terminal: String,
    pub(crate) radio: JoinHandle<()>,
}

impl Site {
    /// The cars stand at the pump and broadcast.
    pub(crate) async fn with_cars(cars: &[&Car]) -> Site {
        Site::on(Engine::start().await, cars).await
    }

    /// The same on an engine that runs already.
    pub(crate) async fn on(engine: Engine, cars: &[&Car]) -> Site {
        import(&engine, cars).await;
        let terminal = terminal_token(&engine, STATION).await;
        let uplink = uplink(&engine, STATION);
        let heard: Vec<(u64, &'static str, &'static str)> =
            cars.iter().map(|car| (car.device.0, car.plate, car.means)).collect();
        let radio = tokio::spawn(async move {
            let cars: Vec<Car> =
                heard.into_iter().map(|(device, plate, means)| Car::new(device, plate, means)).collect();
            loop {
                uplink.hear_all(&cars.iter().map(|car| car.hearing(-55)).collect::<Vec<_>>());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let site = Site { engine, terminal, radio };
        site.until_visible(cars.len()).await;
        site
    }

    /// Waits until the terminal sees this many vehicles.
    pub(crate) async fn until_visible(&self, count: usize) {
        let path = format!("/v1/stations/{STATION}/vehicles");
        eventually("vehicles at the terminal", async || {
            let answer = self.engine.get(&path, &self.terminal).await;
            (answer.body["vehicles"].as_array()?.len() == count).then_some(())
        })
        .await;
    }

    pub(crate) async fn select(&self, plate: &str) -> Answer {
        let body = json!({ "plate": plate, "pump": PUMP });
        self.engine.post(&format!("/v1/stations/{STATION}/sessions"), &self.terminal, body).await
    }

    pub(crate) async fn order(&self, session: &str, order: &str, body: Value) -> Answer {
        self.engine.post(&format!("/v1/sessions/{session}/{order}"), &self.terminal, body).await
    }

    /// The session once it is in this state, as `token` sees it.
    pub(crate) async fn until_state(&self, session: &str, token: &str, state: &str) -> Value {
        let path = format!("/v1/sessions/{session}");
        eventually(&format!("session in state {state}"), async || {
            let answer = self.engine.get(&path, token).await;
            (answer.body["state"] == state).then_some(answer.body)
        })
        .await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.radio.abort();
    }
}

/// 20 litres at 1.650 a litre.
pub(crate) fn completion(transaction: &str) -> Value {
    json!({
        "pump": PUMP, "grade": "gasoline", "volume_ml": 20_000, "unit_price_milli": 165_000,
        "amount": { "minor": 3_300, "currency": "EUR" }, "transaction": transaction,
    })
}

pub(crate) async fn import(engine: &Engine, cars: &[&Car]) {
    let stations = format!(
        "station_id,name,brand,lat,lon,pumps\n{STATION},North,Demo,41.9,12.5,4\n{OTHER_STATION},South,Demo,45.4,9.2,4\n"
    );
    engine.import("stations", stations).await;
    let header = "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means\n";
    engine.import("devices", header.to_owned() + &cars.iter().map(|car| car.row()).collect::<String>()).await;
}

pub(crate) async fn terminal_token(engine: &Engine, station: StationId) -> String {
    engine.post("/v1/terminals", engine.operator(), json!({ "station": station })).await.is(201).text("token")
}

pub(crate) fn identity(folder: &Path, station: StationId) -> Identity {
    let issued = pki::issue_station(folder, station).expect("the engine made an authority");
    Identity::read(&folder.join("pki").join("ca.pem"), &issued.certificate, &issued.key).expect("just written")
}

pub(crate) fn receivers() -> Vec<Receiver> {
    let pump = Receiver { id: ReceiverId(PUMP as u8), role: Role::Pump(PumpNumber(PUMP)), enter_dbm: None };
    vec![Receiver { id: ReceiverId(0), role: Role::Canopy, enter_dbm: None }, pump]
}

pub(crate) fn uplink(engine: &Engine, station: StationId) -> UplinkHandle {
    let identity = identity(engine.folder(), station);
    let config = UplinkConfig::new(engine.addresses().ingest, station, receivers(), identity);
    Uplink::start(config).expect("a socket")
}
