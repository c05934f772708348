//! The receiving side of a run, as the generator sees it: the sink's process or the engine's, and what each says that
//! it has received.

use std::{
    env, io,
    io::{BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::sink::SinkRuntime;
use crate::process::{Metrics, Serve, ServeError, Usage, placement, usage};

#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    #[error("the sink's process: {0}")]
    Sink(#[from] io::Error),
    #[error("the sink said {0:?}, which is no number and no address")]
    SinkAnswer(String),
    #[error(transparent)]
    Engine(#[from] ServeError),
}

/// What has arrived, by the receiver's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Of the batch streams. Only the sink counts them.
    pub bytes: u64,
    /// Only the engine counts them, and what became of them.
    pub batches: u64,
    pub resolved: u64,
    pub unknown: u64,
    pub dropped: u64,
}

impl Received {
    fn of_engine(metrics: &Metrics) -> Received {
        const FRAMES: &str = "forecourt_station_frames_total";
        Received {
            bytes: 0,
            batches: metrics.count("forecourt_station_batches_total", &[]),
            resolved: metrics.count(FRAMES, &[("code", "resolved")]),
            unknown: metrics.count(FRAMES, &[("code", "unknown")]),
            dropped: metrics.count("forecourt_station_frames_dropped_total", &[]),
        }
    }

    /// Every frame of a batch that was applied is one or the other; those that were dropped are among the resolved.
    pub fn frames(&self) -> u64 {
        self.resolved + self.unknown
    }
}

/// The sink's process. It ends when this is dropped.
#[derive(Debug)]
pub struct SinkProcess {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl SinkProcess {
    /// Starts our own program as a sink on the certificates of this data folder.
    pub fn start(data: &Path, runtime: SinkRuntime, cores: Option<&[usize]>) -> Result<SinkProcess, ReceiverError> {
        let runtime = match runtime {
            SinkRuntime::Current => "current",
            SinkRuntime::Multi => "multi",
        };
        let mut command = Command::new(env::current_exe()?);
        command.arg("sink").arg("--data").arg(data).args(["--runtime", runtime]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = placement::spawn(&mut command, cores)?;
        let ask = child.stdin.take().expect("its standard input is piped");
        let mut answers = BufReader::new(child.stdout.take().expect("its standard output is piped"));
        let address = answer(&mut answers)?;
        Ok(SinkProcess { child, ask, answers, address })
    }

    fn received(&mut self) -> Result<Received, ReceiverError> {
        self.ask.write_all(b"\n")?;
        Ok(Received { bytes: answer(&mut self.answers)?, ..Received::default() })
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        // One that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer<T: std::str::FromStr>(answers: &mut impl io::BufRead) -> Result<T, ReceiverError> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    line.trim().parse().map_err(|_| ReceiverError::SinkAnswer(line))
}

#[derive(Debug)]
pub enum Receiver {
    Sink(SinkProcess),
    Engine(Serve),
}

impl Receiver {
    pub fn address(&self) -> SocketAddr {
        match self {
            Receiver::Sink(sink) => sink.address,
            Receiver::Engine(serve) => serve.addresses().ingest,
        }
    }

    pub fn usage(&self) -> io::Result<Usage> {
        match self {
            Receiver::Sink(sink) => usage::of(sink.child.id()),
            Receiver::Engine(serve) => serve.usage(),
        }
    }

    pub async fn received(&mut self) -> Result<Received, ReceiverError> {
        match self {
            Receiver::Sink(sink) => sink.received(),
            Receiver::Engine(serve) => Ok(Received::of_engine(&serve.metrics().await?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_that_were_resolved_and_those_that_were_not() {
        let text = "forecourt_station_frames_total{code=\"resolved\"} 90\n\
            forecourt_station_frames_total{code=\"unknown\"} 10\n\
            forecourt_station_frames_dropped_total{reason=\"stale\"} 5\nforecourt_station_batches_total 4\n";
        let received = Received::of_engine(&Metrics::parse(text));
        assert_eq!((received.frames(), received.batches, received.dropped), (100, 4, 5));
    }
}
