//! Writes under an idempotency key: what was answered, kept in the commit of the write itself.
//!
//! So a write whose answer was lost is answered again and not done again, also after a crash in between.

use std::iter;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::engine::time::UnixMs;
use crate::registration::binding::Summary;
use crate::registration::error::Error;

/// How long an answer is kept: a caller that lost it asks again within seconds, and one that was down does within the
/// day. Some 350 bytes each, so 35 MB at a hundred thousand changes of bindings a day.
const KEPT_MS: u64 = 24 * 3600 * 1000;

/// A write as its caller names it: the digests of its key, in the caller's and the call's scope, and of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub key: [u8; 32],
    pub body: [u8; 32],
    /// By which the write is known besides, when it took back the token that it came with: nobody has the key then.
    pub parting: Option<[u8; 32]>,
}

/// What was answered to the request, if it was made before.
pub(in crate::registration) fn answered(db: &Connection, request: &Request) -> Result<Option<Summary>, Error> {
    match find(db, &request.key)? {
        Some((body, _)) if body != request.body => Err(Error::KeyReused),
        Some((_, answer)) => Ok(answer),
        None => Ok(None),
    }
}

/// What was answered to a write that is known by its parting.
pub(in crate::registration) fn parted(db: &Connection, parting: &[u8; 32]) -> rusqlite::Result<Option<Summary>> {
    Ok(find(db, parting)?.and_then(|(_, answer)| answer))
}

/// The body, and the answer as far as this version reads it.
fn find(db: &Connection, key: &[u8; 32]) -> rusqlite::Result<Option<([u8; 32], Option<Summary>)>> {
    db.prepare_cached("SELECT body, answer FROM requests WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, serde_json::from_str(row.get_ref(1)?.as_str()?).ok())))
        .optional()
}

pub(in crate::registration) fn remember(
    db: &Connection,
    request: &Request,
    answer: &Summary,
    tokens_void: bool,
    now: UnixMs,
) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM requests WHERE at_ms < ?1")?.execute([now.minus(KEPT_MS).0 as i64])?;
    let answer = serde_json::to_string(answer).expect("a summary is plain data");
    let mut insert = db.prepare_cached("INSERT INTO requests (key, body, answer, at_ms) VALUES (?1, ?2, ?3, ?4)")?;
    for key in iter::once(request.key).chain(request.parting.filter(|_| tokens_void)) {
        insert.execute(params![key, request.body, answer, now.0 as i64])?;
    }
    Ok(())
}
