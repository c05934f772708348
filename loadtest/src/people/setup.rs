//! Before the first car: stations, dongles, prices, terminals and phones, each through the door that it has in the
//! field. Keys and plates of most cars come by the operator's import; some phones couple their dongle themselves.
//! A nation's terminals and phones log in many at a time.

use std::{fmt::Write as _, sync::Arc};

use forecourt::engine::id::StationId;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;

use super::{
    attendant::{CURRENCY, PRICES},
    client::{CallError, Client},
    phone::{EnrolError, Phone},
    terminal::Terminal,
};
use crate::{
    fleet::{Car, CarId, Enrolment, Fleet, SiteId},
    world::World,
};

/// Calls at a time: enough for the store's group commit, and few enough that none waits long.
const AT_A_TIME: usize = 64;

/// Dongles in one import's body: 20 MB, of which the engine takes 64.
const DONGLES_A_BODY: usize = 100_000;

const STATIONS_HEADER: &str = "station_id,name,brand,lat,lon,pumps\n";
const DONGLES_HEADER: &str =
    "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means,activation_code\n";

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
    let (stations, dongles) = {
        let fleet = world.fleet();
        (stations_csv(&fleet), dongles_csv(&fleet))
    };
    import_one(operator, "stations", "/v1/imports/stations", stations).await?;
    for body in dongles {
        import_one(operator, "dongles", "/v1/imports/devices", body).await?;
    }
    Ok(())
}

pub(crate) async fn import_one(
    operator: &Client,
    what: &'static str,
    path: &str,
    csv: String,
) -> Result<(), SetupError> {
    let imported: Imported = operator.post_csv(path, csv).await.map_err(|source| SetupError::Call { what, source })?;
    match imported.refusals.into_iter().next() {
        Some(Refusal { reason }) => Err(SetupError::Import { what, refused: imported.refused, reason }),
        None => Ok(()),
    }
}

fn stations_csv(fleet: &Fleet) -> String {
    let mut csv = String::from(STATIONS_HEADER);
    for site in &fleet.sites {
        let (name, brand) = (quoted(&site.name), quoted(&site.brand));
        let (station, pumps, at) = (site.station, site.pumps(), site.coordinates);
        writeln!(csv, "{station},{name},{brand},{},{},{pumps}", at.lat, at.lon)
            .expect("a string takes what is written");
    }
    csv
}

/// A field as RFC 4180 wants one that may hold anything.
fn quoted(field: &str) -> String {
    format!("\"{}\"", field.replace('"', "\"\""))
}

/// As many bodies as it takes.
fn dongles_csv(fleet: &Fleet) -> Vec<String> {
    let lines: Vec<String> = fleet.cars.iter().filter_map(dongle_line).collect();
    lines.chunks(DONGLES_A_BODY).map(|lines| format!("{DONGLES_HEADER}{}", lines.concat())).collect()
}

/// `None` for a stranger.
fn dongle_line(car: &Car) -> Option<String> {
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

/// Gives each of these stations its terminal and its prices.
pub async fn terminals(operator: &Client, world: &World, sites: Vec<SiteId>) -> Result<Vec<Arc<Terminal>>, SetupError> {
    let stations: Vec<(SiteId, StationId)> = {
        let fleet = world.fleet();
        sites.into_iter().map(|site| (site, fleet.site(site).station)).collect()
    };
    stream::iter(stations)
        .map(|(site, station)| terminal(operator, site, station))
        .buffered(AT_A_TIME)
        .try_collect()
        .await
        .map_err(|source| SetupError::Call { what: "a terminal", source })
}

/// A caller with the token of one of the station's terminals.
pub(crate) async fn terminal_token(operator: &Client, station: StationId) -> Result<Client, CallError> {
    let TerminalToken { token } = operator.post("/v1/terminals", &json!({ "station": station })).await?;
    Ok(operator.with_token(token))
}

async fn terminal(operator: &Client, site: SiteId, station: StationId) -> Result<Arc<Terminal>, CallError> {
    let caller = terminal_token(operator, station).await?;
    let grades: Vec<_> =
        PRICES.iter().map(|(grade, price)| json!({ "grade": grade, "unit_price_milli": price })).collect();
    let prices = json!({ "currency": CURRENCY, "grades": grades });
    caller.put_once(&format!("/v1/stations/{station}/prices"), "opening-prices", &prices).await?;
    Ok(Arc::new(Terminal::new(caller, site, station)))
}

/// Couples or logs in the phones of these cars.
pub async fn phones(client: &Client, world: &World, cars: Vec<CarId>) -> Result<Vec<Arc<Phone>>, SetupError> {
    stream::iter(cars).map(|car| phone(client, world, car)).buffered(AT_A_TIME).try_collect().await
}

async fn phone(client: &Client, world: &World, id: CarId) -> Result<Arc<Phone>, SetupError> {
    let car = world.fleet().car(id).clone();
    match Phone::enrol(client, id, &car).await {
        Ok(phone) => Ok(Arc::new(phone)),
        Err(source) => Err(SetupError::Phone { plate: car.plate, source }),
    }
}

#[cfg(test)]
mod tests {
    use forecourt::engine::time::UnixMs;

    use super::*;
    use crate::{demo, fleet::Role};

    #[test]
    fn the_import_names_every_car_but_the_strangers() {
        let fleet = Fleet::new(demo::fleet_config(1, 2, 30, 15), UnixMs(1_800_000_000_000));
        let csv = dongles_csv(&fleet).concat();
        assert_eq!(csv.lines().count(), 1 + 30);
        assert!(fleet.cars.iter().any(|car| car.role == Role::Stranger));
        assert!(csv.lines().all(|line| line.split(',').count() == 9), "{csv}");
        assert_eq!(stations_csv(&fleet).lines().count(), 1 + 2);
    }

    #[test]
    fn a_name_may_hold_a_comma_and_a_quote() {
        assert_eq!(quoted("Bar \"Sole\", S.R.L."), "\"Bar \"\"Sole\"\", S.R.L.\"");
    }
}
