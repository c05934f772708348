//! `loadtest rolls`: whether frames wait while the codebook rolls.

use clap::Args;
use forecourt::engine::time::SlotLength;
use loadtest::{
    flood::{
        Load,
        dongles::Dongles,
        rolls::{self, Config, Outcome},
    },
    report::{Bound, Verdict},
};

use crate::{
    Held, Ran,
    bench::{BenchArguments, none, report_of},
};

/// A roll is to last an eighth of its slot at most: 250 ns a dongle, half of a core, and four times as long without one.
const SLOT_NS_PER_DEVICE: u64 = 2_000;

/// How long batches take while the codebook rolls, and while it does not.
///
/// A real engine with a short slot on one core, the generator on the other. Each batch is timed from when it was due to
/// its own acknowledgement (`ingest.ack_batches` is 1), and the engine's metrics say when it rolled. The first run with a number of
/// dongles imports them and says how fast that was. A dongle takes 470 bytes of the disk, and 95 more during the
/// import; the engine keeps it in 140 bytes of memory: 17 GB and 4.5 GB for 30 million.
#[derive(Debug, Args)]
pub(crate) struct RollsArguments {
    #[arg(long, default_value_t = 1_000_000)]
    devices: u64,
    /// Ends after so many rolls.
    #[arg(long, default_value_t = 10)]
    rolls: u32,
    /// 15 to 900; without it, as short as leaves most of the run without a roll.
    #[arg(long, value_parser = clap::value_parser!(u32).range(15..=900))]
    slot_seconds: Option<u32>,
    /// Uplinks, each of a station of its own.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    #[arg(long, default_value_t = 25)]
    frames_per_batch: usize,
    /// Of each connection, by the clock.
    #[arg(long, default_value_t = 10.0)]
    batches_per_second: f64,
    /// On each forecourt at a time.
    #[arg(long, default_value_t = 40)]
    vehicles: usize,
    /// Seconds after which one vehicle of each station makes way for another. Every new one's clock is learned and
    /// saved: at 25 a thousand stations have 40 a second, ten times what a large chain has.
    #[arg(long, default_value_t = 25.0)]
    turnover_every: f64,
    /// Clocks of cars are ahead by up to so many seconds, so that the stations' codes do not change all at once; without
    /// it, half a slot. At 0 all change with the slot, when the roll begins, and the generator encodes them all at once.
    #[arg(long, value_name = "SECONDS")]
    clocks_ahead: Option<f64>,
    /// The p99 beside a roll may be so many times the one without; 0 judges nothing but losses.
    #[arg(long, default_value_t = 1.2)]
    ratio_max: f64,
    #[command(flatten)]
    bench: BenchArguments,
}

pub(crate) fn run(arguments: &RollsArguments) -> Ran {
    let config = Config::new(arguments.load(), arguments.rolls, arguments.bench.bench());
    let measured = arguments.bench.block_on(rolls::run(&config, |line| eprintln!("{line}")))??;
    let mut report =
        report_of("Frames beside a roll of the codebook", &config.load, config.bench(), &measured.outcome)?;
    report.latencies = measured.latencies.into();
    report.thresholds = arguments.thresholds(&measured.outcome);
    let held = Held(report.passed());
    arguments.bench.tell(report)?;
    Ok(held)
}

impl RollsArguments {
    fn load(&self) -> Load {
        Load {
            connections: self.connections,
            stations: self.connections,
            frames_per_batch: self.frames_per_batch,
            batches_per_second: Some(self.batches_per_second),
            vehicles: self.vehicles,
            turnover_s: Some(self.turnover_every).filter(|every| *every > 0.0),
            codes_s: None,
            clocks_s: self.clocks_ahead.unwrap_or(f64::from(self.slot().seconds()) / 2.0),
            unknown_share: 0.0,
            dongles: Dongles { seed: self.bench.seed, count: self.devices },
            slot: self.slot(),
        }
    }

    fn slot(&self) -> SlotLength {
        let fitting = (self.devices * SLOT_NS_PER_DEVICE / 1_000_000_000).clamp(15, 900) as u32;
        SlotLength::from_seconds(self.slot_seconds.unwrap_or(fitting)).expect("15 to 900 s are slots")
    }

    fn thresholds(&self, outcome: &Outcome) -> Vec<Verdict> {
        let ratio = outcome.ingest_p99_in_roll_ratio.unwrap_or(f64::NAN);
        let judged = (self.ratio_max > 0.0)
            .then(|| Verdict::new("ingest_p99_in_roll_ratio", Bound::AtMost(self.ratio_max), ratio));
        let rolls = Verdict::new("rolls_seen", Bound::AtLeast(f64::from(self.rolls)), outcome.rolls_seen as f64);
        let lost = none("lost", outcome.lost);
        let unacknowledged = none("unacknowledged_batches", outcome.unacknowledged_batches);
        [lost, unacknowledged, none("refused_frames", outcome.refused_frames), rolls]
            .into_iter()
            .chain(judged)
            .collect()
    }
}
