//! Many uplinks at once: how long until all are welcomed, what each takes of memory and CPU while it is held, and how
//! long until all are back when every line breaks at the same moment.
//!
//! Uplinks come back as the product's do: each tries again after a pause that doubles and is never the same for two.

use std::{mem, net::SocketAddr, path::Path, time::Duration};

use forecourt::telemetry;
use futures_util::future::join_all;
use quinn::Endpoint;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    Bench, FloodError, Load,
    cargo::{Cargo, Payload},
    group::{CONNECTIONS_PER_SOCKET, GroupError, client_endpoint},
    link::{Caller, Link},
    load::RECEIVERS,
    receiver::{Received, Receiver},
    sender::Threads,
};
use crate::process::{Usage, usage};

/// The first pause before another try, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// For all uplinks to be there.
const PATIENCE: Duration = Duration::from_secs(180);

/// Batches that each uplink sends after it has come: every vehicle is heard twice in them, and so enters.
const GREETING_ROUNDS: usize = 2;

/// Between the two looks at an engine that only holds its uplinks, and for what they brought to be applied.
const HELD: Duration = Duration::from_secs(3);
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct Config {
    /// Its connections are the uplinks.
    pub load: Load,
    pub bench: Bench,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outcome {
    pub uplinks: usize,
    /// From the first packet to the last welcome, all of them calling at once.
    pub welcomed_seconds: f64,
    pub welcomed_cpu_ms_each: f64,
    pub welcomed_tries: u64,
    /// Cores that the generator kept busy meanwhile: it does the other half of every handshake.
    pub welcomed_generator_cores: f64,
    /// Of the engine, for an uplink that has only said hello.
    pub memory_per_uplink_bytes: u64,
    /// The same with the windows of its station's vehicles.
    pub memory_per_busy_uplink_bytes: u64,
    /// Cores that the engine needs to hold them all.
    pub held_cores: f64,
    /// From the moment at which all lines broke to the last welcome.
    pub back_seconds: f64,
    pub back_cpu_ms_each: f64,
    pub back_tries: u64,
    pub back_generator_cores: f64,
    /// Uplinks that did not come back.
    pub lost_uplinks: usize,
    /// Of what was sent before the break and after all were back.
    pub lost_frames: u64,
    pub memory_max_bytes: u64,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.lost_uplinks == 0 && self.lost_frames == 0
    }
}

/// Runs it. `progress` is told what is going on.
pub async fn run(config: &Config, mut progress: impl FnMut(String)) -> Result<Outcome, FloodError> {
    config.load.check()?;
    let uplinks = config.load.connections;
    let data = config.bench.prepare(config.load.chain())?;
    let threads = Threads::start(config.bench.sender_threads)?;
    let mut engine = config.bench.engine(&data, uplinks).await?;
    let mut crowd = Crowd::gather(&config.load, &data, &threads, engine.address())?;
    let empty = engine.usage()?;

    progress(format!("{uplinks} uplinks call"));
    let welcomed = crowd.call().await?;
    let called = engine.usage()?;
    progress(format!("all are welcomed after {:.1} s", welcomed.seconds));
    let idle = engine.usage()?;
    sleep(HELD).await;
    let held_cores = (engine.usage()? - idle).as_secs_f64() / HELD.as_secs_f64();

    let mut sent = crowd.greet().await?;
    settle(&mut engine, sent).await?;
    let busy = engine.usage()?;
    progress("all lines break".into());
    crowd.cut();
    let back = crowd.call().await?;
    let returned = engine.usage()?;
    progress(format!("{} are back after {:.1} s", back.welcomed, back.seconds));
    sent += crowd.greet().await?;
    let received = settle(&mut engine, sent).await?;
    let end = engine.usage()?;
    crowd.cut();
    if let Receiver::Engine(serve) = engine {
        serve.stop().await?;
    }
    let each = |bytes: u64| bytes / uplinks as u64;
    let cpu_ms_each = |after: Usage, before| (after - before).as_secs_f64() * 1e3 / uplinks as f64;
    Ok(Outcome {
        uplinks,
        welcomed_seconds: welcomed.seconds,
        welcomed_cpu_ms_each: cpu_ms_each(called, empty),
        welcomed_tries: welcomed.tries,
        welcomed_generator_cores: welcomed.generator_cores,
        memory_per_uplink_bytes: each(called.resident_bytes.saturating_sub(empty.resident_bytes)),
        memory_per_busy_uplink_bytes: each(busy.resident_bytes.saturating_sub(empty.resident_bytes)),
        held_cores,
        back_seconds: back.seconds,
        back_cpu_ms_each: cpu_ms_each(returned, busy),
        back_tries: back.tries,
        back_generator_cores: back.generator_cores,
        lost_uplinks: uplinks - back.welcomed,
        lost_frames: sent.saturating_sub(received.frames()),
        memory_max_bytes: end.resident_bytes_max,
    })
}

/// Every uplink calls once, says who stands on its forecourt, and goes when the engine has read that; the answer is how
/// many frames that was.
pub async fn visit(load: &Load, data: &Path, threads: &Threads, engine: &mut Receiver) -> Result<u64, FloodError> {
    let mut crowd = Crowd::gather(load, data, threads, engine.address())?;
    crowd.call().await?;
    let frames = crowd.greet().await?;
    settle(engine, frames).await?;
    crowd.cut();
    Ok(frames)
}

/// Waits until the engine has applied as many frames, or no more come.
async fn settle(engine: &mut Receiver, frames: u64) -> Result<Received, FloodError> {
    let (mut last, mut changed) = (engine.received().await?, Instant::now());
    while last.frames() < frames && changed.elapsed() < SETTLED {
        sleep(Duration::from_millis(50)).await;
        let received = engine.received().await?;
        if received != last {
            (last, changed) = (received, Instant::now());
        }
    }
    // The vehicles' registrations are still looked up.
    sleep(SETTLED).await;
    Ok(last)
}

/// How a call of all went.
struct Called {
    seconds: f64,
    tries: u64,
    welcomed: usize,
    generator_cores: f64,
}

/// All uplinks, each thread with its share.
struct Crowd {
    shares: Vec<(Handle, Vec<Member>)>,
}

struct Member {
    caller: Caller,
    endpoint: Endpoint,
    server: SocketAddr,
    cargo: Cargo,
    /// Batches of a round: all vehicles are heard in it.
    round: usize,
    link: Option<Link>,
    has_sent: bool,
}

/// What all are to do at once.
#[derive(Clone, Copy)]
enum Act {
    /// Connect, and try again until this moment.
    Call(Instant),
    /// Send what the station hears.
    Greet,
}

impl Crowd {
    fn gather(load: &Load, data: &Path, threads: &Threads, server: SocketAddr) -> Result<Crowd, FloodError> {
        let shares = threads.handles().len();
        let mut crowd = Crowd { shares: Vec::new() };
        for (share, thread) in threads.handles().iter().enumerate() {
            // The sockets' tasks run on the thread of those who share them.
            let _inside = thread.enter();
            let mut members = Vec::new();
            let mut endpoint = None;
            for (nth, index) in (share..load.connections).step_by(shares).enumerate() {
                if nth % CONNECTIONS_PER_SOCKET == 0 {
                    endpoint = Some(client_endpoint(share + nth / CONNECTIONS_PER_SOCKET * shares)?);
                }
                let endpoint = endpoint.clone().expect("the first of them made one");
                members.push(Member::new(load, data, index, endpoint, server)?);
            }
            crowd.shares.push((thread.clone(), members));
        }
        Ok(crowd)
    }

    /// All call at once, and again until they are welcomed.
    async fn call(&mut self) -> Result<Called, FloodError> {
        let (begun, before) = (Instant::now(), usage::of_self()?);
        let tries = self.all(Act::Call(begun + PATIENCE)).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let generator_cores = (usage::of_self()? - before).as_secs_f64() / seconds;
        let welcomed = self.shares.iter().flat_map(|(_, members)| members).filter(|member| member.link.is_some());
        Ok(Called { seconds, tries, welcomed: welcomed.count(), generator_cores })
    }

    /// All send what their station hears; the answer is how many frames that were.
    async fn greet(&mut self) -> Result<u64, FloodError> {
        self.all(Act::Greet).await
    }

    async fn all(&mut self, act: Act) -> Result<u64, FloodError> {
        let shares = mem::take(&mut self.shares).into_iter();
        let tasks: Vec<_> = shares
            .map(|(thread, mut members)| {
                let acting = async move {
                    let sum: u64 = join_all(members.iter_mut().map(|member| member.act(act))).await.into_iter().sum();
                    (members, sum)
                };
                (thread.clone(), thread.spawn(acting))
            })
            .collect();
        let mut total = 0;
        for (thread, task) in tasks {
            let (members, sum) = task.await.map_err(|_| GroupError::Gone)?;
            self.shares.push((thread, members));
            total += sum;
        }
        Ok(total)
    }

    fn cut(&mut self) {
        for (_, members) in &mut self.shares {
            members.iter_mut().filter_map(|member| member.link.take()).for_each(Link::cut);
        }
    }
}

impl Member {
    fn new(
        load: &Load,
        data: &Path,
        index: usize,
        endpoint: Endpoint,
        server: SocketAddr,
    ) -> Result<Member, FloodError> {
        Ok(Member {
            caller: Caller::new(data, index, RECEIVERS)?,
            endpoint,
            server,
            cargo: load.cargo(index, false, telemetry::now()),
            round: load.batches_per_round(),
            link: None,
            has_sent: false,
        })
    }

    async fn act(&mut self, act: Act) -> u64 {
        match act {
            Act::Call(until) => self.call(until).await,
            Act::Greet => self.greet().await,
        }
    }

    /// Calls until it is welcomed; the answer is how often it had to.
    async fn call(&mut self, until: Instant) -> u64 {
        let mut pause = PAUSE_MIN;
        for tries in 1.. {
            match self.caller.call(&self.endpoint, self.server).await {
                Ok(link) => {
                    self.link = Some(link);
                    return tries;
                }
                Err(_) if Instant::now() > until => return tries,
                // Refused for now, or lost in the crowd.
                Err(_) => sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        unreachable!("the tries end with a welcome or with patience")
    }

    /// Sends some rounds; the answer is how many frames that were.
    async fn greet(&mut self) -> u64 {
        let Some(link) = &mut self.link else { return 0 };
        let now = telemetry::now();
        if mem::replace(&mut self.has_sent, true) {
            self.cargo.batches.reconnect(now);
        }
        let (mut bytes, batches) = (Vec::new(), GREETING_ROUNDS * self.round);
        (0..batches).for_each(|_| self.cargo.write(Payload::Batches, now, &mut bytes));
        // What could not be sent is missed at the other end.
        let _ = link.batches.write_all(&bytes).await;
        (batches * self.cargo.frames_per_batch()) as u64
    }
}
