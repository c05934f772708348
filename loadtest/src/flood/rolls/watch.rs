//! Tells the batches that were under way beside a roll from the others, as soon as the engine has said when it rolled.

use forecourt::{engine::time::UnixMs, telemetry};
use tokio::time::Instant;

use super::spans::{Beside, Spans};
use crate::{
    flood::{
        FloodError,
        answers::{Answer, Answers},
    },
    process::Serve,
    report::Latencies,
};

pub(super) struct Watch {
    answers: Answers,
    /// Acknowledged after the last look was asked for: a roll may have begun meanwhile of which it says nothing.
    pending: Vec<Answer>,
    spans: Spans,
    began: (Instant, UnixMs),
    latencies: [Latencies; 3],
    /// From when a batch was due until it was written: without a roll, and beside one.
    late: [Latencies; 2],
    answered: u64,
}

impl Watch {
    /// Counts the batches that are due from now on.
    pub(super) fn begin(answers: Answers) -> Watch {
        let latencies = [
            Latencies::new("ingest", "Batches without a roll"),
            Latencies::new("ingest_in_roll", "Batches beside a roll"),
            Latencies::new("ingest_after_roll", "Batches in the second after a roll"),
        ];
        let late = ["late", "late_in_roll"].map(|name| Latencies::new(name, "Batches written late"));
        let began = (Instant::now(), telemetry::now());
        Watch { answers, pending: Vec::new(), spans: Spans::default(), began, latencies, late, answered: 0 }
    }

    /// Asks the engine when it rolled, and takes in what was acknowledged before.
    pub(super) async fn look(&mut self, serve: &Serve) -> Result<(), FloodError> {
        let asked = (Instant::now(), telemetry::now());
        self.spans.look(&serve.metrics().await?);
        let newer = self.answers.take();
        self.answered += newer.len() as u64;
        self.pending.extend(newer);
        for answer in self.pending.extract_if(.., |answer| answer.at < asked.0).collect::<Vec<_>>() {
            self.settle(answer, asked);
        }
        Ok(())
    }

    /// `now`: the same moment on both clocks. The engine tells its rolls by the wall's, which may be slewed meanwhile.
    fn settle(&mut self, Answer { due, written, at }: Answer, now: (Instant, UnixMs)) {
        if due < self.began.0 {
            return;
        }
        let on_the_wall = |instant: Instant| now.1.minus((now.0 - instant).as_millis() as u64);
        let place = match self.spans.beside(on_the_wall(due), on_the_wall(at)) {
            Beside::Nothing => 0,
            Beside::Roll => 1,
            Beside::Aftermath => 2,
        };
        let since = due - self.began.0;
        self.latencies[place].record(since, at - due);
        if let Some(late) = self.late.get_mut(place) {
            late.record(since, written - due);
        }
    }

    /// Milliseconds that each roll took which began meanwhile and has ended.
    pub(super) fn rolls(&self) -> impl Iterator<Item = u64> {
        self.spans.took_ms(self.began.1)
    }

    /// All batches that were acknowledged, those from before the begin too.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Without a roll, beside one, and after one.
    pub(super) fn latencies(&self) -> &[Latencies; 3] {
        &self.latencies
    }

    /// How late the generator was, without a roll and beside one.
    pub(super) fn late(&self) -> &[Latencies; 2] {
        &self.late
    }

    pub(super) fn into_latencies(self) -> [Latencies; 3] {
        self.latencies
    }
}
