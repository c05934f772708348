//! `forecourt keys rotate`: another key-encryption key for the store of a data folder.

use std::{fs, io, path::PathBuf};

use clap::Subcommand;
use forecourt::{
    app::{DataFolder, FolderError},
    config::Settings,
    registration::{KekHex, NewKek, NextStep, ROTATION_BATCH, RotateError, Rotation},
};
use zeroize::Zeroizing;

use super::{Failure, progress::Told};

/// Where the new key may be given without a file.
const NEW_KEK: &str = "FORECOURT_NEW_KEK_HEX";

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Seal every dongle's keys under another key-encryption key. No engine may run meanwhile.
    ///
    /// The old key is read where it is: registration.kek_hex of the settings, or the file `kek` of the data folder. The new
    /// one comes from the file, or from FORECOURT_NEW_KEK_HEX, or is made. A rotation that was cut off is gone on with by the
    /// same command; until then no engine starts.
    Rotate {
        /// A file with the new key, 64 hexadecimal digits.
        #[arg(long, value_name = "FILE")]
        new_kek_file: Option<PathBuf>,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "an engine runs on {0}, and keeps the old key in memory; stop it (SIGTERM drains it), rotate, and start it again"
    )]
    Running(PathBuf),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Rotate(#[from] RotateError),
}

pub(super) fn run(settings: &Settings, keys: &Keys) -> Result<(), Failure> {
    let Keys::Rotate { new_kek_file } = keys;
    let folder = match DataFolder::take(&settings.engine.data) {
        Ok(folder) => folder,
        Err(FolderError::InUse(path)) => return Err(Error::Running(path).into()),
        Err(error) => return Err(error.into()),
    };
    let new = new_kek(new_kek_file.as_ref())?;
    rotate(settings, &folder, &new)?;
    Ok(())
}

fn rotate(settings: &Settings, folder: &DataFolder, new: &NewKek) -> Result<(), Error> {
    let Some(mut rotation) = Rotation::open(folder.path(), settings.registration.kek_hex.as_ref(), new)? else {
        println!("nothing was left to do: the new key is in force");
        return Ok(());
    };
    let (dongles, mut done) = rotation.extent()?;
    let told = Told::of(dongles as u64, "dongles");
    let mut unsealable = 0;
    while let Some(rotated) = rotation.step(ROTATION_BATCH)? {
        done += rotated.dongles;
        unsealable += rotated.unsealable;
        told.done(done as u64);
    }
    let next = rotation.finish()?;
    told.finish();
    if unsealable > 0 {
        eprintln!("{unsealable} keys did not open under the old key, and are as they were");
    }
    println!("the keys of {done} dongles are under the new key; the old one opens nothing any more, but in backups");
    match next {
        NextStep::None => {}
        NextStep::Set(None) => println!("set registration.kek_hex to the new key before the engine starts"),
        NextStep::Set(Some(file)) => {
            println!(
                "set registration.kek_hex to what {} holds before the engine starts, and take the file away",
                file.display()
            );
        }
    }
    Ok(())
}

fn new_kek(file: Option<&PathBuf>) -> Result<NewKek, Error> {
    let text = match (file, std::env::var(NEW_KEK)) {
        (Some(path), _) => fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })?,
        (None, Ok(text)) => text,
        (None, Err(_)) => return Ok(NewKek::Made),
    };
    Ok(NewKek::Given(KekHex::new(Zeroizing::new(text).trim())))
}
