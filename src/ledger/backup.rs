//! A copy of a database that is in use: one state of it, whatever is written meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

/// Pages of 4 KiB between two words about progress.
const PAGES: i32 = 256;

/// Pause when the source is locked, as it is while another process recovers it.
const LOCKED: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}

/// Copies the database `from` to the file `to`, which must not exist yet, through SQLite's own backup: safe beside a
/// writer, which it does not hold up. The copy is one file, checked by SQLite and on the disk when this returns.
pub fn copy(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), BackupError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    drop(file);
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // Held until the end: a backup whose source changes between two steps would begin anew each time.
    let _snapshot = source.unchecked_transaction()?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut copy = Connection::open(to)?;
    let backup = Backup::new(&source, &mut copy)?;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => break,
            StepResult::More => {
                let so_far = backup.progress();
                progress((so_far.pagecount - so_far.remaining) as u64, so_far.pagecount as u64);
            }
            _ => std::thread::sleep(LOCKED),
        }
    }
    drop(backup);
    finish(copy)?;
    Ok(File::open(to)?.sync_all()?)
}

/// Without WAL the copy needs no second file beside it; the engine turns it on again.
fn finish(copy: Connection) -> Result<(), BackupError> {
    copy.pragma_update(None, "journal_mode", "delete")?;
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(BackupError::Damaged(found));
    }
    copy.close().map_err(|(_, error)| error.into())
}

/// Gives the copies their names, for good.
pub fn publish(folder: &Path, names: &[(&Path, &Path)]) -> io::Result<()> {
    for (copy, name) in names {
        if name.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(copy, name)?;
    }
    File::open(folder)?.sync_all()
}
