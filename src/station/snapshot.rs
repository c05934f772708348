//! Presence windows on disk, so that a restart does not forget the parked cars.
//!
//! One file for all stations: `FCPW`, the version as u32 little-endian, the SHA-256 of the rest, and an rkyv archive
//! (whose root is at its end, so that a cut one may still read, as something else). It is written beside the
//! old one and renamed over it, so that a crash leaves one of the two whole. A file that does not read is left alone
//! and the stations start empty: presence comes back from the air.

use std::{fs, io, path::Path};

use rkyv::{rancor, util::AlignedVec};
use sha2::{Digest, Sha256};

use crate::engine::{id::StationId, presence::Record};

const MAGIC: [u8; 4] = *b"FCPW";
const VERSION: u32 = 3;
const DIGEST_BYTES: usize = 32;

/// The windows of each station.
pub(super) type Windows = Vec<(StationId, Vec<Record>)>;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("not a snapshot of presence windows of version {VERSION}")]
    Foreign,
    #[error("cut or damaged")]
    Damaged,
    #[error(transparent)]
    Archive(#[from] rancor::Error),
}

pub(super) fn write(path: &Path, windows: &Windows) -> Result<(), SnapshotError> {
    let archive = rkyv::to_bytes::<rancor::Error>(windows)?;
    let beside = path.with_extension("writing");
    fs::write(&beside, [&MAGIC[..], &VERSION.to_le_bytes(), &Sha256::digest(&archive), &archive].concat())?;
    fs::rename(&beside, path)?;
    Ok(())
}

/// The windows of the last snapshot; none when there was none.
pub(super) fn read(path: &Path) -> Result<Windows, SnapshotError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Windows::new()),
        read => read?,
    };
    let rest = bytes.strip_prefix(&[MAGIC, VERSION.to_le_bytes()].concat()[..]).ok_or(SnapshotError::Foreign)?;
    let (digest, archive) = rest.split_at_checked(DIGEST_BYTES).ok_or(SnapshotError::Damaged)?;
    if Sha256::digest(archive)[..] != *digest {
        return Err(SnapshotError::Damaged);
    }
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    Ok(rkyv::from_bytes::<Windows, rancor::Error>(&aligned)?)
}

/// How many hearings the windows of a snapshot stand for, station by station: what an oracle compares with what was sent.
pub fn hearings(path: &Path) -> Result<Vec<(StationId, u64)>, SnapshotError> {
    let sum = |records: &[Record]| records.iter().map(|record| u64::from(record.hearings())).sum();
    Ok(read(path)?.iter().map(|(station, records)| (*station, sum(records))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        id::{DeviceId, ReceiverId},
        presence::{Policy, Presence},
        time::UnixMs,
    };

    fn windows() -> Windows {
        let mut presence = Presence::new(Policy::DESIGN);
        for second in 0..3 {
            let now = UnixMs(1_800_000_000_000 + second * 1000);
            presence.observe(DeviceId(7), ReceiverId(0), -50, now, now, &mut Vec::new());
        }
        vec![(StationId(1), presence.records())]
    }

    #[test]
    fn windows_read_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.snapshot");
        assert!(read(&path).unwrap().is_empty());
        write(&path, &windows()).unwrap();
        let read = read(&path).unwrap();
        assert_eq!((read.len(), read[0].0, read[0].1.len()), (1, StationId(1), 1));
        assert_eq!(hearings(&path).unwrap(), [(StationId(1), 3)]);
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.snapshot");
        write(&path, &windows()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "cut to {length} bytes");
        }
        fs::write(&path, b"something else").unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Foreign)));
    }
}
