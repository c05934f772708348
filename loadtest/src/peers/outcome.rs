//! What the peers came to, and how we compare.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One connection, as fast as it goes.
    Fat,
    /// Many connections by the clock.
    Many,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    Memory,
    Redis,
}

/// One build in one mode.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    pub name: String,
    pub mode: Mode,
    pub presence: Presence,
    /// How it keeps presence.
    pub build: String,
    /// Applied.
    pub frames_per_second: f64,
    /// Applied, for each second of CPU time of all processes but the sender's.
    pub frames_per_cpu_second: f64,
    /// Frames that were sent and never applied.
    pub lost: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub peers: Vec<Peer>,
    /// The same for the engine.
    pub forecourt: Vec<Peer>,
    /// Our frames for a second of CPU time, over those of the best build of the peers.
    pub fat_ratio_memory: f64,
    pub fat_ratio_redis: f64,
    pub many_ratio_memory: f64,
    pub many_ratio_redis: f64,
}

impl Mode {
    pub const ALL: [Mode; 2] = [Mode::Fat, Mode::Many];
}

impl Outcome {
    pub fn new(peers: Vec<Peer>, forecourt: Vec<Peer>) -> Outcome {
        let ratio = |mode, presence| {
            let ours = best(forecourt.iter().filter(|ours| ours.mode == mode));
            let theirs = best(peers.iter().filter(|peer| peer.mode == mode && peer.presence == presence));
            if theirs > 0.0 { ours / theirs } else { 0.0 }
        };
        Outcome {
            fat_ratio_memory: ratio(Mode::Fat, Presence::Memory),
            fat_ratio_redis: ratio(Mode::Fat, Presence::Redis),
            many_ratio_memory: ratio(Mode::Many, Presence::Memory),
            many_ratio_redis: ratio(Mode::Many, Presence::Redis),
            peers,
            forecourt,
        }
    }

    /// The keys of `summary.json`.
    pub fn summary(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(summary)) => summary,
            _ => unreachable!("an outcome is an object of plain data"),
        }
    }
}

fn best<'a>(peers: impl Iterator<Item = &'a Peer>) -> f64 {
    peers.map(|peer| peer.frames_per_cpu_second).fold(0.0, f64::max)
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Fat => "one fat sender",
            Mode::Many => "many senders",
        })
    }
}

/// The summary for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:58} {:>14} {:>18} {:>8}", "", "frames/s", "frames/CPU-second", "lost")?;
        for peer in self.peers.iter().chain(&self.forecourt) {
            let label = format!("{}, {}, {}", peer.mode, peer.name, peer.build);
            let Peer { frames_per_second, frames_per_cpu_second, lost, .. } = peer;
            writeln!(f, "{label:58} {frames_per_second:>14.0} {frames_per_cpu_second:>18.0} {lost:>8}")?;
        }
        writeln!(f, "\nour frames for a CPU-second, over those of the best build")?;
        writeln!(
            f,
            "  one fat sender  {:>8.1} x memory  {:>8.1} x Redis",
            self.fat_ratio_memory, self.fat_ratio_redis
        )?;
        writeln!(
            f,
            "  many senders    {:>8.1} x memory  {:>8.1} x Redis",
            self.many_ratio_memory, self.many_ratio_redis
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(mode: Mode, presence: Presence, frames_per_cpu_second: f64) -> Peer {
        let (name, build) = (String::new(), String::new());
        Peer { name, mode, presence, build, frames_per_second: 0.0, frames_per_cpu_second, lost: 0 }
    }

    fn outcome() -> Outcome {
        let theirs =
            [(Mode::Fat, Presence::Memory, 2.0), (Mode::Fat, Presence::Redis, 0.25), (Mode::Fat, Presence::Redis, 0.5)];
        let theirs = theirs.map(|(mode, presence, frames)| peer(mode, presence, frames)).to_vec();
        Outcome::new(theirs, vec![peer(Mode::Fat, Presence::Memory, 100.0), peer(Mode::Many, Presence::Memory, 3.0)])
    }

    #[test]
    fn we_are_compared_with_the_best_build_of_each_kind() {
        let outcome = outcome();
        assert_eq!([outcome.fat_ratio_memory, outcome.fat_ratio_redis].map(|ratio| ratio as u64), [50, 200]);
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        assert_eq!([outcome().many_ratio_memory, outcome().many_ratio_redis].map(|ratio| ratio as u64), [0, 0]);
    }

    #[test]
    fn the_summary_has_the_keys_that_are_promised() {
        let summary = outcome().summary();
        for key in ["fat_ratio_memory", "fat_ratio_redis", "many_ratio_memory", "many_ratio_redis"] {
            assert!(summary[key].is_number(), "{key}");
        }
        let peer = &summary["peers"][0];
        for key in ["name", "mode", "presence", "frames_per_second", "frames_per_cpu_second", "lost"] {
            assert!(!peer[key].is_null(), "{key}");
        }
        assert_eq!((&peer["mode"], &peer["presence"]), (&"fat".into(), &"memory".into()));
    }
}
