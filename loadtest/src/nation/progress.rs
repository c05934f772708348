//! A line each second while a run goes on, on standard error.

use super::{Sample, pace::Pace};
use crate::town::Town;

#[derive(Debug, Default)]
pub(super) struct Progress {
    before: Option<Sample>,
}

impl Progress {
    pub(super) fn tell(&mut self, now: &Sample, pace: &Pace, town: &Town) {
        if let Some(before) = self.before.replace(*now) {
            let seconds = (now.at_s - before.at_s).max(0.001);
            let frames = (now.totals.acknowledged - before.totals.acknowledged) as f64 / seconds;
            let (counts, p99) = {
                let oracle = town.world.oracle();
                (oracle.counts(), oracle.visible().quantile(0.99))
            };
            eprintln!(
                "{:4.0} s  {frames:7.0} frames/s  schedule kept {:5.1} %  uplinks {}  entered {}  at pumps {}  paid {}  \
                 visible p99 {p99:.0} ms  missed {} late {} ghost {} wrong {}  CPU engine {:.2} generator {:.2}",
                now.at_s,
                pace.kept() * 100.0,
                now.totals.connected,
                counts.vehicles_entered,
                town.visits(),
                counts.sessions_paid,
                counts.missed,
                counts.late,
                counts.ghost,
                counts.wrong,
                (now.engine - before.engine).as_secs_f64() / seconds,
                (now.generator - before.generator).as_secs_f64() / seconds,
            );
        }
    }
}
