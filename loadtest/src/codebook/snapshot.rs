//! The book's snapshot: written, and a start from it.

use std::{io, time::Instant};

use forecourt::{
    engine::codebook::Keeper,
    registration::{
        Moment,
        envelope::Envelope,
        roll_at_once,
        snapshot::{CODEBOOK_FILE, Writer, read},
    },
};
use serde::Serialize;

use super::{Config, NOW, SLOT};

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "they are keys of the report")]
pub struct Snapshot {
    pub snapshot_write_s: f64,
    pub snapshot_bytes: u64,
    pub snapshot_longest_step_ms: f64,
    /// To a book that answers, from a file that the system's cache may still hold; on all cores.
    pub ready_from_snapshot_s: f64,
    /// Of these, until all keys are open.
    pub snapshot_read_s: f64,
    pub snapshot_devices: usize,
}

/// Writes the dongles down, forgets them, and starts from what was written; answers what it started.
pub(super) fn measure(keeper: Keeper, config: &Config, tell: &mut impl FnMut(&str)) -> io::Result<(Snapshot, Keeper)> {
    let temporary = tempfile::tempdir()?;
    let folder = config.folder.as_deref().unwrap_or(temporary.path());
    let (path, envelope) = (folder.join(CODEBOOK_FILE), Envelope::new(1, &[7; 32]));
    let began = Instant::now();
    let mut writer = Writer::begin(&path, Moment::default())?;
    let (mut goes_on, mut longest_ms) = (true, 0.0_f64);
    while goes_on {
        let step = Instant::now();
        goes_on = writer.step(&keeper, &envelope)?.is_some();
        longest_ms = longest_ms.max(step.elapsed().as_secs_f64() * 1e3);
    }
    let snapshot_bytes = writer.finish()?;
    let snapshot_write_s = began.elapsed().as_secs_f64();
    tell(&format!("snapshot of {:.2} GB written in {snapshot_write_s:.1} s", snapshot_bytes as f64 / 1e9));
    drop(keeper);

    let threads = std::thread::available_parallelism()?.get();
    let began = Instant::now();
    let (roster, _) = read(&path, &envelope, threads).map_err(io::Error::other)?;
    let snapshot_read_s = began.elapsed().as_secs_f64();
    let mut keeper = Keeper::new(SLOT, roster);
    roll_at_once(&mut keeper, NOW, threads);
    let snapshot_devices = keeper.book().len();
    let ready_from_snapshot_s = began.elapsed().as_secs_f64();
    tell(&format!("ready from it in {ready_from_snapshot_s:.1} s"));
    std::fs::remove_file(&path)?;
    let snapshot = Snapshot {
        snapshot_write_s,
        snapshot_bytes,
        snapshot_longest_step_ms: longest_ms,
        ready_from_snapshot_s,
        snapshot_read_s,
        snapshot_devices,
    };
    Ok((snapshot, keeper))
}
