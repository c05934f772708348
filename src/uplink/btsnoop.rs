//! Recorded Bluetooth logs: btsnoop files with HCI packets in H4 framing, as Android and BlueZ write them.
//!
//! ```text
//! "btsnoop\0" | version u32 = 1 | datalink u32 = 1002
//! original length u32 | included length u32 | flags u32 | drops u32 | microseconds i64 | packet    each record
//! ```
//!
//! Big-endian; time counts from midnight of January 1st of the year 0. A log is what a crashing phone left behind, so
//! damage is part of the format: a record whose header cannot be true is passed over up to the next one that can.

use crate::engine::time::UnixMs;

const MAGIC: &[u8; 8] = b"btsnoop\0";
const VERSION: u32 = 1;
/// HCI packets with their H4 type byte.
const DATALINK_H4: u32 = 1002;
const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = 24;

/// Microseconds from the year 0 to 1970: 719,528 days.
const EPOCH_US: i64 = 719_528 * 86_400 * 1_000_000;

/// An ACL packet of 64 KB with its headers is the longest packet that HCI knows.
const PACKET_BYTES_MAX: usize = 65_535 + 16;

/// Bits of the flags: direction, and command or event.
const FLAGS: u32 = 0b11;

/// Two records of one log lie no further apart; only asked when a log is damaged.
const GAP_US_MAX: u64 = 24 * 3600 * 1_000_000;

/// A file that is no log of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtsnoopError {
    #[error("not a btsnoop file")]
    Magic,
    #[error("btsnoop version {0}, where only 1 is known")]
    Version(u32),
    #[error("datalink {0}, where only 1002 (HCI in H4 framing) is read")]
    Datalink(u32),
}

/// One record that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub at: UnixMs,
    /// The packet, its H4 type byte first.
    pub packet: &'a [u8],
}

/// A record that is not: cut short when it was written, at the end of the file, or overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// The records of a log, in its order.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    last_us: Option<i64>,
}

/// Reads the file's header.
pub fn records(file: &[u8]) -> Result<Records<'_>, BtsnoopError> {
    let (header, rest) = file.split_at_checked(HEADER_BYTES).ok_or(BtsnoopError::Magic)?;
    if !header.starts_with(MAGIC) {
        return Err(BtsnoopError::Magic);
    }
    let (version, datalink) = (word(header, 8), word(header, 12));
    if version != VERSION {
        return Err(BtsnoopError::Version(version));
    }
    if datalink != DATALINK_H4 {
        return Err(BtsnoopError::Datalink(datalink));
    }
    Ok(Records { rest, last_us: None })
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(header) = Header::read(self.rest) else {
            self.find_next();
            return Some(Err(Damaged));
        };
        let end = RECORD_BYTES + header.included;
        let packet = &self.rest[RECORD_BYTES..end];
        self.rest = &self.rest[end..];
        self.last_us = Some(header.us);
        let whole = header.included == header.original && !packet.is_empty();
        Some(if whole { Ok(Record { at: header.time(), packet }) } else { Err(Damaged) })
    }
}

impl Records<'_> {
    /// Goes on to the next place that looks like a record of the same log.
    fn find_next(&mut self) {
        while !self.rest.is_empty() {
            self.rest = &self.rest[1..];
            let near = |header: &Header| self.last_us.is_none_or(|last| header.us.abs_diff(last) <= GAP_US_MAX);
            if Header::read(self.rest).is_some_and(|header| near(&header) && header.us > EPOCH_US) {
                return;
            }
        }
    }
}

struct Header {
    original: usize,
    included: usize,
    us: i64,
}

impl Header {
    /// `None` when this cannot be the header of a record that is there.
    fn read(bytes: &[u8]) -> Option<Header> {
        let header = bytes.get(..RECORD_BYTES)?;
        let (original, included) = (word(header, 0) as usize, word(header, 4) as usize);
        let us = i64::from_be_bytes(header[16..].try_into().expect("a record's header ends with 8 bytes of time"));
        let possible = included <= original
            && original <= PACKET_BYTES_MAX
            && word(header, 8) & !FLAGS == 0
            && bytes.len() - RECORD_BYTES >= included;
        possible.then_some(Header { original, included, us })
    }

    fn time(&self) -> UnixMs {
        UnixMs(u64::try_from(self.us.saturating_sub(EPOCH_US) / 1000).unwrap_or_default())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const AT: u64 = 1_593_000_000_123;

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0x03, 0xea]);
        for packet in records {
            append(&mut file, packet.len(), packet);
        }
        file
    }

    fn append(file: &mut Vec<u8>, original: usize, packet: &[u8]) {
        file.extend_from_slice(&(original as u32).to_be_bytes());
        file.extend_from_slice(&(packet.len() as u32).to_be_bytes());
        file.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 0]);
        file.extend_from_slice(&(EPOCH_US + AT as i64 * 1000).to_be_bytes());
        file.extend_from_slice(packet);
    }

    fn packets(file: &[u8]) -> Vec<Result<Vec<u8>, Damaged>> {
        records(file).unwrap().map(|record| record.map(|record| record.packet.to_vec())).collect()
    }

    #[test]
    fn a_record_comes_with_its_time() {
        let file = file(&[&[4, 1], &[4, 2]]);
        let read: Vec<_> = records(&file).unwrap().map(Result::unwrap).collect();
        assert_eq!(read[0], Record { at: UnixMs(AT), packet: &[4, 1] });
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn another_file_is_refused_for_its_reason() {
        let whole = file(&[]);
        assert_eq!(records(b"not a log").unwrap_err(), BtsnoopError::Magic);
        assert_eq!(records(&whole[..15]).unwrap_err(), BtsnoopError::Magic);
        let with = |at: usize, value: u8| {
            let mut file = whole.clone();
            file[at] = value;
            records(&file).unwrap_err()
        };
        assert_eq!(with(11, 2), BtsnoopError::Version(2));
        assert_eq!(with(15, 0xe9), BtsnoopError::Datalink(1001));
    }

    #[test]
    fn a_record_that_was_cut_when_written_is_passed_over() {
        let mut file = file(&[&[4, 1]]);
        append(&mut file, 9, &[4, 2]);
        append(&mut file, 2, &[4, 3]);
        assert_eq!(packets(&file), [Ok(vec![4, 1]), Err(Damaged), Ok(vec![4, 3])]);
    }

    #[test]
    fn an_overwritten_header_costs_one_record_and_not_the_rest() {
        let mut file = file(&[&[4, 1], &[4, 2, 2, 2], &[4, 3]]);
        let second = HEADER_BYTES + RECORD_BYTES + 2;
        file[second..second + 8].fill(0xff);
        assert_eq!(packets(&file), [Ok(vec![4, 1]), Err(Damaged), Ok(vec![4, 3])]);
    }

    #[test]
    fn a_file_that_ends_in_a_record_has_one_damaged_record() {
        let whole = file(&[&[4, 1], &[4, 2]]);
        for cut in 1..RECORD_BYTES + 2 {
            assert_eq!(packets(&whole[..whole.len() - cut]), [Ok(vec![4, 1]), Err(Damaged)], "{cut} bytes short");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_come_to_an_end(bytes in vec(any::<u8>(), 0..600)) {
            let file = [file(&[&[4, 1]]), bytes].concat();
            prop_assert!(records(&file).unwrap().count() <= file.len());
        }

        #[test]
        fn one_flipped_bit_never_panics(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut file = file(&[&[4, 1], &[4, 2, 3], &[4]]);
            let at = at.index(file.len());
            file[at] ^= 1_u8 << bit;
            if let Ok(records) = records(&file) {
                let _ = records.count();
            }
        }
    }
}
