//! `forecourt replay`: recorded logs through the same codebook and presence as the running engine's, offline and under
//! the logs' own clock.
//!
//! Everything that has to do with time is the capture's: the codes that are valid, the silence that makes a car fade,
//! and the end, after which nothing is known. So the same files give the same answer each time.

mod devices;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::capture::{CaptureError, Heard, Source, Tally, merge, parse_source, parse_uuid};
use crate::engine::{
    clock::ClockOffset,
    codebook::{Builder, Codebook},
    id::{DeviceId, ReceiverId},
    presence::{Change, Policy, Presence, State},
    time::{Slot, SlotLength, UnixMs},
};
use devices::Device;
pub use devices::DevicesError;

/// Run recorded Bluetooth logs through the engine, offline, and print who came and went.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The dongles to look for: a CSV file with the columns device_id, scheme and key_hex, as `import devices` takes it.
    #[arg(long, value_name = "FILE.csv")]
    pub devices: PathBuf,
    /// A recorded log (btsnoop, H4) and the number of the receiver that it stands for; once for each.
    #[arg(long = "receiver", value_name = "N=FILE", required = true, value_parser = parse_source)]
    pub receivers: Vec<Source>,
    /// The 16-bit UUID whose service data begins with the code.
    #[arg(long, value_name = "UUID", value_parser = parse_uuid)]
    pub service_uuid: u16,
    /// Smoothed RSSI at which a dongle has entered, instead of the engine's default.
    #[arg(long, value_name = "DBM", allow_negative_numbers = true)]
    pub rssi_min: Option<i8>,
    /// Seconds for which one code is valid.
    #[arg(long, value_name = "S", default_value = "300", value_parser = parse_slot)]
    pub slot_seconds: SlotLength,
    /// Print JSON lines instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// What a replay came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub tally: Tally,
    /// Frames whose code belongs to a dongle.
    pub resolved: u64,
    /// Frames whose code belongs to nobody.
    pub unknown: u64,
    /// Times that a dongle entered.
    pub entered: u64,
    /// Times that one left.
    pub left: u64,
}

/// Replays, and prints to standard output; refused lines of the device file go to standard error.
pub fn run(args: &Args) -> Result<(), Error> {
    let (devices, refused) = devices::read(&args.devices)?;
    for refusal in &refused {
        eprintln!("{}: {refusal}", args.devices.display());
    }
    let (heard, tally) = merge(&args.receivers, args.service_uuid)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut replay = Replay::new(devices, args.slot_seconds, policy(args.rssi_min));
    replay.summary.tally = tally;
    for heard in heard {
        for change in replay.take(heard) {
            print_change(&mut out, change, args.json)?;
        }
    }
    print_summary(&mut out, replay.summary, args.json)?;
    Ok(out.flush()?)
}

fn policy(rssi_min: Option<i8>) -> Policy {
    let default_enter_dbm = rssi_min.unwrap_or(Policy::DESIGN.default_enter_dbm);
    Policy { default_enter_dbm, ..Policy::DESIGN }
}

fn parse_slot(text: &str) -> Result<SlotLength, String> {
    let seconds = text.parse().ok().and_then(SlotLength::from_seconds);
    seconds.ok_or_else(|| format!("{text:?} is not a number of seconds from 15 to 900"))
}

/// The engine's part of one station, as it is when its frames come from files.
struct Replay {
    devices: Vec<Device>,
    slot_length: SlotLength,
    codebook: Codebook,
    /// The slot that the codebook is built for.
    slot: Option<Slot>,
    presence: Presence,
    changes: Vec<Change>,
    summary: Summary,
}

impl Replay {
    fn new(devices: Vec<Device>, slot_length: SlotLength, policy: Policy) -> Replay {
        Replay {
            devices,
            slot_length,
            codebook: Codebook::empty(),
            slot: None,
            presence: Presence::new(policy),
            changes: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Takes in one frame, later than all before it, and gives what changed up to it.
    fn take(&mut self, Heard { receiver, frame }: Heard) -> impl Iterator<Item = Change> + '_ {
        self.presence.expire(frame.at, &mut self.changes);
        self.keep_codebook(frame.at);
        match self.codebook.find(&frame.code) {
            Some(hit) => {
                self.summary.resolved += 1;
                self.presence.observe(hit.device, receiver, frame.rssi, frame.at, frame.at, &mut self.changes);
            }
            None => self.summary.unknown += 1,
        }
        for change in &self.changes {
            self.summary.entered += u64::from(change.state == State::Entered);
            self.summary.left += u64::from(change.state == State::Left);
        }
        self.changes.drain(..)
    }

    /// A new slot has other codes.
    fn keep_codebook(&mut self, at: UnixMs) {
        let slot = self.slot_length.slot_at(at);
        if self.slot == Some(slot) {
            return;
        }
        self.slot = Some(slot);
        let mut builder = Builder::new(self.slot_length, at, self.devices.len());
        for device in &self.devices {
            // Two dongles with one code: the first of the file has it, as it would in the engine.
            let _ = builder.add(device.id, &device.secret, ClockOffset::default());
        }
        self.codebook = builder.finish(slot.0);
    }
}

/// A presence change as it is printed. `at` is in milliseconds since the Unix epoch.
#[derive(serde::Serialize)]
struct Line {
    at: UnixMs,
    event: State,
    device_id: DeviceId,
    receiver: ReceiverId,
}

fn print_change(out: &mut impl Write, change: Change, json: bool) -> io::Result<()> {
    let line = Line { at: change.at, event: change.state, device_id: change.device, receiver: change.receiver };
    if json {
        return print_json(out, &line);
    }
    writeln!(out, "{} device {} {:?}, receiver {}", line.at, line.device_id, line.event, line.receiver)
}

fn print_summary(out: &mut impl Write, summary: Summary, json: bool) -> io::Result<()> {
    if json {
        return print_json(out, &serde_json::json!({ "summary": summary }));
    }
    let Summary { tally, resolved, unknown, entered, left } = summary;
    writeln!(
        out,
        "{} records ({} damaged), {} advertisements, {} frames: {resolved} resolved, {unknown} unknown; {entered} \
         entered, {left} left",
        tally.records, tally.damaged, tally.advertisements, tally.frames,
    )
}

fn print_json(out: &mut impl Write, line: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::code::{Code, Secret},
        uplink::capture::Frame,
    };

    const AT: UnixMs = UnixMs(1_593_000_000_000);
    const CODE: Code = Code([7; 16]);

    fn heard(code: Code, after_ms: u64) -> Heard {
        Heard { receiver: ReceiverId(1), frame: Frame { at: AT.plus(after_ms), code, rssi: -60 } }
    }

    fn replay(secret: Secret) -> Replay {
        let devices = vec![Device { id: DeviceId(5), secret }];
        Replay::new(devices, SlotLength::DEFAULT, policy(None))
    }

    fn events(replay: &mut Replay, frames: &[Heard]) -> Vec<State> {
        frames.iter().flat_map(|&heard| replay.take(heard).map(|change| change.state).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_known_code_enters_and_leaves_under_the_clock_of_the_log() {
        let mut replay = replay(Secret::Fixed { code: CODE });
        let frames = [heard(CODE, 0), heard(CODE, 500), heard(Code([8; 16]), 40_000), heard(Code([8; 16]), 200_000)];
        assert_eq!(events(&mut replay, &frames), [State::Entered, State::Fading, State::Left]);
        let expected = Summary { resolved: 2, unknown: 2, entered: 1, left: 1, ..Summary::default() };
        assert_eq!(replay.summary, expected);
    }

    #[test]
    fn an_unknown_code_opens_no_window() {
        let mut replay = replay(Secret::Fixed { code: CODE });
        let frames: Vec<_> = (0..100).map(|after| heard(Code([9; 16]), after)).collect();
        assert_eq!(events(&mut replay, &frames), []);
        assert!(replay.presence.is_empty());
    }

    #[test]
    fn codes_that_rotate_are_known_in_every_slot() {
        let secret = Secret::from_root(&[3; 32]);
        let mut replay = replay(secret.clone());
        for slot in 0..10 {
            let at = AT.plus(slot * 300_000);
            let code = secret.code(SlotLength::DEFAULT.slot_at(at));
            let _ = replay.take(heard(code, slot * 300_000)).count();
        }
        assert_eq!((replay.summary.resolved, replay.summary.unknown), (10, 0));
    }

    #[test]
    fn a_threshold_above_what_was_heard_keeps_everybody_out() {
        let devices = vec![Device { id: DeviceId(5), secret: Secret::Fixed { code: CODE } }];
        let mut replay = Replay::new(devices, SlotLength::DEFAULT, policy(Some(-50)));
        assert_eq!(events(&mut replay, &[heard(CODE, 0), heard(CODE, 500)]), []);
    }

    #[test]
    fn lines_are_json_of_the_documented_shape() {
        let mut out = Vec::new();
        let change = Change { at: AT, device: DeviceId(5), state: State::Entered, receiver: ReceiverId(1) };
        print_change(&mut out, change, true).unwrap();
        print_summary(&mut out, Summary::default(), true).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = serde_json::json!({"at": AT.0, "event": "entered", "device_id": 5, "receiver": 1});
        assert_eq!(lines[0], expected);
        for key in ["records", "advertisements", "frames", "resolved", "unknown", "entered", "left"] {
            assert_eq!(lines[1]["summary"][key], 0, "{key}");
        }
    }
}
