//! The data folder, and the disk under it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use forecourt::{
    engine::time::DAY_MS,
    ledger::{Journal, Ledger},
    telemetry,
};
use rustix::fs::{Access, access, statfs, statvfs};

use super::{super::running::Running, Finding};

/// What a day is taken to grow by at least: a journal that has just begun says nothing of the days to come. 30,000 sales
/// of eight entries, some 500 bytes each.
const DAY_BYTES_MIN: u64 = 120_000_000;

/// Days that there is room for: below the first somebody has to act now, below the second soon.
const DAYS_WRONG: u64 = 2;
const DAYS_WARN: u64 = 30;

/// File systems as statfs(2) tells them, on which SQLite's locks and shared memory do not hold.
const OVER_A_NETWORK: [(u32, &str); 6] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x6573_5546, "fuse"),
];

/// Those that do not outlive the machine, or the container.
const PASSING: [(u32, &str); 2] = [(0x0102_1994, "tmpfs"), (0x794c_7630, "overlayfs")];

pub(super) fn check(data: &Path, running: Option<&Running>) -> Finding {
    const CHECK: &str = "data folder";
    let shown = data.display();
    if let Some(running) = running {
        return Finding::ok(
            CHECK,
            match running.addresses {
                Some(addresses) => format!("an engine runs on {shown} and serves HTTP at {}", addresses.http),
                None => format!("an engine is starting on {shown}"),
            },
        );
    }
    let (place, is_there) = nearest(data);
    let mode = match fs::metadata(&place) {
        Ok(folder) if folder.is_dir() => folder.permissions().mode(),
        Ok(_) => {
            let found = format!("{} is no folder", place.display());
            return Finding::wrong(CHECK, found, "name another as engine.data");
        }
        Err(error) => {
            return Finding::wrong(CHECK, format!("{}: {error}", place.display()), "run this as the engine's user");
        }
    };
    if let Err(error) = access(&place, Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK) {
        let mend = "make it writable for the engine's user, or name another as engine.data";
        Finding::wrong(CHECK, format!("{}: {error}", place.display()), mend)
    } else if !is_there {
        Finding::ok(CHECK, format!("{shown} is not there yet; the first start makes it"))
    } else if mode & 0o077 != 0 {
        Finding::warn(
            CHECK,
            format!("{shown} is open to others than its owner; plates and keys lie in it"),
            format!("chmod go-rwx {shown}"),
        )
    } else {
        Finding::ok(CHECK, format!("{shown} is writable and free"))
    }
}

pub(super) fn file_system(data: &Path) -> Finding {
    const CHECK: &str = "file system";
    let place = nearest(data).0;
    let kind = match statfs(&place) {
        Ok(disk) => disk.f_type as u32,
        Err(error) => return Finding::warn(CHECK, format!("{}: {error}", place.display()), "look at the disk"),
    };
    let name = |kinds: &[(u32, &'static str)]| kinds.iter().find(|(of, _)| *of == kind).map(|(_, name)| *name);
    if let Some(name) = name(&OVER_A_NETWORK) {
        return Finding::wrong(
            CHECK,
            format!("{name}: over it, locks and shared memory of SQLite's write-ahead log do not hold"),
            "put engine.data on a disk of this machine",
        );
    }
    if let Some(name) = name(&PASSING) {
        return Finding::warn(
            CHECK,
            format!("{name}: what lies there is gone with the machine or its container"),
            "put engine.data on a disk, or a volume, that stays",
        );
    }
    Finding::ok(CHECK, format!("local (type {kind:#x})"))
}

/// Free space against what a day grows.
pub(super) fn space(data: &Path) -> Finding {
    const CHECK: &str = "disk";
    let place = nearest(data).0;
    let free = match statvfs(&place) {
        Ok(disk) => disk.f_bavail * disk.f_frsize,
        Err(error) => return Finding::warn(CHECK, format!("{}: {error}", place.display()), "look at the disk"),
    };
    let growth = day_bytes(data).unwrap_or_default().max(DAY_BYTES_MIN);
    let days = free / growth;
    let found = format!("{} MB free, and the journal grows by {} MB a day: {days} days", free >> 20, growth >> 20);
    let mend = "make room, or lower ledger.session_days and run `forecourt purge`; without room nothing is sold";
    match days {
        0..DAYS_WRONG => Finding::wrong(CHECK, found, mend),
        DAYS_WRONG..DAYS_WARN => Finding::warn(CHECK, found, mend),
        _ => Finding::ok(CHECK, found),
    }
}

/// What the journal's last 24 hours take, by the mean of all its entries.
fn day_bytes(data: &Path) -> Option<u64> {
    let journal = Journal::open(&Ledger::file(data)).ok()?;
    let entries = journal.head().ok()?.seq.0;
    let today = journal.entries_after(telemetry::now().minus(DAY_MS)).ok()?;
    Some(journal.bytes().ok()? / entries.max(1) * today)
}

/// The folder, or the nearest one above it that is there.
fn nearest(data: &Path) -> (PathBuf, bool) {
    let whole = std::path::absolute(data).unwrap_or_else(|_| data.into());
    let missing = |path: &&Path| matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let place = whole.ancestors().find(|path| !missing(path)).unwrap_or(Path::new("/"));
    (place.to_owned(), place == whole)
}
