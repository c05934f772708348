//! `forecourt purge`: what the ledger has kept long enough, and the report of what went.

use std::path::PathBuf;

use forecourt::{
    app::{DataFolder, FolderError},
    config::Settings,
    ledger::{Journal, Ledger, OpenError},
    session::{self, PurgeError, Purged},
    telemetry::now,
};
use serde_json::json;

use super::{Failure, block_on, print};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("an engine runs on {0}, and purges by itself once a day; --dry-run says what is due")]
    Running(PathBuf),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Purge(#[from] PurgeError),
}

pub(super) fn run(settings: &Settings, dry_run: bool, json: bool) -> Result<(), Failure> {
    let mut report = Vec::new();
    if dry_run {
        let path = Ledger::file(&settings.engine.data);
        report = session::due(&settings.ledger, || Journal::open(&path), now()).map_err(Error::from)?;
    } else {
        let folder = match DataFolder::take(&settings.engine.data) {
            Ok(folder) => folder,
            Err(FolderError::InUse(path)) => return Err(Error::Running(path).into()),
            Err(error) => return Err(error.into()),
        };
        block_on(async {
            report = purge(settings, &folder).await?;
            Ok(())
        })?;
    }
    if json {
        return print(&format!("{}\n", json!({ "dry_run": dry_run, "rules": report })));
    }
    let done = if dry_run { "due" } else { "purged" };
    report.iter().try_for_each(|Purged { rule, before, sessions, entries }| {
        print(&format!("{}: {sessions} sessions with {entries} entries, before {before}, {done}\n", rule.name()))
    })
}

async fn purge(settings: &Settings, folder: &DataFolder) -> Result<Vec<Purged>, Error> {
    let ledger = Ledger::open(&settings.ledger, folder.path())?;
    let purged = session::purge(&settings.ledger, &ledger, now()).await;
    let closed = ledger.close().await.map_err(PurgeError::from);
    let purged = purged?;
    closed?;
    Ok(purged)
}
