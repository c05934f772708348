//! Stations, their terminals, and the cars that stand at the pumps with a dongle and a driver's phone.

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use forecourt::{
    engine::{
        batch::Hearing,
        code::Secret,
        control::{Receiver, Role},
        id::{PumpNumber, ReceiverId, StationId},
        proof::ProofKey,
        time::SlotLength,
    },
    ingest::pki::{self, Authority, PkiError},
    telemetry,
    uplink::{FinalStats, Identity, IdentityError, Stats, Uplink, UplinkConfig, UplinkHandle, client_endpoint},
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::Customer;
use crate::{
    flood::dongles::Dongles,
    people::{CallError, Client, setup},
    process::Serve,
};

/// Counts the vehicles that came on a screen.
const PRESENCE: &str = "forecourt_station_presence_total";

/// Loud enough to have entered at once.
const RSSI: i8 = -50;

/// From the first hearing until the last car can be selected.
const ENTERED_WITHIN: Duration = Duration::from_secs(20);

/// Logins at a time.
const AT_A_TIME: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Setup(#[from] setup::SetupError),
    #[error("an answer of the engine: {0}")]
    Call(#[from] CallError),
    #[error("the stations' certificates: {0}")]
    Pki(#[from] PkiError),
    #[error("the stations' certificates: {0}")]
    Identity(#[from] IdentityError),
    #[error("an uplink: {0}")]
    Socket(#[from] io::Error),
    #[error("only {entered} of {cars} cars came on the terminals' screens")]
    NotEntered { entered: usize, cars: usize },
}

/// All that follows from the seed. Car `n` stands at station `n / cars_per_station + 1`, at a pump of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub seed: u64,
    pub cars: usize,
    pub cars_per_station: usize,
    /// Every car's means of payment.
    pub means: &'static str,
    /// Cars at the last pumps of each station whose engine is off once all have entered: they are heard no more.
    pub parked_per_station: usize,
}

/// The cars go on being heard until it is dropped.
pub(super) struct Radio {
    broadcasts: AbortOnDropHandle<()>,
    uplinks: Arc<Vec<UplinkHandle>>,
}

impl Radio {
    pub(super) fn stats(&self) -> impl Iterator<Item = Stats> {
        self.uplinks.iter().map(UplinkHandle::stats)
    }

    /// No car is heard any more; what the uplinks still hold is sent, within this time each.
    pub(super) async fn fall_silent(self, within: Duration) -> Vec<FinalStats> {
        self.broadcasts.abort();
        let _ = self.broadcasts.await;
        let uplinks = Arc::into_inner(self.uplinks).expect("the other hold on them went with the broadcasts");
        join_all(uplinks.into_iter().map(|uplink| uplink.finish(within))).await
    }
}

impl Chain {
    pub(super) fn stations(&self) -> usize {
        self.cars.div_ceil(self.cars_per_station)
    }

    /// Makes everybody known and has the cars heard until all are on the screens.
    pub(super) async fn open(
        self,
        operator: &Client,
        engine: &Serve,
        heard_each: Duration,
    ) -> Result<Radio, ChainError> {
        setup::import_one(operator, "stations", "/v1/imports/stations", self.stations_csv()).await?;
        setup::import_one(operator, "dongles", "/v1/imports/devices", self.dongles_csv()).await?;
        let (uplinks, have_entered) = (Arc::new(self.uplinks(engine)?), CancellationToken::new());
        let (ways, all_in) = (uplinks.clone(), have_entered.clone());
        let broadcasts = tokio::spawn(async move {
            let mut each = tokio::time::interval(heard_each);
            loop {
                each.tick().await;
                self.broadcast(&ways, all_in.is_cancelled());
            }
        });
        let radio = Radio { broadcasts: AbortOnDropHandle::new(broadcasts), uplinks };
        self.until_entered(engine).await?;
        have_entered.cancel();
        Ok(radio)
    }

    /// Its engine is off once it has entered.
    pub(super) fn is_parked(self, car: usize) -> bool {
        car % self.cars_per_station >= self.cars_per_station - self.parked_per_station
    }

    /// Signs a terminal of each station in.
    pub(super) async fn terminals(self, operator: &Client) -> Result<Vec<Client>, CallError> {
        stream::iter(1..=self.stations() as u32)
            .map(|station| setup::terminal_token(operator, StationId(station)))
            .buffered(AT_A_TIME)
            .try_collect()
            .await
    }

    /// Signs terminals and phones in.
    pub(super) async fn customers(self, operator: &Client) -> Result<Vec<Customer>, ChainError> {
        let terminals = self.terminals(operator).await?;
        stream::iter(0..self.cars)
            .map(|car| {
                let terminal = terminals[car / self.cars_per_station].clone();
                async move { Ok(Customer::sign_in(self.car(car), operator, terminal).await?) }
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await
    }

    fn dongles(self) -> Dongles {
        Dongles { seed: self.seed, count: self.cars as u64 }
    }

    pub(super) fn car(self, number: usize) -> Car {
        let root = self.dongles().root(number as u64);
        Car {
            number,
            station: self.station(number),
            pump: self.pump(number),
            proof_key: ProofKey::from_root(&root),
            phone: self.phone(number),
        }
    }

    fn station(self, car: usize) -> StationId {
        StationId((car / self.cars_per_station) as u32 + 1)
    }

    fn pump(self, car: usize) -> PumpNumber {
        PumpNumber((car % self.cars_per_station) as u16 + 1)
    }

    /// Another secret of the same seed, far from the dongles' own.
    fn phone(self, car: usize) -> SigningKey {
        SigningKey::from_bytes(&self.dongles().root(u64::MAX - car as u64))
    }

    fn stations_csv(self) -> String {
        let mut csv = String::from("station_id,name,brand,lat,lon,pumps\n");
        for station in 1..=self.stations() {
            // A tenth of a degree apart: nobody's neighbour.
            let (lat, lon) = (40.0 + (station / 100) as f64 * 0.1, 5.0 + (station % 100) as f64 * 0.1);
            writeln!(csv, "{station},Station {station},Load,{lat:.1},{lon:.1},{}", self.cars_per_station)
                .expect("a string takes what is written");
        }
        csv
    }

    fn dongles_csv(self) -> String {
        let mut csv = String::from("device_id,scheme,key_hex,plate,fuel,phone_key_hex,payment_means\n");
        for car in 0..self.cars {
            let (device, root) = (Dongles::device(car as u64), self.dongles().root_hex(car as u64));
            let phone = hex::encode(self.phone(car).verifying_key().to_bytes());
            writeln!(csv, "{device},hmac,{root},{},diesel,{phone},{}", plate(car), self.means)
                .expect("a string takes what is written");
        }
        csv
    }

    fn uplinks(self, engine: &Serve) -> Result<Vec<UplinkHandle>, ChainError> {
        let server = engine.addresses().ingest;
        let endpoint = client_endpoint(server)?;
        let authority = Authority::open(engine.data())?;
        let ca = pki::folder(engine.data()).join("ca.pem");
        let pumps = 1..=self.cars_per_station as u16;
        let receivers: Vec<Receiver> = pumps
            .map(|pump| Receiver { id: ReceiverId(pump as u8), role: Role::Pump(PumpNumber(pump)), enter_dbm: None })
            .collect();
        (1..=self.stations() as u32)
            .map(|station| {
                let issued = authority.issue_station(StationId(station))?;
                let identity = Identity::read(&ca, &issued.certificate, &issued.key)?;
                let mut config = UplinkConfig::new(server, StationId(station), receivers.clone(), identity);
                config.endpoint = Some(endpoint.clone());
                Ok(Uplink::start(config)?)
            })
            .collect()
    }

    fn broadcast(self, uplinks: &[UplinkHandle], have_entered: bool) {
        let at = telemetry::now();
        let slot = SlotLength::DEFAULT.slot_at(at);
        for car in (0..self.cars).filter(|car| !(have_entered && self.is_parked(*car))) {
            let code = Secret::from_root(&self.dongles().root(car as u64)).code(slot);
            let receiver = ReceiverId(self.pump(car).0 as u8);
            uplinks[car / self.cars_per_station].hear(Hearing { code, receiver, rssi: RSSI, at });
        }
    }

    async fn until_entered(self, engine: &Serve) -> Result<(), ChainError> {
        let patience = tokio::time::Instant::now() + ENTERED_WITHIN;
        loop {
            let entered =
                engine.metrics().await.map_or(0, |metrics| metrics.count(PRESENCE, &[("change", "entered")])) as usize;
            if entered >= self.cars {
                return Ok(());
            }
            if tokio::time::Instant::now() >= patience {
                return Err(ChainError::NotEntered { entered, cars: self.cars });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A car with its dongle's secret and its driver's phone.
pub(super) struct Car {
    pub number: usize,
    pub station: StationId,
    pub pump: PumpNumber,
    pub proof_key: ProofKey,
    pub phone: SigningKey,
}

pub(super) fn plate(car: usize) -> String {
    format!("FC{car:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_car_has_a_line_and_a_pump_of_its_own_at_a_station_that_is_known() {
        let chain = Chain { seed: 1, cars: 20, cars_per_station: 8, means: "tok_ok", parked_per_station: 0 };
        assert_eq!((chain.stations(), chain.stations_csv().lines().count()), (3, 1 + 3));
        assert_eq!(chain.dongles_csv().lines().count(), 1 + 20);
        let places: std::collections::HashSet<_> = (0..20).map(|car| (chain.station(car), chain.pump(car))).collect();
        assert_eq!(places.len(), 20);
    }

    #[test]
    fn a_phone_has_another_key_than_every_dongle() {
        let chain = Chain { seed: 1, cars: 20, cars_per_station: 8, means: "tok_ok", parked_per_station: 0 };
        let phones: Vec<[u8; 32]> = (0..20).map(|car| chain.phone(car).to_bytes()).collect();
        assert!((0..20).all(|car| !phones.contains(&chain.dongles().root(car))));
    }
}
