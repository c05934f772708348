//! The chain that a run is about, in a data folder that an engine can start on: its stations with their certificates,
//! and its dongles with their vehicles.
//!
//! A million dongles take a while to import, so the folder is kept and found again by the next run with the same
//! number and seed.

use std::{
    env,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    ops::Deref,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use forecourt::{
    engine::{id::StationId, time::SlotLength},
    ingest::pki::{self, Authority, PkiError},
};
use indicatif::{ProgressBar, ProgressStyle};

use super::dongles::Dongles;
use crate::process::{self, ServeError};

/// What the folder holds so far, for the next run.
const NOTE_FILE: &str = "loadtest.json";

/// Held by the run that uses the folder.
const LOCK_FILE: &str = "loadtest.lock";

/// The engine's presence windows of a run before: every run begins with empty forecourts.
const SNAPSHOT_FILE: &str = "presence.snapshot";

/// The longest slot: codes stay valid, and the end of one never falls into a short run by surprise.
pub const SLOT: SlotLength = SlotLength::from_seconds(900).expect("900 s is the longest slot");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    pub dongles: Dongles,
    pub stations: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is not empty, and holds no chain of an earlier run with this seed and these dongles")]
    Foreign(PathBuf),
    #[error(transparent)]
    Engine(#[from] ServeError),
    #[error("the import of {what} failed ({status}); what it said stands above")]
    Import { what: &'static str, status: ExitStatus },
    #[error(transparent)]
    Pki(#[from] PkiError),
}

#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Note {
    seed: u64,
    dongles: u64,
    dongles_are_in: bool,
    stations: usize,
}

impl Chain {
    /// The `index`th station.
    pub fn station(index: usize) -> StationId {
        StationId(index as u32 + 1)
    }

    /// Settings of an engine that serves this chain.
    pub fn settings() -> Vec<(String, String)> {
        vec![("FORECOURT_ENGINE_SLOT_SECONDS".into(), SLOT.seconds().to_string())]
    }

    /// The data folder of this chain, filled with what it lacks; `folder`, or one in the system's temporary folder.
    pub fn prepare(&self, folder: Option<&Path>, binary: Option<&Path>) -> Result<Prepared, ChainError> {
        let folder = folder.map_or_else(|| self.kept_folder(), Into::into);
        let binary = binary.map_or_else(process::binary_beside_us, |binary| Ok(binary.into()))?;
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let lock = lock(&folder)?;
        let mut note = self.note(&folder)?;
        let import = Import { folder: &folder, binary: &binary };
        let mut imported = None;
        if !note.dongles_are_in {
            write_note(&folder, &note)?;
            imported = Some(import.dongles(self.dongles)?);
            note.dongles_are_in = true;
            write_note(&folder, &note)?;
        }
        if note.stations < self.stations {
            import.stations(self.stations)?;
            note.stations = self.stations;
            write_note(&folder, &note)?;
        }
        issue_certificates(&folder, self.stations)?;
        // There is none before the first run.
        let _ = fs::remove_file(folder.join(SNAPSHOT_FILE));
        Ok(Prepared { folder, imported, _lock: lock })
    }

    fn kept_folder(&self) -> PathBuf {
        let Dongles { seed, count } = self.dongles;
        let version = env!("CARGO_PKG_VERSION");
        env::temp_dir().join("forecourt-loadtest").join(format!("{version}-{count}-dongles-seed-{seed}"))
    }

    fn note(&self, folder: &Path) -> Result<Note, ChainError> {
        let ours = Note { seed: self.dongles.seed, dongles: self.dongles.count, ..Note::default() };
        let path = folder.join(NOTE_FILE);
        let Ok(text) = fs::read(&path) else {
            let mut others = fs::read_dir(folder).map_err(file_error(folder))?.filter_map(Result::ok);
            let is_empty = others.all(|entry| entry.file_name() == LOCK_FILE);
            return if is_empty { Ok(ours) } else { Err(ChainError::Foreign(folder.into())) };
        };
        match serde_json::from_slice::<Note>(&text) {
            Ok(note) if (note.seed, note.dongles) == (ours.seed, ours.dongles) => Ok(note),
            _ => Err(ChainError::Foreign(folder.into())),
        }
    }
}

/// A chain's data folder, for one run at a time: two would start their engines on the same.
#[derive(Debug)]
pub struct Prepared {
    folder: PathBuf,
    imported: Option<Duration>,
    _lock: File,
}

impl Prepared {
    /// How long the import of the dongles took; `None` of a folder that had them already.
    pub fn imported(&self) -> Option<Duration> {
        self.imported
    }
}

impl Deref for Prepared {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.folder
    }
}

/// Waits for a run that has the folder now: side by side they would spoil each other's figures.
fn lock(folder: &Path) -> Result<File, ChainError> {
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(file_error(&path))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run on {}", folder.display());
        file.lock().map_err(file_error(&path))?;
    }
    Ok(file)
}

/// `forecourt import` into a folder that no engine runs on.
struct Import<'a> {
    folder: &'a Path,
    binary: &'a Path,
}

impl Import<'_> {
    /// How long the import itself took.
    fn dongles(&self, dongles: Dongles) -> Result<Duration, ChainError> {
        let bar = progress(dongles.count, "dongles are given their keys");
        self.run("devices", |out| dongles.write_csv(out, |written| bar.set_position(written)))
    }

    fn stations(&self, count: usize) -> Result<Duration, ChainError> {
        self.run("stations", |out| {
            writeln!(out, "station_id,name")?;
            (0..count).map(Chain::station).try_for_each(|station| writeln!(out, "{station},Station {station}"))?;
            out.flush()
        })
    }

    fn run(
        &self,
        what: &'static str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<Duration, ChainError> {
        let csv = self.folder.join(format!("{what}.csv"));
        let written = File::create(&csv).map(BufWriter::new).and_then(|mut out| write(&mut out));
        written.map_err(file_error(&csv))?;
        eprintln!("importing {what}");
        let mut command = process::command(self.binary, self.folder, &Chain::settings());
        let begun = Instant::now();
        let status = command.arg("import").arg(what).arg(&csv).status().map_err(file_error(self.binary))?;
        let took = begun.elapsed();
        fs::remove_file(&csv).map_err(file_error(&csv))?;
        if status.success() { Ok(took) } else { Err(ChainError::Import { what, status }) }
    }
}

fn write_note(folder: &Path, note: &Note) -> Result<(), ChainError> {
    let path = folder.join(NOTE_FILE);
    let text = serde_json::to_vec_pretty(note).expect("a note is plain data");
    fs::write(&path, text).map_err(file_error(&path))
}

fn issue_certificates(folder: &Path, stations: usize) -> Result<(), ChainError> {
    pki::ensure(folder, &[])?;
    let authority = Authority::open(folder)?;
    let bar = progress(stations as u64, "stations have their certificate");
    for index in 0..stations {
        authority.issue_station(Chain::station(index))?;
        bar.inc(1);
    }
    Ok(())
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{pos} of {len} {msg}, {eta} to go").expect("a valid template");
    let bar = ProgressBar::new(length).with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ChainError {
    let path = path.into();
    move |source| ChainError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: Chain = Chain { dongles: Dongles { seed: 3, count: 50 }, stations: 2 };

    #[test]
    fn a_folder_is_taken_up_by_the_chain_it_was_made_for_only() {
        let folder = tempfile::tempdir().unwrap();
        let note = CHAIN.note(folder.path()).unwrap();
        assert!(!note.dongles_are_in && note.stations == 0);
        write_note(folder.path(), &Note { dongles_are_in: true, stations: 9, ..note }).unwrap();
        assert_eq!(CHAIN.note(folder.path()).unwrap().stations, 9);
        let other = Chain { dongles: Dongles { seed: 4, count: 50 }, ..CHAIN };
        assert!(matches!(other.note(folder.path()), Err(ChainError::Foreign(_))));
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ledger.db"), "money").unwrap();
        assert!(matches!(CHAIN.note(folder.path()), Err(ChainError::Foreign(_))));
    }
}
