//! What the peers came to, and how we compare.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::report::Table;

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
    /// That these processes kept busy.
    pub cores: f64,
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

impl Peer {
    fn label(&self) -> String {
        format!("{}, {}, {}", self.mode, self.name, self.build)
    }
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

    /// All builds side by side.
    pub fn table(&self) -> Table {
        let millions = |frames: f64| format!("{:.3}", frames / 1e6);
        let row = |peer: &Peer| {
            vec![
                peer.label(),
                millions(peer.frames_per_second),
                millions(peer.frames_per_cpu_second),
                format!("{:.2}", peer.cores),
                peer.lost.to_string(),
            ]
        };
        let columns = ["", "million frames/s", "million frames/CPU-second", "cores", "lost"];
        Table {
            title: "Builds".into(),
            columns: columns.map(String::from).into(),
            rows: self.peers.iter().chain(&self.forecourt).map(row).collect(),
        }
    }

    /// What there is to know beside the figures.
    pub fn notes(&self) -> Vec<String> {
        let lossy = self.peers.iter().chain(&self.forecourt).filter(|peer| peer.lost > 0);
        let losses = lossy.map(|peer| format!("{} lost {} frames", peer.label(), peer.lost));
        let best = |kind, fat: f64, many: f64| {
            format!(
                "frames for a CPU-second, of the best build with presence in {kind}: \
                 {fat:.1} x with one fat sender, {many:.2} x with many"
            )
        };
        let memory = best("memory", self.fat_ratio_memory, self.many_ratio_memory);
        let redis = best("Redis", self.fat_ratio_redis, self.many_ratio_redis);
        [memory, redis].into_iter().chain(losses).collect()
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

/// Its line while the run goes on.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer { frames_per_second, frames_per_cpu_second, cores, lost, .. } = self;
        write!(
            f,
            "{:<58} {:8.2} million frames/s, {:8.2} a CPU-second, {cores:.2} cores, {lost} lost",
            self.label(),
            frames_per_second / 1e6,
            frames_per_cpu_second / 1e6,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(mode: Mode, presence: Presence, frames_per_cpu_second: f64) -> Peer {
        let (name, build) = (String::new(), String::new());
        Peer { name, mode, presence, build, frames_per_second: 0.0, frames_per_cpu_second, cores: 1.0, lost: 0 }
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
