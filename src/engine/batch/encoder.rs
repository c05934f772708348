//! The writing half: hearings of one batch to bytes, and the sender's side of the code table.

use std::collections::HashMap;

use zerocopy::{
    IntoBytes,
    byteorder::little_endian::{U16, U64},
};

use super::{GroupHeader, Header, Hearing, STARTS_TABLE, VERSION, WireHearing};
use crate::engine::{
    code::Code,
    limits::{CODES_MAX, HEARINGS_MAX, RECEIVERS_MAX},
    time::UnixMs,
};

/// From the first to the last hearing of one batch, in milliseconds: an offset is a u16.
pub const SPAN_MS_MAX: u64 = u16::MAX as u64;

/// Hearings that are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("more than {HEARINGS_MAX} hearings")]
    TooMany,
    #[error("a receiver number past {}", RECEIVERS_MAX - 1)]
    Receiver,
    #[error("hearings more than {SPAN_MS_MAX} ms apart")]
    Span,
}

/// Writes the batches of one connection and keeps the numbers of the codes that crossed it.
///
/// A connection begins with a fresh table, so a new connection takes a new encoder, and the same hearings may be
/// encoded again by it under the same sequence.
#[derive(Debug, Default)]
pub struct Encoder {
    numbers: HashMap<Code, u16>,
    /// Any batch was written: the other side has a table.
    begun: bool,
    /// Kept between batches for their memory only.
    introduced: Vec<Code>,
    order: Vec<(u16, u16)>,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Appends one batch with its length prefix to `out`. On an error nothing is written and no number is taken.
    pub fn encode(&mut self, sequence: u64, hearings: &[Hearing], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let base = check(hearings)?;
        let starts_table = self.number(hearings);
        let prefix = out.len();
        out.extend_from_slice(&[0; super::PREFIX_BYTES]);
        let groups = self.order.chunk_by(|a, b| a.0 == b.0);
        let header = Header {
            version: VERSION,
            flags: if starts_table { STARTS_TABLE } else { 0 },
            introductions: U16::new(self.introduced.len() as u16),
            groups: U16::new(groups.clone().count() as u16),
            sequence: U64::new(sequence),
            base_ms: U64::new(base.0),
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(self.introduced.as_bytes());
        for group in groups {
            write_group(group, hearings, base, out);
        }
        let length = (out.len() - prefix - super::PREFIX_BYTES) as u16;
        out[prefix..prefix + super::PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Gives every hearing its number and sorts them by it; true if the table starts anew.
    fn number(&mut self, hearings: &[Hearing]) -> bool {
        let fits = self.try_number(hearings);
        if !fits {
            self.numbers.clear();
            let fits = self.try_number(hearings);
            assert!(fits, "an empty table holds the codes of one batch");
        }
        self.order.sort_unstable();
        let starts_table = !fits || !self.begun;
        self.begun = true;
        starts_table
    }

    /// False if the table would overflow; numbers given up to then are void.
    fn try_number(&mut self, hearings: &[Hearing]) -> bool {
        self.introduced.clear();
        self.order.clear();
        for (index, hearing) in hearings.iter().enumerate() {
            let next = self.numbers.len();
            let number = *self.numbers.entry(hearing.code).or_insert(next as u16);
            if usize::from(number) == next {
                if next == CODES_MAX {
                    return false;
                }
                self.introduced.push(hearing.code);
            }
            self.order.push((number, index as u16));
        }
        true
    }
}

const _: () = assert!(HEARINGS_MAX <= CODES_MAX && CODES_MAX <= u16::MAX as usize);

/// The base time: that of the earliest hearing.
fn check(hearings: &[Hearing]) -> Result<UnixMs, EncodeError> {
    if hearings.len() > HEARINGS_MAX {
        return Err(EncodeError::TooMany);
    }
    if hearings.iter().any(|hearing| usize::from(hearing.receiver.0) >= RECEIVERS_MAX) {
        return Err(EncodeError::Receiver);
    }
    let times = hearings.iter().map(|hearing| hearing.at);
    let (first, last) = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
    if last.since(first) > SPAN_MS_MAX { Err(EncodeError::Span) } else { Ok(first) }
}

fn write_group(group: &[(u16, u16)], hearings: &[Hearing], base: UnixMs, out: &mut Vec<u8>) {
    let header = GroupHeader { number: U16::new(group[0].0), hearings: group.len() as u8, flags: 0 };
    out.extend_from_slice(header.as_bytes());
    for &(_, index) in group {
        let hearing = &hearings[usize::from(index)];
        let wire = WireHearing {
            offset_ms: U16::new(hearing.at.since(base) as u16),
            receiver: hearing.receiver.0,
            rssi: hearing.rssi,
        };
        out.extend_from_slice(wire.as_bytes());
    }
}
