//! Events to bytes and back.

use rkyv::{
    Archive, Deserialize, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::Error,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

/// A payload that is not what its kind and format say.
#[derive(Debug, thiserror::Error)]
#[error("a journalled payload is damaged: {0}")]
pub struct Damaged(#[from] Error);

pub fn encode(event: &impl for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>) -> Vec<u8> {
    rkyv::to_bytes::<Error>(event).expect("memory is all that archiving an event takes").into_vec()
}

/// Bytes from SQLite lie anywhere in memory, and an archive wants its alignment: hence the copy.
pub fn decode<T>(payload: &[u8]) -> Result<T, Damaged>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
{
    let mut aligned = AlignedVec::<16>::with_capacity(payload.len());
    aligned.extend_from_slice(payload);
    Ok(rkyv::from_bytes::<T, Error>(&aligned)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::charge::Outcome;

    #[test]
    fn a_payload_reads_back_and_a_damaged_one_is_refused() {
        let bytes = encode(&Outcome::Declined);
        assert_eq!(decode::<Outcome>(&bytes).unwrap(), Outcome::Declined);
        assert!(decode::<Outcome>(&vec![0xff; bytes.len()]).is_err());
        assert!(decode::<Outcome>(&[]).is_err());
    }
}
