//! The rows of a CSV file, their fields found by the names in its header.
//!
//! Rows hold keys in clear. So they are read with the parser's core into buffers of our own, which never grow (what a
//! vector leaves behind when it moves is not wiped) and are wiped in the end.

use std::io::Read;

use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
use zeroize::Zeroizing;

use super::ImportError;

/// The longest row: a hundred times that of a dongle with every field.
pub(super) const ROW_BYTES_MAX: usize = 64 << 10;

/// More than any header names, by a hundred.
const FIELDS_MAX: usize = 1_000;

/// The longest name of a column that is repeated to whoever sent it: half as long as a key of 16 bytes.
const NAME_BYTES_MAX: usize = 16;

const INPUT_BYTES: usize = 256 << 10;

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
pub(super) struct Row<'a> {
    pub(super) line: u64,
    /// Unless it is no text.
    pub(super) record: Result<Record<'a>, String>,
    pub(super) bytes: Record<'a>,
}

/// The fields of one row, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
}

/// The rows of a file, each with the number of the line on which it begins.
pub(super) struct Reader<R> {
    source: R,
    core: csv_core::Reader,
    input: Zeroizing<Vec<u8>>,
    /// What of the input is not parsed yet.
    begin: usize,
    end: usize,
    /// The file ended, and the line feed behind it is in the input.
    is_over: bool,
    fields: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
}

impl<R: Read> Reader<R> {
    /// Rows end with a line feed, and the file as well: a CR before it is blank, and fields are trimmed.
    pub(super) fn new(source: R) -> Reader<R> {
        Reader {
            source,
            core: ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build(),
            input: Zeroizing::new(vec![0; INPUT_BYTES]),
            begin: 0,
            end: 0,
            is_over: false,
            fields: Zeroizing::new(vec![0; ROW_BYTES_MAX]),
            ends: vec![0; FIELDS_MAX],
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, ImportError> {
        let count = loop {
            let Some(count) = self.read_record()? else { return Ok(None) };
            let is_blank = count == 1 && self.fields[..self.ends[0]].trim_ascii().is_empty();
            if !is_blank {
                break count;
            }
        };
        let ends = &self.ends[..count];
        let bytes = Record { bytes: &self.fields[..ends[count - 1]], ends };
        // The parser has counted the line feed that ends the row, and those in quotes.
        let within = bytes.bytes.split(|&byte| byte == b'\n').count() - 1;
        let line = self.core.line() - 1 - within as u64;
        let record = if bytes.is_text() { Ok(bytes) } else { Err("the line is not UTF-8".to_owned()) };
        Ok(Some(Row { line, record, bytes }))
    }

    /// How many fields the next record has; `None` at the end.
    fn read_record(&mut self) -> Result<Option<usize>, ImportError> {
        let (mut bytes, mut count) = (0, 0);
        loop {
            // The parser takes no input for the end of the file.
            if self.begin == self.end && !self.is_over {
                self.fill()?;
            }
            let input = &self.input[self.begin..self.end];
            let (result, taken, written, ended) =
                self.core.read_record(input, &mut self.fields[bytes..], &mut self.ends[count..]);
            self.begin += taken;
            bytes += written;
            count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(ImportError::RowTooLong { line: self.core.line() });
                }
                ReadRecordResult::Record => return Ok(Some(count)),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// More of the file; behind its end, a line feed.
    fn fill(&mut self) -> Result<(), ImportError> {
        self.begin = 0;
        self.end = read_some(&mut self.source, &mut self.input)?;
        if self.end == 0 {
            self.is_over = true;
            self.input[0] = b'\n';
            self.end = 1;
        }
        Ok(())
    }
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

impl<'a> Record<'a> {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn field(&self, at: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(at)?;
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        Some(&self.bytes[begin..end])
    }

    /// Each field by itself: the commas between them are gone, and halves of a letter could meet.
    fn is_text(&self) -> bool {
        self.bytes.is_ascii()
            || (0..self.len()).all(|at| self.field(at).is_some_and(|field| str::from_utf8(field).is_ok()))
    }

    fn get(&self, at: usize) -> Option<&'a str> {
        self.field(at).map(|field| str::from_utf8(field).expect("checked when the row was read"))
    }
}

/// Where each known column stands.
pub(super) struct Header {
    columns: Vec<(&'static str, usize)>,
    width: usize,
}

impl Header {
    pub(super) fn parse(first: Option<&Row<'_>>, known: &'static [Column]) -> Result<Header, ImportError> {
        let Some(Row { record: Ok(record), .. }) = first else {
            return Err(ImportError::ColumnMissing(known[0].name));
        };
        let mut columns = Vec::new();
        for at in 0..record.len() {
            let name = record.get(at).unwrap_or_default();
            let name = name.trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
            let Some(column) = known.iter().find(|column| column.name == name) else {
                let known = known.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
                // A file without a header begins with a row, and a row has keys in it.
                let name = if name.len() > NAME_BYTES_MAX { format!("something in column {}", at + 1) } else { name };
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

    pub(super) fn fields<'a>(&'a self, record: Record<'a>) -> Result<Fields<'a>, String> {
        if record.len() > self.width {
            return Err(format!("{} fields, and the header names {}", record.len(), self.width));
        }
        Ok(Fields { header: self, record })
    }
}

/// The fields of one row by their columns' names.
pub(super) struct Fields<'a> {
    header: &'a Header,
    record: Record<'a>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a file that is read a byte at a time, as a pipe may give it.
    fn rows(text: &[u8]) -> Vec<(u64, Result<Vec<String>, String>)> {
        struct Drip<'a>(&'a [u8]);
        impl Read for Drip<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let count = self.0.len().min(1);
                self.0.read(&mut buffer[..count])
            }
        }
        let mut reader = Reader::new(Drip(text));
        let mut rows = Vec::new();
        while let Some(Row { line, record, .. }) = reader.next().unwrap() {
            let fields = |record: Record<'_>| (0..record.len()).map(|at| record.get(at).unwrap().to_owned()).collect();
            rows.push((line, record.map(fields)));
        }
        rows
    }

    #[test]
    fn a_row_is_the_same_however_the_file_comes() {
        let text = b"a,b\r\n\n1,\"x \"\"y\"\"\n,z\"\n  \n2,";
        let fields = |fields: &[&str]| Ok(fields.iter().map(ToString::to_string).collect());
        assert_eq!(
            rows(text),
            [(1, fields(&["a", "b\r"])), (3, fields(&["1", "x \"y\"\n,z"])), (6, fields(&["2", ""]))]
        );
    }

    #[test]
    fn halves_of_a_letter_in_two_fields_make_no_text() {
        assert_eq!(rows(b"\xc3,\xa9\n"), [(1, Err("the line is not UTF-8".into()))]);
    }

    #[test]
    fn a_row_past_its_bound_ends_the_reading_with_its_line() {
        let text = [b"a\n".to_vec(), vec![b'x'; ROW_BYTES_MAX + 1]].concat();
        let mut reader = Reader::new(text.as_slice());
        assert!(reader.next().unwrap().is_some());
        assert!(matches!(reader.next(), Err(ImportError::RowTooLong { line: 2 })));
    }
}
