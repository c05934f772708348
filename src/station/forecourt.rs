//! One station's frame path: batches in, presence windows out. No actor, clock or log in it.

use super::{
    health::Pulse,
    intake::Progress,
    tables::{CodeTable, Owner, Rates, Spools},
};
use crate::engine::{
    batch::{self, Batch, BatchError, Hearings},
    code::Code,
    codebook::{Codebook, Hit},
    id::SpoolId,
    limits::RECEIVERS_MAX,
    presence::{Change, Policy, Presence, Setup},
    time::UnixMs,
};

/// What came in, counted in plain integers and handed to the metrics once per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub batches: u64,
    pub duplicate_batches: u64,
    pub hearings: u64,
    /// Of a registered dongle.
    pub resolved: u64,
    pub unknown: u64,
    pub stale: u64,
    /// Past the receiver's rate.
    pub over_rate: u64,
    /// The station had no window to spare.
    pub full: u64,
    /// Of the batch that was looked at, if one was.
    pub age_ms: Option<u64>,
}

/// What a look-up of a code came to, and when the code was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookedUp {
    Found(Hit, UnixMs),
    /// Nobody has it, and it was strong at a pump: somebody stands there whose clock may be wrong. Told once of a code.
    Missed(Code, UnixMs),
}

/// The presence windows of a station and the tables of its uplink.
pub struct Forecourt {
    presence: Presence,
    spools: Spools,
    spool: SpoolId,
    table: CodeTable,
    rates: Rates,
    hearings_per_receiver_s: u32,
    tally: Tally,
    pulse: Pulse,
}

impl Forecourt {
    pub fn new(policy: Policy, hearings_per_receiver_s: u32) -> Forecourt {
        Forecourt {
            presence: Presence::new(policy),
            spools: Spools::default(),
            spool: SpoolId(0),
            table: CodeTable::default(),
            rates: Rates::default(),
            hearings_per_receiver_s,
            tally: Tally::default(),
            pulse: Pulse::default(),
        }
    }

    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    pub fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }

    pub(super) fn pulse_mut(&mut self) -> &mut Pulse {
        &mut self.pulse
    }

    /// A new uplink takes over: its code table is empty. The answer is how far its spool was applied.
    pub fn attach(&mut self, spool: SpoolId, receivers: [Option<Setup>; RECEIVERS_MAX]) -> Option<u64> {
        self.presence.set_receivers(receivers);
        self.spool = spool;
        self.table = CodeTable::default();
        self.spools.applied(spool)
    }

    /// Applies the whole batches at the front of `bytes`, in order, and tells how far that was. Presence changes are
    /// appended to `changes`; `tell` hears of each code that was looked up. A refused batch changes nothing, those before
    /// it stay applied.
    pub fn observe(
        &mut self,
        bytes: &[u8],
        book: &Codebook,
        now: UnixMs,
        changes: &mut Vec<Change>,
        mut tell: impl FnMut(LookedUp),
    ) -> (Progress, Option<BatchError>) {
        self.rates.tick(now);
        let highest = self.spools.applied(self.spool).unwrap_or(0);
        let mut progress = Progress { highest, batches: 0, bytes: 0 };
        let mut is_due = self.pulse.is_due(now);
        for body in batch::split(bytes) {
            let batch = match body.and_then(|body| self.check(body, now)) {
                Ok(batch) => batch,
                Err(error) => return (progress, Some(error)),
            };
            if std::mem::take(&mut is_due) {
                self.tally.age_ms = Some(self.pulse.look_at(&batch, now));
            }
            self.apply(&batch, book, now, changes, &mut tell);
            progress.highest = progress.highest.max(batch.sequence());
            progress.batches += 1;
            progress.bytes += batch.bytes() as u64;
        }
        (progress, None)
    }

    fn check<'a>(&self, body: &'a [u8], now: UnixMs) -> Result<Batch<'a>, BatchError> {
        let batch = Batch::read(body)?;
        batch.check_numbers(self.table.len())?;
        batch.check_time(now)?;
        Ok(batch)
    }

    /// What was counted since the last call.
    pub fn take_tally(&mut self) -> Tally {
        self.pulse.count(&self.tally);
        std::mem::take(&mut self.tally)
    }

    /// A duplicate's hearings were applied before; its introductions still count, for the numbers that follow.
    fn apply(
        &mut self,
        batch: &Batch<'_>,
        book: &Codebook,
        now: UnixMs,
        changes: &mut Vec<Change>,
        tell: &mut impl FnMut(LookedUp),
    ) {
        self.table.introduce(batch);
        self.tally.batches += 1;
        if !self.spools.advance(self.spool, batch.sequence()) {
            self.tally.duplicate_batches += 1;
            return;
        }
        self.table.refresh(batch, book, |hit| tell(LookedUp::Found(hit, batch.base())));
        let hearings = batch.hearings() as u64;
        let all_admitted = self.rates.admit_all(hearings, self.hearings_per_receiver_s);
        let mut resolved = 0;
        for group in batch.groups() {
            let owner = self.table.resolve(group.number, book, |hit| tell(LookedUp::Found(hit, batch.base())));
            let Some(owner) = owner else {
                if self.presence.is_strong_at_pump(group.hearings)
                    && self.rates.admit_missed()
                    && let Some(code) = self.table.miss(group.number)
                {
                    tell(LookedUp::Missed(code, batch.base()));
                }
                continue;
            };
            resolved += group.hearings.count();
            if all_admitted {
                hear(&mut self.presence, owner, group.hearings, now, changes, &mut self.tally);
                continue;
            }
            for (hearing, wire) in group.hearings.each().zip(group.hearings.wire()) {
                if self.rates.admit(wire.receiver, self.hearings_per_receiver_s) {
                    hear(&mut self.presence, owner, hearing, now, changes, &mut self.tally);
                } else {
                    self.tally.over_rate += 1;
                }
            }
        }
        self.tally.hearings += hearings;
        self.tally.resolved += resolved;
        self.tally.unknown += hearings - resolved;
    }
}

#[inline]
fn hear(
    presence: &mut Presence,
    owner: &mut Owner,
    hearings: Hearings<'_>,
    now: UnixMs,
    changes: &mut Vec<Change>,
    tally: &mut Tally,
) {
    let heard = presence.observe_all(owner.device, owner.window, hearings, now, changes);
    owner.window = heard.window;
    tally.stale += heard.stale;
    tally.full += heard.full;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        batch::{Encoder, Hearing},
        clock::ClockOffset,
        code::{Code, Secret},
        codebook::Builder,
        id::{DeviceId, PumpNumber, ReceiverId},
        presence::State,
        time::SlotLength,
    };

    const START: UnixMs = UnixMs(1_800_000_000_000);
    const SPOOL: SpoolId = SpoolId(1);

    fn secret() -> Secret {
        Secret::from_root(&[1; 32])
    }

    fn book(generation: u64, secret: Option<&Secret>) -> Codebook {
        let mut builder = Builder::new(SlotLength::DEFAULT, START, 1);
        if let Some(secret) = secret {
            builder.add(DeviceId(7), secret, ClockOffset::default()).unwrap();
        }
        builder.finish(generation)
    }

    fn code() -> Code {
        secret().code(SlotLength::DEFAULT.slot_at(START))
    }

    struct Line {
        forecourt: Forecourt,
        encoder: Encoder,
        changes: Vec<Change>,
        found: Vec<Hit>,
        missed: Vec<Code>,
    }

    impl Line {
        fn new() -> Line {
            let mut forecourt = Forecourt::new(Policy::DESIGN, 100);
            assert_eq!(forecourt.attach(SPOOL, [None; RECEIVERS_MAX]), None);
            Line { forecourt, encoder: Encoder::new(), changes: Vec::new(), found: Vec::new(), missed: Vec::new() }
        }

        fn batch(&mut self, sequence: u64, codes: &[Code]) -> Vec<u8> {
            let at = START.plus(sequence * 100);
            let hearings: Vec<_> =
                codes.iter().map(|&code| Hearing { code, receiver: ReceiverId(0), rssi: -50, at }).collect();
            let mut bytes = Vec::new();
            self.encoder.encode(sequence, &hearings, &mut bytes).unwrap();
            bytes
        }

        fn observe(&mut self, bytes: &[u8], book: &Codebook) -> Result<Progress, BatchError> {
            let (found, missed) = (&mut self.found, &mut self.missed);
            let now = START.plus(10_000);
            let observed = self.forecourt.observe(bytes, book, now, &mut self.changes, |code| match code {
                LookedUp::Found(hit, _) => found.push(hit),
                LookedUp::Missed(code, _) => missed.push(code),
            });
            observed.1.map_or(Ok(observed.0), Err)
        }
    }

    #[test]
    fn a_registered_dongle_enters_and_a_stranger_opens_no_window() {
        let mut line = Line::new();
        let book = book(1, Some(&secret()));
        let bytes = [line.batch(1, &[code(), Code([9; 16])]), line.batch(2, &[code(), Code([9; 16])])].concat();
        assert_eq!(line.observe(&bytes, &book), Ok(Progress { highest: 2, batches: 2, bytes: bytes.len() as u64 }));
        let tally = line.forecourt.take_tally();
        assert_eq!((tally.hearings, tally.resolved, tally.unknown), (4, 2, 2));
        assert_eq!(
            line.changes.iter().map(|change| (change.device, change.state)).collect::<Vec<_>>(),
            [(DeviceId(7), State::Entered)]
        );
        assert_eq!((line.forecourt.presence().len(), line.found.len()), (1, 1), "looked up once");
    }

    #[test]
    fn a_batch_sent_again_counts_once_and_keeps_its_introductions() {
        let mut line = Line::new();
        let book = book(1, Some(&secret()));
        let first = line.batch(1, &[code()]);
        line.observe(&first, &book).unwrap();
        line.forecourt.attach(SPOOL, [None; RECEIVERS_MAX]);
        line.observe(&first, &book).unwrap();
        let second = line.batch(2, &[code()]);
        line.observe(&second, &book).unwrap();
        let tally = line.forecourt.take_tally();
        assert_eq!((tally.batches, tally.duplicate_batches, tally.hearings), (3, 1, 2));
    }

    #[test]
    fn an_unknown_code_that_is_strong_at_a_pump_is_told_of_once() {
        let mut line = Line::new();
        let mut receivers = [None; RECEIVERS_MAX];
        receivers[0] = Some(Setup { pump: Some(PumpNumber(1)), enter_dbm: -80 });
        let first = line.batch(1, &[Code([9; 16])]);
        line.observe(&first, &book(1, None)).unwrap();
        assert_eq!(line.missed, [], "not at a receiver that hangs nowhere in particular");
        line.forecourt.presence_mut().set_receivers(receivers);
        for (sequence, generation) in [(2, 1), (3, 1), (4, 2)] {
            let bytes = line.batch(sequence, &[Code([9; 16])]);
            line.observe(&bytes, &book(generation, None)).unwrap();
        }
        assert_eq!(line.missed, [Code([9; 16])]);
    }

    #[test]
    fn an_unknown_code_is_asked_for_again_when_the_codebook_changes() {
        let mut line = Line::new();
        for (sequence, generation, knows, resolved) in [(1, 1, false, 0), (2, 2, true, 1), (3, 3, false, 0)] {
            let bytes = line.batch(sequence, &[code()]);
            line.observe(&bytes, &book(generation, knows.then_some(&secret()))).unwrap();
            assert_eq!(line.forecourt.take_tally().resolved, resolved, "generation {generation}");
        }
    }

    #[test]
    fn many_codes_of_one_batch_are_each_looked_up_once_in_each_codebook() {
        let secrets: Vec<Secret> = (0..100).map(|device| Secret::from_root(&[device; 32])).collect();
        let codes: Vec<Code> = secrets.iter().map(|secret| secret.code(SlotLength::DEFAULT.slot_at(START))).collect();
        let mut line = Line::new();
        for generation in 1..=3 {
            let mut builder = Builder::new(SlotLength::DEFAULT, START, 100);
            // One more of them is a stranger with each book.
            for (device, secret) in secrets.iter().enumerate().skip(generation) {
                builder.add(DeviceId(device as u64), secret, ClockOffset::default()).unwrap();
            }
            let book = builder.finish(generation as u64);
            for again in 0..2 {
                let bytes = line.batch(generation as u64 * 2 + again, &codes);
                line.observe(&bytes, &book).unwrap();
                let tally = line.forecourt.take_tally();
                assert_eq!((tally.resolved, tally.unknown), (100 - generation as u64, generation as u64));
            }
            let found: Vec<u64> = line.found.drain(..).map(|hit| hit.device.0).collect();
            assert_eq!(found, (generation as u64..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_number_that_was_never_introduced_harms_nothing() {
        let mut line = Line::new();
        let book = book(1, Some(&secret()));
        let (first, second) = (line.batch(1, &[code()]), line.batch(2, &[code()]));
        line.observe(&first, &book).unwrap();
        line.forecourt.attach(SPOOL, [None; RECEIVERS_MAX]);
        assert_eq!(line.observe(&second, &book), Err(BatchError::Number));
        assert_eq!(line.forecourt.presence().len(), 1);
    }

    #[test]
    fn a_receiver_past_its_rate_is_cut_off() {
        let mut line = Line::new();
        let bytes: Vec<u8> = (1..=99).flat_map(|sequence| line.batch(sequence, &[code(); 4])).collect();
        line.observe(&bytes, &book(1, Some(&secret()))).unwrap();
        let twice_its_bound = 200;
        assert_eq!(line.forecourt.take_tally().over_rate, 99 * 4 - twice_its_bound);
    }
}
