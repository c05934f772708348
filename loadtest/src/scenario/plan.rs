//! What a scenario means for the fleet: rates by Little's law, and as many cars as the run will see.

use std::path::Path;

use forecourt::engine::time::SlotLength;

use super::{Scenario, StationsError, stations};
use crate::{
    fleet::{Away, FleetConfig, Flood, Traffic},
    oracle::Judgement,
    people::Habits,
};

const S_PER_HOUR: f64 = 3_600.0;

/// Share of the frames that a receiver nearby hears; the design counts with it.
const HEARD: f64 = 0.7;

/// Places to wait, whatever the station's size: several cars may share one.
const WAITING: u8 = 12;

/// Seconds that a customer is on the air besides the fuelling: in, a look at the pump, paying, out.
const AROUND_FUELLING_S: f64 = 8.0;

/// Whoever left comes back no sooner than he has surely left the list of vehicles.
const AWAY_MS: std::ops::Range<u64> = 130_000..200_000;

/// A passer's turn: the pass, and the time until the next.
const PASSER_TURN_S: f64 = 208.0;

/// Plates that differ by letter and serial: 32 letters times 9,000. Past nine tenths of them each new one takes long.
const PLATES_MAX: f64 = 250_000.0;

/// A run, ready to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    pub fleet: FleetConfig,
    pub habits: Habits,
    pub judgement: Judgement,
    /// Hearings a second that the whole scenario is worth, as the design counts them.
    pub nominal_frames_per_s: f64,
    /// Where the stations came from.
    pub stations: String,
}

impl Scenario {
    /// `rate_share`, at most 1, is the part of the stations that takes part, each as busy as it is: a batch costs more
    /// than the frames in it, so that a thinned-out fleet would be another load. `folder` is where the scenario lies.
    pub fn plan(&self, rate_share: f64, folder: &Path) -> Result<Plan, StationsError> {
        let (mut stations, origin) = stations::of(&self.stations, self.seed, folder)?;
        let receivers = 2.0 + f64::from(self.stations.canopy_receivers) + f64::from(self.stations.pump_receivers);
        let cars_each = self.traffic.cars * self.busyness();
        let per_car = self.dongles.advertisements_per_s * receivers * HEARD;
        let nominal_frames_per_s = stations.len() as f64 * cars_each * per_car;
        let taking_part = (stations.len() as f64 * rate_share).round() as usize;
        stations.truncate(taking_part.max(1));
        let traffic = self.traffic();
        let registered = (traffic.customers + traffic.guests + traffic.passers) * stations.len() as f64;
        if registered > PLATES_MAX {
            return Err(StationsError::TooManyCars { registered: registered as u64, most: PLATES_MAX as u64 });
        }
        Ok(Plan {
            fleet: self.fleet(stations, traffic),
            habits: self.habits(),
            judgement: Judgement { late_ms: self.people.late_ms },
            nominal_frames_per_s,
            stations: origin,
        })
    }

    /// How busy the hour is, to the day's busiest.
    fn busyness(&self) -> f64 {
        let busiest = self.traffic.by_hour.iter().copied().fold(0.0, f64::max);
        self.traffic.by_hour[self.traffic.hour] / busiest
    }

    fn traffic(&self) -> Traffic {
        let said = &self.traffic;
        let lasts_s = f64::from(self.warm_up_seconds + self.seconds);
        let of_day = said.by_hour[said.hour] / said.by_hour.iter().sum::<f64>();
        let customers_per_s = said.sales_per_day * of_day / S_PER_HOUR;
        let passers_per_s = said.drive_by_per_hour * self.busyness() / S_PER_HOUR;
        let cars = said.cars * self.busyness();
        let strangers = cars * said.strangers_share;
        let guests_at_once = (cars - strangers - customers_per_s * self.on_the_air_s()).max(0.0);
        let guests_per_s = guests_at_once / said.dwell_s;
        Traffic {
            customers_per_s,
            guests_per_s,
            passers_per_s,
            guest_stays_ms: (said.dwell_s * 1000.0) as u64,
            customers: enough(customers_per_s * lasts_s),
            guests: guests_at_once + enough(guests_per_s * lasts_s),
            passers: enough(passers_per_s * lasts_s.min(PASSER_TURN_S)),
            guests_at_once,
            strangers,
        }
    }

    /// For how long a customer's dongle is heard.
    fn on_the_air_s(&self) -> f64 {
        let fuelling = self.people.litres[1] / self.people.litres_per_minute * 60.0;
        let fuelling = fuelling.clamp(self.people.fuelling_s[0], self.people.fuelling_s[1]);
        AROUND_FUELLING_S + fuelling * (1.0 - self.dongles.power_cut_share)
    }

    fn fleet(&self, stations: Vec<crate::fleet::Station>, traffic: Traffic) -> FleetConfig {
        FleetConfig {
            seed: self.seed,
            slot: SlotLength::from_seconds(self.slot_seconds).expect("checked when the scenario was read"),
            stations,
            canopies: self.stations.canopy_receivers,
            pump_receivers: self.stations.pump_receivers,
            waiting: WAITING,
            advertisements_per_s: self.dongles.advertisements_per_s,
            traffic,
            away: Away { ms: AWAY_MS, moves_on: 0.0 },
            flood: Flood { stations: self.flood.stations, frames_per_s: self.flood.frames_per_s },
            neighbours_within_m: self.stations.neighbours_within_m,
            power_cut_share: self.dongles.power_cut_share,
            coupled_share: self.dongles.coupled_share,
            twin_share: self.dongles.same_digits_share,
            watched_share: self.people.share,
            drift_ppm_max: self.dongles.drift_ppm.into(),
            offset_ms_max: self.dongles.offset_ms.into(),
        }
    }

    fn habits(&self) -> Habits {
        let ms = |seconds: f64| (seconds * 1000.0) as u64;
        let [shortest, longest] = self.people.fuelling_s;
        Habits {
            litres: self.people.litres,
            litres_per_minute: self.people.litres_per_minute,
            fuelling_ms: (ms(shortest), ms(longest)),
        }
    }
}

/// Cars for so many expected arrivals: three standard deviations of a Poisson process more, and one; so that hardly
/// any station runs out of them.
fn enough(arrivals: f64) -> f64 {
    if arrivals > 0.0 { arrivals + 3.0 * arrivals.sqrt() + 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use forecourt::engine::time::UnixMs;

    use super::*;
    use crate::fleet::{Fleet, Tick};

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn small(cars: f64) -> Scenario {
        let mut scenario = Scenario { seconds: 30, warm_up_seconds: 10, ..Scenario::default() };
        scenario.stations.count = 20;
        scenario.stations.paired_share = 0.0;
        scenario.traffic.cars = cars;
        scenario.traffic.drive_by_per_hour = 0.0;
        scenario
    }

    fn frames_per_s(scenario: &Scenario, rate_share: f64) -> f64 {
        let plan = scenario.plan(rate_share, Path::new(".")).unwrap();
        let (mut fleet, mut tick) = (Fleet::new(plan.fleet, NOW), Tick::default());
        fleet.open(NOW);
        fleet.advance(NOW.plus(10_000), &mut tick);
        fleet.advance(NOW.plus(30_000), &mut tick);
        tick.hearings() as f64 / 20.0
    }

    #[test]
    fn the_busy_chain_of_the_design_is_worth_880_000_frames_a_second() {
        let mut scenario = Scenario::default();
        scenario.stations.count = 3_500;
        let plan = scenario.plan(1.0, Path::new(".")).unwrap();
        assert!((plan.nominal_frames_per_s - 882_000.0).abs() < 1.0);
    }

    #[test]
    fn the_fleet_sends_what_its_scenario_is_worth() {
        let scenario = small(12.0);
        let nominal = scenario.plan(1.0, Path::new(".")).unwrap().nominal_frames_per_s;
        for share in [1.0, 0.5] {
            let ratio = frames_per_s(&scenario, share) / (nominal * share);
            assert!((0.85..1.15).contains(&ratio), "{ratio} at {share}");
        }
    }

    #[test]
    fn a_quiet_hour_has_fewer_cars() {
        let mut scenario = small(12.0);
        scenario.traffic.hour = 21;
        assert!(scenario.traffic().guests_at_once < small(12.0).traffic().guests_at_once / 5.0);
    }
}
