//! A book of few dongles in any order: a replay's, a test's.

use std::collections::HashSet;

use super::dongle::{Dongle, Kind, Member, place};
use super::edition::{Moment, codes_around};
use super::gather::RosterBuilder;
use super::roll::Roll;
use super::{Codebook, DeviceId, SlotLength, UnixMs};
use crate::engine::clock::ClockOffset;
use crate::engine::code::{Code, Secret};

/// Why a dongle did not go into the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    #[error("another dongle already has this code")]
    Duplicate,
    #[error("the codebook is full")]
    Full,
}

/// Builds a book for a number of dongles that is known beforehand.
pub struct Builder {
    dongles: Vec<Dongle>,
    codes: HashSet<Code>,
    chain: SlotLength,
    now: UnixMs,
    room: usize,
}

impl Builder {
    pub fn new(slot_length: SlotLength, now: UnixMs, dongles: usize) -> Builder {
        Builder { dongles: Vec::with_capacity(dongles), codes: HashSet::new(), chain: slot_length, now, room: dongles }
    }

    /// Adds the dongle's codes of its slots -1, 0 and +1; of a fixed dongle its only one. On an error nothing of
    /// the dongle is in the book.
    pub fn add(&mut self, device: DeviceId, secret: &Secret, offset: ClockOffset) -> Result<(), AddError> {
        if self.dongles.len() == self.room {
            return Err(AddError::Full);
        }
        let moment = Moment::new(self.chain, self.now);
        let middle = moment.middle_slot(Member::new(device, offset), Kind::of(secret));
        let codes = codes_around(secret, middle);
        if codes.iter().any(|code| self.codes.contains(code)) {
            return Err(AddError::Duplicate);
        }
        self.codes.extend(codes);
        self.dongles.push(Dongle { device, secret: secret.clone(), offset });
        Ok(())
    }

    /// `generation` is that of the book before plus one.
    pub fn finish(mut self, generation: u64) -> Codebook {
        self.dongles.sort_by_key(|dongle| place(dongle.device));
        let mut roster = RosterBuilder::new(self.dongles.len());
        for dongle in &self.dongles {
            roster.push(dongle);
        }
        let roster = roster.finish();
        let roll = Roll::around(self.chain, self.now, &roster);
        Codebook { edition: roll.finish(&roster), overlay: None, generation }
    }
}
