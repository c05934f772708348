//! Whether the journal is what was written: its chain, its tombstones, its end, and what its readers say of each entry.
//!
//! The first broken row is named. A break of the chain counts before anything else, wherever it is: what a broken chain
//! contains proves nothing about the rows before it.

use std::fmt;

use super::{
    Entry, Journal, Kind, LedgerError, Purge, Seq,
    chain::{Digest, Head, Row, TOMBSTONE},
    store,
};
use crate::engine::time::UnixMs;

/// What holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Rows, the purged ones included.
    pub entries: u64,
    pub purged: u64,
    pub head: Head,
}

/// The first row that is not as it was written, with what its columns say now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {} of the journal{}: {fault}", seq.0, row.as_ref().map(|row| format!(" ({row})")).unwrap_or_default())]
pub struct Broken {
    pub seq: Seq,
    /// `None` where there is no row, or none that reads.
    pub row: Option<Named>,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub kind: i64,
    pub subject: Vec<u8>,
    pub at: UnixMs,
}

impl Named {
    pub fn kind_name(&self) -> &'static str {
        match u8::try_from(self.kind).ok().and_then(Kind::from_number) {
            Some(kind) => kind.name(),
            None if self.kind == TOMBSTONE => "purged",
            None => "unknown",
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, at {}", self.kind_name(), hex::encode(&self.subject), self.at)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it is missing: the journal goes on with {0}")]
    Gap(i64),
    #[error("its columns do not read: {0}")]
    Columns(String),
    #[error("its contents are not those that its hash was made of")]
    Hash,
    #[error("it was emptied as by a purge, and not all of it")]
    NotEmpty,
    #[error("its kind is {0}, which this program does not know")]
    Kind(i64),
    #[error("the journal ends before it, and its head says that it goes on to {}", .0.0)]
    Cut(Seq),
    #[error("it comes after the end that the journal's head names")]
    Beyond,
    #[error("the journal ends with it, and its head says that it ends with {0}")]
    Head(Head),
    #[error("its hash is not the expected one: the journal was written anew")]
    Unexpected,
    #[error("it was emptied, and no purge says so")]
    Unmandated,
    #[error("a purge says that it was emptied, and it was not")]
    Kept,
    #[error("{0}")]
    Meaning(String),
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Broken(Box<Broken>),
    /// The rows hold, and the file around them does not.
    #[error("the rows hold, and ledger.db is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> VerifyError {
        VerifyError::Ledger(error.into())
    }
}

impl Journal {
    /// Walks the whole journal as it is at this moment. `examine` is shown each row's number, and its entry unless it was
    /// purged; what it refuses is a fault of that row. `expected` is a head that was noted before.
    pub fn verify(
        &self,
        expected: Option<Head>,
        examine: impl FnMut(Seq, Option<&Entry>) -> Result<(), String>,
    ) -> Result<Verified, VerifyError> {
        let _snapshot = self.connection.unchecked_transaction()?;
        let mut walk =
            Walk { head: Head::EMPTY, purged: 0, mandates: self.mandates()?, doubt: None, expected, examine };
        let walked = self.walk(&mut walk).and_then(|()| walk.end(store::head(&self.connection)?));
        walked?;
        let Walk { head, purged, doubt, .. } = walk;
        if let Some(broken) = doubt {
            return Err(VerifyError::Broken(Box::new(broken)));
        }
        self.integrity()?;
        Ok(Verified { entries: head.seq.0, purged, head })
    }

    /// Runs of rows that purges name, in order. What of a purge does not read, the walk will find.
    fn mandates(&self) -> Result<Vec<(Seq, Seq)>, VerifyError> {
        let mut select = self.connection.prepare("SELECT payload FROM journal WHERE kind = ?1")?;
        let payloads = select.query_map([Kind::Purge as u8], |row| row.get::<_, Vec<u8>>(0))?;
        let mut runs = Vec::new();
        for payload in payloads {
            let purge = payload.ok().and_then(|payload| super::decode::<Purge>(&payload).ok());
            runs.extend(purge.into_iter().flat_map(|purge| purge.runs));
        }
        runs.sort_unstable();
        Ok(runs)
    }

    fn walk<F>(&self, walk: &mut Walk<F>) -> Result<(), VerifyError>
    where
        F: FnMut(Seq, Option<&Entry>) -> Result<(), String>,
    {
        let mut select = self
            .connection
            .prepare("SELECT seq, at_ms, kind, subject, format, payload, hash FROM journal ORDER BY seq")?;
        let mut rows = select.query([])?;
        loop {
            let unread = |error: rusqlite::Error| walk.break_at(None, Fault::Columns(error.to_string()));
            let Some(found) = rows.next().map_err(unread)? else { return Ok(()) };
            let row = store::row(found).map_err(unread)?;
            let hash = found.get_ref(6).and_then(|hash| Ok(hash.as_blob()?)).map_err(unread)?;
            walk.step(&row, hash)?;
        }
    }

    fn integrity(&self) -> Result<(), VerifyError> {
        let found: String = self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(VerifyError::Damaged(found)) }
    }
}

struct Walk<F> {
    head: Head,
    purged: u64,
    mandates: Vec<(Seq, Seq)>,
    /// The first row that the chain bears out and something else does not.
    doubt: Option<Broken>,
    expected: Option<Head>,
    examine: F,
}

impl<F: FnMut(Seq, Option<&Entry>) -> Result<(), String>> Walk<F> {
    fn step(&mut self, row: &Row<'_>, hash: &[u8]) -> Result<(), VerifyError> {
        let seq = self.next();
        if row.seq != seq.0 as i64 {
            return Err(self.break_at(None, Fault::Gap(row.seq)));
        }
        let Some(content) = content(row) else { return Err(self.break_at(Some(row), Fault::NotEmpty)) };
        let head = self.head.followed_by(&content);
        if head.hash != *hash {
            return Err(self.break_at(Some(row), Fault::Hash));
        }
        if self.expected.is_some_and(|expected| expected.seq == seq && expected.hash != head.hash) {
            return Err(self.break_at(Some(row), Fault::Unexpected));
        }
        self.head = head;
        self.purged += u64::from(row.is_tombstone());
        if self.doubt.is_none()
            && let Err(fault) = self.judge(seq, row)
        {
            self.doubt = Some(Broken { seq, row: Some(named(row)), fault });
        }
        Ok(())
    }

    /// What the chain does not say.
    fn judge(&mut self, seq: Seq, row: &Row<'_>) -> Result<(), Fault> {
        match (row.is_tombstone(), is_within(&self.mandates, seq)) {
            (true, false) => Err(Fault::Unmandated),
            (false, true) => Err(Fault::Kept),
            (true, true) => (self.examine)(seq, None).map_err(Fault::Meaning),
            (false, false) => {
                let entry = entry(row).ok_or(Fault::Kind(row.kind))?;
                if entry.kind == Kind::Purge {
                    Purge::read(&entry).map_err(|error| Fault::Meaning(error.to_string()))?;
                }
                (self.examine)(seq, Some(&entry)).map_err(Fault::Meaning)
            }
        }
    }

    /// The rows end here: so must the head, and not before what was expected.
    fn end(&self, head: Head) -> Result<(), VerifyError> {
        let expected = self.expected.map_or(Seq(0), |expected| expected.seq);
        let furthest = head.seq.max(expected);
        if self.head.seq < furthest {
            return Err(self.break_at(None, Fault::Cut(furthest)));
        }
        let (seq, fault) = match head {
            head if head == self.head => return Ok(()),
            head if head.seq < self.head.seq => (Seq(head.seq.0 + 1), Fault::Beyond),
            head => (head.seq, Fault::Head(head)),
        };
        Err(VerifyError::Broken(Box::new(Broken { seq, row: None, fault })))
    }

    fn next(&self) -> Seq {
        Seq(self.head.seq.0 + 1)
    }

    fn break_at(&self, row: Option<&Row<'_>>, fault: Fault) -> VerifyError {
        VerifyError::Broken(Box::new(Broken { seq: self.next(), row: row.map(named), fault }))
    }
}

fn content(row: &Row<'_>) -> Option<Digest> {
    if row.is_tombstone() { row.kept_content() } else { Some(row.content()) }
}

fn named(row: &Row<'_>) -> Named {
    Named { kind: row.kind, subject: row.subject.to_vec(), at: UnixMs(row.at_ms as u64) }
}

fn entry(row: &Row<'_>) -> Option<Entry> {
    Some(Entry {
        at: UnixMs(row.at_ms as u64),
        kind: Kind::from_number(row.kind.try_into().ok()?)?,
        subject: row.subject.to_vec(),
        format: row.format.try_into().ok()?,
        payload: row.payload.to_vec(),
    })
}

fn is_within(runs: &[(Seq, Seq)], seq: Seq) -> bool {
    let after = runs.partition_point(|(first, _)| *first <= seq);
    after > 0 && runs[after - 1].1 >= seq
}
