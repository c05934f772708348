//! Imports of stations and dongles from CSV: good lines go in, bad ones are named with their reason.
//!
//! ```text
//! this thread: read, check, derive, seal --batch--> the writer: one commit --> outcomes, in the order of the lines
//! ```
//!
//! The header says which column is where. While one batch is written the next one is read. A batch is as large as fits
//! the time that others may wait for the writer, and what is in memory is two batches, whatever the file's size. What was
//! imported once changes nothing when it comes again, and is passed over faster than it was written: so an import that
//! was cut off is simply run again.

mod apply;
mod devices;
mod named;
mod parts;
mod rows;
mod stations;

pub(super) use apply::Imported;
pub use devices::import_devices;
pub(super) use devices::import_devices_then;
pub use parts::{Part, Parts};
pub use stations::import_stations;
pub(super) use stations::import_stations_then;

use std::io::Read;
use std::time::Instant;

use super::error::Unavailable;
use super::truth::Ordered;
use rows::{Column, Fields, Header, Reader, Row};

/// Rows of the first batch; how long it took says how many the next one has.
const ROWS_FIRST: usize = 1_000;

/// Rows of a batch: the most are some 40 MB, and two are in memory; the fewest still share an `fsync` among many.
const ROWS: std::ops::RangeInclusive<usize> = 100..=50_000;

/// Who else writes to the store, and so how long a commit may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// An engine: what comes in meanwhile waits for the batch that is being written and may share a commit with the next
    /// one, so 100 ms at most for two of 40 and the disk.
    Engine,
    /// Nobody.
    None,
}

impl Company {
    fn commit_ms(self) -> u64 {
        match self {
            Company::Engine => 40,
            Company::None => 2_000,
        }
    }
}

/// Refusals that a report names; the others are counted.
pub const REFUSALS_MAX: usize = 1_000;

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ImportReport {
    /// Rows that are in the store now, those that it knew already among them.
    pub accepted: u64,
    /// Of the accepted: rows that changed nothing.
    pub unchanged: u64,
    pub refused: u64,
    /// The first 1,000 refused lines.
    pub refusals: Vec<Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Refusal {
    /// The line of the file, the header being line 1.
    pub line: u64,
    pub reason: String,
}

/// How far an import is, told after each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub rows: u64,
    pub refused: u64,
}

/// Why an import ended before the file did. What was reported before is in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("line {line} is longer than any row may be")]
    RowTooLong { line: u64 },
    #[error("the ids that the file has named cannot be kept: {0}")]
    Named(rusqlite::Error),
    #[error("the header lacks the column {0:?}")]
    ColumnMissing(&'static str),
    #[error("the header names {name:?}, which is not a column; the columns are {known}")]
    ColumnUnknown { name: String, known: String },
    #[error("the header names the column {0:?} twice")]
    ColumnTwice(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What became of one row in the store.
enum Outcome {
    Applied,
    Unchanged,
    Refused(String),
}

/// A batch that is being written: its lines, and what becomes of them.
type Writing<I> = (Vec<u64>, Instant, Ordered<Written<I>, Unavailable>);

/// A batch once it is written.
struct Written<I> {
    /// Of each row in turn.
    outcomes: Vec<Outcome>,
    /// What somebody has to learn of.
    changed: Vec<I>,
}

/// Reads, checks with `parse`, and hands batches to `order`, which answers for each row in turn.
fn import<T, I>(
    csv: impl Read,
    known: &'static [Column],
    company: Company,
    mut parse: impl FnMut(&Fields<'_>) -> Result<T, Refused>,
    mut order: impl FnMut(Vec<T>) -> Result<Ordered<Written<I>, Unavailable>, Unavailable>,
    mut progress: impl FnMut(Progress),
) -> Result<ImportReport, ImportError> {
    let mut reader = Reader::new(csv);
    let header = Header::parse(reader.next()?.as_ref(), known)?;
    let mut report = Reporter::default();
    let mut batch = Batch { lines: Vec::new(), rows: Vec::new(), rows_max: ROWS_FIRST, company };
    let mut writing: Option<Writing<I>> = None;
    let mut is_over = false;
    while !is_over {
        is_over = batch.fill(&mut reader, &header, &mut parse, &mut report)?;
        if let Some(written) = writing.take() {
            batch.finish(written, &mut report)?;
            progress(report.progress());
        }
        let rows = std::mem::take(&mut batch.rows);
        if !rows.is_empty() {
            writing = Some((std::mem::take(&mut batch.lines), Instant::now(), order(rows)?));
        }
    }
    if let Some(written) = writing {
        batch.finish(written, &mut report)?;
    }
    progress(report.progress());
    Ok(report.finish())
}

/// Why a row is not taken: for its own sake, or because nothing can be.
enum Refused {
    Row(String),
    All(ImportError),
}

impl From<String> for Refused {
    fn from(reason: String) -> Refused {
        Refused::Row(reason)
    }
}

struct Batch<T> {
    lines: Vec<u64>,
    rows: Vec<T>,
    rows_max: usize,
    company: Company,
}

impl<T> Batch<T> {
    /// Whether the file is over.
    fn fill(
        &mut self,
        reader: &mut Reader<impl Read>,
        header: &Header,
        parse: &mut impl FnMut(&Fields<'_>) -> Result<T, Refused>,
        report: &mut Reporter,
    ) -> Result<bool, ImportError> {
        while self.rows.len() < self.rows_max {
            let Some(Row { line, record, .. }) = reader.next()? else { return Ok(true) };
            let fields = record.and_then(|record| header.fields(record)).map_err(Refused::Row);
            match fields.and_then(|fields| parse(&fields)) {
                Ok(row) => {
                    self.lines.push(line);
                    self.rows.push(row);
                }
                Err(Refused::Row(reason)) => report.refuse(line, reason),
                Err(Refused::All(error)) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Waits for a batch, and learns from it how large the next one may be.
    fn finish<I>(&mut self, (lines, begun, written): Writing<I>, report: &mut Reporter) -> Result<(), Unavailable> {
        let outcomes = written.wait()?.outcomes;
        self.rows_max = rows_of_next(lines.len(), begun.elapsed().as_millis() as u64, self.company.commit_ms());
        for (line, outcome) in lines.into_iter().zip(outcomes) {
            report.take(line, outcome);
        }
        Ok(())
    }
}

/// At most twice as many as before: a batch that was fast by chance is not followed by one that is far too large.
fn rows_of_next(rows: usize, took_ms: u64, commit_ms: u64) -> usize {
    let fitting = rows as u64 * commit_ms / took_ms.max(1);
    (fitting as usize).min(2 * rows).clamp(*ROWS.start(), *ROWS.end())
}

#[derive(Default)]
struct Reporter {
    report: ImportReport,
}

impl Reporter {
    fn take(&mut self, line: u64, outcome: Outcome) {
        match outcome {
            Outcome::Applied => self.report.accepted += 1,
            Outcome::Unchanged => {
                self.report.accepted += 1;
                self.report.unchanged += 1;
            }
            Outcome::Refused(reason) => self.refuse(line, reason),
        }
    }

    fn refuse(&mut self, line: u64, reason: String) {
        self.report.refused += 1;
        if self.report.refusals.len() < REFUSALS_MAX {
            self.report.refusals.push(Refusal { line, reason });
        }
    }

    fn progress(&self) -> Progress {
        Progress { rows: self.report.accepted + self.report.refused, refused: self.report.refused }
    }

    /// Refusals of the reading come before those of the store; the report has them by line.
    fn finish(mut self) -> ImportReport {
        self.report.refusals.sort_by_key(|refusal| refusal.line);
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::SlotLength;
    use crate::registration::truth::Truth;

    const HEADER: &str = "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means";

    fn hmac(byte: u8) -> String {
        hex::encode([byte; 32])
    }

    /// The report on these lines under the full header, in a new store.
    fn devices(lines: &[String]) -> ImportReport {
        let folder = tempfile::tempdir().unwrap();
        let truth = Truth::open(folder.path(), None, 16).unwrap();
        let csv = [HEADER.to_owned()].iter().chain(lines).cloned().collect::<Vec<_>>().join("\n");
        import_devices(&truth, SlotLength::DEFAULT, Company::None, csv.as_bytes(), |_| {}).unwrap()
    }

    fn refusals(report: &ImportReport) -> Vec<(u64, &str)> {
        report.refusals.iter().map(|refusal| (refusal.line, refusal.reason.as_str())).collect()
    }

    #[test]
    fn bad_lines_are_named_and_the_others_go_in() {
        let (eid, code) = (hex::encode([9; 16]), hex::encode([8; 16]));
        let report = devices(&[
            format!("1,hmac,{},,AB001,diesel,,tok_a tok_b", hmac(1)),
            format!("2,hmac,{},,AB001,,,", hmac(2)),
            format!("3,hmac,{},,,,,", hmac(1)),
            format!("1,hmac,{},,,,,", hmac(3)),
            "4,hmac,abc,,,,,".into(),
            format!("5,fixed,{code},,AB005"),
            format!("6,eddystone-eid/4,{eid},,,,,"),
            format!("6,eddystone-eid/12,{eid},,,,,"),
            format!("x,hmac,{},,,,,", hmac(4)),
            format!("7,morse,{},,,,,", hmac(4)),
            format!("8,hmac,{},,AB008,,,4111 1111 1111 1111", hmac(5)),
            format!("9,hmac,{},,4111111111111111,,,", hmac(6)),
            format!("10,hmac,{},,,,,tok_a", hmac(7)),
            format!("11,hmac,{},,,,,,,", hmac(7)),
        ]);
        assert_eq!((report.accepted, report.refused), (3, 11));
        assert_eq!(
            refusals(&report),
            [
                (3, "the plate is bound to another dongle"),
                (4, "the key is that of dongle 1"),
                (5, "the file names this dongle before"),
                (6, "key_hex is not 64 hexadecimal digits"),
                (8, "a code of 2^4 s is shorter than the slot of 300 s"),
                (10, "device_id is not a number in its range"),
                (11, "scheme is one of hmac, eddystone-eid, eddystone-eid/K, fixed"),
                (12, "a card number; payment means are tokens of the payment provider"),
                (13, "a card number; payment means are tokens of the payment provider"),
                (14, "a phone and payment means need a plate"),
                (15, "10 fields, and the header names 8"),
            ]
        );
    }

    #[test]
    fn the_same_file_changes_nothing_the_second_time_and_another_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let truth = Truth::open(folder.path(), None, 16).unwrap();
        let run = |key: &str, rest: &str| {
            let csv = format!("device_id,scheme,key_hex,plate\n1,hmac,{key},{rest}\n");
            import_devices(&truth, SlotLength::DEFAULT, Company::None, csv.as_bytes(), |_| {}).unwrap()
        };
        assert_eq!(run(&hmac(1), "AB001").unchanged, 0);
        assert_eq!(run(&hmac(1), "AB001").unchanged, 1);
        assert_eq!(run(&hmac(1), "ab-001").unchanged, 1, "the same plate, written otherwise");
        assert_eq!(run(&hmac(1), "AB002").unchanged, 0);
        assert_eq!(refusals(&run(&hmac(2), "AB002")), [(2, "the dongle is known with another key")]);
    }

    #[test]
    fn columns_are_found_by_the_header_and_unknown_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let truth = Truth::open(folder.path(), None, 16).unwrap();
        let run = |csv: &str| import_stations(&truth, csv.as_bytes(), |_| {});
        let report = run("\u{feff}pumps,Name,station_id\n8,North,5\n,,6\n1000,South,7\n").unwrap();
        assert_eq!((report.accepted, report.refused), (1, 2));
        assert!(
            matches!(run("station_id,name,colour\n"), Err(ImportError::ColumnUnknown { name, .. }) if name == "colour")
        );
        assert!(matches!(run("station_id\n"), Err(ImportError::ColumnMissing("name"))));
        assert!(matches!(run("name,name,station_id\n"), Err(ImportError::ColumnTwice(_))));
        assert!(matches!(run(""), Err(ImportError::ColumnMissing("station_id"))));
    }

    #[test]
    fn refusals_name_the_line_of_the_file_whatever_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let truth = Truth::open(folder.path(), None, 16).unwrap();
        let mut csv =
            b"station_id,name,lat,lon\r\n1,\xff\xfe,,\r\n2,South,91,0\r\n\r\n3,West,44.5,11.3\r\nx,\n".to_vec();
        csv.extend_from_slice(b"\n\n7,\"two\nlines\",1,\ny,\r\nz,");
        let report = import_stations(&truth, csv.as_slice(), |_| {}).unwrap();
        assert_eq!(report.accepted, 1);
        assert_eq!(
            refusals(&report),
            [
                (2, "the line is not UTF-8"),
                (3, "lat is not within 90 degrees"),
                (6, "station_id is not a number in its range"),
                (9, "lat and lon come together"),
                (11, "station_id is not a number in its range"),
                (12, "station_id is not a number in its range"),
            ]
        );
    }

    #[test]
    fn refusals_past_the_bound_are_counted() {
        let lines = vec!["x".to_owned(); REFUSALS_MAX + 5];
        let report = devices(&lines);
        assert_eq!((report.refusals.len(), report.refused), (REFUSALS_MAX, REFUSALS_MAX as u64 + 5));
    }

    #[test]
    fn progress_is_told_after_each_batch() {
        let folder = tempfile::tempdir().unwrap();
        let truth = Truth::open(folder.path(), None, 16).unwrap();
        let rows: Vec<String> = (0..=ROWS_FIRST).map(|id| format!("{id},S{id}")).collect();
        let mut told = Vec::new();
        import_stations(&truth, format!("station_id,name\n{}", rows.join("\n")).as_bytes(), |progress| {
            told.push(progress.rows);
        })
        .unwrap();
        assert_eq!(told, [1000, 1001]);
    }

    #[test]
    fn a_batch_is_as_large_as_fits_the_time_of_a_commit() {
        assert_eq!(rows_of_next(1_000, 20, 40), 2_000);
        assert_eq!(rows_of_next(1_000, 80, 40), 500);
        assert_eq!(rows_of_next(1_000, 0, 40), 2_000, "no more than twice as many");
        assert_eq!(rows_of_next(1_000, 10_000, 40), 100);
        assert_eq!(rows_of_next(30_000, 1, 2_000), 50_000);
    }
}
