//! What the command line says, and which part does it.

mod audit;
mod backup;
mod cache;
mod doctor;
mod health;
mod import;
mod keys;
mod progress;
mod purge;
mod reconcile;
mod reload;
mod running;
mod serve;
mod vectors;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use forecourt::{
    app::{self, FolderError, StartError},
    config::{ConfigError, DEFAULT_TOML, Settings},
    engine::id::StationId,
    ingest::pki,
    telemetry::{self, ExportError, TelemetryError},
    uplink::{receiver, replay},
};

/// Presence-and-payment backend of a fuel chain.
///
/// Without a command it serves: everything embedded, on loopback, in the folder ./forecourt-data.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Settings that override the defaults (see `forecourt config default`).
    #[arg(long, global = true, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, for the reason on standard error
  2  the command line does not read
  3  the settings do not hold, or a reload was refused
  4  another engine owns the data folder
  5  an import refused some lines; the others are in
  6  the journal, or a copy of it, is not what was written
  7  a reconciliation found exceptions; its files are written
  8  the doctor found something wrong

Settings: every key of `forecourt config default` can also be given in the environment, as
FORECOURT_<SECTION>_<KEY>, for example FORECOURT_HTTP_LISTEN=127.0.0.1:8080.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine until SIGTERM or Ctrl-C, then drain.
    Serve {
        /// Only say whether the settings hold and the data folder is free.
        #[arg(long)]
        check: bool,
    },
    /// Play recorded Bluetooth logs as a station's live receivers.
    Receiver(receiver::Args),
    /// Run the engine offline over recorded Bluetooth logs and print every presence change.
    Replay(replay::Args),
    /// Take stations or devices from a CSV file into the running engine, or into its folder when none runs.
    Import {
        /// What the file lists.
        what: Importable,
        /// Columns of stations: station_id,name,brand,lat,lon,pumps. Columns of devices:
        /// device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means[,activation_code]; from
        /// proof_key_hex on a column may be absent or empty. Several payment means are separated by ';'.
        #[arg(value_name = "FILE.csv")]
        file: PathBuf,
    },
    /// The key that the dongles' keys are sealed under.
    Keys {
        #[command(subcommand)]
        keys: keys::Keys,
    },
    /// Whether the ledger is what was written.
    Audit {
        #[command(subcommand)]
        audit: audit::Audit,
    },
    /// Copy ledger.db and registrations.db into a folder, and verify the copies. The engine may run.
    ///
    /// Nothing is overwritten. Keep the key-encryption key (the file kek) apart from it; without that key no dongle's key
    /// opens. To put a backup back, stop the engine, copy both files over those of the data folder, and take away what
    /// lies there as *-wal and *-shm. A codebook.snapshot or a Redis of what came after the backup is not believed.
    Backup {
        /// Made when there is none.
        folder: PathBuf,
    },
    /// Purge what the ledger has kept long enough (ledger.session_days, ledger.location_days), where no engine runs.
    ///
    /// A running engine does so by itself once a day. Rows are emptied, and the chain of the journal still verifies.
    /// Backups that were made before keep what they have.
    Purge {
        /// Only say what would go; the engine may run.
        #[arg(long)]
        dry_run: bool,
        /// Print the report as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print settings.
    Config {
        /// Which settings.
        which: Printable,
    },
    /// Fill the cache in Redis, or compare it with the store.
    Cache {
        #[command(subcommand)]
        cache: cache::Cache,
    },
    /// List every metric of the engine, as a page of Markdown.
    Metrics {
        /// Print them as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Have the running engine take over certificates and limits anew, as SIGHUP does; no connection is dropped.
    ///
    /// Taken over are what lies in the data folder's pki, the bounds of ingest on connections and newcomers, and how often
    /// callers may call. Everything else that was changed is named, and waits for a restart. What does not hold leaves all
    /// as it was: exit code 3.
    Reload {
        /// Print what came of it as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare a day of the journal with the PSP's books; may run beside the engine.
    Reconcile(reconcile::Reconcile),
    /// Check this machine, the data folder and what it needs, and say how to mend what is wrong; an engine may run.
    ///
    /// Nothing is changed. A line begins with ok, WARN (works, and will not for ever or not for everybody) or WRONG, and
    /// says what was found and how to mend it. Exit code 8 when something is WRONG, 3 when the settings do not hold.
    Doctor {
        /// Print the report as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Ask the running engine whether it is ready, print what it says, and exit with 0 only then: a container's probe.
    Health,
    /// Make the development authority, the server's certificate, and those of stations.
    Pki {
        /// A station to make a certificate for; once for each.
        #[arg(long = "station", value_name = "S")]
        stations: Vec<StationId>,
    },
    /// Print what dongles and phones compute, from fixed inputs, for who makes one to check it.
    Vectors {
        /// Print them as one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Print what was built.
    Version {
        /// Print it as one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Importable {
    /// The chain's stations.
    Stations,
    /// Dongles, with the vehicles that they are bound to.
    Devices,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Printable {
    /// Every knob with its meaning, unit and default.
    Default,
    /// What holds here, after the file and the environment.
    Print,
}

/// Why a command failed, for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Receiver(#[from] receiver::Error),
    #[error(transparent)]
    Replay(#[from] replay::Error),
    #[error(transparent)]
    Import(#[from] import::Error),
    #[error(transparent)]
    Cache(#[from] cache::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error(transparent)]
    Audit(#[from] audit::Error),
    #[error(transparent)]
    Backup(#[from] backup::Error),
    #[error(transparent)]
    Purge(#[from] purge::Error),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error(transparent)]
    Reconcile(#[from] reconcile::Error),
    #[error(transparent)]
    Reload(#[from] reload::Error),
    #[error("{0} of the checks failed")]
    Unwell(usize),
    #[error("the engine is not ready")]
    NotReady,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Settings(_)
            | Failure::Telemetry(TelemetryError::Filter(_))
            | Failure::Reload(reload::Error::Refused(_)) => 3,
            Failure::Keys(keys::Error::Running(_))
            | Failure::Purge(purge::Error::Running(_))
            | Failure::Folder(FolderError::InUse(_))
            | Failure::Start(StartError::Folder(FolderError::InUse(_))) => 4,
            Failure::Import(import::Error::Refused { .. }) => 5,
            Failure::Audit(error) | Failure::Backup(backup::Error::Ledger(error)) if error.is_broken() => 6,
            Failure::Reconcile(reconcile::Error::Exceptions(_)) => 7,
            Failure::Unwell(_) => 8,
            _ => 1,
        })
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    // Read by the commands that need them: the others help to mend settings that do not hold.
    let settings = || Settings::load(arguments.config.as_deref(), std::env::vars());
    match arguments.command.unwrap_or(Command::Serve { check: false }) {
        Command::Serve { check: true } => serve::check(&settings()?),
        Command::Serve { check: false } => {
            let settings = settings()?;
            let file = arguments.config;
            serve::run(settings, Box::new(move || Settings::load(file.as_deref(), std::env::vars())))
        }
        Command::Receiver(args) => play(&settings()?, &args),
        Command::Replay(args) => Ok(replay::run(&args)?),
        Command::Import { what, file } => import::run(&settings()?, what, &file),
        Command::Keys { keys } => keys::run(&settings()?, &keys),
        Command::Audit { audit } => audit::run(&settings()?, &audit),
        Command::Backup { folder } => backup::run(&settings()?, &folder),
        Command::Purge { dry_run, json } => purge::run(&settings()?, dry_run, json),
        Command::Config { which: Printable::Default } => print(DEFAULT_TOML),
        Command::Config { which: Printable::Print } => {
            print(&toml::to_string(&settings()?).expect("settings were read from TOML"))
        }
        Command::Cache { cache } => cache::run(&settings()?, cache),
        Command::Metrics { json } => print(&metrics(json)),
        Command::Reload { json } => reload::run(&settings()?, json),
        Command::Reconcile(args) => reconcile::run(&settings()?, &args),
        Command::Doctor { json } => doctor::run(settings(), json),
        Command::Health => health::run(&settings()?),
        Command::Pki { stations } => make_certificates(&settings()?, &stations),
        Command::Vectors { json } => print(&vectors::print(json)),
        Command::Version { json } => print(&version(json)),
    }
}

fn play(settings: &Settings, args: &receiver::Args) -> Result<(), Failure> {
    telemetry::log(&settings.log)?;
    let data: &Path = &settings.engine.data;
    if args.pki.is_none() {
        pki::issue_station(data, args.station)?;
    }
    let pki = pki::folder(data);
    block_on(async { Ok(receiver::run(args, &pki).await?) })
}

fn make_certificates(settings: &Settings, stations: &[StationId]) -> Result<(), Failure> {
    let folder: &Path = &settings.engine.data;
    let server = pki::ensure(folder, &settings.ingest.names)?;
    print(&format!("server: {}\n", server.certificate.display()))?;
    for station in stations {
        let issued = pki::issue_station(folder, *station)?;
        print(&format!("station {station}: {} {}\n", issued.certificate.display(), issued.key.display()))?;
    }
    Ok(())
}

fn version(json: bool) -> String {
    let build = telemetry::build();
    if json {
        return serde_json::to_string(&build).expect("a build is plain text") + "\n";
    }
    format!("forecourt {} ({}, {}, SQLite {})\n", build.version, build.profile, build.target, build.sqlite)
}

fn metrics(json: bool) -> String {
    let catalogue = app::catalogue();
    if json {
        return serde_json::to_string_pretty(&catalogue).expect("a catalogue is plain text") + "\n";
    }
    catalogue.to_string()
}

/// To standard output; a reader that has gone, as after `| head`, is a failure and no panic.
fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Runs a command that needs a runtime and no actors.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
