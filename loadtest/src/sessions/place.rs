//! Where sales take place: a chain that follows from a seed, and an engine on a data folder of its own.

use std::{
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::process::ServeOptions;

#[derive(Debug, Clone)]
pub struct Place {
    pub seed: u64,
    /// Cars at the pumps, of which a scenario leaves some parked and serves the others all the while.
    pub cars: usize,
    /// The parent of the run's folder; without it, the system's temporary folder.
    pub folder: Option<PathBuf>,
    /// The engine's program; without it, the `forecourt` beside this one.
    pub engine: Option<PathBuf>,
    pub settings: Vec<(String, String)>,
}

/// Gone with what is in it when it is dropped.
pub(super) struct Folder {
    all: TempDir,
    data: PathBuf,
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        self.all.path()
    }

    /// The engine's.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }
}

impl Place {
    pub(super) fn folder(&self) -> io::Result<Folder> {
        let all = self.folder.as_ref().map_or_else(tempfile::tempdir, tempfile::tempdir_in)?;
        let data = all.path().join("data");
        std::fs::create_dir(&data)?;
        Ok(Folder { all, data })
    }

    /// How the engine is started on that folder: what the scenario needs stands before what the run was told, which wins.
    pub(super) fn options(&self, folder: &Folder, needed: impl IntoIterator<Item = (String, String)>) -> ServeOptions {
        ServeOptions {
            data: folder.data.clone(),
            settings: needed.into_iter().chain(self.settings.iter().cloned()).collect(),
            binary: self.engine.clone(),
            ..ServeOptions::default()
        }
    }
}
