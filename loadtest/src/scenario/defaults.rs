//! What holds where a scenario says nothing: a busy chain, as the design counts it.

use std::collections::BTreeMap;

use super::{Dongles, Flood, People, Scenario, Stations, Storm, Traffic};

/// Purchases by hour of a real set of card data.
const PURCHASES_BY_HOUR: [u8; 24] =
    [7, 0, 2, 10, 30, 32, 54, 62, 92, 86, 58, 79, 72, 68, 82, 58, 74, 56, 33, 20, 9, 6, 6, 4];

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            title: "A fleet".into(),
            seed: 1,
            seconds: 60,
            warm_up_seconds: 15,
            slot_seconds: 60,
            stations: Stations::default(),
            traffic: Traffic::default(),
            dongles: Dongles::default(),
            people: People::default(),
            flood: Flood::default(),
            storm: Storm::default(),
            thresholds: BTreeMap::new(),
        }
    }
}

impl Default for Stations {
    /// Six receivers.
    fn default() -> Stations {
        Stations {
            count: 100,
            csv: None,
            brand: None,
            pumps: 12,
            canopy_receivers: 1,
            pump_receivers: 3,
            neighbours_within_m: 1_000.0,
            paired_share: 0.1,
        }
    }
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            hour: 8,
            by_hour: PURCHASES_BY_HOUR.map(f64::from).to_vec(),
            cars: 12.0,
            sales_per_day: 600.0,
            dwell_s: 240.0,
            drive_by_per_hour: 60.0,
            strangers_share: 0.05,
        }
    }
}

impl Default for Dongles {
    fn default() -> Dongles {
        Dongles {
            advertisements_per_s: 5.0,
            drift_ppm: 150,
            offset_ms: 4_000,
            power_cut_share: 0.5,
            same_digits_share: 0.3,
            coupled_share: 0.02,
        }
    }
}

impl Default for People {
    fn default() -> People {
        People {
            share: 1.0,
            litres: [4.0, 22.0, 36.0, 114.0],
            litres_per_minute: 35.0,
            fuelling_s: [4.0, 240.0],
            plate_queries_per_s: 20.0,
            late_ms: 1_000,
        }
    }
}

impl Default for Flood {
    fn default() -> Flood {
        Flood { stations: 0, frames_per_s: 1_000.0 }
    }
}
