//! What can go wrong with the journal.

use rusqlite::ErrorCode;

use super::{Head, Seq};

/// The journal cannot be opened: the engine must not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("SQLite {found} is linked, and {needed} is the oldest that keeps committed writes")]
    Library { found: &'static str, needed: &'static str },
    #[error(
        "ledger.db has layout {found}, and this program takes {known}: {}",
        if found > known {
            "a newer forecourt wrote it; start that one, or put back the backup made before the upgrade"
        } else {
            "a start of the engine brings an older one up to it"
        }
    )]
    Version { found: i64, known: i64 },
    #[error("SQLite did not take {pragma}: it is {found}")]
    Pragma { pragma: &'static str, found: String },
    #[error("ledger.db cannot be written: make it and its folder writable for the engine")]
    ReadOnly,
    #[error("entry {} is missing from the journal, so that no chain can be made of it", .0.0)]
    Gap(Seq),
    #[error("the journal ends at {last}, and its head says {head}: put back a backup, or see `forecourt audit verify`")]
    Torn { head: Head, last: Head },
    #[error("another journal lies where ledger.db was: it does not contain {0}")]
    Replaced(Head),
    #[error("ledger.db cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the journal's thread does not start: {0}")]
    Thread(std::io::Error),
}

/// An append or a read failed. Nothing of a failed append is in the journal, unless the disk failed while it was being
/// made durable: then only the journal knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("the disk under the journal is full")]
    DiskFull,
    #[error("the journal is read-only")]
    ReadOnly,
    #[error("the journal is closed")]
    Closed,
    /// This append alone is refused, and will be again.
    #[error("the site transaction belongs to another session")]
    Claimed,
    #[error("the journal has entries of this subject already")]
    Known,
    #[error("the journal holds an entry of a kind that this program does not know: {0}")]
    UnknownKind(u8),
    #[error("the journal failed: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => LedgerError::DiskFull,
            Some(ErrorCode::ReadOnly) => LedgerError::ReadOnly,
            _ => LedgerError::Failed(error.to_string()),
        }
    }
}

impl From<OpenError> for LedgerError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Sqlite(error) => error.into(),
            OpenError::ReadOnly => LedgerError::ReadOnly,
            other => LedgerError::Failed(other.to_string()),
        }
    }
}
