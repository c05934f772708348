//! Imports of stations and dongles from CSV: good lines go in, bad ones are named with their reason.
//!
//! The header says which column is where. Rows are checked as they are read and applied in batches, each one commit,
//! so an import of millions holds some thousands in memory and shares the writer with everybody else. What was
//! imported once changes nothing when it comes again, so an import that was cut off is simply run again.

mod devices;
mod stations;

pub use devices::import_devices;
pub(super) use devices::{Imported, import_devices_then};
pub use stations::import_stations;
pub(super) use stations::import_stations_then;

use std::io::Read;

use super::error::Unavailable;

/// A commit of some 50 ms, in which nobody else waits long.
const BATCH_ROWS: usize = 1_000;

/// Refusals that a report names; the others are counted.
pub const REFUSALS_MAX: usize = 1_000;

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct ImportReport {
    /// Rows that are in the store now, those that it knew already among them.
    pub accepted: u64,
    /// Of the accepted: rows that changed nothing.
    pub unchanged: u64,
    pub refused: u64,
    /// The first 1,000 refused lines.
    pub refusals: Vec<Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
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
    Read(#[from] csv::Error),
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

struct Column {
    name: &'static str,
    is_required: bool,
}

const fn required(name: &'static str) -> Column {
    Column { name, is_required: true }
}

const fn optional(name: &'static str) -> Column {
    Column { name, is_required: false }
}

/// Where each known column stands.
struct Header {
    columns: Vec<(&'static str, usize)>,
    width: usize,
}

impl Header {
    fn parse(record: &csv::StringRecord, known: &'static [Column]) -> Result<Header, ImportError> {
        let mut columns = Vec::new();
        for (at, name) in record.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
            let Some(column) = known.iter().find(|column| column.name == name) else {
                let known = known.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
                return Err(ImportError::ColumnUnknown { name, known });
            };
            if columns.iter().any(|(known, _)| *known == name) {
                return Err(ImportError::ColumnTwice(name));
            }
            columns.push((column.name, at));
        }
        let missing =
            known.iter().find(|wanted| wanted.is_required && columns.iter().all(|(name, _)| *name != wanted.name));
        match missing {
            Some(column) => Err(ImportError::ColumnMissing(column.name)),
            None => Ok(Header { columns, width: record.len() }),
        }
    }
}

/// The fields of one row by their columns' names.
struct Fields<'a> {
    header: &'a Header,
    record: &'a csv::StringRecord,
}

impl<'a> Fields<'a> {
    /// Empty when the column or the field is not there.
    fn text(&self, name: &str) -> &'a str {
        let at = self.header.columns.iter().find(|(known, _)| *known == name).map(|(_, at)| *at);
        at.and_then(|at| self.record.get(at)).unwrap_or("").trim()
    }

    /// `None` when empty. What is not a number is named by its column and not repeated: it may be anything.
    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("{name} is not a number in its range")),
        }
    }
}

/// Reads, checks with `parse`, and hands batches to `apply`, which answers for each row in turn.
fn import<Row>(
    csv: impl Read,
    known: &'static [Column],
    mut parse: impl FnMut(&Fields<'_>) -> Result<Row, String>,
    mut apply: impl FnMut(Vec<Row>) -> Result<Vec<Outcome>, Unavailable>,
    mut progress: impl FnMut(Progress),
) -> Result<ImportReport, ImportError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(csv);
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record)?;
    let header = Header::parse(&record, known)?;
    let mut report = Reporter::default();
    let mut batch = Batch { lines: Vec::new(), rows: Vec::new() };
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => break,
            // The reader names the line where the row begins, which blank lines before it push on.
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                match parse_row(&header, &record, &mut parse) {
                    Ok(row) => batch.push(line, row),
                    Err(reason) => report.refuse(line, reason),
                }
            }
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                let line = error.position().map_or(line, csv::Position::line);
                report.refuse(line, "the line is not UTF-8".into());
            }
            Err(error) => return Err(error.into()),
        }
        if batch.rows.len() == BATCH_ROWS {
            batch.apply(&mut apply, &mut report)?;
            progress(report.progress());
        }
    }
    batch.apply(&mut apply, &mut report)?;
    progress(report.progress());
    Ok(report.finish())
}

fn parse_row<Row>(
    header: &Header,
    record: &csv::StringRecord,
    parse: &mut impl FnMut(&Fields<'_>) -> Result<Row, String>,
) -> Result<Row, String> {
    if record.len() > header.width {
        return Err(format!("{} fields, and the header names {}", record.len(), header.width));
    }
    parse(&Fields { header, record })
}

struct Batch<Row> {
    lines: Vec<u64>,
    rows: Vec<Row>,
}

impl<Row> Batch<Row> {
    fn push(&mut self, line: u64, row: Row) {
        self.lines.push(line);
        self.rows.push(row);
    }

    fn apply(
        &mut self,
        apply: &mut impl FnMut(Vec<Row>) -> Result<Vec<Outcome>, Unavailable>,
        report: &mut Reporter,
    ) -> Result<(), Unavailable> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let outcomes = apply(std::mem::take(&mut self.rows))?;
        for (line, outcome) in self.lines.drain(..).zip(outcomes) {
            report.take(line, outcome);
        }
        Ok(())
    }
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
