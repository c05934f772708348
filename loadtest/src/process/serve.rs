//! The real `forecourt serve` as a child process on free ports of the loopback.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use forecourt::{
    app::{ADDRESSES_FILE, Addresses, DataFolder, FolderError},
    registration::OPERATOR_TOKEN_FILE,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{Metrics, Usage, placement, usage};

/// From the start to readiness: a codebook of millions of dongles is loaded in between.
const START_PATIENCE: Duration = Duration::from_secs(300);

/// From the signal to the end. The engine's own farewell takes a few seconds.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// Settings of the environment begin with this.
const ENVIRONMENT_PREFIX: &str = "FORECOURT_";

#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// The engine's data folder.
    pub data: PathBuf,
    /// Variables of the environment, as `FORECOURT_<SECTION>_<KEY>`.
    pub settings: Vec<(String, String)>,
    /// The cores that the engine may run on; all of ours without it.
    pub cores: Option<Vec<usize>>,
    /// The engine's program; without it, the one beside our own.
    pub binary: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("there is no engine at {looked}; build it with `cargo build{profile} -p forecourt --bin forecourt`")]
    NoBinary { looked: PathBuf, profile: &'static str },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{path}: {source}")]
    Spawn { path: PathBuf, source: io::Error },
    #[error("the engine ended ({0}); what it said stands above")]
    Ended(ExitStatus),
    #[error("the engine was not ready within {} s", START_PATIENCE.as_secs())]
    NotReady,
    #[error("{path}: {source}")]
    Token { path: PathBuf, source: io::Error },
    #[error("the engine could not be asked: {0}")]
    Ask(#[from] reqwest::Error),
    #[error("the engine's process: {0}")]
    Process(#[from] io::Error),
}

/// A running engine. Dropped, it is killed: a run that failed leaves nothing behind.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    data: PathBuf,
    addresses: Addresses,
    operator_token: String,
    http: reqwest::Client,
}

impl Serve {
    /// Starts the engine and waits until it is ready.
    pub async fn start(options: ServeOptions) -> Result<Serve, ServeError> {
        forget_other_engine(&options.data)?;
        let path = options.binary.clone().map_or_else(binary_beside_us, Ok)?;
        // The engine's answers stay on this machine, whatever proxy the environment names.
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut command = command(&path, &options.data, &options.settings);
        let child = placement::spawn(command.arg("serve"), options.cores.as_deref());
        let child = child.map_err(|source| ServeError::Spawn { path, source })?;
        let mut starting = Starting { child: Some(child), http };
        let addresses = starting.ready(&options.data).await?;
        let operator_token = operator_token(&options.data)?;
        let child = starting.child.take().expect("only the end of the start takes it");
        Ok(Serve { child, data: options.data, addresses, operator_token, http: starting.http.clone() })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn operator_token(&self) -> &str {
        &self.operator_token
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the engine has used so far.
    pub fn usage(&self) -> io::Result<Usage> {
        usage::of(self.pid())
    }

    /// What the engine says of itself now.
    pub async fn metrics(&self) -> Result<Metrics, ServeError> {
        let url = format!("http://{}/metrics", self.addresses.metrics);
        let text = self.http.get(url).send().await?.error_for_status()?.text().await?;
        Ok(Metrics::parse(&text))
    }

    /// Asks the engine to drain and waits for its end; one that does not end in time is killed.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        terminate(&self.child)?;
        let patience = Instant::now() + STOP_PATIENCE;
        while Instant::now() < patience {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(ServeError::Ended(status)),
                None => sleep(POLL).await,
            }
        }
        Ok(kill(&mut self.child)?)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // One that has ended already needs no killing.
        let _ = kill(&mut self.child);
    }
}

/// A child that nobody owns yet: killed when the start is given up.
struct Starting {
    child: Option<Child>,
    http: reqwest::Client,
}

impl Starting {
    async fn ready(&mut self, data: &Path) -> Result<Addresses, ServeError> {
        let patience = Instant::now() + START_PATIENCE;
        while Instant::now() < patience {
            let child = self.child.as_mut().expect("only the end of the start takes it");
            if let Some(status) = child.try_wait()? {
                return Err(ServeError::Ended(status));
            }
            if let Some(addresses) = Addresses::of_running(data)
                && self.is_ready(addresses).await
            {
                return Ok(addresses);
            }
            sleep(POLL).await;
        }
        Err(ServeError::NotReady)
    }

    async fn is_ready(&self, addresses: Addresses) -> bool {
        let answer = self.http.get(format!("http://{}/health/ready", addresses.http)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = kill(child);
        }
    }
}

/// An engine that runs on the folder already is not ours to talk to, and one that crashed there left its addresses
/// behind: what is read of them from now on can only come from the engine that is started.
fn forget_other_engine(data: &Path) -> Result<(), ServeError> {
    let _free = DataFolder::take(data)?;
    match fs::remove_file(data.join(ADDRESSES_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The `forecourt` that was built beside this program.
pub(crate) fn binary_beside_us() -> Result<PathBuf, ServeError> {
    let ours = env::current_exe()?;
    let folder = ours.parent().unwrap_or(Path::new("."));
    // Test programs lie one folder deeper.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let looked = folder.join("forecourt");
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    if looked.exists() { Ok(looked) } else { Err(ServeError::NoBinary { looked, profile }) }
}

/// The engine's program with these settings and no others; what it is to do is still to be said.
pub(crate) fn command(path: &Path, data: &Path, settings: &[(String, String)]) -> Command {
    let mut command = Command::new(path);
    // Settings that somebody keeps in the environment are for another engine than this one.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(ENVIRONMENT_PREFIX)) {
        command.env_remove(name);
    }
    for door in ["INGEST_LISTEN", "HTTP_LISTEN", "HTTP_METRICS_LISTEN"] {
        command.env(format!("{ENVIRONMENT_PREFIX}{door}"), "127.0.0.1:0");
    }
    // One generator stands for a nation's callers.
    for who in ["TERMINAL", "PHONE", "OPERATOR", "STRANGER"] {
        command.env(format!("{ENVIRONMENT_PREFIX}HTTP_{who}_CALLS_PER_SECOND"), "0");
    }
    command
        .env("FORECOURT_LOG_FILTER", "warn")
        .env("FORECOURT_ENGINE_DATA", data)
        .envs(settings.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn operator_token(data: &Path) -> Result<String, ServeError> {
    let path = data.join(OPERATOR_TOKEN_FILE);
    let token = fs::read_to_string(&path).map_err(|source| ServeError::Token { path, source })?;
    Ok(token.trim().to_owned())
}

fn terminate(child: &Child) -> io::Result<()> {
    Ok(kill_process(Pid::from_child(child), Signal::TERM)?)
}

fn kill(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_runs_there_is_left_alone_and_one_that_crashed_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let addresses = folder.path().join(ADDRESSES_FILE);
        fs::write(&addresses, "{}").unwrap();
        let other = DataFolder::take(folder.path()).unwrap();
        assert!(matches!(forget_other_engine(folder.path()), Err(ServeError::Folder(FolderError::InUse(_)))));
        assert!(addresses.exists());
        drop(other);
        forget_other_engine(folder.path()).unwrap();
        assert!(!addresses.exists());
    }
}
