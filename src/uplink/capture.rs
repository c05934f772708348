//! A recorded log as what one receiver heard: codes with RSSI and time, and a tally of everything else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    advertising::{advertisements, service_code},
    btsnoop::{self, BtsnoopError},
};
use crate::engine::{code::Code, id::ReceiverId, limits::RECEIVERS_MAX, time::UnixMs};

/// A log is read whole: a day of a busy receiver is 300 MB.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path}: longer than {FILE_BYTES_MAX} bytes")]
    TooLong { path: String },
    #[error("{path}: {source}")]
    Format { path: String, source: BtsnoopError },
}

/// What a log held. `frames` are advertisements with a code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    pub records: u64,
    pub advertisements: u64,
    pub frames: u64,
    /// Records and reports that were passed over because they are not whole.
    pub damaged: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.records += other.records;
        self.advertisements += other.advertisements;
        self.frames += other.frames;
        self.damaged += other.damaged;
    }
}

/// A code that was heard once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub at: UnixMs,
    pub code: Code,
    pub rssi: i8,
}

/// Everything of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// In the order of the log, which is that of time unless the recorder's clock was set.
    pub frames: Vec<Frame>,
    pub tally: Tally,
}

impl Capture {
    /// Reads the codes in the service data of `uuid`.
    pub fn read(path: &Path, uuid: u16) -> Result<Capture, CaptureError> {
        let named = || path.display().to_string();
        let file_error = |source| CaptureError::File { path: named(), source };
        if fs::metadata(path).map_err(file_error)?.len() > FILE_BYTES_MAX {
            return Err(CaptureError::TooLong { path: named() });
        }
        let bytes = fs::read(path).map_err(file_error)?;
        Capture::parse(&bytes, uuid).map_err(|source| CaptureError::Format { path: named(), source })
    }

    fn parse(file: &[u8], uuid: u16) -> Result<Capture, BtsnoopError> {
        let mut capture = Capture::default();
        for record in btsnoop::records(file)? {
            capture.tally.records += 1;
            match record {
                Ok(record) => capture.take(record, uuid),
                Err(btsnoop::Damaged) => capture.tally.damaged += 1,
            }
        }
        Ok(capture)
    }

    fn take(&mut self, record: btsnoop::Record<'_>, uuid: u16) {
        for advertisement in advertisements(record.packet) {
            let Ok(advertisement) = advertisement else {
                self.tally.damaged += 1;
                continue;
            };
            self.tally.advertisements += 1;
            if let Some(code) = service_code(advertisement.data, uuid) {
                self.tally.frames += 1;
                self.frames.push(Frame { at: record.at, code, rssi: advertisement.rssi });
            }
        }
    }
}

/// A log, and the receiver that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub receiver: ReceiverId,
    pub path: PathBuf,
}

/// What one receiver heard once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub receiver: ReceiverId,
    pub frame: Frame,
}

/// Reads all logs and merges them by time.
pub fn merge(sources: &[Source], uuid: u16) -> Result<(Vec<Heard>, Tally), CaptureError> {
    let (mut heard, mut tally) = (Vec::new(), Tally::default());
    for source in sources {
        let capture = Capture::read(&source.path, uuid)?;
        tally += capture.tally;
        heard.extend(capture.frames.into_iter().map(|frame| Heard { receiver: source.receiver, frame }));
    }
    heard.sort_by_key(|heard| heard.frame.at);
    Ok((heard, tally))
}

/// `N=FILE`.
pub fn parse_source(text: &str) -> Result<Source, String> {
    let (receiver, path) = text.split_once('=').ok_or_else(|| format!("{text:?} is not N=FILE"))?;
    if path.is_empty() {
        return Err(format!("{text:?} names no file"));
    }
    Ok(Source { receiver: parse_receiver(receiver)?, path: path.into() })
}

/// A receiver's number within its bound.
pub fn parse_receiver(text: &str) -> Result<ReceiverId, String> {
    let receiver: ReceiverId = text.parse().map_err(|error| format!("{error}"))?;
    let known = usize::from(receiver.0) < RECEIVERS_MAX;
    known.then_some(receiver).ok_or_else(|| format!("a receiver's number is at most {}", RECEIVERS_MAX - 1))
}

/// A 16-bit service UUID as people write it: `fd6f`, `0xFD6F`.
pub fn parse_uuid(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let short = (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    short
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
        .ok_or_else(|| format!("{text:?} is not a 16-bit UUID such as fd6f"))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, path::PathBuf};

    use super::*;

    /// Recordings of others, which are not part of the project.
    fn recordings() -> Option<PathBuf> {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
        let folder = std::env::var_os("FORECOURT_DATA").map_or(beside, PathBuf::from);
        let folder = folder.join("captures/dp3t_exp25_anechoic");
        if !folder.is_dir() {
            eprintln!("SKIPPED: no recordings in {} (set FORECOURT_DATA)", folder.display());
            return None;
        }
        Some(folder)
    }

    fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    #[test]
    fn the_recordings_of_six_phones_hold_what_their_makers_say() {
        let Some(folder) = recordings() else { return };
        let mut tally = Tally::default();
        for path in files(&folder, "btsnoop") {
            tally += Capture::read(&path, 0xfd6f).unwrap().tally;
        }
        let expected = Tally { records: 27_081, advertisements: 1_572, frames: 1_071, damaged: 0 };
        assert_eq!(tally, expected);
    }

    #[test]
    fn the_codes_that_were_heard_are_among_those_that_were_sent() {
        let Some(folder) = recordings() else { return };
        let code_of = |line: &str| line.split(':').take(16).collect::<String>();
        let sent: HashSet<String> = files(&folder, "ephids")
            .iter()
            .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(code_of).collect::<Vec<_>>())
            .collect();
        let heard: Vec<_> =
            files(&folder, "btsnoop").iter().flat_map(|path| Capture::read(path, 0xfd6f).unwrap().frames).collect();
        let known = heard.iter().filter(|frame| sent.contains(&hex::encode(frame.code.0))).count();
        assert!(known * 10 > heard.len() * 9, "{known} of {} frames", heard.len());
    }

    #[test]
    fn a_source_names_a_receiver_and_a_file() {
        let source = Source { receiver: ReceiverId(2), path: "a=b.btsnoop".into() };
        assert_eq!(parse_source("2=a=b.btsnoop"), Ok(source));
        for wrong in ["a.btsnoop", "2=", "x=a", "32=a", "256=a"] {
            assert!(parse_source(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn uuids_are_read_as_people_write_them() {
        assert_eq!(parse_uuid("fd6f"), Ok(0xfd6f));
        assert_eq!(parse_uuid("0xFD6F"), Ok(0xfd6f));
        for wrong in ["", "0x", "fd6f0", "+fff", "fd6g"] {
            assert!(parse_uuid(wrong).is_err(), "{wrong:?}");
        }
    }
}
