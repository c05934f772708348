//! Before the first car: stations, dongles, prices, terminals and phones, each through the door that it has in the
//! field. Keys and plates of most cars come by the operator's import; some phones couple their dongle themselves.

use std::{fmt::Write as _, sync::Arc};

use forecourt::engine::id::StationId;
use serde::Deserialize;
use serde_json::json;

use crate::{
    attendant::{CURRENCY, PRICES},
    client::{CallError, Client},
    fleet::{Car, CarId, Enrolment, Fleet, SiteId},
    phone::{EnrolError, Phone},
    terminal::Terminal,
    world::World,
};

/// The stations lie in a row along a meridian: a hundredth of a degree of latitude is 1.1 km.
const SOUTHMOST_DEGREES: f64 = 37.0;
const APART_DEGREES: f64 = 0.0117;
const LONGITUDE_DEGREES: f64 = 127.0;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{what}: {source}")]
    Call { what: &'static str, source: CallError },
    #[error("{what}: {refused} lines were refused, the first because {reason}")]
    Import { what: &'static str, refused: u64, reason: String },
    #[error("the phone of {plate}: {source}")]
    Phone { plate: String, source: EnrolError },
}

#[derive(Deserialize)]
struct Imported {
    refused: u64,
    refusals: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

#[derive(Deserialize)]
struct TerminalToken {
    token: String,
}

/// Makes stations and dongles known.
pub async fn import(operator: &Client, world: &World) -> Result<(), SetupError> {
    let (stations, devices) = {
        let fleet = world.fleet();
        (stations_csv(&fleet), devices_csv(&fleet))
    };
    import_one(operator, "stations", "/v1/imports/stations", stations).await?;
    import_one(operator, "dongles", "/v1/imports/devices", devices).await
}

async fn import_one(operator: &Client, what: &'static str, path: &str, csv: String) -> Result<(), SetupError> {
    let imported: Imported = operator.post_csv(path, csv).await.map_err(|source| SetupError::Call { what, source })?;
    match imported.refusals.into_iter().next() {
        Some(Refusal { reason }) => Err(SetupError::Import { what, refused: imported.refused, reason }),
        None => Ok(()),
    }
}

fn stations_csv(fleet: &Fleet) -> String {
    let mut csv = String::from("station_id,name,brand,lat,lon,pumps\n");
    for (number, site) in fleet.sites.iter().enumerate() {
        let (station, pumps) = (site.station, site.pumps);
        let latitude = SOUTHMOST_DEGREES + number as f64 * APART_DEGREES;
        writeln!(csv, "{station},Service area {station},Demo,{latitude:.4},{LONGITUDE_DEGREES},{pumps}")
            .expect("a string takes what is written");
    }
    csv
}

fn devices_csv(fleet: &Fleet) -> String {
    let header = "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means,activation_code\n";
    fleet.cars.iter().filter_map(device_line).fold(header.into(), |csv, line| csv + &line)
}

/// `None` for a stranger.
fn device_line(car: &Car) -> Option<String> {
    let Car { dongle, plate, fuel, means, .. } = car;
    let (device, key) = (dongle.device, dongle.root_hex());
    match &car.enrolment {
        Enrolment::Imported => {
            let phone = ed25519_dalek::SigningKey::from_bytes(&car.phone_seed).verifying_key();
            let (phone, means) = (hex::encode(phone.to_bytes()), means.join(";"));
            Some(format!("{device},hmac,{key},,{plate},{fuel},{phone},{means},\n"))
        }
        Enrolment::Coupled { activation_code } => Some(format!("{device},hmac,{key},,,,,,{activation_code}\n")),
        Enrolment::Unknown => None,
    }
}

/// Gives every station its terminal and its prices.
pub async fn terminals(operator: &Client, world: &World) -> Result<Vec<Arc<Terminal>>, SetupError> {
    let stations: Vec<StationId> = world.fleet().sites.iter().map(|site| site.station).collect();
    let mut terminals = Vec::new();
    for (number, station) in stations.into_iter().enumerate() {
        let terminal = terminal(operator, SiteId(number), station).await;
        terminals.push(terminal.map_err(|source| SetupError::Call { what: "a terminal", source })?);
    }
    Ok(terminals)
}

async fn terminal(operator: &Client, site: SiteId, station: StationId) -> Result<Arc<Terminal>, CallError> {
    let TerminalToken { token } = operator.post("/v1/terminals", &json!({ "station": station })).await?;
    let caller = operator.with_token(token);
    let grades: Vec<_> =
        PRICES.iter().map(|(grade, price)| json!({ "grade": grade, "unit_price_milli": price })).collect();
    let prices = json!({ "currency": CURRENCY, "grades": grades });
    caller.put_once(&format!("/v1/stations/{station}/prices"), "opening-prices", &prices).await?;
    Ok(Arc::new(Terminal::new(caller, site, station)))
}

/// Couples or logs in the phone of every registered car.
pub async fn phones(client: &Client, world: &World) -> Result<Vec<Phone>, SetupError> {
    let mut phones = Vec::new();
    for id in world.registered() {
        phones.push(phone(client, world, id).await?);
    }
    Ok(phones)
}

async fn phone(client: &Client, world: &World, id: CarId) -> Result<Phone, SetupError> {
    let car = world.fleet().car(id).clone();
    let enrolled = Phone::enrol(client, id, &car).await;
    enrolled.map_err(|source| SetupError::Phone { plate: car.plate, source })
}

#[cfg(test)]
mod tests {
    use forecourt::engine::time::{SlotLength, UnixMs};

    use super::*;
    use crate::fleet::{FleetConfig, Role};

    #[test]
    fn the_import_names_every_car_but_the_strangers() {
        let config = FleetConfig { seed: 1, stations: 2, pumps: 4, cars: 30, slot: SlotLength::DEFAULT };
        let fleet = Fleet::new(config, UnixMs(1_800_000_000_000));
        let csv = devices_csv(&fleet);
        assert_eq!(csv.lines().count(), 1 + 30);
        assert!(fleet.cars.iter().any(|car| car.role == Role::Stranger));
        assert!(csv.lines().all(|line| line.split(',').count() == 9), "{csv}");
        assert_eq!(stations_csv(&fleet).lines().count(), 1 + 2);
    }
}
