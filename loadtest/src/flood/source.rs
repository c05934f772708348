//! The bytes that one connection sends, made ahead: 200 million frames a second leave no time to encode any.
//!
//! A real encoder writes a round of batches twice. The first time they carry the introductions that the other side's
//! code table lacks, and are sent once; the second time they carry none, and are sent over and over, each time with the
//! next sequence and the current time in the header. When a vehicle turns over or the codes change, the round is
//! written anew. So what arrives is what an uplink would have sent, batch by batch.

use forecourt::engine::{
    batch::{self, Batch, Encoder, PREFIX_BYTES},
    time::{Slot, SlotLength, UnixMs},
};

use super::traffic::{SPAN_MS, Traffic};

/// Code, receiver, RSSI, and milliseconds since the epoch in 48 bits: no plain record of a hearing can be shorter.
pub const RECORD_BYTES: usize = 16 + 1 + 1 + 6;

/// Passes of the encoder until a round is without introductions: one that introduces, one more when the table of codes
/// overflowed and began anew on the way, and the one that finds nothing new.
const PASSES_MAX: usize = 4;

/// How often what stands on the forecourt changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds after which one vehicle makes way for another; `None`: never.
    pub turnover_ms: Option<u64>,
    /// Milliseconds after which all codes change at once, over and above the end of the slot.
    pub codes_ms: Option<u64>,
    /// Batches of a round at least.
    pub batches_min: usize,
    /// Milliseconds without a batch after which the connection was held back, and nothing has changed meanwhile.
    pub held_ms: u64,
    /// The vehicles' clocks are ahead by so much.
    pub ahead_ms: u64,
    pub slot: SlotLength,
}

impl Pace {
    /// Whose codes are on the air.
    fn slot_at(&self, now: UnixMs) -> Slot {
        self.slot.slot_at(now.plus(self.ahead_ms))
    }
}

/// Encoded batches, one behind the other with their length prefixes.
#[derive(Debug, Default)]
struct Round {
    bytes: Vec<u8>,
    /// Where each begins.
    starts: Vec<usize>,
    next: usize,
}

impl Round {
    fn batch(&self, at: usize) -> &[u8] {
        let end = self.starts.get(at + 1).copied().unwrap_or(self.bytes.len());
        &self.bytes[self.starts[at]..end]
    }

    fn is_spent(&self) -> bool {
        self.next == self.starts.len()
    }

    fn introduces(&self) -> bool {
        let bodies = (0..self.starts.len()).map(|at| &self.batch(at)[PREFIX_BYTES..]);
        bodies.into_iter().any(|body| Batch::read(body).is_ok_and(|batch| !batch.introductions().is_empty()))
    }
}

/// Batches as an uplink sends them.
#[derive(Debug)]
pub struct Batches {
    traffic: Traffic,
    pace: Pace,
    encoder: Encoder,
    /// Sent once, before the steady round.
    fresh: Vec<Round>,
    steady: Round,
    sequence: u64,
    /// The slot whose codes are on the air.
    slot: Slot,
    /// Codes of the slot before are as valid, as those of a dongle that lags: the changes go to and fro between the
    /// two, each time with a fresh table of codes.
    is_late: bool,
    turnover_at: UnixMs,
    codes_at: UnixMs,
    written_at: UnixMs,
}

impl Batches {
    /// Begins at `now`; `phase`, 0 to 1, spreads the changes of many connections over their period.
    pub fn new(traffic: Traffic, pace: Pace, now: UnixMs, phase: f64) -> Batches {
        let first = |period: Option<u64>| period.map_or(UnixMs(u64::MAX), |ms| now.plus((ms as f64 * phase) as u64));
        let mut batches = Batches {
            traffic,
            pace,
            encoder: Encoder::new(),
            fresh: Vec::new(),
            steady: Round::default(),
            sequence: 0,
            slot: pace.slot_at(now),
            is_late: false,
            turnover_at: first(pace.turnover_ms),
            // All forecourts change their codes at once.
            codes_at: pace.codes_ms.map_or(UnixMs(u64::MAX), |ms| now.plus(ms)),
            written_at: now,
        };
        batches.encode(now);
        batches
    }

    pub fn frames_per_batch(&self) -> usize {
        self.traffic.mix().frames
    }

    /// Another connection takes over: its table of codes is empty, the sequence goes on.
    pub fn reconnect(&mut self, now: UnixMs) {
        self.encoder = Encoder::new();
        self.encode(now);
    }

    /// The sequence of the batch that was written last.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends the next batch to `out`.
    pub fn write(&mut self, now: UnixMs, out: &mut Vec<u8>) {
        self.pass_over_hold(now);
        if now >= self.turnover_at.min(self.codes_at) || self.pace.slot_at(now) != self.slot {
            self.change(now);
        }
        let at = out.len();
        out.extend_from_slice(self.next());
        self.sequence += 1;
        // The last hearing of the batch is the youngest.
        batch::restamp(&mut out[at + PREFIX_BYTES..], self.sequence, now.minus(SPAN_MS));
    }

    fn next(&mut self) -> &[u8] {
        if self.fresh.first().is_some_and(Round::is_spent) {
            self.fresh.remove(0);
        }
        let round = self.fresh.first_mut().unwrap_or(&mut self.steady);
        if round.is_spent() {
            round.next = 0;
        }
        round.next += 1;
        round.batch(round.next - 1)
    }

    /// Otherwise every slice of a race would begin with a change on all forecourts at once.
    fn pass_over_hold(&mut self, now: UnixMs) {
        let pause = now.since(self.written_at);
        if pause > self.pace.held_ms {
            self.turnover_at = self.turnover_at.plus(pause);
            self.codes_at = self.codes_at.plus(pause);
        }
        self.written_at = now;
    }

    fn change(&mut self, now: UnixMs) {
        if now >= self.turnover_at {
            self.traffic.turn_over();
            self.turnover_at = now.plus(self.pace.turnover_ms.unwrap_or(u64::MAX));
        }
        if now >= self.codes_at {
            self.is_late = !self.is_late;
            self.encoder = Encoder::new();
            self.codes_at = now.plus(self.pace.codes_ms.unwrap_or(u64::MAX));
        }
        self.slot = self.pace.slot_at(now);
        self.encode(now);
    }

    fn encode(&mut self, now: UnixMs) {
        // What was introduced and not sent yet is introduced again by a table of its own.
        if !self.fresh.is_empty() {
            self.encoder = Encoder::new();
        }
        self.fresh.clear();
        let slot = Slot(self.slot.0 - u64::from(self.is_late));
        let count = self.traffic.mix().batches_per_round().max(self.pace.batches_min);
        let hearings: Vec<_> = (0..count).map(|number| self.traffic.batch(number, slot, now.minus(SPAN_MS))).collect();
        for _ in 0..PASSES_MAX {
            let mut round = Round::default();
            for hearings in &hearings {
                round.starts.push(round.bytes.len());
                self.encoder.encode(0, hearings, &mut round.bytes).expect("a mix is within the bounds of a batch");
            }
            if !round.introduces() {
                self.steady = round;
                return;
            }
            self.fresh.push(round);
        }
        unreachable!("a round's codes fit the table twice over, so the third pass has nothing to introduce");
    }
}

/// The same hearings as plain records.
#[derive(Debug)]
pub struct Records {
    batch: Vec<u8>,
    frames: usize,
}

impl Records {
    pub fn new(traffic: &mut Traffic, pace: Pace, now: UnixMs) -> Records {
        let hearings = traffic.batch(0, pace.slot_at(now), now);
        let mut batch = Vec::with_capacity(hearings.len() * RECORD_BYTES);
        for hearing in &hearings {
            batch.extend_from_slice(&hearing.code.0);
            batch.extend_from_slice(&[hearing.receiver.0, hearing.rssi.cast_unsigned()]);
            batch.extend_from_slice(&hearing.at.0.to_le_bytes()[..6]);
        }
        Records { batch, frames: hearings.len() }
    }

    pub fn frames_per_batch(&self) -> usize {
        self.frames
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.batch);
    }
}

#[cfg(test)]
mod tests {
    use forecourt::engine::limits::CODES_MAX;

    use super::*;
    use crate::flood::{dongles::Dongles, traffic::Mix};

    const NOW: UnixMs = UnixMs(1_800_000_000_000);
    const PACE: Pace = Pace {
        turnover_ms: Some(1_000),
        codes_ms: Some(60_000),
        batches_min: 4,
        held_ms: 1_500,
        ahead_ms: 0,
        slot: SlotLength::from_seconds(900).unwrap(),
    };

    fn traffic(frames: usize) -> Traffic {
        let mix = Mix { frames, receivers: 8, vehicles: 40, unknown_share: 0.1 };
        Traffic::new(mix, Dongles { seed: 7, count: 100_000 }, 0, 1)
    }

    fn batches(pace: Pace) -> Batches {
        Batches::new(traffic(25), pace, NOW, 1.0)
    }

    /// What the other side makes of `count` batches, one each 10 ms from `from`: all of them must fit its table.
    fn read(batches: &mut Batches, table: &mut usize, from: UnixMs, count: u64) -> Vec<usize> {
        let introduced = |nth: u64| {
            let now = from.plus(nth * 10);
            let mut bytes = Vec::new();
            batches.write(now, &mut bytes);
            let body = batch::split(&bytes).next().unwrap().unwrap();
            let batch = Batch::read(body).unwrap();
            batch.check_numbers(*table).unwrap();
            batch.check_time(now).unwrap();
            assert_eq!((batch.sequence(), batch.base()), (batches.sequence(), now.minus(SPAN_MS)));
            assert_eq!(batch.hearings(), 25);
            *table = batch.introductions().len() + if batch.starts_table() { 0 } else { *table };
            batch.introductions().len()
        };
        (0..count).map(introduced).collect()
    }

    #[test]
    fn codes_are_introduced_once_and_the_rest_is_replayed() {
        let (mut batches, mut table) = (batches(PACE), 0);
        let introduced = read(&mut batches, &mut table, NOW, 90);
        assert_eq!((introduced[..4].iter().sum::<usize>(), introduced[4..].iter().sum()), (40, 0));
        assert_eq!((batches.sequence(), table), (90, 40));
    }

    #[test]
    fn a_turnover_introduces_one_code_and_a_change_of_codes_all() {
        let (mut batches, mut table) = (batches(PACE), 0);
        read(&mut batches, &mut table, NOW, 50);
        assert_eq!(read(&mut batches, &mut table, NOW.plus(1_000), 50).iter().sum::<usize>(), 1);
        let pace = Pace { turnover_ms: None, held_ms: 60_000, ..PACE };
        let (mut batches, mut table) = (self::batches(pace), 0);
        read(&mut batches, &mut table, NOW, 50);
        assert_eq!(read(&mut batches, &mut table, NOW.plus(60_000), 50).iter().sum::<usize>(), 40);
    }

    #[test]
    fn a_clock_that_is_ahead_changes_its_codes_earlier() {
        let end = NOW.plus(PACE.slot.ms() - NOW.0 % PACE.slot.ms());
        let introduced_before_end = |ahead_ms| {
            let pace = Pace { turnover_ms: None, codes_ms: None, held_ms: u64::MAX, ahead_ms, ..PACE };
            let (mut batches, mut table) = (batches(pace), 0);
            read(&mut batches, &mut table, end.minus(5_000), 50);
            read(&mut batches, &mut table, end.minus(2_000), 50).iter().sum::<usize>()
        };
        // All but the strangers.
        assert_eq!([0, 3_000].map(introduced_before_end), [0, 36]);
    }

    #[test]
    fn nothing_changes_while_a_connection_is_held() {
        let (mut batches, mut table) = (batches(PACE), 0);
        read(&mut batches, &mut table, NOW, 50);
        assert_eq!(read(&mut batches, &mut table, NOW.plus(40_000), 40).iter().sum::<usize>(), 0);
        assert_eq!(read(&mut batches, &mut table, NOW.plus(41_000), 40).iter().sum::<usize>(), 1);
    }

    #[test]
    fn a_table_that_overflows_begins_anew() {
        let (mut batches, mut table) = (batches(PACE), 0);
        for second in 0..CODES_MAX as u64 + 100 {
            read(&mut batches, &mut table, NOW.plus(second * 1_000), 10);
            assert!(table <= CODES_MAX);
        }
        assert!(table < 200, "{table}");
    }

    #[test]
    fn a_change_before_the_introductions_are_sent_introduces_all_again() {
        let (mut batches, mut table) = (batches(PACE), 0);
        read(&mut batches, &mut table, NOW, 1);
        let introduced = read(&mut batches, &mut table, NOW.plus(1_000), 50);
        assert_eq!((introduced.iter().sum::<usize>(), table), (40, 40));
    }

    #[test]
    fn a_new_connection_introduces_all_and_goes_on_counting() {
        let (mut batches, _) = (batches(PACE), read(&mut batches(PACE), &mut 0, NOW, 3));
        read(&mut batches, &mut 0, NOW, 20);
        batches.reconnect(NOW);
        let introduced = read(&mut batches, &mut 0, NOW, 20);
        assert_eq!((introduced.iter().sum::<usize>(), batches.sequence()), (40, 40));
    }

    #[test]
    fn the_same_seed_sends_the_same_bytes() {
        let sent = || {
            let mut bytes = Vec::new();
            let mut batches = batches(PACE);
            (0..300).for_each(|nth| batches.write(NOW.plus(nth * 10), &mut bytes));
            bytes
        };
        assert_eq!(sent(), sent());
    }

    #[test]
    fn a_record_is_as_short_as_a_plain_one_can_be() {
        let records = Records::new(&mut traffic(250), PACE, NOW);
        let mut bytes = Vec::new();
        records.write(&mut bytes);
        assert_eq!((bytes.len(), records.frames_per_batch()), (250 * 24, 250));
    }
}
