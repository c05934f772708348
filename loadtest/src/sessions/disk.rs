//! What the disk under a folder does by itself.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

/// For how long it is asked.
const ASKED: Duration = Duration::from_secs(1);

/// A page of SQLite's log.
const PAGE: [u8; 4096] = [0x5a; 4096];

/// Appends of a page, each flushed to the disk before the next, a second. Blocks.
pub(super) fn flushes_per_second(folder: &Path) -> io::Result<f64> {
    let path = folder.join("flushes");
    let mut file = File::create(&path)?;
    let (begun, mut flushes) = (Instant::now(), 0_u32);
    while begun.elapsed() < ASKED {
        file.write_all(&PAGE)?;
        file.sync_data()?;
        flushes += 1;
    }
    let took = begun.elapsed();
    std::fs::remove_file(path)?;
    Ok(f64::from(flushes) / took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_flushes_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(flushes_per_second(folder.path()).unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
