//! How long each batch takes, from the time at which it was due until it was acknowledged.
//!
//! An engine that acknowledges every batch says so right after it has applied it: nobody outside comes nearer to that
//! moment, and what the way back and the generator's own thread add, they add to all batches alike.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

/// A batch that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub due: Instant,
    pub written: Instant,
    pub at: Instant,
}

/// Those of all connections since they were last taken; whoever asks for them takes them every second or so.
#[derive(Debug, Clone, Default)]
pub struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    pub fn take(&self) -> Vec<Answer> {
        mem::take(&mut *self.0.lock().expect("no holder panics"))
    }

    /// Of one more connection.
    pub(super) fn awaited(&self) -> Awaited {
        Awaited { batches: Arc::default(), answers: self.clone() }
    }
}

/// A batch, when it was due and when it was written.
#[derive(Debug, Clone, Copy)]
struct Written {
    sequence: u64,
    due: Instant,
    at: Instant,
}

/// What one connection has written and the engine not acknowledged: as much as the backlog and QUIC's window hold.
#[derive(Debug, Clone)]
pub(super) struct Awaited {
    batches: Arc<Mutex<VecDeque<Written>>>,
    answers: Answers,
}

impl Awaited {
    /// Sequences ascend.
    pub(super) fn wrote(&self, sequence: u64, due: Instant, at: Instant) {
        self.batches.lock().expect("no holder panics").push_back(Written { sequence, due, at });
    }

    /// Every batch up to this one is applied.
    pub(super) fn acknowledged(&self, highest: u64, at: Instant) {
        let mut batches = self.batches.lock().expect("no holder panics");
        let applied = batches.partition_point(|batch| batch.sequence <= highest);
        let mut answers = self.answers.0.lock().expect("no holder panics");
        answers.extend(batches.drain(..applied).map(|batch| Answer { due: batch.due, written: batch.at, at }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_acknowledgement_answers_every_batch_up_to_its_own_and_each_once() {
        let answers = Answers::default();
        let (one, other) = (answers.awaited(), answers.awaited());
        let due = |ms| Instant::now() + Duration::from_millis(ms);
        let (first, second, third) = (due(0), due(1), due(2));
        one.wrote(7, first, second);
        one.wrote(8, second, second);
        one.wrote(9, third, third);
        other.wrote(8, third, third);
        let at = due(5);
        one.acknowledged(8, at);
        one.acknowledged(8, at);
        let [one, two] = [(first, second), (second, second)].map(|(due, written)| Answer { due, written, at });
        assert_eq!(answers.take(), [one, two]);
        other.acknowledged(8, at);
        assert_eq!(answers.take(), [Answer { due: third, written: third, at }], "connections count for themselves");
    }
}
