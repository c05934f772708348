//! The journal as it is read: by the start, for a session that was forgotten, and beside an engine by who audits it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Entry, Kind, LedgerError, OpenError, Purge, Rule, Seq, chain::Head, store};
use crate::engine::time::UnixMs;

/// A connection that can only read. What was purged it passes over.
#[derive(Debug)]
pub struct Journal {
    pub(super) connection: Connection,
}

impl Journal {
    /// The file `ledger.db`, or a copy of it; an engine may write it meanwhile.
    pub fn open(path: &Path) -> Result<Journal, OpenError> {
        Ok(Journal { connection: store::open_reader(path)? })
    }

    /// Every entry in order, and within one state of the journal.
    pub fn replay(&self, each: impl FnMut(Seq, Entry)) -> Result<(), LedgerError> {
        self.replay_after(Seq(0), u64::MAX, each)
    }

    /// At most `max` entries after one.
    pub fn replay_after(&self, after: Seq, max: u64, mut each: impl FnMut(Seq, Entry)) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT seq, at_ms, kind, subject, format, payload FROM journal
             WHERE seq > ?1 AND kind <> 0 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = select.query(params![after.0 as i64, max.min(i64::MAX as u64) as i64])?;
        while let Some(row) = rows.next()? {
            each(seq(row)?, entry(row)?);
        }
        Ok(())
    }

    /// The entries of one subject in order.
    pub fn of(&self, kind: Kind, subject: &[u8]) -> Result<Vec<(Seq, Entry)>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT seq, at_ms, kind, subject, format, payload FROM journal
             WHERE kind = ?1 AND subject = ?2 ORDER BY seq",
        )?;
        let mut rows = select.query(params![kind as u8, subject])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            entries.push((seq(row)?, entry(row)?));
        }
        Ok(entries)
    }

    /// The last purge by a rule.
    pub fn last_purge(&self, rule: Rule) -> Result<Option<Purge>, LedgerError> {
        self.last_of(Kind::Purge, rule.name().as_bytes())?.map(|entry| Purge::read(&entry)).transpose()
    }

    fn last_of(&self, kind: Kind, subject: &[u8]) -> Result<Option<Entry>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT seq, at_ms, kind, subject, format, payload FROM journal
             WHERE kind = ?1 AND subject = ?2 ORDER BY seq DESC LIMIT 1",
        )?;
        select.query_row(params![kind as u8, subject], |row| Ok(entry(row))).optional()?.transpose()
    }

    /// How many entries came after this moment: found by halves, as their times rise with their places.
    pub fn entries_after(&self, at: UnixMs) -> Result<u64, LedgerError> {
        let head = self.head()?.seq.0;
        let (mut before, mut end) = (0, head);
        while before < end {
            let middle = before + (end - before) / 2;
            let is_before = self.at(Seq(middle + 1))?.is_none_or(|entry| entry <= at);
            if is_before { before = middle + 1 } else { end = middle }
        }
        Ok(head - before)
    }

    /// When the last entry was made.
    pub fn last_at(&self) -> Result<Option<UnixMs>, LedgerError> {
        self.at(self.head()?.seq)
    }

    fn at(&self, place: Seq) -> Result<Option<UnixMs>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT at_ms FROM journal WHERE seq = ?1")?;
        let at = select.query_row([place.0 as i64], |row| row.get::<_, i64>(0)).optional()?;
        Ok(at.map(|ms| UnixMs(ms as u64)))
    }

    /// What the file takes on the disk.
    pub fn bytes(&self) -> Result<u64, LedgerError> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((pragma("page_count")? * pragma("page_size")?) as u64)
    }

    /// What the journal says of its own end.
    pub fn head(&self) -> Result<Head, LedgerError> {
        Ok(store::head(&self.connection)?)
    }
}

fn seq(row: &Row<'_>) -> rusqlite::Result<Seq> {
    Ok(Seq(row.get::<_, i64>(0)? as u64))
}

fn entry(row: &Row<'_>) -> Result<Entry, LedgerError> {
    let kind: u8 = row.get(2)?;
    Ok(Entry {
        at: UnixMs(row.get::<_, i64>(1)? as u64),
        kind: Kind::from_number(kind).ok_or(LedgerError::UnknownKind(kind))?,
        subject: row.get(3)?,
        format: row.get(4)?,
        payload: row.get(5)?,
    })
}
