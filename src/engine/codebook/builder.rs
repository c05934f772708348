//! A book of few dongles in any order: a replay's, a test's.

use super::dongle::Dongle;
use super::keeper::Keeper;
use super::roster::RosterBuilder;
use super::{Codebook, DeviceId, SlotLength, UnixMs};
use crate::engine::clock::ClockOffset;
use crate::engine::code::Secret;

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
    keeper: Keeper,
    room: usize,
}

impl Builder {
    pub fn new(slot_length: SlotLength, now: UnixMs, dongles: usize) -> Builder {
        let mut keeper = Keeper::new(slot_length, RosterBuilder::new(dongles).finish());
        keeper.begin_roll_with_room(now, dongles);
        while keeper.step() {}
        Builder { keeper, room: dongles }
    }

    /// Adds the dongle's codes of its slots -1, 0 and +1; of a fixed dongle its only one. On an error nothing of
    /// the dongle is in the book.
    pub fn add(&mut self, device: DeviceId, secret: &Secret, offset: ClockOffset) -> Result<(), AddError> {
        if self.keeper.len() == self.room {
            return Err(AddError::Full);
        }
        self.keeper.change(device, Some(Dongle { device, secret: secret.clone(), offset }));
        if self.keeper.left_out() > 0 {
            self.keeper.change(device, None);
            return Err(AddError::Duplicate);
        }
        Ok(())
    }

    /// `generation` is that of the book before plus one.
    pub fn finish(mut self, generation: u64) -> Codebook {
        Codebook { generation, ..self.keeper.book() }
    }
}
