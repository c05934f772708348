//! What a station notes of its receivers and its uplink, between two surveys. One batch a second is looked at: that costs
//! nothing a frame, and a receiver that hears as little as a frame a minute is found alive within the hour.

use super::forecourt::Tally;
use crate::engine::{batch::Batch, id::StationId, limits::RECEIVERS_MAX, presence::Setup, time::UnixMs};

/// How a station does, as of the last survey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct StationHealth {
    pub station: StationId,
    /// Its uplink is up.
    pub linked: bool,
    /// Receivers that its gateway announced.
    pub receivers: u32,
    /// Those of them that have heard nothing for `station.silent_after_s`.
    pub silent_receivers: u32,
    /// Vehicles that may be selected.
    pub vehicles: u32,
    /// Frames since the survey before.
    pub frames: u64,
    /// Those of them whose code nobody has.
    pub unknown_frames: u64,
    /// Milliseconds from a batch's first hearing to its application, at most, since the survey before. The gateway's
    /// clock is in it.
    pub batch_age_ms: u64,
    /// Milliseconds by which the clock of a receiver is behind the server's, or with a minus ahead of it: of the receiver
    /// that is worst, by its freshest hearing since the survey before. The way to the server is in it.
    pub clock_drift_ms: i64,
    /// Receivers whose clock is a second and more off.
    pub drifting_receivers: u32,
}

/// From so many milliseconds on a clock drifts. Gateways send after 100 ms, and a slow link adds as much; hearings two
/// seconds in the future are refused.
const DRIFT_MS_MIN: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// A set of receivers.
    announced: u32,
    heard: [UnixMs; RECEIVERS_MAX],
    second: u64,
    frames: u64,
    unknown_frames: u64,
    batch_age_ms: u64,
    /// By receiver, the least that a hearing was old when it came, since the last survey. Waiting only makes it older: what
    /// is left is the clock.
    freshest_ms: [Option<i64>; RECEIVERS_MAX],
}

impl Pulse {
    /// The receivers of a new uplink; none is silent yet.
    pub(super) fn announce(&mut self, receivers: &[Option<Setup>; RECEIVERS_MAX], now: UnixMs) {
        let bit = |(place, receiver): (usize, &Option<Setup>)| u32::from(receiver.is_some()) << place;
        self.announced = receivers.iter().enumerate().map(bit).sum();
        for heard in &mut self.heard {
            *heard = now.max(*heard);
        }
    }

    /// Whether a second has begun of which no batch has been looked at.
    pub(super) fn is_due(&mut self, now: UnixMs) -> bool {
        let second = now.0 / 1_000;
        std::mem::replace(&mut self.second, second) != second
    }

    /// Looks at a batch; how old it is, in milliseconds.
    pub(super) fn look_at(&mut self, batch: &Batch<'_>, now: UnixMs) -> u64 {
        for hearing in batch.groups().flat_map(|group| group.hearings.wire()) {
            let receiver = usize::from(hearing.receiver) % RECEIVERS_MAX;
            self.heard[receiver] = now;
            let heard = batch.base().plus(hearing.offset_ms.get().into());
            let age_ms = now.0.cast_signed() - heard.0.cast_signed();
            let freshest = &mut self.freshest_ms[receiver];
            *freshest = Some(freshest.map_or(age_ms, |known| known.min(age_ms)));
        }
        let age_ms = now.since(batch.base());
        self.batch_age_ms = self.batch_age_ms.max(age_ms);
        age_ms
    }

    pub(super) fn count(&mut self, tally: &Tally) {
        self.frames += tally.hearings;
        self.unknown_frames += tally.unknown;
    }

    /// What was noted since the last call. Whether it is linked and who stands there, others know.
    pub(super) fn take(&mut self, station: StationId, silent_after_ms: u64, now: UnixMs) -> StationHealth {
        let is_silent =
            |place: &usize| self.announced >> place & 1 == 1 && now.since(self.heard[*place]) >= silent_after_ms;
        let drifts = || self.freshest_ms.iter().flatten().copied();
        let health = StationHealth {
            station,
            linked: false,
            vehicles: 0,
            receivers: self.announced.count_ones(),
            silent_receivers: (0..RECEIVERS_MAX).filter(is_silent).count() as u32,
            frames: self.frames,
            unknown_frames: self.unknown_frames,
            batch_age_ms: self.batch_age_ms,
            clock_drift_ms: drifts().max_by_key(|drift| drift.unsigned_abs()).unwrap_or_default(),
            drifting_receivers: drifts().filter(|drift| drift.unsigned_abs() >= DRIFT_MS_MIN).count() as u32,
        };
        (self.frames, self.unknown_frames, self.batch_age_ms) = (0, 0, 0);
        self.freshest_ms = [None; RECEIVERS_MAX];
        health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        batch::{self, Encoder, Hearing},
        code::Code,
        id::ReceiverId,
    };

    const START: UnixMs = UnixMs(1_800_000_000_000);
    const STATION: StationId = StationId(1);
    const SILENT_MS: u64 = 60_000;

    fn look(pulse: &mut Pulse, receiver: u8, at: UnixMs, now: UnixMs) -> u64 {
        let mut bytes = Vec::new();
        let hearing = Hearing { code: Code([1; 16]), receiver: ReceiverId(receiver), rssi: -60, at };
        Encoder::new().encode(1, &[hearing], &mut bytes).unwrap();
        let body = batch::split(&bytes).next().unwrap().unwrap();
        pulse.look_at(&Batch::read(body).unwrap(), now)
    }

    #[test]
    fn a_receiver_is_silent_when_it_was_announced_and_is_not_heard_of() {
        let mut pulse = Pulse::default();
        let mut receivers = [None; RECEIVERS_MAX];
        receivers[..3].fill(Some(Setup { pump: None, enter_dbm: -80 }));
        pulse.announce(&receivers, START);
        let silent = |pulse: &mut Pulse, ms| pulse.take(STATION, SILENT_MS, START.plus(ms)).silent_receivers;
        assert_eq!(silent(&mut pulse, SILENT_MS - 1), 0);
        look(&mut pulse, 1, START.plus(SILENT_MS), START.plus(SILENT_MS));
        assert_eq!(silent(&mut pulse, SILENT_MS), 2);
        assert_eq!(silent(&mut pulse, 2 * SILENT_MS), 3);
    }

    #[test]
    fn a_second_has_one_batch_looked_at_and_a_survey_the_oldest() {
        let mut pulse = Pulse::default();
        assert!(pulse.is_due(START) && !pulse.is_due(START.plus(999)) && pulse.is_due(START.plus(1_000)));
        assert_eq!(look(&mut pulse, 0, START, START.plus(700)), 700);
        assert_eq!(look(&mut pulse, 0, START, START.plus(300)), 300);
        assert_eq!(pulse.take(STATION, SILENT_MS, START).batch_age_ms, 700);
        assert_eq!(pulse.take(STATION, SILENT_MS, START).batch_age_ms, 0);
    }

    #[test]
    fn a_clock_drifts_when_its_freshest_hearing_is_old_or_in_the_future() {
        let mut pulse = Pulse::default();
        let late = START.plus(5_000);
        for (receiver, at) in [(0, START), (0, START.plus(4_900)), (1, START.plus(6_500)), (2, START.plus(3_000))] {
            look(&mut pulse, receiver, at, late);
        }
        let health = pulse.take(STATION, SILENT_MS, late);
        assert_eq!((health.clock_drift_ms, health.drifting_receivers), (2_000, 2), "a batch that waited says nothing");
        look(&mut pulse, 1, START.plus(6_500), late);
        let health = pulse.take(STATION, SILENT_MS, late);
        assert_eq!((health.clock_drift_ms, health.drifting_receivers), (-1_500, 1), "ahead");
        assert_eq!(pulse.take(STATION, SILENT_MS, late).clock_drift_ms, 0);
    }
}
