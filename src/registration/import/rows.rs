//! The rows of a CSV file, their fields found by the names in its header.

use std::io::Read;

use super::ImportError;

pub(super) struct Column {
    pub(super) name: &'static str,
    is_required: bool,
}

pub(super) const fn required(name: &'static str) -> Column {
    Column { name, is_required: true }
}

pub(super) const fn optional(name: &'static str) -> Column {
    Column { name, is_required: false }
}

/// A row, and the line of the file on which it begins.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) text: Result<csv::StringRecord, String>,
}

/// The rows of a file, each with the number of the line on which it begins.
pub(super) struct Reader<R> {
    rows: csv::Reader<std::io::Chain<R, &'static [u8]>>,
}

impl<R: Read> Reader<R> {
    /// Rows end with a line feed, and the file as well: the library's own count of lines is off by one after CRLF, and
    /// by the blank lines before a row. What is left of a CR is blank, and fields are trimmed.
    pub(super) fn new(csv: R) -> Reader<R> {
        let rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(csv.chain(b"\n".as_slice()));
        Reader { rows }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, ImportError> {
        let mut record = csv::ByteRecord::new();
        while self.rows.read_byte_record(&mut record)? {
            let is_blank = record.len() == 1 && record[0].trim_ascii().is_empty();
            if !is_blank {
                let within: usize = record.iter().map(|field| field.split(|&byte| byte == b'\n').count() - 1).sum();
                let line = self.rows.position().line() - 1 - within as u64;
                let text = csv::StringRecord::from_byte_record(record).map_err(|_| "the line is not UTF-8".to_owned());
                return Ok(Some(Row { line, text }));
            }
        }
        Ok(None)
    }
}

/// Where each known column stands.
pub(super) struct Header {
    columns: Vec<(&'static str, usize)>,
    width: usize,
}

impl Header {
    pub(super) fn parse(first: Option<Row>, known: &'static [Column]) -> Result<Header, ImportError> {
        let Some(Row { text: Ok(record), .. }) = first else { return Err(ImportError::ColumnMissing(known[0].name)) };
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

    pub(super) fn fields<'a>(&'a self, record: &'a csv::StringRecord) -> Result<Fields<'a>, String> {
        if record.len() > self.width {
            return Err(format!("{} fields, and the header names {}", record.len(), self.width));
        }
        Ok(Fields { header: self, record })
    }
}

/// The fields of one row by their columns' names.
pub(super) struct Fields<'a> {
    header: &'a Header,
    record: &'a csv::StringRecord,
}

impl<'a> Fields<'a> {
    /// Empty when the column or the field is not there.
    pub(super) fn text(&self, name: &str) -> &'a str {
        let at = self.header.columns.iter().find(|(known, _)| *known == name).map(|(_, at)| *at);
        at.and_then(|at| self.record.get(at)).unwrap_or("").trim()
    }

    /// `None` when empty. What is not a number is named by its column and not repeated: it may be anything.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("{name} is not a number in its range")),
        }
    }
}
