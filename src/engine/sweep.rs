//! Finds dongles whose clock is further off than the codebook looks, by codes that were missed at a pump.
//!
//! A dongle that was silent for months, or whose clock began at zero when it was plugged in again, broadcasts codes
//! that no book has. Those that are heard strong at a pump are kept for a while ([`Sweep::add`]), and the sweep computes
//! what every dongle would broadcast if its clock were off by so much: the likely errors first ([`GUESSES`]), sixteen
//! slots of a dongle at a time. What it finds is verified by all 16 bytes.
//!
//! Rules:
//! - This is the only place where an unknown code is kept, and its bounds are hard: [`MISSED_MAX`] codes, of one station
//!   [`MISSED_PER_STATION_MAX`], for [`MISSED_MS`].
//! - A code of a dongle that was heard lately, by the clock that it is believed to have, is a recording: it moves no
//!   clock ([`Lately`]).
//! - A sweep of the whole list costs about 25 us a dongle: 25 s of CPU at a million. Whoever drives it gives it the time
//!   that nobody else wants, a step after the other; at tens of millions the likely errors are all that it gets to before
//!   the codes are too old.

use std::collections::{HashMap, HashSet, VecDeque};

use zeroize::Zeroizing;

use super::code::{Code, Secret, hmac_codes};
use super::codebook::{Dongle, Reading};
use super::id::{DeviceId, StationId};
use super::time::{Slot, SlotLength, UnixMs};

/// Codes that wait, about 100 bytes each: 0.4 MB.
pub const MISSED_MAX: usize = 4_096;

/// Of one station: a stranger who broadcasts there takes no place from others.
pub const MISSED_PER_STATION_MAX: usize = 64;

/// Ten minutes: a car that stood at a pump is gone by then.
pub const MISSED_MS: u64 = 600_000;

/// Dongles of one step: 16 codes each, at some 50 ns, are 3 ms.
pub const STEP: usize = 4_096;

/// From one beginning of a round to the next: a dongle that was bound a moment ago is in the list by then.
const ROUND_EACH_MS: u64 = 5_000;

/// Slots of one guess.
const SLOTS: usize = 16;

/// Dongles heard lately that are remembered, twice at most: 32 MB.
const LATELY_MAX: usize = 1 << 20;

/// How long a dongle counts as heard lately, once or twice this.
const LATELY_MS: u64 = 12 * 3600 * 1000;

/// An error that a clock may have.
#[derive(Debug, Clone, Copy)]
enum Guess {
    /// The believed slot plus this, and the fifteen after it.
    Off(i64),
    /// The slots of a clock that began at zero, from this one on.
    FromZero(u64),
}

/// Nearest first. Off by 127 slots: of 300 s that is eight years of silence at 150 ppm. From zero: a day after the dongle
/// was plugged in.
const GUESSES: [Guess; 34] = {
    let mut guesses = [Guess::FromZero(0); 34];
    let mut nth = 0;
    while nth < 8 {
        guesses[3 * nth] = Guess::Off(16 * nth as i64);
        guesses[3 * nth + 1] = Guess::Off(-16 - 16 * nth as i64);
        guesses[3 * nth + 2] = Guess::FromZero(16 * nth as u64);
        nth += 1;
    }
    while nth < 18 {
        guesses[16 + nth] = Guess::FromZero(16 * nth as u64);
        nth += 1;
    }
    guesses
};

/// What became of a missed code that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Taken,
    /// It waits already.
    Known,
    /// The station, or the node, has as many as may wait.
    Full,
}

struct Missed {
    at: UnixMs,
    station: StationId,
    /// The round in which it came: it has been tried when the next one is over.
    round: u64,
}

/// A dongle that the sweep found, and when it was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub reading: Reading,
    pub at: UnixMs,
}

/// What a step came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub found: Vec<Found>,
    /// Codes of dongles that were heard lately with another clock.
    pub recorded: u64,
    /// Codes that were tried to the end, or grew too old, and are nobody's.
    pub given_up: u64,
}

/// The codes that were missed, and how far the search for their dongles is.
#[derive(Default)]
pub struct Sweep {
    missed: HashMap<Code, Missed>,
    /// In the order in which they came.
    order: VecDeque<(Code, UnixMs)>,
    of_station: HashMap<StationId, usize>,
    round: u64,
    next_round: UnixMs,
    guess: usize,
    after: Option<DeviceId>,
    lately: Lately,
}

impl Sweep {
    /// A code that nobody has, heard strong at a pump.
    pub fn add(&mut self, code: Code, station: StationId, at: UnixMs) -> Offer {
        if self.missed.contains_key(&code) {
            return Offer::Known;
        }
        let of_station = self.of_station.get(&station).copied().unwrap_or(0);
        if self.missed.len() == MISSED_MAX || of_station == MISSED_PER_STATION_MAX {
            return Offer::Full;
        }
        self.of_station.insert(station, of_station + 1);
        self.missed.insert(code, Missed { at, station, round: self.round });
        self.order.push_back((code, at));
        Offer::Taken
    }

    /// A dongle was heard, by the clock that it is believed to have.
    pub fn heard(&mut self, device: DeviceId, at: UnixMs) {
        self.lately.heard(device, at);
    }

    /// When the next step is to be done; `None` when nothing is looked for.
    pub fn due(&self) -> Option<UnixMs> {
        let is_between = self.guess == 0 && self.after.is_none();
        (!self.missed.is_empty()).then_some(if is_between { self.next_round } else { UnixMs(0) })
    }

    pub fn waiting(&self) -> usize {
        self.missed.len()
    }

    /// Tries one guess with the dongles after the last ones that it was tried with: `dongles` gives up to so many, in
    /// order.
    pub fn step(
        &mut self,
        chain: SlotLength,
        now: UnixMs,
        dongles: impl FnOnce(Option<DeviceId>, usize) -> Vec<Dongle>,
    ) -> Swept {
        let mut swept = Swept { given_up: self.expire(now), ..Swept::default() };
        if self.missed.is_empty() {
            (self.guess, self.after) = (0, None);
            return swept;
        }
        if self.guess == 0 && self.after.is_none() {
            self.next_round = now.plus(ROUND_EACH_MS);
        }
        let some = dongles(self.after, STEP);
        for reading in self.matches(chain, now, &some) {
            self.take(reading, now, &mut swept);
        }
        self.after = some.last().map(|dongle| dongle.device);
        if some.len() < STEP {
            self.after = None;
            self.guess += 1;
        }
        if self.guess == GUESSES.len() {
            swept.given_up += self.end_round();
        }
        swept
    }

    fn matches(&self, chain: SlotLength, now: UnixMs, dongles: &[Dongle]) -> Vec<(Code, Reading)> {
        // With room for all from the start: what a list leaves behind when it grows is not wiped.
        let mut keys = Zeroizing::new(Vec::with_capacity(dongles.len()));
        let (mut devices, mut first) = (Vec::new(), Vec::new());
        let mut matches = Vec::new();
        for dongle in dongles {
            let slot = self.first_slot(chain, now, dongle);
            match &dongle.secret {
                Secret::Hmac { code_key } => {
                    keys.push(*code_key);
                    devices.push(dongle.device);
                    first.push(slot);
                }
                Secret::EddystoneEid { .. } => {
                    self.look(dongle.device, slot, &codes_from(&dongle.secret, slot), &mut matches);
                }
                Secret::Fixed { .. } => {}
            }
        }
        let mut codes = vec![[Code([0; 16]); SLOTS]; keys.len()];
        hmac_codes(&keys, &first, &mut codes);
        for ((device, first), codes) in devices.into_iter().zip(first).zip(&codes) {
            self.look(device, first, codes, &mut matches);
        }
        matches
    }

    fn look(&self, device: DeviceId, first: Slot, codes: &[Code; SLOTS], matches: &mut Vec<(Code, Reading)>) {
        for (nth, code) in codes.iter().enumerate() {
            if self.missed.contains_key(code) {
                matches.push((*code, Reading { device, slot: Slot(first.0 + nth as u64) }));
            }
        }
    }

    fn first_slot(&self, chain: SlotLength, now: UnixMs, dongle: &Dongle) -> Slot {
        let believed = dongle.secret.slot_at(chain, dongle.offset.dongle_time(now));
        match GUESSES[self.guess] {
            Guess::Off(slots) => Slot(believed.0.saturating_add_signed(slots)),
            Guess::FromZero(slot) => Slot(slot),
        }
    }

    fn take(&mut self, (code, reading): (Code, Reading), now: UnixMs, swept: &mut Swept) {
        let Some(missed) = self.forget(&code) else { return };
        if self.lately.has(reading.device, now) {
            swept.recorded += 1;
        } else {
            swept.found.push(Found { reading, at: missed.at });
        }
    }

    fn expire(&mut self, now: UnixMs) -> u64 {
        let mut expired = 0;
        while let Some(&(code, _)) = self.order.front().filter(|(_, at)| now.since(*at) >= MISSED_MS) {
            self.order.pop_front();
            expired += u64::from(self.forget(&code).is_some());
        }
        expired
    }

    /// What was there when the round began was tried with everything.
    fn end_round(&mut self) -> u64 {
        let tried: Vec<Code> =
            self.missed.iter().filter(|(_, missed)| missed.round < self.round).map(|(code, _)| *code).collect();
        for code in &tried {
            self.forget(code);
        }
        self.order.retain(|(code, _)| self.missed.contains_key(code));
        self.round += 1;
        self.guess = 0;
        tried.len() as u64
    }

    fn forget(&mut self, code: &Code) -> Option<Missed> {
        let missed = self.missed.remove(code)?;
        if let Some(of_station) = self.of_station.get_mut(&missed.station) {
            *of_station -= 1;
            if *of_station == 0 {
                self.of_station.remove(&missed.station);
            }
        }
        Some(missed)
    }
}

fn codes_from(secret: &Secret, first: Slot) -> [Code; SLOTS] {
    std::array::from_fn(|nth| secret.code(Slot(first.0 + nth as u64)))
}

/// The dongles that were heard in this half day and the one before.
#[derive(Default)]
struct Lately {
    now: HashSet<DeviceId>,
    before: HashSet<DeviceId>,
    since: UnixMs,
}

impl Lately {
    fn heard(&mut self, device: DeviceId, at: UnixMs) {
        if at.since(self.since) >= LATELY_MS || self.now.len() == LATELY_MAX {
            self.turn(at);
        }
        self.now.insert(device);
    }

    fn has(&mut self, device: DeviceId, at: UnixMs) -> bool {
        if at.since(self.since) >= LATELY_MS {
            self.turn(at);
        }
        self.now.contains(&device) || self.before.contains(&device)
    }

    fn turn(&mut self, at: UnixMs) {
        let is_long_ago = at.since(self.since) >= 2 * LATELY_MS;
        self.before = std::mem::take(&mut self.now);
        if is_long_ago {
            self.before.clear();
        }
        self.since = at;
    }
}

#[cfg(test)]
mod tests;
