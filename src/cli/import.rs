//! `forecourt import`: a CSV file into the engine that runs on the data folder, or into the folder itself.

use std::{
    fs::{self, File},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use forecourt::{
    app::{Addresses, DataFolder, FolderError},
    config::Settings,
    registration::{ImportError, ImportReport, OPERATOR_TOKEN_FILE, Progress, Registrations, StartError},
};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, Importable, block_on};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StartError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("an engine owns the data folder {0}, and does not say where it is reached; try again in a moment")]
    NoAddress(PathBuf),
    #[error("the running engine could not be asked: {0}")]
    Ask(#[from] reqwest::Error),
    #[error("the running engine refused: {0}")]
    Answer(String),
    #[error("{refused} lines were refused, {accepted} are in")]
    Refused { refused: u64, accepted: u64 },
}

pub(super) fn run(settings: Settings, what: Importable, file: &Path) -> Result<(), Failure> {
    let report = match DataFolder::take(&settings.engine.data) {
        Ok(folder) => block_on_import(import_into_folder(settings, &folder, what, file))?,
        Err(FolderError::InUse(folder)) => block_on_import(import_into_engine(&folder, what, file))?,
        Err(error) => return Err(error.into()),
    };
    tell(file, &report)?;
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

async fn import_into_folder(
    settings: Settings,
    folder: &DataFolder,
    what: Importable,
    file: &Path,
) -> Result<ImportReport, Error> {
    let slot = settings.slot_length();
    let csv = File::open(file).map_err(|source| Error::File { path: file.into(), source })?;
    let bytes = csv.metadata().map_or(0, |metadata| metadata.len());
    let bar = progress_bar(bytes);
    let registrations = Registrations::start(settings.registration, folder.path(), slot)?;
    let reader = bar.wrap_read(io::BufReader::new(csv));
    let told = bar.clone();
    let progress = move |progress: Progress| {
        told.set_message(format!("{} rows, {} refused", progress.rows, progress.refused));
    };
    let report = match what {
        Importable::Stations => registrations.import_stations(reader, progress).await,
        Importable::Devices => registrations.import_devices(reader, progress).await,
    };
    registrations.stop();
    bar.finish_and_clear();
    Ok(report?)
}

/// The engine reads the same CSV through its operator's door.
async fn import_into_engine(folder: &Path, what: Importable, file: &Path) -> Result<ImportReport, Error> {
    let read = |path: PathBuf| fs::read(&path).map_err(|source| Error::File { path, source });
    let addresses = Addresses::of_running(folder).ok_or_else(|| Error::NoAddress(folder.into()))?;
    let token = String::from_utf8_lossy(&read(folder.join(OPERATOR_TOKEN_FILE))?).trim().to_owned();
    let csv = read(file.into())?;
    let what = match what {
        Importable::Stations => "stations",
        Importable::Devices => "devices",
    };
    let bar = ProgressBar::new_spinner().with_message(format!("the engine at {} takes it in", addresses.http));
    bar.enable_steady_tick(Duration::from_millis(200));
    let url = format!("http://{}/v1/imports/{what}", addresses.http);
    // The operator's token goes to this machine's own engine, whatever proxy the environment names.
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.post(url).bearer_auth(token).header("content-type", "text/csv").body(csv);
    let answer = request.send().await?;
    bar.finish_and_clear();
    if answer.status().is_success() {
        Ok(answer.json().await?)
    } else {
        Err(Error::Answer(detail(&answer.text().await?)))
    }
}

/// What a problem says for people.
fn detail(problem: &str) -> String {
    let read = serde_json::from_str::<serde_json::Value>(problem).ok();
    read.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or(problem).to_owned()
}

fn progress_bar(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}").expect("a valid template");
    ProgressBar::new(bytes).with_style(style)
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
