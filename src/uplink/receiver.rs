//! `forecourt receiver`: plays recorded logs as live receivers of one station, their times moved to now.
//!
//! The distance between two hearings is that of the log divided by the speed, and a hearing carries the moment at
//! which it was due, not the one at which a busy machine came to it: at speed 1 the server sees the same intervals
//! that an offline replay sees.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Ended, FinalStats, Identity, IdentityError, Uplink, UplinkConfig, UplinkHandle,
    capture::{CaptureError, Heard, Source, Tally, merge, parse_receiver, parse_source, parse_uuid},
};
use crate::{
    engine::{
        batch::Hearing,
        control::{Receiver, Role},
        id::{PumpNumber, ReceiverId, StationId},
        time::UnixMs,
    },
    telemetry,
};

/// After the last frame: the time that the server has to acknowledge what is left.
const FINISH_WITHIN: Duration = Duration::from_secs(15);

/// Play recorded Bluetooth logs to a server as if receivers heard them now.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A recorded log (btsnoop, H4), heard by the `--receiver` that is given as a number.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// The server: host and port.
    #[arg(long, value_name = "ADDR")]
    pub server: String,
    /// The name in the server's certificate.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub server_name: String,
    /// The station whose uplink this is. It has one: another one running is replaced.
    #[arg(long, value_name = "S")]
    pub station: StationId,
    /// The receiver's number, 0 to 31; or number and log of one receiver of several, once for each.
    #[arg(long = "receiver", value_name = "N|N=FILE", required = true, value_parser = parse_played)]
    pub receivers: Vec<Played>,
    /// The 16-bit UUID whose service data begins with the code.
    #[arg(long, value_name = "UUID", value_parser = parse_uuid)]
    pub service_uuid: u16,
    /// How many times faster than recorded.
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_speed)]
    pub speed: f64,
    /// Where the receivers hang: entrance, exit, canopy or pump:N.
    #[arg(long, value_name = "ROLE", default_value = "canopy", value_parser = parse_role)]
    pub role: Role,
    /// The folder with ca.pem, station-S.pem and station-S.key; without it that of the data folder.
    #[arg(long, value_name = "FOLDER")]
    pub pki: Option<PathBuf>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A receiver to play: by its number alone, or with its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Played {
    Number(ReceiverId),
    Log(Source),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("each receiver needs a log: --capture FILE --receiver N, or --receiver N=FILE for each")]
    Sources,
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("{server}: no such server: {source}")]
    Server { server: String, source: io::Error },
    #[error("the station's identity: {0}")]
    Identity(#[from] IdentityError),
    #[error("cannot open a socket: {0}")]
    Socket(io::Error),
    #[error("cannot print: {0}")]
    Print(io::Error),
    #[error("{waiting} of {sent} frames are not acknowledged: {reason}")]
    Unacknowledged { waiting: u64, sent: u64, reason: String },
}

/// What playing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub tally: Tally,
    /// Frames handed to the uplink: all, unless it was interrupted.
    pub sent: u64,
    pub acknowledged: u64,
    pub dropped: u64,
    pub batches: u64,
    pub connects: u64,
}

/// Plays to the end, or to Ctrl-C, and prints the summary. `pki` is the folder to use when the arguments name none.
/// An error when not every frame was acknowledged.
pub async fn run(args: &Args, pki: &Path) -> Result<(), Error> {
    let sources = sources(args)?;
    let (heard, tally) = merge(&sources, args.service_uuid)?;
    let uplink = start(args, &sources, args.pki.as_deref().unwrap_or(pki)).await?;
    let sent = play(&uplink, &heard, args.speed).await;
    let last_end = uplink.last_end();
    let done = uplink.finish(FINISH_WITHIN).await;
    print(&summarise(tally, sent, done), args.json).map_err(Error::Print)?;
    if done.settled && done.stats.dropped == 0 {
        return Ok(());
    }
    let reason = last_end.map_or_else(|| "no answer in time".into(), |ended: Ended| ended.to_string());
    Err(Error::Unacknowledged { waiting: sent.saturating_sub(done.stats.acknowledged), sent, reason })
}

fn sources(args: &Args) -> Result<Vec<Source>, Error> {
    let source = |played: &Played| match (played, &args.capture) {
        (Played::Log(source), _) => Ok(source.clone()),
        (Played::Number(receiver), Some(path)) => Ok(Source { receiver: *receiver, path: path.clone() }),
        (Played::Number(_), None) => Err(Error::Sources),
    };
    let numbers = args.receivers.iter().filter(|played| matches!(played, Played::Number(_))).count();
    if numbers != usize::from(args.capture.is_some()) {
        return Err(Error::Sources);
    }
    args.receivers.iter().map(source).collect()
}

async fn start(args: &Args, sources: &[Source], pki: &Path) -> Result<UplinkHandle, Error> {
    let server = resolve(&args.server).await?;
    let own = |extension: &str| pki.join(format!("station-{}.{extension}", args.station));
    let identity = Identity::read(&pki.join("ca.pem"), &own("pem"), &own("key"))?;
    let mut ids: Vec<_> = sources.iter().map(|source| source.receiver).collect();
    ids.sort_unstable();
    ids.dedup();
    let receivers = ids.into_iter().map(|id| Receiver { id, role: args.role, enter_dbm: None }).collect();
    let config = UplinkConfig::new(server, args.station, receivers, identity);
    Uplink::start(UplinkConfig { server_name: args.server_name.clone(), ..config }).map_err(Error::Socket)
}

async fn resolve(server: &str) -> Result<SocketAddr, Error> {
    let failed = |source| Error::Server { server: server.into(), source };
    let mut found = tokio::net::lookup_host(server).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// How many frames were handed on before the end or the interruption.
async fn play(uplink: &UplinkHandle, heard: &[Heard], speed: f64) -> u64 {
    let Some(first) = heard.first() else { return 0 };
    let (began, began_at) = (Instant::now(), telemetry::now());
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    for (count, heard) in heard.iter().enumerate() {
        let after = Duration::from_millis(heard.frame.at.since(first.frame.at)).div_f64(speed);
        tokio::select! {
            biased;
            () = sleep_until(began + after) => {}
            _ = &mut interrupted => return count as u64,
        }
        uplink.hear(hearing(heard, began_at.plus(after.as_millis() as u64)));
    }
    heard.len() as u64
}

fn hearing(heard: &Heard, at: UnixMs) -> Hearing {
    Hearing { code: heard.frame.code, receiver: heard.receiver, rssi: heard.frame.rssi, at }
}

fn summarise(tally: Tally, sent: u64, done: FinalStats) -> Summary {
    let FinalStats { stats, .. } = done;
    Summary {
        tally,
        sent,
        acknowledged: stats.acknowledged,
        dropped: stats.dropped,
        batches: stats.batches_acknowledged,
        connects: stats.connects,
    }
}

fn print(summary: &Summary, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &serde_json::json!({ "summary": summary }))?;
        return writeln!(out);
    }
    let Summary { tally, sent, acknowledged, dropped, batches, connects } = summary;
    writeln!(
        out,
        "{} records ({} damaged), {} advertisements, {} frames: {sent} sent, {acknowledged} acknowledged in {batches} \
         batches over {connects} connections, {dropped} dropped",
        tally.records, tally.damaged, tally.advertisements, tally.frames,
    )
}

fn parse_played(text: &str) -> Result<Played, String> {
    if text.contains('=') { parse_source(text).map(Played::Log) } else { parse_receiver(text).map(Played::Number) }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| (0.001..=100_000.0).contains(speed));
    speed.ok_or_else(|| format!("{text:?} is not a factor from 0.001 to 100000"))
}

fn parse_role(text: &str) -> Result<Role, String> {
    match text.split_once(':') {
        None if text == "entrance" => Ok(Role::Entrance),
        None if text == "exit" => Ok(Role::Exit),
        None if text == "canopy" => Ok(Role::Canopy),
        Some(("pump", number)) => {
            number.parse().map(|number: PumpNumber| Role::Pump(number)).map_err(|error| format!("{error}"))
        }
        _ => Err(format!("{text:?} is none of entrance, exit, canopy, pump:N")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Result<Vec<Source>, Error> {
        let fixed = "receiver --server localhost:4433 --station 3 --service-uuid fd6f";
        sources(&Cli::try_parse_from(fixed.split(' ').chain(line.split(' '))).unwrap().args)
    }

    fn source(receiver: u8, path: &str) -> Source {
        Source { receiver: ReceiverId(receiver), path: path.into() }
    }

    #[test]
    fn one_receiver_plays_the_capture_and_several_name_their_own() {
        assert_eq!(parsed("--capture a --receiver 2").unwrap(), [source(2, "a")]);
        assert_eq!(parsed("--receiver 1=a --receiver 2=b").unwrap(), [source(1, "a"), source(2, "b")]);
    }

    #[test]
    fn a_log_or_a_receiver_too_many_is_refused() {
        for wrong in ["--receiver 1", "--capture a --receiver 1 --receiver 2", "--capture a --receiver 1=b"] {
            assert!(matches!(parsed(wrong), Err(Error::Sources)), "{wrong}");
        }
    }

    #[test]
    fn roles_and_speeds_are_read_within_their_bounds() {
        assert_eq!(parse_role("pump:4"), Ok(Role::Pump(PumpNumber(4))));
        assert_eq!(parse_role("entrance"), Ok(Role::Entrance));
        assert!(parse_role("pump").is_err() && parse_role("pump:x").is_err() && parse_role("roof").is_err());
        assert_eq!(parse_speed("2.5"), Ok(2.5));
        for wrong in ["0", "-1", "nan", "inf", "fast"] {
            assert!(parse_speed(wrong).is_err(), "{wrong}");
        }
    }
}
