//! The batch: what an uplink sends, many times a second, about everything that its receivers heard.
//!
//! ```text
//! length u16 | version u8 | flags u8 | introductions u16 | groups u16 | sequence u64 | base u64   header
//!            | code [u8; 16]                                             for each introduction
//!            | number u16 | hearings u8 | flags u8                       for each group, followed by
//!            |   offset u16 | receiver u8 | rssi i8                      each of its hearings
//! ```
//!
//! Little-endian, unaligned, read in place. A code crosses the wire once: an introduction takes the next number of the
//! uplink's code table, and groups name their code by that number. So the reader resolves a code once per uplink and
//! every later hearing of it is an array access.
//!
//! Reading has two halves. [`Batch::read`] checks all that the bytes alone can show, in one walk over the groups;
//! [`Batch::check_numbers`] and [`Batch::check_time`] check what only the reader of the stream knows. A batch that
//! passed all three cannot fail half-way, so a refused one leaves nothing behind.

mod encoder;

use zerocopy::byteorder::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use encoder::{EncodeError, Encoder, SPAN_MS_MAX};

use super::{
    code::Code,
    id::ReceiverId,
    limits::{BATCH_BYTES_MAX, CODES_MAX, FUTURE_MS_MAX, HEARINGS_MAX, RECEIVERS_MAX},
    time::UnixMs,
};

/// The only version of the format so far.
pub const VERSION: u8 = 1;

/// Bytes of the length prefix before each batch of a stream.
pub const PREFIX_BYTES: usize = size_of::<U16>();

/// The uplink's code table is emptied before this batch's introductions.
const STARTS_TABLE: u8 = 1;

const _: () = assert!(size_of::<Header>() == 22, "limits::BATCH_BYTES_MAX counts a header of 22 bytes");
const _: () = assert!(RECEIVERS_MAX.is_power_of_two(), "Batch::read bounds all receivers of a group at once");

/// One code heard once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    pub code: Code,
    pub receiver: ReceiverId,
    /// dBm; 127 says "not available".
    pub rssi: i8,
    pub at: UnixMs,
}

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    version: u8,
    flags: u8,
    introductions: U16,
    groups: U16,
    sequence: U64,
    base_ms: U64,
}

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct GroupHeader {
    number: U16,
    hearings: u8,
    flags: u8,
}

/// A hearing as it lies in the batch: its code is its group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct WireHearing {
    /// Milliseconds since the batch's base time.
    pub offset_ms: U16,
    /// Below [`RECEIVERS_MAX`], once the batch is read.
    pub receiver: u8,
    /// dBm; 127 says "not available".
    pub rssi: i8,
}

/// All hearings of one code in one batch; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// The code's place in the uplink's table.
    pub number: u16,
    pub hearings: &'a [WireHearing],
}

/// Why a batch, and with it its uplink, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BatchError {
    #[error("a version of the batch format that is not spoken here")]
    Version,
    #[error("a flag that this version does not have")]
    Flags,
    #[error("the length does not fit the contents")]
    Length,
    #[error("longer than any batch may be")]
    TooLong,
    #[error("more hearings, introductions or groups than a batch may have")]
    TooMany,
    #[error("a group without hearings")]
    EmptyGroup,
    #[error("a receiver number out of bounds")]
    Receiver,
    #[error("a code number that was never introduced")]
    Number,
    #[error("more codes than a table may hold")]
    TableFull,
    #[error("heard in the future")]
    Future,
}

impl BatchError {
    pub const ALL: [BatchError; 10] = [
        BatchError::Version,
        BatchError::Flags,
        BatchError::Length,
        BatchError::TooLong,
        BatchError::TooMany,
        BatchError::EmptyGroup,
        BatchError::Receiver,
        BatchError::Number,
        BatchError::TableFull,
        BatchError::Future,
    ];

    /// The code that the uplink's connection is closed with. Part of the protocol: numbers are never used again.
    pub fn close_code(self) -> u32 {
        match self {
            BatchError::Version => 0x10,
            BatchError::Flags => 0x11,
            BatchError::Length => 0x12,
            BatchError::TooLong => 0x13,
            BatchError::TooMany => 0x14,
            BatchError::EmptyGroup => 0x15,
            BatchError::Receiver => 0x16,
            BatchError::Number => 0x17,
            BatchError::TableFull => 0x18,
            BatchError::Future => 0x19,
        }
    }

    /// The label under which it is counted.
    pub fn reason(self) -> &'static str {
        match self {
            BatchError::Version => "batch_version",
            BatchError::Flags => "batch_flags",
            BatchError::Length => "batch_length",
            BatchError::TooLong => "batch_too_long",
            BatchError::TooMany => "batch_too_many",
            BatchError::EmptyGroup => "batch_empty_group",
            BatchError::Receiver => "batch_receiver",
            BatchError::Number => "batch_number",
            BatchError::TableFull => "batch_table_full",
            BatchError::Future => "batch_future",
        }
    }
}

/// The whole batches at the front of what was read of a stream, one body at a time.
#[derive(Debug, Clone)]
pub struct Split<'a> {
    rest: &'a [u8],
}

/// Cuts the batches at the front of `bytes` apart; their bodies come without the length prefix.
pub fn split(bytes: &[u8]) -> Split<'_> {
    Split { rest: bytes }
}

impl<'a> Split<'a> {
    /// What is not cut off yet: after the last batch, the beginning of one that is still under way.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<&'a [u8], BatchError>;

    /// `None` when the rest holds no whole batch; [`BatchError::TooLong`] as soon as a prefix announces one.
    fn next(&mut self) -> Option<Self::Item> {
        let (length, after) = U16::ref_from_prefix(self.rest).ok()?;
        let length = usize::from(length.get());
        if length > BATCH_BYTES_MAX {
            return Some(Err(BatchError::TooLong));
        }
        let (body, rest) = after.split_at_checked(length)?;
        self.rest = rest;
        Some(Ok(body))
    }
}

/// Gives an encoded body (without its length prefix) another place in its spool and another time; a body that is too
/// short for a batch stays as it is. For who sends the same hearings over and over, as a load generator does.
pub fn restamp(body: &mut [u8], sequence: u64, base: UnixMs) {
    if let Ok((header, _)) = Header::mut_from_prefix(body) {
        header.sequence.set(sequence);
        header.base_ms.set(base.0);
    }
}

/// One batch, read in place: all that can be known from its bytes alone holds.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    header: &'a Header,
    introductions: &'a [Code],
    groups: &'a [u8],
    facts: Facts,
}

/// What the one walk over the groups found.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    hearings: usize,
    /// One more than the highest number of any group.
    numbers: usize,
    /// The largest offset of any hearing.
    last_ms: u16,
}

impl<'a> Batch<'a> {
    /// Reads one body (without its length prefix).
    pub fn read(body: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let (version, _) = body.split_first().ok_or(BatchError::Length)?;
        if *version != VERSION {
            return Err(BatchError::Version);
        }
        let (header, rest) = Header::ref_from_prefix(body).map_err(|_| BatchError::Length)?;
        if header.flags & !STARTS_TABLE != 0 {
            return Err(BatchError::Flags);
        }
        let introductions = usize::from(header.introductions.get());
        if introductions > HEARINGS_MAX || usize::from(header.groups.get()) > HEARINGS_MAX {
            return Err(BatchError::TooMany);
        }
        let (introductions, groups) =
            <[Code]>::ref_from_prefix_with_elems(rest, introductions).map_err(|_| BatchError::Length)?;
        let facts = Facts::gather(groups, header.groups.get())?;
        Ok(Batch { header, introductions, groups, facts })
    }

    /// The number of this batch within its spool.
    pub fn sequence(&self) -> u64 {
        self.header.sequence.get()
    }

    /// The time that offsets count from.
    pub fn base(&self) -> UnixMs {
        UnixMs(self.header.base_ms.get())
    }

    /// The time of one hearing of this batch.
    pub fn time_of(&self, hearing: &WireHearing) -> UnixMs {
        self.base().plus(u64::from(hearing.offset_ms.get()))
    }

    /// Hearings in all groups.
    pub fn hearings(&self) -> usize {
        self.facts.hearings
    }

    /// The table is emptied before the introductions are added.
    pub fn starts_table(&self) -> bool {
        self.header.flags & STARTS_TABLE != 0
    }

    /// The codes that take the next numbers of the table, in order.
    pub fn introductions(&self) -> &'a [Code] {
        self.introductions
    }

    pub fn groups(&self) -> Groups<'a> {
        Groups { bytes: self.groups }
    }

    /// Whether a table of `length` codes has, after this batch's introductions, every number that it names.
    pub fn check_numbers(&self, length: usize) -> Result<(), BatchError> {
        let before = if self.starts_table() { 0 } else { length };
        let after = before + self.introductions.len();
        if after > CODES_MAX {
            return Err(BatchError::TableFull);
        }
        if self.facts.numbers > after {
            return Err(BatchError::Number);
        }
        Ok(())
    }

    /// Whether no hearing lies further in the future of `now` than clocks may differ.
    pub fn check_time(&self, now: UnixMs) -> Result<(), BatchError> {
        let last = self.base().plus(u64::from(self.facts.last_ms));
        if last > now.plus(FUTURE_MS_MAX) { Err(BatchError::Future) } else { Ok(()) }
    }
}

impl Facts {
    /// Walks all groups once and refuses what does not fit.
    fn gather(mut bytes: &[u8], groups: u16) -> Result<Facts, BatchError> {
        let mut facts = Facts::default();
        for _ in 0..groups {
            let (header, hearings, rest) = take_group(bytes).ok_or(BatchError::Length)?;
            facts.add(header, hearings)?;
            bytes = rest;
        }
        if bytes.is_empty() { Ok(facts) } else { Err(BatchError::Length) }
    }

    fn add(&mut self, header: &GroupHeader, hearings: &[WireHearing]) -> Result<(), BatchError> {
        if header.flags != 0 {
            return Err(BatchError::Flags);
        }
        if hearings.is_empty() {
            return Err(BatchError::EmptyGroup);
        }
        self.hearings += hearings.len();
        if self.hearings > HEARINGS_MAX {
            return Err(BatchError::TooMany);
        }
        // The bound is a power of two: any receiver past it leaves a high bit in the union of all of them.
        let mut receivers = 0;
        for hearing in hearings {
            receivers |= hearing.receiver;
            self.last_ms = self.last_ms.max(hearing.offset_ms.get());
        }
        if usize::from(receivers) >= RECEIVERS_MAX {
            return Err(BatchError::Receiver);
        }
        self.numbers = self.numbers.max(usize::from(header.number.get()) + 1);
        Ok(())
    }
}

/// The groups of a batch, in the order of the wire.
#[derive(Debug, Clone)]
pub struct Groups<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Groups<'a> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        let (header, hearings, rest) = take_group(self.bytes)?;
        self.bytes = rest;
        Some(Group { number: header.number.get(), hearings })
    }
}

fn take_group(bytes: &[u8]) -> Option<(&GroupHeader, &[WireHearing], &[u8])> {
    let (header, rest) = GroupHeader::ref_from_prefix(bytes).ok()?;
    let count = usize::from(header.hearings);
    let (hearings, rest) = <[WireHearing]>::ref_from_prefix_with_elems(rest, count).ok()?;
    Some((header, hearings, rest))
}

#[cfg(test)]
mod tests;
