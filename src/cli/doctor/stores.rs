//! The two stores, read beside a running engine or without one, and the disk that a commit waits for.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use forecourt::{
    ledger::{Journal, Ledger, LedgerError},
    registration::{KekHex, Truth},
    telemetry,
};

use super::Finding;

/// A journal's last entry may be ahead of the clock by as much as NTP slews.
const AHEAD_MS_MAX: u64 = 60_000;

/// A commit of the journal flushes as much or more, and everything that is answered waits for one.
const FLUSH_BYTES: usize = 4096;
const FLUSHES: usize = 9;
const FLUSH_WARN: Duration = Duration::from_millis(10);
const FLUSH_WRONG: Duration = Duration::from_millis(200);

pub(super) fn ledger(data: &Path) -> Finding {
    const CHECK: &str = "ledger";
    let path = Ledger::file(data);
    if !path.exists() {
        return Finding::ok(CHECK, "none yet; the first start makes it");
    }
    let journal = match Journal::open(&path) {
        Ok(journal) => journal,
        Err(error) => {
            return Finding::wrong(CHECK, error.to_string(), "run this as the engine's user; see README, Upgrade");
        }
    };
    match end(&journal) {
        Ok((_, last)) if last > AHEAD_MS_MAX => Finding::wrong(
            CHECK,
            format!("its last entry is {} s ahead of the clock", last / 1_000),
            "the clock went back: set it before the engine runs",
        ),
        Ok((head, _)) => Finding::ok(CHECK, format!("head {head}")),
        Err(error) => {
            Finding::wrong(CHECK, error.to_string(), "`forecourt audit verify` names the row; put back a backup")
        }
    }
}

/// Its head, and by how many milliseconds its last entry is ahead of the clock.
fn end(journal: &Journal) -> Result<(String, u64), LedgerError> {
    let head = journal.head()?;
    let ahead = journal.last_at()?.map_or(0, |last| last.since(telemetry::now()));
    Ok((head.to_string(), ahead))
}

/// How long the disk takes to flush, beside the journal and in a file of its own that has no name any more.
pub(super) fn flush(data: &Path) -> Finding {
    const CHECK: &str = "disk flush";
    if !data.is_dir() {
        return Finding::ok(CHECK, "not measured: there is no data folder yet");
    }
    let took = match median_flush(data) {
        Ok(took) => took,
        Err(error) => {
            return Finding::wrong(
                CHECK,
                format!("{}: {error}", data.display()),
                "make the folder writable, and room in it",
            );
        }
    };
    let found = format!("{:.1} ms (median of {FLUSHES})", took.as_secs_f64() * 1e3);
    let mend = "every answer waits for one: take a disk with a write cache that survives a power cut";
    if took > FLUSH_WRONG {
        Finding::wrong(CHECK, found, mend)
    } else if took > FLUSH_WARN {
        Finding::warn(CHECK, found, mend)
    } else {
        Finding::ok(CHECK, found)
    }
}

fn median_flush(data: &Path) -> io::Result<Duration> {
    let path = data.join(format!("doctor.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    let mut flush = || {
        let begun = Instant::now();
        file.write_all(&[0; FLUSH_BYTES])?;
        file.sync_data()?;
        Ok(begun.elapsed())
    };
    let mut took = (0..FLUSHES).map(|_| flush()).collect::<io::Result<Vec<_>>>()?;
    took.sort_unstable();
    Ok(took[FLUSHES / 2])
}

pub(super) fn registrations(data: &Path, kek: Option<&KekHex>) -> Finding {
    const CHECK: &str = "registrations";
    match Truth::look(data, kek) {
        Ok(Some(revision)) => {
            Finding::ok(CHECK, format!("revision {}, and the key-encryption key is its own", revision.0))
        }
        Ok(None) => Finding::ok(CHECK, "none yet; the first start makes them"),
        Err(error) => Finding::wrong(
            CHECK,
            error.to_string(),
            "put back the key (kek, or FORECOURT_REGISTRATION_KEK_HEX) or the backup that belongs to it",
        ),
    }
}
