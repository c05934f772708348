//! `forecourt reconcile`: a day of our journal against the PSP's books, beside a running engine or without one.

use std::path::{Path, PathBuf};

use clap::Args;
use forecourt::{
    app::facts_of_sessions,
    config::Settings,
    ledger::{Journal, Ledger, OpenError},
    payment::reconciliation::{self, Day, Exception, FilesError, Reconciliation, Totals},
    telemetry::{self, now},
};

use super::{Failure, block_on, print};

#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// The day, UTC, as 2026-11-24.
    #[arg(long, value_name = "D")]
    date: Day,
    /// The data folder, if it is not the one of the settings.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Where CSV, JSON and checksums go; otherwise into the data folder, where the engine shows them.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print the whole as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Journal(#[from] OpenError),
    #[error(transparent)]
    Reconciliation(#[from] reconciliation::Error),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{0} exceptions")]
    Exceptions(usize),
}

pub(super) fn run(settings: &Settings, args: &Reconcile) -> Result<(), Failure> {
    telemetry::log(&settings.log)?;
    let data = args.data.as_deref().unwrap_or(&settings.engine.data);
    block_on(async {
        let made = reconcile(settings, data, args.date).await?;
        let out = args.out.clone().unwrap_or_else(|| reconciliation::folder(data));
        let written = reconciliation::write(&out, &made).map_err(Error::from)?;
        if args.json {
            print(&(serde_json::to_string_pretty(&made).expect("a reconciliation is plain data") + "\n"))?;
        } else {
            print(&told(&made))?;
            print(&format!("{}\n{}\n", written.csv.display(), written.json.display()))?;
        }
        match made.exceptions.len() {
            0 => Ok(()),
            exceptions => Err(Error::Exceptions(exceptions).into()),
        }
    })
}

async fn reconcile(settings: &Settings, data: &Path, day: Day) -> Result<Reconciliation, Error> {
    let journal = Journal::open(&Ledger::file(data))?;
    Ok(reconciliation::reconcile(&settings.payment, data, journal, facts_of_sessions(), day, now()).await?)
}

fn told(made: &Reconciliation) -> String {
    let heading = format!("{} at {}, amounts in minor units\n", made.date, made.psp);
    let totals = made.totals.iter().flat_map(|Totals { station, currency, ours, theirs }| {
        let station = station.map_or("no known station".into(), |station| format!("station {station}"));
        [("ours", ours), ("theirs", theirs)].map(|(side, sums)| {
            format!(
                "{station} {currency} {side}: {} charges, {} captures, {} refunds, net {}\n",
                sums.charges, sums.captures, sums.refunds, sums.net_minor
            )
        })
    });
    let exceptions = made.exceptions.iter().map(|exception| {
        let kind = serde_json::to_value(exception.kind).expect("a word");
        let session = exception.session.map_or("no known session".into(), |session| format!("session {session}"));
        let Exception { at_risk_minor, currency, age_s, .. } = exception;
        format!("{}: {session}, {at_risk_minor} {currency} at risk, {age_s} s old\n", kind.as_str().unwrap_or_default())
    });
    std::iter::once(heading).chain(totals).chain(exceptions).collect()
}
