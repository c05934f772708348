//! Every code that is valid now, and the dongle that it belongs to.
//!
//! An immutable open-addressed table of 64-byte lines, three codes a line, so that a look-up touches one cache line
//! in most cases and a miss no more than a hit. A hit compares all 16 bytes with what the HMAC gave: that is the
//! verification, and nothing is hashed per frame. Each dongle has the codes of its slots -1, 0 and +1, where slot 0
//! is the one that its clock (the server's, shifted by the learned offset) shows when the book is built; a book
//! that is built in each slot therefore always holds the codes around the boundary.
//!
//! Memory: three codes of 21 bytes at a load of 3/4, and 12 bytes of owner, come to 97 bytes a dongle.

use super::{
    clock::ClockOffset,
    code::{Code, Secret},
    id::DeviceId,
    time::{Slot, SlotLength, UnixMs},
};

const CODES_PER_LINE: usize = 3;

/// A code's dongle, and the slot of the dongle's clock that the code belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    pub device: DeviceId,
    pub slot: Slot,
}

/// Why a dongle did not go into the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    #[error("another dongle already has this code")]
    Duplicate,
    #[error("the codebook is full")]
    Full,
}

/// `repr(C)` in this order fills the 64 bytes of a cache line exactly.
#[repr(C, align(64))]
#[derive(Clone)]
struct Line {
    codes: [Code; CODES_PER_LINE],
    owners: [u32; CODES_PER_LINE],
    /// The code's slot less the owner's.
    shifts: [i8; CODES_PER_LINE],
    used: u8,
}

const EMPTY: Line =
    Line { codes: [Code([0; 16]); CODES_PER_LINE], owners: [0; CODES_PER_LINE], shifts: [0; 3], used: 0 };

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

/// The codes of all dongles for the slots around one moment.
pub struct Codebook {
    lines: Box<[Line]>,
    devices: Vec<DeviceId>,
    /// Slot 0 of each dongle. 32 bits hold slots of one second until 2106.
    slots: Vec<u32>,
    generation: u64,
}

impl Codebook {
    /// A book that knows nobody.
    pub fn empty() -> Codebook {
        Builder::new(SlotLength::DEFAULT, UnixMs(0), 0).finish(0)
    }

    pub fn find(&self, code: &Code) -> Option<Hit> {
        let mut at = start(code, self.lines.len());
        loop {
            let line = &self.lines[at];
            let used = usize::from(line.used);
            if let Some(place) = line.codes[..used].iter().position(|known| known == code) {
                let owner = line.owners[place] as usize;
                let slot = u64::from(self.slots[owner]).saturating_add_signed(i64::from(line.shifts[place]));
                return Some(Hit { device: self.devices[owner], slot: Slot(slot) });
            }
            if used < CODES_PER_LINE {
                return None;
            }
            at = if at + 1 == self.lines.len() { 0 } else { at + 1 };
        }
    }

    /// Grows with each book that is built: what was resolved against an older one is asked for again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many dongles the book knows.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// What the book occupies, all told.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
            + self.devices.capacity() * size_of::<DeviceId>()
            + self.slots.capacity() * size_of::<u32>()
    }
}

impl std::fmt::Debug for Codebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codebook(generation {}, {} dongles)", self.generation, self.len())
    }
}

/// Builds a book for a number of dongles that is known beforehand.
pub struct Builder {
    book: Codebook,
    slot_length: SlotLength,
    now: UnixMs,
    room: usize,
}

impl Builder {
    pub fn new(slot_length: SlotLength, now: UnixMs, dongles: usize) -> Builder {
        // Three codes a dongle, three codes a line, three quarters of them taken. One line more, so that there is
        // always an empty place at which a probe ends.
        let lines = vec![EMPTY; dongles * 4 / 3 + 1].into_boxed_slice();
        let book =
            Codebook { lines, devices: Vec::with_capacity(dongles), slots: Vec::with_capacity(dongles), generation: 0 };
        Builder { book, slot_length, now, room: dongles }
    }

    /// Adds the dongle's codes of its slots -1, 0 and +1; of a fixed dongle its only one. On an error nothing of
    /// the dongle is in the book.
    pub fn add(&mut self, device: DeviceId, secret: &Secret, offset: ClockOffset) -> Result<(), AddError> {
        if self.book.devices.len() == self.room {
            return Err(AddError::Full);
        }
        let slot = secret.slot_at(self.slot_length, offset.dongle_time(self.now));
        let shifts: &[i8] = if matches!(secret, Secret::Fixed { .. }) { &[0] } else { &[0, -1, 1] };
        let codes = shifts.iter().map(|&shift| (secret.code(Slot(slot.0.saturating_add_signed(shift.into()))), shift));
        let codes: Vec<_> = codes.collect();
        if codes.iter().any(|(code, _)| self.book.find(code).is_some()) {
            return Err(AddError::Duplicate);
        }
        let owner = self.book.devices.len() as u32;
        self.book.devices.push(device);
        self.book.slots.push(slot.0 as u32);
        for (code, shift) in codes {
            self.insert(code, owner, shift);
        }
        Ok(())
    }

    /// `generation` is that of the book before plus one.
    pub fn finish(self, generation: u64) -> Codebook {
        Codebook { generation, ..self.book }
    }

    fn insert(&mut self, code: Code, owner: u32, shift: i8) {
        let lines = &mut self.book.lines;
        let mut at = start(&code, lines.len());
        while usize::from(lines[at].used) == CODES_PER_LINE {
            at = (at + 1) % lines.len();
        }
        let line = &mut lines[at];
        let place = usize::from(line.used);
        line.codes[place] = code;
        line.owners[place] = owner;
        line.shifts[place] = shift;
        line.used += 1;
    }
}

/// The line where the search for `code` starts. All 16 bytes count: fixed codes of one maker often share their
/// first half.
fn start(code: &Code, lines: usize) -> usize {
    let low = u64::from_le_bytes(code.0[..8].try_into().expect("half of 16 bytes"));
    let high = u64::from_le_bytes(code.0[8..].try_into().expect("half of 16 bytes"));
    // Odd constants of the golden ratio and of xxHash64; the product's upper half depends on every input bit.
    let mixed = (low ^ high.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    ((u128::from(mixed ^ mixed >> 29) * lines as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: SlotLength = SlotLength::DEFAULT;
    const NOW: UnixMs = UnixMs(1_800_000_123_456);

    fn secret(device: u64) -> Secret {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&device.to_be_bytes());
        Secret::from_root(&root)
    }

    fn book_of(devices: u64) -> Codebook {
        let mut builder = Builder::new(LENGTH, NOW, devices as usize);
        for device in 0..devices {
            builder.add(DeviceId(device), &secret(device), ClockOffset::default()).unwrap();
        }
        builder.finish(1)
    }

    #[test]
    fn every_dongle_is_found_by_the_codes_of_three_slots_and_no_others() {
        let book = book_of(1_000);
        let now = LENGTH.slot_at(NOW);
        for device in 0..1_000 {
            for (shift, known) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
                let slot = Slot(now.0.saturating_add_signed(shift));
                let expected = known.then_some(Hit { device: DeviceId(device), slot });
                assert_eq!(book.find(&secret(device).code(slot)), expected);
            }
        }
    }

    #[test]
    fn a_drifted_dongle_has_the_codes_of_its_own_clock() {
        let mut builder = Builder::new(LENGTH, NOW, 1);
        let hour_ahead = ClockOffset(3_600_000);
        builder.add(DeviceId(1), &secret(1), hour_ahead).unwrap();
        let slot = LENGTH.slot_at(hour_ahead.dongle_time(NOW));
        assert_eq!(builder.finish(1).find(&secret(1).code(slot)), Some(Hit { device: DeviceId(1), slot }));
    }

    #[test]
    fn fixed_codes_with_a_common_prefix_do_not_pile_up() {
        let mut builder = Builder::new(LENGTH, NOW, 5_000);
        for device in 0..5_000_u64 {
            let mut code = [0xaa; 16];
            code[8..].copy_from_slice(&device.to_be_bytes());
            builder.add(DeviceId(device), &Secret::Fixed { code: Code(code) }, ClockOffset::default()).unwrap();
        }
        let book = builder.finish(1);
        let full = book.lines.iter().filter(|line| usize::from(line.used) == CODES_PER_LINE).count();
        assert!(full < book.lines.len() / 5, "{full} of {} lines are full at a load of a quarter", book.lines.len());
    }

    #[test]
    fn the_second_dongle_with_a_code_is_refused_whole() {
        let mut builder = Builder::new(LENGTH, NOW, 2);
        let secret = Secret::Fixed { code: Code([1; 16]) };
        assert_eq!(builder.add(DeviceId(1), &secret, ClockOffset::default()), Ok(()));
        assert_eq!(builder.add(DeviceId(2), &secret, ClockOffset::default()), Err(AddError::Duplicate));
        let book = builder.finish(1);
        assert_eq!((book.len(), book.find(&Code([1; 16])).unwrap().device), (1, DeviceId(1)));
    }

    #[test]
    fn no_more_dongles_go_in_than_were_announced() {
        let mut builder = Builder::new(LENGTH, NOW, 0);
        assert_eq!(builder.add(DeviceId(1), &secret(1), ClockOffset::default()), Err(AddError::Full));
    }

    #[test]
    fn a_dongle_costs_at_most_100_bytes() {
        assert!(book_of(10_000).bytes() <= 100 * 10_000);
    }

    proptest! {
        #[test]
        fn a_random_code_belongs_to_nobody(code: [u8; 16]) {
            prop_assert_eq!(book_of(20).find(&Code(code)), None);
            prop_assert_eq!(Codebook::empty().find(&Code(code)), None);
        }
    }
}
