//! Rows of `station_id,name,brand,lat,lon,pumps`.

use std::io::Read;

use rusqlite::Connection;

use super::rows::{Column, Fields, optional, required};
use super::{Company, ImportError, ImportReport, Outcome, Progress, Written, import};
use crate::engine::id::StationId;
use crate::registration::stations::{STATIONS_MAX, Station, count, select, upsert};
use crate::registration::truth::Truth;

const COLUMNS: &[Column] =
    &[required("station_id"), required("name"), optional("brand"), optional("lat"), optional("lon"), optional("pumps")];

const NAME_BYTES_MAX: usize = 200;
const PUMPS_MAX: u16 = 999;

/// Imports stations into a store that no engine runs on. Waits for the disk.
pub fn import_stations(
    truth: &Truth,
    csv: impl Read,
    progress: impl FnMut(Progress),
) -> Result<ImportReport, ImportError> {
    import_stations_then(truth, csv, progress, |_| {})
}

/// `committed` learns of the stations of each batch once they are in the store.
pub(in crate::registration) fn import_stations_then(
    truth: &Truth,
    csv: impl Read,
    progress: impl FnMut(Progress),
    committed: impl Fn(&[Station]) + Clone + Send + 'static,
) -> Result<ImportReport, ImportError> {
    let order = |rows: Vec<Station>| {
        let committed = committed.clone();
        truth.order(move |db| Ok(apply(db, rows)?), move |written: &Written<Station>| committed(&written.changed))
    };
    import(csv, COLUMNS, Company::Engine, |fields| Ok(parse(fields)?), order, progress)
}

fn apply(db: &Connection, rows: Vec<Station>) -> rusqlite::Result<Written<Station>> {
    let mut room = STATIONS_MAX.saturating_sub(count(db)?);
    let mut written = Written { outcomes: Vec::with_capacity(rows.len()), changed: Vec::new() };
    for station in rows {
        let known = select(db, station.id)?;
        written.outcomes.push(match known {
            Some(known) if known == station => Outcome::Unchanged,
            None if room == 0 => Outcome::Refused(format!("more than {STATIONS_MAX} stations")),
            known => {
                room -= usize::from(known.is_none());
                upsert(db, &station)?;
                written.changed.push(station);
                Outcome::Applied
            }
        });
    }
    Ok(written)
}

fn parse(fields: &Fields<'_>) -> Result<Station, String> {
    let id = fields.number("station_id")?.ok_or("station_id is empty")?;
    let (name, brand) = (fields.text("name"), fields.text("brand"));
    if name.is_empty() {
        return Err("name is empty".into());
    }
    if name.len() > NAME_BYTES_MAX || brand.len() > NAME_BYTES_MAX {
        return Err(format!("name and brand have at most {NAME_BYTES_MAX} bytes"));
    }
    let (lat, lon) = (degrees(fields, "lat", 90.0)?, degrees(fields, "lon", 180.0)?);
    if lat.is_some() != lon.is_some() {
        return Err("lat and lon come together".into());
    }
    let pumps: u16 = fields.number("pumps")?.unwrap_or(0);
    if pumps > PUMPS_MAX {
        return Err(format!("a station has at most {PUMPS_MAX} pumps"));
    }
    Ok(Station { id: StationId(id), name: name.into(), brand: brand.into(), lat, lon, pumps })
}

fn degrees(fields: &Fields<'_>, name: &str, bound: f64) -> Result<Option<f64>, String> {
    match fields.number::<f64>(name)? {
        Some(degrees) if !degrees.is_finite() || degrees.abs() > bound => {
            Err(format!("{name} is not within {bound} degrees"))
        }
        degrees => Ok(degrees),
    }
}
