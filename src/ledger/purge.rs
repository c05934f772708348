//! Purging: what was kept long enough goes, and the chain still holds.
//!
//! A purged row becomes a tombstone: its number, its hash and the digest of its contents stay, and tell nothing. The
//! same transaction appends an entry of kind `Purge` that says which rows went, by which rule, and how many: a tombstone
//! that no such entry names is one that somebody else made.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    Entry, Kind, LedgerError, Seq,
    chain::{Head, TOMBSTONE},
    payload, store,
};
use crate::engine::time::UnixMs;

pub(super) const FORMAT: u16 = 1;

/// Why rows go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A session that sold something, or spoke to the PSP, is old enough.
    Payments,
    /// A session that never did says only where a vehicle was.
    Location,
}

impl Rule {
    pub const ALL: [Rule; 2] = [Rule::Payments, Rule::Location];

    pub fn name(self) -> &'static str {
        match self {
            Rule::Payments => "payments",
            Rule::Location => "location",
        }
    }
}

/// Whose entries go, and the last of them when that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub kind: Kind,
    pub subject: Vec<u8>,
    pub last: Seq,
}

/// What is to be purged in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeOrder {
    pub at: UnixMs,
    pub rule: Rule,
    /// What ended before this is old enough.
    pub before: UnixMs,
    /// The journal was searched up to here; the next search goes on from it.
    pub through: Seq,
    /// Removals that belong together: all of them, or none when one has got another entry since.
    pub groups: Vec<Vec<Removal>>,
}

/// What the journal keeps of a purge.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Purge {
    pub rule: Rule,
    pub before: UnixMs,
    pub through: Seq,
    /// Groups of removals: sessions with their charges.
    pub sessions: u64,
    pub entries: u64,
    /// First and last row of each unbroken run of purged rows, in order.
    pub runs: Vec<(Seq, Seq)>,
}

impl Purge {
    /// The last purge by a rule that the entry tells of.
    pub fn read(entry: &Entry) -> Result<Purge, LedgerError> {
        let purge = (entry.format == FORMAT).then(|| payload::decode(&entry.payload));
        let unreadable = || LedgerError::Failed(format!("a purge of format {} is not known", entry.format));
        purge.ok_or_else(unreadable)?.map_err(|damaged| LedgerError::Failed(damaged.to_string()))
    }

    fn entry(&self, at: UnixMs) -> Entry {
        let subject = self.rule.name().as_bytes().to_vec();
        Entry { at, kind: Kind::Purge, subject, format: FORMAT, payload: payload::encode(self) }
    }
}

/// One transaction. The head afterwards, and what was purged.
pub(super) fn purge(connection: &mut Connection, head: Head, order: &PurgeOrder) -> Result<(Head, Purge), LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut purged = Vec::new();
    let mut sessions = 0;
    for group in &order.groups {
        if let Some(seqs) = seqs_of(&transaction, group)? {
            purged.extend(seqs);
            sessions += 1;
        }
    }
    purged.sort_unstable();
    for seq in &purged {
        bury(&transaction, *seq)?;
    }
    let PurgeOrder { rule, before, through, .. } = *order;
    let purge = Purge { rule, before, through, sessions, entries: purged.len() as u64, runs: runs(&purged) };
    let head = store::Rows::new(&transaction)?.push(head, &purge.entry(order.at))?;
    store::set_head(&transaction, head)?;
    transaction.commit()?;
    Ok((head, purge))
}

/// `None` when the journal got another entry of one of them.
fn seqs_of(transaction: &Transaction<'_>, group: &[Removal]) -> rusqlite::Result<Option<Vec<i64>>> {
    let mut select = transaction.prepare_cached("SELECT seq FROM journal WHERE kind = ?1 AND subject = ?2")?;
    let mut all = Vec::new();
    for Removal { kind, subject, last } in group {
        let seqs = select.query_map(params![*kind as u8, subject], |row| row.get::<_, i64>(0))?;
        let seqs = seqs.collect::<rusqlite::Result<Vec<i64>>>()?;
        if seqs.iter().any(|seq| *seq > last.0 as i64) {
            return Ok(None);
        }
        all.extend(seqs);
    }
    Ok(Some(all))
}

fn bury(transaction: &Transaction<'_>, seq: i64) -> rusqlite::Result<()> {
    let mut select =
        transaction.prepare_cached("SELECT seq, at_ms, kind, subject, format, payload FROM journal WHERE seq = ?1")?;
    let content = select.query_row([seq], |found| Ok(store::row(found)?.content()))?;
    let mut update = transaction.prepare_cached(
        "UPDATE journal SET at_ms = 0, kind = ?2, subject = x'', format = 0, payload = ?3 WHERE seq = ?1",
    )?;
    update.execute(params![seq, TOMBSTONE, content]).map(drop)
}

fn runs(ordered: &[i64]) -> Vec<(Seq, Seq)> {
    let runs = ordered.chunk_by(|one, next| one + 1 == *next);
    runs.map(|run| (Seq(run[0] as u64), Seq(run[run.len() - 1] as u64))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_unbroken() {
        let seq = |(first, last)| (Seq(first), Seq(last));
        assert_eq!(runs(&[1, 2, 3, 5, 7, 8]), [(1, 3), (5, 5), (7, 8)].map(seq));
        assert!(runs(&[]).is_empty());
    }
}
