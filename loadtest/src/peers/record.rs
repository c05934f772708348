//! What a message of the peers carries: the hearings of one batch as plain records.
//!
//! 24 bytes are the least that code, receiver, RSSI and time can have: no JSON, no names, read in place.

use forecourt::engine::{batch::Hearing, time::UnixMs};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const TIME_BYTES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Record {
    pub code: [u8; 16],
    pub receiver: u8,
    pub rssi: i8,
    /// Milliseconds since the epoch, little-endian.
    at: [u8; TIME_BYTES],
}

impl Record {
    pub(crate) fn at(&self) -> UnixMs {
        let mut bytes = [0; size_of::<u64>()];
        bytes[..TIME_BYTES].copy_from_slice(&self.at);
        UnixMs(u64::from_le_bytes(bytes))
    }
}

impl From<&Hearing> for Record {
    fn from(hearing: &Hearing) -> Record {
        let mut at = [0; TIME_BYTES];
        at.copy_from_slice(&hearing.at.0.to_le_bytes()[..TIME_BYTES]);
        Record { code: hearing.code.0, receiver: hearing.receiver.0, rssi: hearing.rssi, at }
    }
}

/// The records of a message; none if it is not made of whole ones.
pub(super) fn read(payload: &[u8]) -> &[Record] {
    <[Record]>::ref_from_bytes(payload).unwrap_or_default()
}

pub(super) fn write(hearings: &[Hearing]) -> Vec<u8> {
    let records: Vec<Record> = hearings.iter().map(Record::from).collect();
    records.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use forecourt::engine::{code::Code, id::ReceiverId};

    use super::*;

    const HEARING: Hearing =
        Hearing { code: Code([7; 16]), receiver: ReceiverId(3), rssi: -61, at: UnixMs(1_800_000_000_123) };

    #[test]
    fn a_record_has_24_bytes_and_comes_back_as_it_was() {
        let bytes = write(&[HEARING, HEARING]);
        assert_eq!(bytes.len(), 48);
        let record = read(&bytes)[1];
        assert_eq!((record.code, record.receiver, record.rssi, record.at()), ([7; 16], 3, -61, HEARING.at));
    }

    #[test]
    fn half_a_record_is_none() {
        let bytes = write(&[HEARING, HEARING]);
        assert!((1..48).filter(|cut| cut % 24 != 0).all(|cut| read(&bytes[..cut]).is_empty()));
    }
}
