//! Older layouts of `ledger.db`, and the way to this one.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    OpenError, Seq,
    chain::Head,
    store::{self, LAYOUT, SCHEMA, layout, set_head},
};

/// In one transaction: a journal that is half migrated there never is.
pub(super) fn run(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match layout(&transaction)? {
        LAYOUT => return Ok(()),
        0 => create(&transaction, true)?,
        1 => chain_up(&transaction)?,
        found => return Err(OpenError::Version { found, known: LAYOUT }),
    }
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    Ok(transaction.commit()?)
}

fn create(transaction: &Transaction<'_>, claims_complete: bool) -> Result<(), OpenError> {
    transaction.execute_batch(SCHEMA)?;
    let Head { seq, hash } = Head::EMPTY;
    transaction.execute("INSERT INTO head VALUES (1, ?1, ?2, ?3)", params![seq.0 as i64, hash, claims_complete])?;
    Ok(())
}

/// Layout 1 had the journal alone, and no hash in it. Whose the site transactions are, the sessions have to tell.
fn chain_up(transaction: &Transaction<'_>) -> Result<(), OpenError> {
    transaction.execute_batch("ALTER TABLE journal RENAME TO unchained; DROP INDEX journal_subject;")?;
    create(transaction, false)?;
    let mut select =
        transaction.prepare("SELECT seq, at_ms, kind, subject, format, payload FROM unchained ORDER BY seq")?;
    let mut insert = transaction.prepare("INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut rows = select.query([])?;
    let mut head = Head::EMPTY;
    while let Some(found) = rows.next()? {
        let row = store::row(found)?;
        head = head.followed_by(&row.content());
        if head.seq != Seq(row.seq as u64) {
            return Err(OpenError::Gap(head.seq));
        }
        insert.execute(params![row.seq, row.at_ms, row.kind, row.subject, row.format, row.payload, head.hash])?;
    }
    drop(rows);
    drop(select);
    drop(insert);
    set_head(transaction, head)?;
    transaction.execute_batch("DROP TABLE unchained")?;
    Ok(())
}
