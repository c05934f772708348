//! A file in parts that a running engine takes one after the other, each with the header.
//!
//! A line keeps its number: a part knows where in the file its rows stood. A dongle that the file names twice is told
//! here, since the engine sees a part at a time.

use std::io::Read;

use zeroize::Zeroizing;

use super::named::Named;
use super::rows::{ROW_BYTES_MAX, Reader, Record, Row};
use super::{ImportError, Refusal};
use crate::engine::id::DeviceId;

/// The parts of a file.
pub struct Parts<R> {
    rows: Reader<R>,
    header: Vec<u8>,
    header_lines: u64,
    /// Where the device's id stands, and which were named.
    named: Option<(usize, Named)>,
    bytes_max: usize,
    is_over: bool,
}

/// As much of a file as goes into one request.
pub struct Part {
    /// Header and rows; wiped in the end, for there are keys in it.
    pub csv: Zeroizing<Vec<u8>>,
    /// Rows that did not go into it.
    pub refusals: Vec<Refusal>,
    /// Where a row begins in the part, and where in the file.
    lines: Vec<(u64, u64)>,
}

impl<R: Read> Parts<R> {
    /// Of a file with the column that must not name anything twice, if there is one. Parts are of `bytes_max` about.
    pub fn new(file: R, unique: Option<&str>, bytes_max: usize) -> Result<Parts<R>, ImportError> {
        let mut rows = Reader::new(file);
        let mut header = Vec::new();
        let mut place = None;
        if let Some(Row { bytes: record, .. }) = rows.next()? {
            write_row(record, &mut header);
            place = unique.and_then(|unique| (0..record.len()).find(|&at| is_column(record, at, unique)));
        }
        let named =
            place.map(|place| Named::new().map(|named| (place, named))).transpose().map_err(ImportError::Named)?;
        let header_lines = line_feeds(&header);
        Ok(Parts { rows, header, header_lines, named, bytes_max, is_over: false })
    }

    /// The next part. The first one comes even when it is empty, for the engine judges the header.
    pub fn next_part(&mut self) -> Result<Option<Part>, ImportError> {
        if self.is_over {
            return Ok(None);
        }
        // As large as it gets from the start: what a vector leaves behind when it moves is not wiped.
        let room = self.header.len() + self.bytes_max + 2 * ROW_BYTES_MAX;
        let mut part = Part { csv: Zeroizing::new(Vec::with_capacity(room)), refusals: Vec::new(), lines: Vec::new() };
        part.csv.extend_from_slice(&self.header);
        let mut at = self.header_lines + 1;
        while part.csv.len() < self.header.len() + self.bytes_max {
            let Some(Row { line, bytes, .. }) = self.rows.next()? else {
                self.is_over = true;
                break;
            };
            if is_repeated(&mut self.named, bytes)? {
                part.refusals.push(Refusal { line, reason: "the file names this dongle before".into() });
                continue;
            }
            let begin = part.csv.len();
            write_row(bytes, &mut part.csv);
            part.lines.push((at, line));
            at += line_feeds(&part.csv[begin..]);
        }
        Ok(Some(part))
    }
}

impl Part {
    /// The line of the file that a line of the part was.
    pub fn line_of_file(&self, line: u64) -> u64 {
        let place = self.lines.partition_point(|(at, _)| *at <= line);
        place.checked_sub(1).map_or(line, |place| self.lines[place].1)
    }
}

fn is_repeated(named: &mut Option<(usize, Named)>, row: Record<'_>) -> Result<bool, ImportError> {
    let Some((place, named)) = named else { return Ok(false) };
    // What is no number is refused by the engine, with its reason.
    let text = row.field(*place).and_then(|field| str::from_utf8(field).ok()).unwrap_or_default();
    match text.trim().parse() {
        Ok(device) => named.is_new(DeviceId(device)).map(|is_new| !is_new).map_err(ImportError::Named),
        Err(_) => Ok(false),
    }
}

fn is_column(header: Record<'_>, at: usize, name: &str) -> bool {
    let field = header.field(at).and_then(|field| str::from_utf8(field).ok()).unwrap_or_default();
    field.trim_start_matches('\u{feff}').trim().eq_ignore_ascii_case(name)
}

fn line_feeds(bytes: &[u8]) -> u64 {
    bytes.split(|&byte| byte == b'\n').count() as u64 - 1
}

/// As RFC 4180 has it: a field that could be read otherwise stands in quotes.
fn write_row(row: Record<'_>, csv: &mut Vec<u8>) {
    for at in 0..row.len() {
        if at > 0 {
            csv.push(b',');
        }
        let field = row.field(at).unwrap_or_default();
        if !field.iter().any(|byte| b",\"\n\r".contains(byte)) {
            csv.extend_from_slice(field);
            continue;
        }
        csv.push(b'"');
        for &byte in field {
            if byte == b'"' {
                csv.push(b'"');
            }
            csv.push(byte);
        }
        csv.push(b'"');
    }
    csv.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(file: &str, bytes_max: usize) -> Vec<Part> {
        let mut parts = Parts::new(file.as_bytes(), Some("device_id"), bytes_max).unwrap();
        std::iter::from_fn(|| parts.next_part().unwrap()).collect()
    }

    fn text(part: &Part) -> &str {
        str::from_utf8(&part.csv).unwrap()
    }

    #[test]
    fn every_part_has_the_header_and_every_row_its_line() {
        let parts = parts("scheme,device_id\r\n\nhmac,1\n\"two\nlines\",2\nhmac,3\n\nhmac,4\n", 20);
        assert_eq!(text(&parts[0]), "scheme,\"device_id\r\"\nhmac,1\n\"two\nlines\",2\n");
        assert_eq!(text(&parts[1]).lines().skip(1).collect::<Vec<_>>(), ["hmac,3", "hmac,4"]);
        let lines = |part: &Part, lines: &[u64]| lines.iter().map(|&line| part.line_of_file(line)).collect::<Vec<_>>();
        assert_eq!(lines(&parts[0], &[2, 3]), [3, 4]);
        assert_eq!(lines(&parts[1], &[2, 3]), [6, 8]);
    }

    #[test]
    fn a_dongle_that_comes_again_in_another_part_is_told_with_its_line() {
        let parts = parts("device_id\n1\n2\nx\n1\nx\n", 2);
        let told: Vec<u64> = parts.iter().flat_map(|part| part.refusals.iter().map(|refusal| refusal.line)).collect();
        assert_eq!(told, [5]);
        assert_eq!(parts.iter().map(|part| text(part).lines().count() - 1).sum::<usize>(), 4);
    }

    #[test]
    fn a_field_reads_back_as_it_was() {
        let file = "device_id,name\n1,\"a \"\"b\"\", c\"\n";
        assert_eq!(text(&parts(file, 100)[0]), file);
    }

    #[test]
    fn an_empty_file_is_one_part_for_the_engine_to_refuse() {
        assert_eq!(parts("", 100).iter().map(text).collect::<Vec<_>>(), [""]);
    }
}
