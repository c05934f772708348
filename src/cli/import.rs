//! `forecourt import`: a CSV file into the engine that runs on the data folder, or into the folder itself.

mod engine;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use forecourt::{
    app::{DataFolder, FolderError},
    config::Settings,
    registration::{Company, ImportError, ImportReport, Progress, StartError, Truth, import_devices, import_stations},
};

use super::{Failure, Importable, block_on, progress::Told};
use engine::Engine;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StartError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("an engine owns the data folder {0}, and does not say where it is reached")]
    NoAddress(PathBuf),
    #[error("the running engine could not be asked: {0}")]
    Ask(#[from] reqwest::Error),
    #[error("the running engine refused: {0}")]
    Answer(String),
    #[error("{source}; {accepted} rows are in, and when the import is run again they are passed over")]
    GaveUp { accepted: u64, source: Box<Error> },
    #[error("{refused} lines were refused, {accepted} are in")]
    Refused { refused: u64, accepted: u64 },
}

pub(super) fn run(settings: &Settings, what: Importable, path: &Path) -> Result<(), Failure> {
    let failed = |source| Error::File { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let told = Told::of_bytes(file.metadata().map_err(failed)?.len());
    let report = match DataFolder::take(&settings.engine.data) {
        Ok(folder) => import_into_folder(settings, &folder, what, file, &told)?,
        Err(FolderError::InUse(folder)) => {
            let engine = Engine::new(&folder, what, &told)?;
            block_on_import(engine.import(told.reading(file), settings.http.import_body_bytes_max))?
        }
        Err(error) => return Err(error.into()),
    };
    told.finish();
    tell(path, &report)?;
    Ok(())
}

fn block_on_import(import: impl Future<Output = Result<ImportReport, Error>>) -> Result<ImportReport, Failure> {
    let mut report = None;
    block_on(async {
        report = Some(import.await?);
        Ok(())
    })?;
    Ok(report.expect("set unless it failed"))
}

/// Straight into the store: no codebook is built, and nobody waits for the writer.
fn import_into_folder(
    settings: &Settings,
    folder: &DataFolder,
    what: Importable,
    file: File,
    told: &Told,
) -> Result<ImportReport, Error> {
    let registration = &settings.registration;
    let truth = Truth::open_for_import(folder.path(), registration.kek_hex.as_ref(), registration.store_queue)?;
    let rows = told.reading(file);
    let progress = |progress: Progress| told.rows(progress.rows, progress.refused);
    let report = match what {
        Importable::Stations => import_stations(&truth, rows, progress),
        Importable::Devices => import_devices(&truth, settings.slot_length(), Company::None, rows, progress),
    };
    truth.stop();
    Ok(report?)
}

fn tell(file: &Path, report: &ImportReport) -> Result<(), Error> {
    for refusal in &report.refusals {
        eprintln!("{}:{}: {}", file.display(), refusal.line, refusal.reason);
    }
    let unlisted = report.refused - report.refusals.len() as u64;
    if unlisted > 0 {
        eprintln!("and {unlisted} more");
    }
    println!("{} rows are in, {} of them unchanged; {} refused", report.accepted, report.unchanged, report.refused);
    match report.refused {
        0 => Ok(()),
        refused => Err(Error::Refused { refused, accepted: report.accepted }),
    }
}
