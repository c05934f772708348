//! `forecourt backup`: copies of the two stores, good ones or none.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use forecourt::{
    config::Settings,
    ledger::{self, BackupError, Ledger},
    registration::STORE_FILE,
};

use super::{Failure, audit, print, progress::Told};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is there already, and is not overwritten")]
    Exists(PathBuf),
    #[error("{path} cannot be copied: {source}")]
    Copy { path: PathBuf, source: BackupError },
    #[error("the copy of the ledger is not good, and was taken away: {0}")]
    Ledger(audit::Error),
}

/// Where a store lies, where its copy grows, and what it is called when it is good.
struct Copy {
    from: PathBuf,
    partial: PathBuf,
    to: PathBuf,
}

pub(super) fn run(settings: &Settings, folder: &Path) -> Result<(), Failure> {
    let sound = back_up(&settings.engine.data, folder)?;
    let head = sound.verified.head;
    print(&format!("{} holds the ledger up to head {head}, and the registrations\n", folder.display()))
}

fn back_up(data: &Path, folder: &Path) -> Result<audit::Sound, Error> {
    let failed = |source| Error::File { path: folder.into(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    // The ledger first: then every binding that its sessions name is in the other copy.
    let copies = [Ledger::file(data), data.join(STORE_FILE)].map(|from| Copy::into(folder, from));
    if let Some(there) = copies.iter().find(|copy| copy.to.exists()) {
        return Err(Error::Exists(there.to.clone()));
    }
    let made = make(&copies).and_then(|sound| {
        let names = copies.each_ref().map(|copy| (copy.partial.as_path(), copy.to.as_path()));
        ledger::publish(folder, &names).map(|()| sound).map_err(failed)
    });
    if made.is_err() {
        for copy in &copies {
            // Whatever is left of it is no backup.
            let _ = fs::remove_file(&copy.partial);
        }
    }
    made
}

fn make(copies: &[Copy; 2]) -> Result<audit::Sound, Error> {
    for copy in copies {
        copy.make()?;
    }
    audit::verify(&copies[0].partial, None).map_err(Error::Ledger)
}

impl Copy {
    fn into(folder: &Path, from: PathBuf) -> Copy {
        let to = folder.join(from.file_name().expect("a store has a name"));
        Copy { partial: to.with_extension("partial"), from, to }
    }

    fn make(&self) -> Result<(), Error> {
        match fs::remove_file(&self.partial) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File { path: self.partial.clone(), source });
            }
            _ => {}
        }
        let told = Told::of(0, "pages");
        let copied = ledger::copy(&self.from, &self.partial, |done, total| {
            told.of_total(total);
            told.done(done);
        });
        told.finish();
        copied.map_err(|source| Error::Copy { path: self.from.clone(), source })
    }
}
