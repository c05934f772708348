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

use super::{
    PeersError, PeersOptions,
    broker::{Broker, Link},
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
const POLL: Duration = Duration::from_millis(10);

/// Nothing arrived for so long: nothing more will.
const STILLNESS: Duration = Duration::from_secs(2);

pub(super) struct Trial<'a> {
    pub(super) options: &'a PeersOptions,
    pub(super) air: &'a Air,
    pub(super) codes: &'a Path,
    /// Where everything runs but the sender.
    pub(super) cores: Option<&'a [usize]>,
    pub(super) broker: Broker,
    pub(super) keeping: Keeping,
    pub(super) mode: Mode,
}

impl Trial<'_> {
    pub(super) fn run(&self) -> Result<Peer, PeersError> {
        let mut servers = vec![Server::start(Program::Broker(self.broker), self.cores)?];
        if self.keeping.needs_redis() {
            servers.push(Server::start(Program::Redis, self.cores)?);
        }
        let progress = Arc::new(Progress::default());
        let mut consumer = self.consumer(&servers, &progress)?;
        let sender = self.sender(&servers[0], &progress)?;
        thread::sleep(WARM_UP);
        let before = Moment::now(&servers, &consumer, &progress)?;
        thread::sleep(self.options.lasts);
        let after = Moment::now(&servers, &consumer, &progress)?;
        sender.stop()?;
        drain(&progress);
        if consumer.has_ended() {
            return Err(PeersError::ConsumerEnded { broker: self.broker.name() });
        }
        let lost = progress.on_their_way() * super::FRAMES as u64;
        Ok(self.peer(&before, &after, lost))
    }

    fn peer(&self, before: &Moment, after: &Moment, lost: u64) -> Peer {
        let frames = (after.frames - before.frames) as f64;
        Peer {
            name: self.broker.name().into(),
            mode: self.mode,
            presence: if self.keeping.needs_redis() { Presence::Redis } else { Presence::Memory },
            build: self.keeping.build().into(),
            frames_per_second: frames / (after.at - before.at).as_secs_f64(),
            frames_per_cpu_second: frames / after.cpu.saturating_sub(before.cpu).as_secs_f64(),
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
        let mut consumer = Consumer(placement::spawn(&mut command, self.cores)?);
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

    fn sender(&self, broker: &Server, progress: &Arc<Progress>) -> Result<Sender, PeersError> {
        let open = |station: usize| Link::open(self.broker, broker.address(), &format!("station-{station}"));
        let progress = progress.clone();
        Ok(match self.mode {
            Mode::Fat => Sender::fat(open(0)?.into_stream(), &self.air.messages(self.broker, 0, 1), progress)?,
            Mode::Many => {
                let count = self.options.senders;
                let station = |station| {
                    let messages = self.air.messages(self.broker, station, count);
                    Ok(Station { stream: open(station)?.into_stream(), messages })
                };
                let stations = (0..count).map(station).collect::<Result<_, PeersError>>()?;
                Sender::many(stations, self.options.batches_per_second, progress)?
            }
        })
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

/// Waits until all that was sent is applied, or nothing moves any more.
fn drain(progress: &Progress) {
    let (mut left, mut since) = (progress.on_their_way(), Instant::now());
    while left > 0 && since.elapsed() < STILLNESS {
        thread::sleep(POLL);
        let now = progress.on_their_way();
        if now != left {
            (left, since) = (now, Instant::now());
        }
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
