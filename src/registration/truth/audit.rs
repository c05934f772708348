//! Who changed what, and when. Written in the commit of the change itself.

use rusqlite::{Connection, params};

use crate::engine::time::UnixMs;
use crate::registration::mandate::Author;

/// One line of the audit. `who` is `operator ...`, `import`, `phone`, or `system`; `why` is an operator's reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct AuditRow {
    pub at: UnixMs,
    pub who: String,
    pub what: String,
    pub subject: String,
    pub why: String,
}

pub(in crate::registration) fn audit(
    db: &Connection,
    at: UnixMs,
    author: Author<'_>,
    subject: &str,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO audit (at_ms, who, what, subject, why) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![at.0 as i64, author.who, author.what, subject, author.why])
        .map(drop)
}

impl AuditRow {
    /// The newest `limit` rows, the newest first.
    pub(in crate::registration) fn newest(db: &Connection, limit: u32) -> rusqlite::Result<Vec<AuditRow>> {
        db.prepare_cached("SELECT at_ms, who, what, subject, why FROM audit ORDER BY seq DESC LIMIT ?1")?
            .query_map([limit], |row| {
                Ok(AuditRow {
                    at: UnixMs(row.get::<_, i64>(0)? as u64),
                    who: row.get(1)?,
                    what: row.get(2)?,
                    subject: row.get(3)?,
                    why: row.get(4)?,
                })
            })?
            .collect()
    }
}
