//! One build in one mode: its processes are started, watched for a while, and ended.

use std::{
    env, io,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    PeersError, PeersOptions,
    broker::{Broker, Outlet},
    outcome::{Mode, Peer, Presence},
    presence::{Keeping, Tally},
    sender::{Progress, Sender, Station},
    server::{Program, Server},
    traffic::Air,
};
use crate::process::{placement, usage};

/// The hidden command of this program that is the consumer.
pub(super) const CONSUMER_COMMAND: &str = "peers-consumer";

pub(super) const WARM_UP: Duration = Duration::from_millis(1500);

pub(super) struct Trial<'a> {
    pub(super) options: &'a PeersOptions,
    pub(super) air: &'a Air,
    pub(super) codes: &'a Path,
    pub(super) broker: Broker,
    pub(super) keeping: Keeping,
    pub(super) mode: Mode,
}

impl Trial<'_> {
    pub(super) async fn run(&self) -> Result<Peer, PeersError> {
        let mut servers = vec![Server::start(Program::Broker(self.broker), self.cores())?];
        if self.keeping.needs_redis() {
            servers.push(Server::start(Program::Redis, self.cores())?);
        }
        let progress = Arc::new(Progress::default());
        let mut consumer = self.consumer(&servers, &progress)?;
        let sender = Sender::start(self.stations(&servers[0]).await?, self.rate(), progress.clone());
        sleep(WARM_UP).await;
        let before = Moment::now(&servers, &consumer, &progress)?;
        sleep(self.options.lasts).await;
        let after = Moment::now(&servers, &consumer, &progress)?;
        sender.stop().await?;
        if consumer.has_ended() {
            return Err(PeersError::ConsumerEnded { broker: self.broker.name() });
        }
        let lost = progress.on_their_way() * super::FRAMES as u64;
        Ok(self.peer(&before, &after, lost))
    }

    /// Where everything runs but the sender.
    fn cores(&self) -> Option<&[usize]> {
        self.options.bench.receiver_cores.as_deref()
    }

    fn peer(&self, before: &Moment, after: &Moment, lost: u64) -> Peer {
        let frames = (after.frames - before.frames) as f64;
        let seconds = (after.at - before.at).as_secs_f64();
        let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Peer {
            name: self.broker.name().into(),
            mode: self.mode,
            presence: if self.keeping.needs_redis() { Presence::Redis } else { Presence::Memory },
            build: self.keeping.build().into(),
            frames_per_second: frames / seconds,
            frames_per_cpu_second: frames / cpu_seconds,
            cores: cpu_seconds / seconds,
            lost,
        }
    }

    fn consumer(&self, servers: &[Server], progress: &Arc<Progress>) -> Result<Consumer, PeersError> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(CONSUMER_COMMAND).arg("--codes").arg(self.codes).stdin(Stdio::null()).stdout(Stdio::piped());
        command.args(["--broker", self.broker.name(), "--keeping", self.keeping.name()]);
        for (server, option) in servers.iter().zip(["--address", "--redis"]) {
            command.arg(option).arg(server.address().to_string());
        }
        let mut consumer = Consumer(placement::spawn(&mut command, self.cores())?);
        let mut said = BufReader::new(consumer.0.stdout.take().expect("its output is piped"));
        let mut ready = String::new();
        said.read_line(&mut ready)?;
        if ready.is_empty() {
            return Err(PeersError::ConsumerEnded { broker: self.broker.name() });
        }
        let progress = progress.clone();
        thread::Builder::new().name("progress".into()).spawn(move || follow(said, &progress))?;
        Ok(consumer)
    }

    async fn stations(&self, broker: &Server) -> Result<Vec<Station>, PeersError> {
        let count = match self.mode {
            Mode::Fat => 1,
            Mode::Many => self.options.senders,
        };
        let mut stations = Vec::with_capacity(count);
        for nth in 0..count {
            let outlet = Outlet::open(self.broker, broker.address(), nth as u32 + 1).await?;
            stations.push(Station { outlet, messages: self.air.messages(nth, count) });
        }
        Ok(stations)
    }

    /// Messages a second of each station.
    fn rate(&self) -> Option<f64> {
        (self.mode == Mode::Many).then_some(self.options.batches_per_second)
    }
}

/// The consumer's process. Dropped, it is killed.
struct Consumer(Child);

impl Consumer {
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // One that has ended by itself already needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps up with what the consumer says until it ends.
fn follow(said: BufReader<ChildStdout>, progress: &Progress) {
    for tally in said.lines().map_while(Result::ok).filter_map(|line| line.parse::<Tally>().ok()) {
        progress.frames.store(tally.frames, Ordering::Relaxed);
        progress.applied.store(tally.messages, Ordering::Relaxed);
    }
}

/// What was applied at a moment, and what it had cost.
struct Moment {
    at: Instant,
    frames: u64,
    cpu: Duration,
}

impl Moment {
    fn now(servers: &[Server], consumer: &Consumer, progress: &Progress) -> io::Result<Moment> {
        let mut cpu = usage::of(consumer.0.id())?.cpu;
        for server in servers {
            cpu += server.usage()?.cpu;
        }
        Ok(Moment { at: Instant::now(), frames: progress.frames.load(Ordering::Relaxed), cpu })
    }
}
