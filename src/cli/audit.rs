//! `forecourt audit verify`: whether the journal is what was written, and gives every session.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use forecourt::{
    config::Settings,
    ledger::{Broken, Head, Journal, Ledger, LedgerError, OpenError, Verified, VerifyError},
    payment,
    session::{self, StateName},
};
use serde_json::{Value, json};

use super::{Failure, print, progress::Told};

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Walk the hash chain of the journal, and rebuild every session and charge from it alone.
    ///
    /// Names the first row that is not as it was written, with exit code 6: one that is missing, changed, moved or added, a
    /// purged one that no purge names, a payload that does not read, an event that its session cannot have taken. The
    /// engine may run meanwhile. A chain shows that nobody changed a part of it; who could write the file could have
    /// written it anew: note the head that is printed at another place, and give it to the next verification.
    Verify {
        /// The folder with ledger.db: a data folder or a backup. Without it engine.data of the settings.
        #[arg(long, value_name = "FOLDER")]
        data: Option<PathBuf>,
        /// A head that was noted before: the journal must contain it.
        #[arg(long, value_name = "SEQ:HASH")]
        expect: Option<Head>,
        /// Print what was found as one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path}: {source}")]
    Open { path: PathBuf, source: OpenError },
    #[error("the journal cannot be read: {0}")]
    Read(#[from] LedgerError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl Error {
    /// Whether the journal is not what was written, and not only unread.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Error::Verify(VerifyError::Broken(_) | VerifyError::Damaged(_)))
    }
}

/// A journal that holds, and what it comes to.
pub(super) struct Sound {
    pub verified: Verified,
    states: BTreeMap<StateName, u64>,
    charges_open: usize,
}

pub(super) fn run(settings: &Settings, audit: &Audit) -> Result<(), Failure> {
    let Audit::Verify { data, expect, json } = audit;
    let folder = data.as_ref().unwrap_or(&settings.engine.data);
    let verified = verify(&Ledger::file(folder), *expect);
    match (&verified, json) {
        (Ok(sound), true) => print(&format!("{}\n", sound.json()))?,
        (Ok(sound), false) => print(&sound.text())?,
        (Err(Error::Verify(error)), true) => print(&format!("{}\n", json_of(error)))?,
        (Err(_), _) => {}
    }
    verified.map(drop).map_err(Failure::from)
}

/// The whole verification of one file.
pub(super) fn verify(path: &Path, expected: Option<Head>) -> Result<Sound, Error> {
    let open = || Journal::open(path).map_err(|source| Error::Open { path: path.into(), source });
    let (journal, recalled) = (open()?, open()?);
    let (mut sessions, mut charges) = (session::Audit::of(&recalled), payment::Audit::new());
    let told = Told::of(journal.head()?.seq.0, "entries");
    let verified = journal.verify(expected, |seq, entry| {
        told.done(seq.0);
        let Some(entry) = entry else { return Ok(()) };
        sessions.take(seq, entry).map_err(|error| error.to_string())?;
        charges.take(entry).map_err(|error| error.to_string())
    });
    told.finish();
    let (states, charges_open) = (sessions.states(), charges.open_count());
    Ok(Sound { verified: verified?, states, charges_open })
}

impl Sound {
    fn text(&self) -> String {
        let Verified { entries, purged, head } = self.verified;
        let states: Vec<String> = self.states.iter().map(|(state, count)| format!("{count} {state:?}")).collect();
        let sessions: u64 = self.states.values().sum();
        let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
        format!(
            "{entries} entries hold, {purged} of them purged\n\
             {sessions} sessions are rebuilt{states}; {} charges are open\n\
             head {head}\n",
            self.charges_open
        )
    }

    fn json(&self) -> Value {
        let Verified { entries, purged, head } = self.verified;
        json!({
            "sound": true,
            "entries": entries,
            "purged": purged,
            "sessions": self.states,
            "charges_open": self.charges_open,
            "head": head.to_string(),
        })
    }
}

fn json_of(error: &VerifyError) -> Value {
    let VerifyError::Broken(broken) = error else {
        return json!({ "sound": false, "reason": error.to_string() });
    };
    let Broken { seq, row, fault } = &**broken;
    let row =
        row.as_ref().map(|row| json!({ "kind": row.kind_name(), "subject": hex::encode(&row.subject), "at": row.at }));
    json!({ "sound": false, "seq": seq.0, "row": row, "reason": fault.to_string() })
}
