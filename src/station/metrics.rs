//! What the stations count. Handles are kept; a message adds its plain integers to them once.

use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{
    forecourt::Tally,
    survey::{Ailment, Class, RANKS, Survey},
};
use crate::engine::presence::{Change, State};

#[derive(Clone)]
pub(super) struct Metrics {
    batches: Counter,
    duplicate_batches: Counter,
    resolved: Counter,
    unknown: Counter,
    stale: Counter,
    over_rate: Counter,
    full: Counter,
    entered: Counter,
    left: Counter,
    entry_seconds: Histogram,
    batch_age_seconds: Histogram,
    surveyed: Arc<Surveyed>,
    pub(super) actors: Gauge,
    pub(super) mailbox_full: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        const FRAMES: &str = "forecourt_station_frames_total";
        const DROPPED: &str = "forecourt_station_frames_dropped_total";
        describe_counter!("forecourt_station_batches_total", "Batches applied.");
        describe_counter!("forecourt_station_duplicate_batches_total", "Batches that had been applied before.");
        describe_counter!(FRAMES, "Frames by whether their code belongs to a registered dongle.");
        describe_counter!(DROPPED, "Frames of registered dongles that changed nothing, by reason.");
        describe_counter!("forecourt_station_presence_total", "Vehicles that entered or left.");
        describe_histogram!(
            "forecourt_station_entry_seconds",
            "Time from the hearing by which a vehicle entered to its place on the attendant's screen"
        );
        describe_histogram!(
            "forecourt_station_batch_age_seconds",
            "Time from a batch's first hearing to its application, of one batch a second and station; the gateway's clock is in it"
        );
        describe_gauge!("forecourt_station_actors", "Stations whose actor runs.");
        describe_counter!("forecourt_station_mailbox_full_total", "Messages refused because an actor was behind.");
        Metrics {
            batches: counter!("forecourt_station_batches_total"),
            duplicate_batches: counter!("forecourt_station_duplicate_batches_total"),
            resolved: counter!(FRAMES, "code" => "resolved"),
            unknown: counter!(FRAMES, "code" => "unknown"),
            stale: counter!(DROPPED, "reason" => "stale"),
            over_rate: counter!(DROPPED, "reason" => "over_rate"),
            full: counter!(DROPPED, "reason" => "full"),
            entered: counter!("forecourt_station_presence_total", "change" => "entered"),
            left: counter!("forecourt_station_presence_total", "change" => "left"),
            entry_seconds: histogram!("forecourt_station_entry_seconds"),
            batch_age_seconds: histogram!("forecourt_station_batch_age_seconds"),
            surveyed: Arc::new(Surveyed::new()),
            actors: gauge!("forecourt_station_actors"),
            mailbox_full: counter!("forecourt_station_mailbox_full_total"),
        }
    }

    pub(super) fn add(&self, tally: &Tally) {
        for (handle, count) in [
            (&self.batches, tally.batches),
            (&self.duplicate_batches, tally.duplicate_batches),
            (&self.resolved, tally.resolved),
            (&self.unknown, tally.unknown),
            (&self.stale, tally.stale),
            (&self.over_rate, tally.over_rate),
            (&self.full, tally.full),
        ] {
            if count > 0 {
                handle.increment(count);
            }
        }
        if let Some(age_ms) = tally.age_ms {
            self.batch_age_seconds.record(age_ms as f64 / 1_000.0);
        }
    }

    pub(super) fn entered_after(&self, ms: u64) {
        self.entry_seconds.record(ms as f64 / 1_000.0);
    }

    /// `known`: stations of the chain, those that were never heard of included.
    pub(super) fn surveyed(&self, survey: &Survey, known: usize) {
        self.surveyed.known.set(known as f64);
        self.surveyed.show(survey);
    }

    pub(super) fn changed(&self, change: &Change) {
        match change.state {
            State::Entered => self.entered.increment(1),
            State::Left => self.left.increment(1),
            State::Sighted | State::Present | State::Fading | State::Parked => {}
        }
    }
}

/// What a survey found.
struct Surveyed {
    vehicles: Gauge,
    known: Gauge,
    linked: Gauge,
    receivers: Gauge,
    silent_receivers: Gauge,
    drifting_receivers: Gauge,
    /// By the place in [`Class::ALL`]: stations, and the share of their frames that are unknown.
    classes: [(Gauge, Gauge); Class::ALL.len()],
    /// By the place in [`Ailment::ALL`].
    rankings: [Ranking; Ailment::ALL.len()],
}

/// The worst stations, by rank: who, and how bad.
type Ranking = [(Gauge, Gauge); RANKS];

impl Surveyed {
    fn new() -> Surveyed {
        describe_survey();
        let class = |class: Class| {
            let name = class.name();
            (
                gauge!("forecourt_station_class_stations", "class" => name),
                gauge!("forecourt_station_class_unknown_ratio", "class" => name),
            )
        };
        Surveyed {
            vehicles: gauge!("forecourt_station_vehicles"),
            known: gauge!("forecourt_station_known_stations"),
            linked: gauge!("forecourt_station_linked_stations"),
            receivers: gauge!("forecourt_station_receivers"),
            silent_receivers: gauge!("forecourt_station_silent_receivers"),
            drifting_receivers: gauge!("forecourt_station_drifting_receivers"),
            classes: Class::ALL.map(class),
            rankings: Ailment::ALL.map(ranking),
        }
    }

    fn show(&self, survey: &Survey) {
        self.vehicles.set(survey.all.vehicles as f64);
        self.linked.set(survey.all.linked as f64);
        self.receivers.set(survey.all.receivers as f64);
        self.silent_receivers.set(survey.all.silent_receivers as f64);
        self.drifting_receivers.set(survey.all.drifting_receivers as f64);
        for ((stations, unknown), sums) in self.classes.iter().zip(&survey.classes) {
            stations.set(sums.stations as f64);
            unknown.set(sums.unknown_frames as f64 / sums.frames.max(1) as f64);
        }
        for (ailment, ranking) in Ailment::ALL.into_iter().zip(&self.rankings) {
            let mut worst = survey.worst(ailment).iter();
            for (station, degree) in ranking {
                let health = worst.next();
                station.set(health.map_or(0.0, |health| health.station.0.into()));
                degree.set(health.map_or(0.0, |health| ailment.of(health)));
            }
        }
    }
}

fn ranking(ailment: Ailment) -> Ranking {
    let (by, degree) = match ailment {
        Ailment::UnknownCodes => ("unknown_codes", "forecourt_station_worst_unknown_ratio"),
        Ailment::SilentReceivers => ("silent_receivers", "forecourt_station_worst_silent_receivers"),
        Ailment::BatchAge => ("batch_age", "forecourt_station_worst_batch_age_seconds"),
        Ailment::ClockDrift => ("clock_drift", "forecourt_station_worst_clock_drift_seconds"),
    };
    std::array::from_fn(|place| {
        let rank = format!("{:02}", place + 1);
        (gauge!("forecourt_station_worst_number", "by" => by, "rank" => rank.clone()), gauge!(degree, "rank" => rank))
    })
}

fn describe_survey() {
    describe_gauge!("forecourt_station_vehicles", "Vehicles that may be selected, at the last survey");
    describe_gauge!(
        "forecourt_station_known_stations",
        "Stations of the chain, those that were never heard of included"
    );
    describe_gauge!("forecourt_station_linked_stations", "Stations whose uplink was up at the last survey");
    describe_gauge!("forecourt_station_receivers", "Receivers that gateways announced");
    describe_gauge!(
        "forecourt_station_silent_receivers",
        "Receivers of them that have heard nothing for `station.silent_after_s`"
    );
    describe_gauge!(
        "forecourt_station_class_stations",
        "Stations by what they heard since the survey before: quiet under 10 frames a second, busy from 200 on"
    );
    describe_gauge!(
        "forecourt_station_class_unknown_ratio",
        "Share of frames whose code nobody has, of the stations of a class"
    );
    describe_gauge!(
        "forecourt_station_worst_number",
        "The number of the station that has this rank among the worst; 0 when no more are ill"
    );
    describe_gauge!("forecourt_station_worst_unknown_ratio", "Share of frames whose code nobody has, by rank");
    describe_gauge!("forecourt_station_worst_silent_receivers", "Silent receivers of a station, by rank");
    describe_gauge!(
        "forecourt_station_drifting_receivers",
        "Receivers whose clock is a second and more off the server's, by their freshest hearing since the survey before"
    );
    describe_gauge!(
        "forecourt_station_worst_clock_drift_seconds",
        "How far the clock of a station's worst receiver is off, behind or ahead, by rank"
    );
    describe_gauge!("forecourt_station_worst_batch_age_seconds", "Age of a station's oldest batch, by rank");
}
