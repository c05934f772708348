//! How all stations do: every some seconds each is asked once, and what comes of it is shown as sums, as shares by class,
//! and as the worst few. So no metric has a label per station, and the stations that somebody must drive to are named.

use super::health::StationHealth;

/// Stations of a ranking in the metrics: what fits one look.
pub(super) const RANKS: usize = 10;

/// Stations of a ranking in the answer to an operator, 48 bytes each.
const KEPT_MAX: usize = 100;

/// Frames since the survey before, from which a share of unknown ones says something.
const FRAMES_MIN: u64 = 100;

/// What the worst stations are worst in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ailment {
    /// The share of frames whose code nobody has.
    UnknownCodes,
    SilentReceivers,
    /// Batches come late, or by a clock that is behind.
    BatchAge,
    /// A receiver's clock is not the server's, by a second and more.
    ClockDrift,
}

impl Ailment {
    pub(super) const ALL: [Ailment; 4] =
        [Ailment::UnknownCodes, Ailment::SilentReceivers, Ailment::BatchAge, Ailment::ClockDrift];

    /// How bad it is; 0: not at all.
    pub(super) fn of(self, health: &StationHealth) -> f64 {
        match self {
            Ailment::UnknownCodes if health.frames < FRAMES_MIN => 0.0,
            Ailment::UnknownCodes => health.unknown_frames as f64 / health.frames as f64,
            Ailment::SilentReceivers => f64::from(health.silent_receivers),
            Ailment::BatchAge => health.batch_age_ms as f64 / 1_000.0,
            Ailment::ClockDrift if health.drifting_receivers == 0 => 0.0,
            Ailment::ClockDrift => health.clock_drift_ms.unsigned_abs() as f64 / 1_000.0,
        }
    }
}

/// Stations by what they hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Under 10 frames a second: two cars.
    Quiet,
    Normal,
    /// From 200 frames a second on: 40 cars.
    Busy,
}

impl Class {
    pub(super) const ALL: [Class; 3] = [Class::Quiet, Class::Normal, Class::Busy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Class::Quiet => "quiet",
            Class::Normal => "normal",
            Class::Busy => "busy",
        }
    }

    fn of(frames_per_s: u64) -> Class {
        match frames_per_s {
            0..10 => Class::Quiet,
            10..200 => Class::Normal,
            _ => Class::Busy,
        }
    }
}

/// Sums over some stations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    pub(super) stations: u64,
    pub(super) linked: u64,
    pub(super) receivers: u64,
    pub(super) silent_receivers: u64,
    pub(super) drifting_receivers: u64,
    pub(super) vehicles: u64,
    pub(super) frames: u64,
    pub(super) unknown_frames: u64,
}

impl Sums {
    fn add(&mut self, health: &StationHealth) {
        self.stations += 1;
        self.linked += u64::from(health.linked);
        self.receivers += u64::from(health.receivers);
        self.silent_receivers += u64::from(health.silent_receivers);
        self.drifting_receivers += u64::from(health.drifting_receivers);
        self.vehicles += u64::from(health.vehicles);
        self.frames += health.frames;
        self.unknown_frames += health.unknown_frames;
    }
}

#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) all: Sums,
    /// By the place in [`Class::ALL`].
    pub(super) classes: [Sums; Class::ALL.len()],
    /// By the place in [`Ailment::ALL`]; the worst first, and nobody who is well.
    worst: [Vec<StationHealth>; Ailment::ALL.len()],
}

impl Survey {
    pub(super) fn of(stations: &[StationHealth], period_s: u64) -> Survey {
        let mut survey = Survey::default();
        for health in stations {
            survey.all.add(health);
            survey.classes[Class::of(health.frames / period_s.max(1)) as usize].add(health);
        }
        survey.worst = Ailment::ALL.map(|ailment| worst(stations, ailment));
        survey
    }

    pub(super) fn worst(&self, ailment: Ailment) -> &[StationHealth] {
        &self.worst[ailment as usize]
    }
}

fn worst(stations: &[StationHealth], ailment: Ailment) -> Vec<StationHealth> {
    let mut ill: Vec<StationHealth> = stations.iter().filter(|health| ailment.of(health) > 0.0).copied().collect();
    ill.sort_by(|one, other| ailment.of(other).total_cmp(&ailment.of(one)).then(one.station.cmp(&other.station)));
    ill.truncate(KEPT_MAX);
    ill
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::id::StationId;

    fn station(number: u32, frames: u64, unknown_frames: u64) -> StationHealth {
        StationHealth {
            station: StationId(number),
            linked: true,
            receivers: 7,
            silent_receivers: 0,
            vehicles: 3,
            frames,
            unknown_frames,
            batch_age_ms: 0,
            clock_drift_ms: 0,
            drifting_receivers: 0,
        }
    }

    #[test]
    fn the_worst_come_first_and_who_is_well_does_not_come() {
        let stations = [station(1, 1_000, 0), station(2, 1_000, 100), station(3, 1_000, 900), station(4, 99, 99)];
        let survey = Survey::of(&stations, 15);
        let worst = survey.worst(Ailment::UnknownCodes).iter().map(|health| health.station.0);
        assert_eq!(worst.collect::<Vec<_>>(), [3, 2], "and 99 frames say nothing");
        assert!(survey.worst(Ailment::SilentReceivers).is_empty());
    }

    #[test]
    fn a_ranking_is_bounded_however_many_are_ill() {
        let stations: Vec<StationHealth> = (0..5_000).map(|number| station(number, 1_000, 1)).collect();
        assert_eq!(Survey::of(&stations, 15).worst(Ailment::UnknownCodes).len(), KEPT_MAX);
    }

    #[test]
    fn stations_are_summed_by_what_they_hear() {
        let survey = Survey::of(&[station(1, 0, 0), station(2, 1_500, 500), station(3, 150_000, 0)], 15);
        assert_eq!(survey.classes.map(|class| class.stations), [1, 1, 1]);
        assert_eq!((survey.all.receivers, survey.all.unknown_frames), (21, 500));
    }
}
