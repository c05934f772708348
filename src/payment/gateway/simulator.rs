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
//! Beside that, faults strike by a seed ([`faults`](super::faults)), whatever the token.
//!
//! Its books are the oracle for double charges: nothing of the engine's own state is in them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Answer, BooksError, Config, Finding, Line as BookLine, Movement,
    books::LINES_MAX,
    faults::{Fault, Faults},
};
use crate::{
    engine::{
        charge::{ChargeKey, Instruction, Operation},
        id::SessionId,
        money::Money,
        time::UnixMs,
    },
    telemetry::now,
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
        succeeded INTEGER NOT NULL,
        at_ms     INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX IF NOT EXISTS operations_of ON operations (of);
";

/// How late a late request is: it must arrive before "not found" is believed.
pub const LATE_MS: u64 = 1_000;

#[derive(Debug, Clone)]
pub struct Simulator {
    books: Arc<Mutex<Connection>>,
    latency: Duration,
    faults: Arc<Mutex<Faults>>,
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
        add_times(&books)?;
        let faults = Arc::new(Mutex::new(Faults::new(0, 0)));
        Ok(Simulator { books: Arc::new(Mutex::new(books)), latency, faults })
    }

    /// With the latency and the faults of the settings.
    pub(super) fn configured(config: &Config, folder: &Path) -> rusqlite::Result<Simulator> {
        let faults = Faults::new(config.simulator_seed, config.simulator_fault_permille);
        let simulator = Simulator::open(folder, Duration::from_millis(config.simulator_latency_ms))?;
        Ok(Simulator { faults: Arc::new(Mutex::new(faults)), ..simulator })
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
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).draw(instruction.key());
        if instruction.means.starts_with("tok_timeout") || fault == Some(Fault::NotArriving) {
            return std::future::pending().await;
        }
        let lost = instruction.means.starts_with("tok_lost") || fault == Some(Fault::AnswerLost);
        if fault == Some(Fault::Late) {
            return self.perform_late(instruction).await;
        }
        let times = if fault == Some(Fault::Twice) { 2 } else { 1 };
        let line = self.on_books(move |books| (0..times).map(|_| enter(books, &instruction)).last().transpose()).await;
        match line.flatten() {
            _ if lost => std::future::pending().await,
            Some(Line { succeeded: true, amount, reference }) => Answer::Succeeded { amount, reference },
            Some(Line { succeeded: false, .. }) => Answer::Declined,
            None => Answer::NoAnswer,
        }
    }

    /// By a task of its own, which outlives the caller's patience.
    async fn perform_late(&self, instruction: Instruction) -> Answer {
        let simulator = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(LATE_MS)).await;
            simulator.on_books(move |books| enter(books, &instruction)).await
        });
        std::future::pending().await
    }

    pub(super) async fn books(&self, from: UnixMs, until: UnixMs) -> Result<Vec<BookLine>, BooksError> {
        let lines = self.on_books(move |books| movements(books, from, until)).await;
        let lines = lines.ok_or_else(|| BooksError::Unavailable("psp-simulator.db does not read".into()))?;
        if lines.len() > LINES_MAX { Err(BooksError::TooMany) } else { Ok(lines) }
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
    transaction
        .prepare_cached(
            "INSERT INTO operations (key, session, operation, means, minor, currency, of, succeeded, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            key.0,
            instruction.session.0,
            name(instruction.operation),
            instruction.means,
            approved.unwrap_or(0),
            instruction.amount.currency.to_string(),
            instruction.of.map(|of| of.0),
            approved.is_some(),
            now().0 as i64,
        ])?;
    let line = find(&transaction, key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    transaction.commit()?;
    Ok(line)
}

/// Books of before there were times in them; those lines count as of 1970.
fn add_times(books: &Connection) -> rusqlite::Result<()> {
    let query = "SELECT COUNT(*) FROM pragma_table_info('operations') WHERE name = 'at_ms'";
    if books.query_row(query, [], |row| row.get::<_, i64>(0))? == 0 {
        books.execute_batch("ALTER TABLE operations ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0")?;
    }
    books.execute_batch("CREATE INDEX IF NOT EXISTS operations_at ON operations (at_ms)")
}

fn movements(books: &Connection, from: UnixMs, until: UnixMs) -> rusqlite::Result<Vec<BookLine>> {
    let mut select = books.prepare(
        "SELECT key, session, operation, minor, currency, at_ms, line FROM operations
         WHERE at_ms >= ?1 AND at_ms < ?2 AND succeeded = 1 AND operation IN ('charge', 'capture', 'refund')
         LIMIT ?3",
    )?;
    let rows = select.query_map(params![from.0 as i64, until.0 as i64, LINES_MAX as i64 + 1], |row| {
        let movement = match row.get_ref(2)?.as_str()? {
            "capture" => Movement::Captured,
            "refund" => Movement::Refunded,
            _ => Movement::Charged,
        };
        Ok(BookLine {
            key: Some(ChargeKey(row.get(0)?)),
            session: Some(SessionId(row.get(1)?)),
            movement,
            amount: money(row.get(3)?, row.get_ref(4)?.as_str()?)?,
            at: UnixMs(row.get::<_, i64>(5)? as u64),
            reference: format!("sim-{}", row.get::<_, i64>(6)?),
        })
    })?;
    rows.collect()
}

fn money(minor: i64, currency: &str) -> rusqlite::Result<Money> {
    Ok(Money { minor, currency: currency.parse().map_err(|_| rusqlite::Error::InvalidQuery)? })
}

fn find(books: &Connection, key: ChargeKey) -> rusqlite::Result<Option<Line>> {
    books
        .prepare_cached("SELECT line, minor, currency, succeeded FROM operations WHERE key = ?1")?
        .query_row([key.0], |row| {
            Ok(Line {
                succeeded: row.get(3)?,
                amount: money(row.get(1)?, row.get_ref(2)?.as_str()?)?,
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
    books.prepare_cached(&query)?.query_row([key.map(|key| key.0)], |row| row.get(0))
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
    async fn whatever_fault_strikes_a_key_it_charges_once_at_most() {
        let (_folder, simulator) = simulator();
        let simulator = Simulator { faults: Arc::new(Mutex::new(Faults::new(7, 1_000))), ..simulator };
        for ordinal in 1..=40 {
            let charge = instruction(Operation::Charge, ordinal, "tok_ok", 100);
            let _ = tokio::time::timeout(Duration::from_millis(20), simulator.perform(charge.clone())).await;
        }
        tokio::time::sleep(Duration::from_millis(LATE_MS + 200)).await;
        let net = simulator.charges().unwrap()[0].net;
        assert!(net < 40 && net > 20, "{net} of 40 arrived once");
        let lines = simulator.books(UnixMs(0), UnixMs(u64::MAX >> 1)).await.unwrap();
        assert_eq!(lines.len(), net as usize);
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
