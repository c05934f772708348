//! Where a reconciliation is kept: for each day a CSV, a JSON, and their SHA-256 as `sha256sum --check` reads it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Day, Exception, Reconciliation, Sums, Totals};

/// The folder, within the data folder.
const FOLDER: &str = "reconciliation";

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the reconciliation cannot be put into lines: {0}")]
    Csv(#[from] csv::Error),
    #[error("{0} does not read")]
    Damaged(PathBuf),
}

/// The files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub csv: PathBuf,
    pub json: PathBuf,
    pub checksums: PathBuf,
}

/// The folder of the reconciliations of a data folder.
pub fn folder(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

/// One of the same day before it is replaced, each file at once.
pub fn write(folder: &Path, reconciliation: &Reconciliation) -> Result<Written, FilesError> {
    let failed = |source| FilesError::File { path: folder.into(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let name = |ending: &str| format!("{}.{ending}", reconciliation.date);
    let json = serde_json::to_vec_pretty(reconciliation).expect("a reconciliation is plain data");
    let csv = lines(reconciliation)?;
    let checksums = [("csv", &csv), ("json", &json)]
        .map(|(ending, bytes)| format!("{}  {}\n", hex::encode(Sha256::digest(bytes)), name(ending)))
        .concat();
    Ok(Written {
        csv: replace(folder, &name("csv"), &csv)?,
        json: replace(folder, &name("json"), &json)?,
        checksums: replace(folder, &name("sha256"), checksums.as_bytes())?,
    })
}

/// What was written of a day; `None` when nothing was.
pub fn stored(folder: &Path, day: Day) -> Result<Option<Reconciliation>, FilesError> {
    let path = folder.join(format!("{day}.json"));
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|_| FilesError::Damaged(path)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FilesError::File { path, source }),
    }
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, FilesError> {
    let (path, whole) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&whole, bytes)
        .and_then(|()| fs::rename(&whole, &path))
        .map_err(|source| FilesError::File { path: path.clone(), source })?;
    Ok(path)
}

/// One line for each station and side, then one for each exception: a table that a spreadsheet opens.
#[derive(Serialize)]
struct Row<'a> {
    date: &'a str,
    psp: &'a str,
    line: &'a str,
    station: String,
    currency: String,
    charges: Option<u64>,
    charges_minor: Option<i64>,
    captures: Option<u64>,
    captures_minor: Option<i64>,
    refunds: Option<u64>,
    refunds_minor: Option<i64>,
    net_minor: Option<i64>,
    session: String,
    operation: String,
    key: &'a str,
    reference: &'a str,
    ours_minor: Option<i64>,
    theirs_minor: Option<i64>,
    at_risk_minor: Option<i64>,
    age_s: Option<u64>,
}

fn lines(reconciliation: &Reconciliation) -> Result<Vec<u8>, FilesError> {
    let mut lines = csv::Writer::from_writer(Vec::new());
    for totals in &reconciliation.totals {
        for (side, sums) in [("ours", totals.ours), ("theirs", totals.theirs)] {
            lines.serialize(totals_row(reconciliation, totals, side, sums))?;
        }
    }
    for exception in &reconciliation.exceptions {
        lines.serialize(exception_row(reconciliation, exception, &word(exception.kind)))?;
    }
    lines.into_inner().map_err(|error| FilesError::Csv(error.into_error().into()))
}

fn row<'a>(reconciliation: &'a Reconciliation, line: &'a str) -> Row<'a> {
    Row {
        date: &reconciliation.date,
        psp: &reconciliation.psp,
        line,
        station: String::new(),
        currency: String::new(),
        charges: None,
        charges_minor: None,
        captures: None,
        captures_minor: None,
        refunds: None,
        refunds_minor: None,
        net_minor: None,
        session: String::new(),
        operation: String::new(),
        key: "",
        reference: "",
        ours_minor: None,
        theirs_minor: None,
        at_risk_minor: None,
        age_s: None,
    }
}

fn totals_row<'a>(reconciliation: &'a Reconciliation, totals: &Totals, side: &'a str, sums: Sums) -> Row<'a> {
    Row {
        station: totals.station.map(|station| station.to_string()).unwrap_or_default(),
        currency: totals.currency.to_string(),
        charges: Some(sums.charges),
        charges_minor: Some(sums.charges_minor),
        captures: Some(sums.captures),
        captures_minor: Some(sums.captures_minor),
        refunds: Some(sums.refunds),
        refunds_minor: Some(sums.refunds_minor),
        net_minor: Some(sums.net_minor),
        ..row(reconciliation, side)
    }
}

fn exception_row<'a>(reconciliation: &'a Reconciliation, exception: &'a Exception, kind: &'a str) -> Row<'a> {
    Row {
        station: exception.station.map(|station| station.to_string()).unwrap_or_default(),
        currency: exception.currency.to_string(),
        session: exception.session.map(|session| session.to_string()).unwrap_or_default(),
        operation: exception.operation.map(word).unwrap_or_default(),
        key: exception.key.as_deref().unwrap_or_default(),
        reference: exception.reference.as_deref().unwrap_or_default(),
        ours_minor: exception.ours_minor,
        theirs_minor: exception.theirs_minor,
        at_risk_minor: Some(exception.at_risk_minor),
        age_s: Some(exception.age_s),
        ..row(reconciliation, kind)
    }
}

/// As JSON writes it.
fn word(of: impl Serialize) -> String {
    let word = serde_json::to_value(of).expect("an enum without data");
    word.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            charge::Operation,
            id::{SessionId, StationId},
            time::UnixMs,
        },
        payment::reconciliation::ExceptionKind,
    };

    fn reconciliation() -> Reconciliation {
        let currency = "EUR".parse().unwrap();
        let ours = Sums { charges: 2, charges_minor: 700, net_minor: 700, ..Sums::default() };
        let exception = Exception {
            kind: ExceptionKind::MissingAtPsp,
            session: Some(SessionId([7; 16])),
            station: Some(StationId(101)),
            operation: Some(Operation::Charge),
            key: Some("09".repeat(32)),
            reference: Some("pi_1, \"quoted\"".into()),
            currency,
            ours_minor: Some(300),
            theirs_minor: None,
            at_risk_minor: 300,
            since: UnixMs(1_795_500_000_000),
            age_s: 60,
        };
        Reconciliation {
            date: "2026-11-24".into(),
            psp: "stripe".into(),
            made_at: UnixMs(1_795_500_060_000),
            totals: vec![Totals { station: Some(StationId(101)), currency, ours, theirs: Sums::default() }],
            exceptions: vec![exception],
        }
    }

    #[test]
    fn a_day_reads_back_and_its_checksums_fit() {
        let folder = tempfile::tempdir().unwrap();
        let written = write(folder.path(), &reconciliation()).unwrap();
        let day = "2026-11-24".parse().unwrap();
        assert_eq!(stored(folder.path(), day).unwrap(), Some(reconciliation()));
        assert!(stored(folder.path(), "2026-11-25".parse().unwrap()).unwrap().is_none());
        for line in fs::read_to_string(written.checksums).unwrap().lines() {
            let (checksum, name) = line.split_once("  ").unwrap();
            assert_eq!(checksum, hex::encode(Sha256::digest(fs::read(folder.path().join(name)).unwrap())));
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_side_and_exception() {
        let table = String::from_utf8(lines(&reconciliation()).unwrap()).unwrap();
        insta::assert_snapshot!(table);
    }
}
