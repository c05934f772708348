//! The stations of the chain: few enough to be in memory, so that admission asks no store.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use rusqlite::{Connection, params};

use crate::engine::id::StationId;

/// More stations than any country has: 150 bytes each, 15 MB.
pub(super) const STATIONS_MAX: usize = 100_000;

/// A station, as it was imported.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Station {
    pub id: StationId,
    pub name: String,
    pub brand: String,
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
    pub pumps: u16,
}

/// All stations, as of the last import.
#[derive(Default)]
pub(super) struct Directory {
    stations: RwLock<BTreeMap<StationId, Arc<Station>>>,
}

impl Directory {
    pub(super) fn load(&self, db: &Connection) -> rusqlite::Result<()> {
        let stations = select_all(db)?.into_iter().map(|station| (station.id, Arc::new(station))).collect();
        *self.stations.write().expect("no holder panics") = stations;
        Ok(())
    }

    pub(super) fn put(&self, imported: &[Station]) {
        let mut stations = self.stations.write().expect("no holder panics");
        stations.extend(imported.iter().map(|station| (station.id, Arc::new(station.clone()))));
    }

    pub(super) fn known(&self, id: StationId) -> bool {
        self.stations.read().expect("no holder panics").contains_key(&id)
    }

    pub(super) fn station(&self, id: StationId) -> Option<Arc<Station>> {
        self.stations.read().expect("no holder panics").get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Station>> {
        self.stations.read().expect("no holder panics").values().cloned().collect()
    }
}

pub(super) fn select(db: &Connection, id: StationId) -> rusqlite::Result<Option<Station>> {
    let mut select = db.prepare_cached(&format!("{SELECT} WHERE station_id = ?1"))?;
    let mut rows = select.query_map([id.0], station)?;
    rows.next().transpose()
}

pub(super) fn count(db: &Connection) -> rusqlite::Result<usize> {
    db.query_row("SELECT count(*) FROM stations", [], |row| row.get::<_, i64>(0)).map(|count| count as usize)
}

pub(super) fn upsert(db: &Connection, station: &Station) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO stations (station_id, name, brand, lat, lon, pumps) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (station_id) DO UPDATE SET
             name = excluded.name, brand = excluded.brand, lat = excluded.lat, lon = excluded.lon, pumps = excluded.pumps",
    )?
    .execute(params![station.id.0, station.name, station.brand, station.lat, station.lon, station.pumps])
    .map(drop)
}

const SELECT: &str = "SELECT station_id, name, brand, lat, lon, pumps FROM stations";

fn select_all(db: &Connection) -> rusqlite::Result<Vec<Station>> {
    db.prepare_cached(SELECT)?.query_map([], station)?.collect()
}

fn station(row: &rusqlite::Row<'_>) -> rusqlite::Result<Station> {
    Ok(Station {
        id: StationId(row.get(0)?),
        name: row.get(1)?,
        brand: row.get(2)?,
        lat: row.get(3)?,
        lon: row.get(4)?,
        pumps: row.get(5)?,
    })
}
