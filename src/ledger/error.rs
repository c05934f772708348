//! What can go wrong with the journal.

use rusqlite::ErrorCode;

/// The journal cannot be opened: the engine must not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("SQLite {found} is linked, and {needed} is the oldest that keeps committed writes")]
    Library { found: &'static str, needed: &'static str },
    #[error("the journal has layout {found}, and this program knows up to {known}")]
    Version { found: i64, known: i64 },
    #[error("SQLite did not take {pragma}: it is {found}")]
    Pragma { pragma: &'static str, found: String },
    #[error("ledger.db cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the journal's thread does not start: {0}")]
    Thread(std::io::Error),
}

/// An append or a read failed. Nothing of a failed append is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("the disk under the journal is full")]
    DiskFull,
    #[error("the journal is read-only")]
    ReadOnly,
    #[error("the journal is closed")]
    Closed,
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
