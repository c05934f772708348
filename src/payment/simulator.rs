//! A PSP in the process, with books of its own in `psp-simulator.db`.
//!
//! It behaves as a real one does where it matters: an idempotency key is honoured for ever, a capture needs its hold,
//! a refund gives back no more than was taken. The token decides what happens:
//!
//! | token begins with | |
//! |---|---|
//! | `tok_ok` | succeeds |
//! | `tok_half` | a hold is approved for half the amount; all else succeeds |
//! | `tok_decline` | holds and charges are declined |
//! | `tok_timeout` | never answers and does nothing |
//! | `tok_lost` | does what it is told and never answers; a look-up finds it |
//! | anything else | declined |
//!
//! Its books are the oracle for double charges: nothing of the engine's own state is in them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};

use super::gateway::{Answer, Finding};
use crate::engine::{
    charge::{ChargeKey, Instruction, Operation},
    id::SessionId,
    money::Money,
};

// Another party's books: a process that dies loses nothing that was written, and a flush for each line would only
// measure the disk twice.
const SCHEMA: &str = "
    PRAGMA journal_mode=wal;
    PRAGMA synchronous=normal;
    CREATE TABLE IF NOT EXISTS operations (
        line      INTEGER PRIMARY KEY,
        key       BLOB NOT NULL UNIQUE,
        session   BLOB NOT NULL,
        operation TEXT NOT NULL,
        means     TEXT NOT NULL,
        minor     INTEGER NOT NULL,
        currency  TEXT NOT NULL,
        of        BLOB,
        succeeded INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS operations_of ON operations (of);
";

#[derive(Debug, Clone)]
pub struct Simulator {
    books: Arc<Mutex<Connection>>,
    latency: Duration,
}

/// What the simulator's books say of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCharges {
    pub session: SessionId,
    /// Charges and captures that went through and were not refunded in full. More than one is a double charge.
    pub net: u32,
    /// What they sum up to, refunds deducted, in minor units.
    pub net_minor: i64,
}

impl Simulator {
    /// Opens or makes `psp-simulator.db` in the data folder.
    pub fn open(folder: &Path, latency: Duration) -> rusqlite::Result<Simulator> {
        let books = Connection::open(folder.join("psp-simulator.db"))?;
        books.busy_timeout(Duration::from_secs(5))?;
        books.execute_batch(SCHEMA)?;
        Ok(Simulator { books: Arc::new(Mutex::new(books)), latency })
    }

    /// Per session, what was charged and not given back. Blocks.
    pub fn charges(&self) -> rusqlite::Result<Vec<SessionCharges>> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let mut select = books.prepare(
            "SELECT session, SUM(left > 0), SUM(left) FROM (
                 SELECT session, minor - COALESCE((
                     SELECT SUM(refund.minor) FROM operations AS refund
                     WHERE refund.of = taken.key AND refund.operation = 'refund' AND refund.succeeded = 1
                 ), 0) AS left
                 FROM operations AS taken
                 WHERE operation IN ('charge', 'capture') AND succeeded = 1
             ) GROUP BY session",
        )?;
        let rows = select.query_map([], |row| {
            Ok(SessionCharges { session: SessionId(row.get(0)?), net: row.get(1)?, net_minor: row.get(2)? })
        })?;
        rows.collect()
    }

    pub(super) async fn perform(&self, instruction: Instruction) -> Answer {
        tokio::time::sleep(self.latency).await;
        if instruction.means.starts_with("tok_timeout") {
            return std::future::pending().await;
        }
        let lost = instruction.means.starts_with("tok_lost");
        let line = self.on_books(move |books| enter(books, &instruction)).await;
        match line {
            _ if lost => std::future::pending().await,
            Some(Line { succeeded: true, amount, reference }) => Answer::Succeeded { amount, reference },
            Some(Line { succeeded: false, .. }) => Answer::Declined,
            None => Answer::NoAnswer,
        }
    }

    pub(super) async fn look_up(&self, key: ChargeKey) -> Finding {
        tokio::time::sleep(self.latency).await;
        match self.on_books(move |books| find(books, key)).await {
            Some(Some(Line { succeeded: true, amount, reference })) => Finding::Succeeded { amount, reference },
            Some(Some(Line { succeeded: false, .. })) => Finding::Declined,
            Some(None) => Finding::NotFound,
            None => Finding::NoAnswer,
        }
    }

    /// `None` when the books could not be read: a PSP with a trouble of its own, which gives no answer.
    async fn on_books<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        let books = Arc::clone(&self.books);
        let done = tokio::task::spawn_blocking(move || work(&mut books.lock().unwrap_or_else(PoisonError::into_inner)));
        match done.await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the simulated PSP cannot use its books");
                None
            }
            Err(_) => None,
        }
    }
}

struct Line {
    succeeded: bool,
    amount: Money,
    reference: String,
}

fn enter(books: &mut Connection, instruction: &Instruction) -> rusqlite::Result<Line> {
    let transaction = books.transaction()?;
    let key = instruction.key();
    if let Some(known) = find(&transaction, key)? {
        return Ok(known);
    }
    let approved = approved_minor(&transaction, instruction)?;
    transaction.execute(
        "INSERT INTO operations (key, session, operation, means, minor, currency, of, succeeded)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            key.0,
            instruction.session.0,
            name(instruction.operation),
            instruction.means,
            approved.unwrap_or(0),
            instruction.amount.currency.to_string(),
            instruction.of.map(|of| of.0),
            approved.is_some(),
        ],
    )?;
    let line = find(&transaction, key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    transaction.commit()?;
    Ok(line)
}

fn find(books: &Connection, key: ChargeKey) -> rusqlite::Result<Option<Line>> {
    books
        .query_row("SELECT line, minor, currency, succeeded FROM operations WHERE key = ?1", [key.0], |row| {
            let currency: String = row.get(2)?;
            Ok(Line {
                succeeded: row.get(3)?,
                amount: Money {
                    minor: row.get(1)?,
                    currency: currency.parse().map_err(|_| rusqlite::Error::InvalidQuery)?,
                },
                reference: format!("sim-{}", row.get::<_, i64>(0)?),
            })
        })
        .optional()
}

/// What the PSP agrees to; `None` is a decline.
fn approved_minor(books: &Connection, instruction: &Instruction) -> rusqlite::Result<Option<i64>> {
    let asked = instruction.amount.minor;
    let means = instruction.means.as_str();
    let good = ["tok_ok", "tok_half", "tok_lost"].iter().any(|prefix| means.starts_with(prefix));
    Ok(match instruction.operation {
        Operation::Hold if means.starts_with("tok_half") => Some(asked / 2),
        Operation::Hold | Operation::Charge => good.then_some(asked),
        Operation::Capture => {
            let used = sum(books, "of = ?1 AND operation IN ('capture', 'void')", "COUNT(*)", instruction.of)?;
            let held = sum(books, "key = ?1 AND operation = 'hold'", "COALESCE(SUM(minor), 0)", instruction.of)?;
            (used == 0 && asked <= held).then_some(asked)
        }
        Operation::Void => {
            let captured = sum(books, "of = ?1 AND operation = 'capture'", "COUNT(*)", instruction.of)?;
            (captured == 0).then_some(0)
        }
        Operation::Refund => {
            let taken = "key = ?1 AND operation IN ('charge', 'capture')";
            let taken = sum(books, taken, "COALESCE(SUM(minor), 0)", instruction.of)?;
            let given = sum(books, "of = ?1 AND operation = 'refund'", "COALESCE(SUM(minor), 0)", instruction.of)?;
            (asked <= taken - given).then_some(asked)
        }
    })
}

fn sum(books: &Connection, which: &str, what: &str, key: Option<ChargeKey>) -> rusqlite::Result<i64> {
    let query = format!("SELECT {what} FROM operations WHERE succeeded = 1 AND {which}");
    books.query_row(&query, [key.map(|key| key.0)], |row| row.get(0))
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Hold => "hold",
        Operation::Capture => "capture",
        Operation::Void => "void",
        Operation::Charge => "charge",
        Operation::Refund => "refund",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn won(minor: i64) -> Money {
        Money { minor, currency: "KRW".parse().unwrap() }
    }

    fn instruction(operation: Operation, ordinal: u32, means: &str, minor: i64) -> Instruction {
        let session = SessionId([4; 16]);
        Instruction { session, ordinal, operation, means: means.into(), amount: won(minor), of: None }
    }

    fn of(operation: Operation, ordinal: u32, minor: i64, of: &Instruction) -> Instruction {
        Instruction { of: Some(of.key()), ..instruction(operation, ordinal, &of.means, minor) }
    }

    fn simulator() -> (tempfile::TempDir, Simulator) {
        let folder = tempfile::tempdir().unwrap();
        let simulator = Simulator::open(folder.path(), Duration::ZERO).unwrap();
        (folder, simulator)
    }

    async fn succeeds(simulator: &Simulator, instruction: &Instruction) -> bool {
        matches!(simulator.perform(instruction.clone()).await, Answer::Succeeded { .. })
    }

    #[tokio::test]
    async fn the_same_key_charges_once() {
        let (_folder, simulator) = simulator();
        let charge = instruction(Operation::Charge, 1, "tok_ok", 100);
        let first = simulator.perform(charge.clone()).await;
        assert_eq!(simulator.perform(charge).await, first);
        let expected = SessionCharges { session: SessionId([4; 16]), net: 1, net_minor: 100 };
        assert_eq!(simulator.charges().unwrap(), [expected]);
        simulator.perform(instruction(Operation::Charge, 2, "tok_ok", 100)).await;
        assert_eq!(simulator.charges().unwrap()[0].net, 2, "a second key is a double charge, and seen as one");
    }

    #[tokio::test]
    async fn a_hold_is_captured_or_voided_but_not_both() {
        let (_folder, simulator) = simulator();
        let hold = instruction(Operation::Hold, 1, "tok_ok", 100);
        assert!(succeeds(&simulator, &hold).await);
        assert!(!succeeds(&simulator, &of(Operation::Capture, 2, 101, &hold)).await);
        assert!(succeeds(&simulator, &of(Operation::Capture, 3, 90, &hold)).await);
        assert!(!succeeds(&simulator, &of(Operation::Void, 4, 100, &hold)).await);
    }

    #[tokio::test]
    async fn no_more_is_refunded_than_was_taken() {
        let (_folder, simulator) = simulator();
        let charge = instruction(Operation::Charge, 1, "tok_ok", 100);
        assert!(succeeds(&simulator, &charge).await);
        assert!(succeeds(&simulator, &of(Operation::Refund, 2, 60, &charge)).await);
        assert!(!succeeds(&simulator, &of(Operation::Refund, 3, 41, &charge)).await);
        assert!(succeeds(&simulator, &of(Operation::Refund, 4, 40, &charge)).await);
        assert_eq!(simulator.charges().unwrap()[0].net, 0);
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_and_a_timeout_is_not() {
        let (_folder, simulator) = simulator();
        for (means, found) in [("tok_lost", true), ("tok_timeout", false)] {
            let charge = instruction(Operation::Charge, 1, means, 100);
            let silent = tokio::time::timeout(Duration::from_millis(200), simulator.perform(charge.clone())).await;
            assert!(silent.is_err());
            let finding = simulator.look_up(charge.key()).await;
            assert_eq!(matches!(finding, Finding::Succeeded { .. }), found);
        }
    }
}
