//! The peers' servers, from Debian's packages: found, started on a free port of the loopback with a folder of their
//! own, and ended with the trial.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::broker::Broker;
use crate::process::{Usage, in_path, placement, usage};

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// NATS throws out a consumer that is further behind than this; the sender's window keeps far below.
const NATS_CONFIG: &str = "max_pending: 268435456\nwrite_deadline: \"30s\"\nping_interval: \"1h\"\n";

/// Unlimited, for the same reason: QoS 0 messages beyond it are dropped in silence.
const MOSQUITTO_CONFIG: &str = "allow_anonymous true\npersistence false\nlog_dest none\nmax_queued_messages 0\n";

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("there is no {program} here; install Debian's package of that name (apt-get install {program})")]
    Missing { program: &'static str },
    #[error("{program}: {error}")]
    Start { program: &'static str, error: io::Error },
    #[error("{program} did not come up: {said}")]
    NotUp { program: &'static str, said: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Broker(Broker),
    Redis,
}

impl Program {
    pub(super) const ALL: [Program; 3] =
        [Program::Broker(Broker::NatsServer), Program::Broker(Broker::Mosquitto), Program::Redis];

    /// Of the program and of its package.
    pub(super) fn name(self) -> &'static str {
        match self {
            Program::Broker(broker) => broker.name(),
            Program::Redis => "redis-server",
        }
    }

    pub(super) fn find(self) -> Result<PathBuf, ServerError> {
        in_path(self.name()).ok_or(ServerError::Missing { program: self.name() })
    }

    /// The first line that it says of itself; empty when it is not here.
    pub(super) fn version(self) -> String {
        let option = if self == Program::Broker(Broker::Mosquitto) { "-h" } else { "--version" };
        let said = self.find().ok().and_then(|program| Command::new(program).arg(option).output().ok());
        let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        said.lines().next().unwrap_or_default().to_owned()
    }

    fn command(self, folder: &Path, port: u16) -> io::Result<Command> {
        let mut command = Command::new(self.find().map_err(io::Error::other)?);
        let config = folder.join("config");
        match self {
            Program::Broker(Broker::NatsServer) => {
                fs::write(&config, NATS_CONFIG)?;
                command.arg("--config").arg(config).args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
            }
            Program::Broker(Broker::Mosquitto) => {
                fs::write(&config, format!("listener {port} 127.0.0.1\n{MOSQUITTO_CONFIG}"))?;
                command.arg("-c").arg(config);
            }
            Program::Redis => {
                command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--loglevel", "warning"]);
                command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder);
            }
        }
        Ok(command)
    }
}

/// A running server. Dropped, it is killed: it holds nothing that anybody wants to keep.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// Starts it on these cores and waits until it listens.
    pub(crate) fn start(program: Program, cores: Option<&[usize]>) -> Result<Server, ServerError> {
        program.find()?;
        let mut server =
            Server::spawn(program, cores).map_err(|error| ServerError::Start { program: program.name(), error })?;
        let start = Instant::now();
        while TcpStream::connect(server.address).is_err() {
            if start.elapsed() > PATIENCE || !matches!(server.child.try_wait(), Ok(None)) {
                return Err(ServerError::NotUp { program: program.name(), said: server.said() });
            }
            thread::sleep(POLL);
        }
        Ok(server)
    }

    fn spawn(program: Program, cores: Option<&[usize]>) -> io::Result<Server> {
        let folder = tempfile::Builder::new().prefix("forecourt-peer-").tempdir()?;
        let address = free_address()?;
        let mut command = program.command(folder.path(), address.port())?;
        let log = fs::File::create(log(&folder))?;
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = placement::spawn(&mut command, cores)?;
        Ok(Server { program, child, address, folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        usage::of(self.child.id())
    }

    /// The last of what it wrote.
    fn said(&self) -> String {
        let log = fs::read_to_string(log(&self.folder)).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
        tracing::debug!(program = self.program.name(), "ended");
    }
}

/// For a test of what speaks to it. Without the program the test says so, loudly, and passes; with CI=true it fails.
#[cfg(test)]
pub(super) fn for_test(program: Program) -> Option<Server> {
    match Server::start(program, None) {
        Err(lack @ ServerError::Missing { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {lack}");
            None
        }
        started => Some(started.expect("it is there and starts")),
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// Free now; whoever takes it in between makes the start fail, and the run can be repeated.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
