//! What stands before every gateway: places for calls at a time, the circuit breaker, limits of time, metrics.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    Answer, Choice, Finding, Gateway, Prepared, Task,
    breaker::{Breaker, Word},
};
use crate::{engine::charge::Instruction, telemetry::trace::step};

/// How the PSP is, in one word, for a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayState {
    pub gateway: Choice,
    /// `reachable`, `probing` (one call at a time) or `unreachable`.
    pub word: &'static str,
}

/// Cheap to clone; all clones share places and breaker.
#[derive(Clone)]
pub(in crate::payment) struct Guard {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: Gateway,
    places: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    limit: Duration,
    metrics: Metrics,
}

impl Guard {
    /// `limit`: what the preparation and performance of one instruction may take together, and a look-up alone.
    pub(in crate::payment) fn new(
        gateway: Gateway,
        places_max: usize,
        breaker_failures: u32,
        breaker_pause: Duration,
        limit: Duration,
    ) -> Guard {
        let breaker = Breaker::new(breaker_failures, breaker_pause);
        let places = Arc::new(Semaphore::new(places_max.max(1)));
        let metrics = Metrics::new();
        let shared = Shared { gateway, places, breaker: Mutex::new(breaker), limit, metrics };
        shared.tell_state();
        Guard { shared: Arc::new(shared) }
    }

    pub(in crate::payment) fn gateway(&self) -> &Gateway {
        &self.shared.gateway
    }

    pub(in crate::payment) fn state(&self) -> GatewayState {
        let word = match self.shared.breaker().word() {
            Word::Closed => "reachable",
            Word::HalfOpen => "probing",
            Word::Open => "unreachable",
        };
        GatewayState { gateway: self.shared.gateway.choice(), word }
    }

    /// A place for one instruction, waited for half of its time at most; `None` when there is none, or none would be
    /// of use.
    pub(in crate::payment) async fn place(&self) -> Option<Place> {
        let (half, end) = (Instant::now() + self.shared.limit / 2, Instant::now() + self.shared.limit);
        Some(Place { permit: self.permit(half).await?, shared: Arc::clone(&self.shared), half, end })
    }

    /// `NoAnswer` without a place: it is asked again.
    pub(in crate::payment) async fn look_up(&self, task: &Task, close: bool) -> Finding {
        let end = Instant::now() + self.shared.limit;
        let Some(_permit) = self.permit(end).await else { return Finding::NoAnswer };
        let call = Call::begin(&self.shared, Kind::LookUp);
        let finding =
            timeout_at(end.into(), self.shared.gateway.look_up(task, close)).instrument(call.span.clone()).await;
        let finding = finding.unwrap_or(Finding::NoAnswer);
        call.end(match finding {
            Finding::Succeeded { .. } => Outcome::Succeeded,
            Finding::Declined => Outcome::Declined,
            Finding::NotFound => Outcome::NotFound,
            Finding::NoAnswer => Outcome::NoAnswer,
        });
        finding
    }

    /// The breaker is asked last: who it lets through does not wait any more.
    async fn permit(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        self.shared.metrics.waiting.increment(1.0);
        let place = timeout_at(until.into(), Arc::clone(&self.shared.places).acquire_owned()).await;
        self.shared.metrics.waiting.decrement(1.0);
        let Ok(Ok(permit)) = place else {
            self.shared.metrics.refused_full.increment(1);
            return None;
        };
        if !self.shared.breaker().admits(Instant::now()) {
            self.shared.metrics.refused_open.increment(1);
            return None;
        }
        self.shared.tell_state();
        Some(permit)
    }
}

/// The right to have one instruction carried out.
pub(in crate::payment) struct Place {
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
    half: Instant,
    end: Instant,
}

impl Place {
    pub(in crate::payment) async fn prepare(&self, instruction: &Instruction) -> Prepared {
        let call = Call::begin(&self.shared, Kind::Prepare);
        let prepared = timeout_at(self.half.into(), self.shared.gateway.prepare(instruction));
        let prepared = prepared.instrument(call.span.clone()).await;
        let prepared = prepared.unwrap_or(Prepared::NotSent);
        match prepared {
            // Only what went to the PSP tells how it is.
            Prepared::Ready { object: None } => {}
            Prepared::Ready { .. } => call.end(Outcome::Succeeded),
            Prepared::Declined => call.end(Outcome::Declined),
            Prepared::NotSent => call.end(Outcome::NotSent),
        }
        prepared
    }

    /// Gives the place back.
    pub(in crate::payment) async fn perform(self, task: &Task) -> Answer {
        let call = Call::begin(&self.shared, Kind::Perform);
        let answer = timeout_at(self.end.into(), self.shared.gateway.perform(task)).instrument(call.span.clone()).await;
        let answer = answer.unwrap_or(Answer::NoAnswer);
        call.end(match answer {
            Answer::Succeeded { .. } => Outcome::Succeeded,
            Answer::Declined => Outcome::Declined,
            Answer::NoAnswer => Outcome::NoAnswer,
            Answer::NotSent => Outcome::NotSent,
        });
        drop(self.permit);
        answer
    }
}

impl Shared {
    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_state(&self) {
        let word = self.breaker().word();
        self.metrics.state.set(f64::from(word as u8));
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Prepare,
    Perform,
    LookUp,
}

#[derive(Clone, Copy)]
enum Outcome {
    Succeeded,
    Declined,
    NotFound,
    NoAnswer,
    NotSent,
}

/// In the order of [`Kind`].
const KINDS: [&str; 3] = ["prepare", "perform", "look_up"];

/// In the order of [`Outcome`].
const OUTCOMES: [&str; 5] = ["succeeded", "declined", "not_found", "no_answer", "not_sent"];

/// One call to the PSP, from its first byte on.
struct Call<'a> {
    shared: &'a Shared,
    kind: Kind,
    began: Instant,
    span: Span,
}

impl Call<'_> {
    fn begin(shared: &Shared, kind: Kind) -> Call<'_> {
        let span = step!("psp", call = KINDS[kind as usize], outcome = Empty);
        Call { shared, kind, began: Instant::now(), span }
    }

    fn end(self, outcome: Outcome) {
        let now = Instant::now();
        let answered = !matches!(outcome, Outcome::NoAnswer | Outcome::NotSent);
        self.shared.breaker().record(answered, now);
        self.shared.tell_state();
        self.shared.metrics.seconds[self.kind as usize].record(now - self.began);
        self.shared.metrics.outcomes[outcome as usize].increment(1);
        self.span.record("outcome", OUTCOMES[outcome as usize]);
    }
}

/// Of the calls to the PSP.
pub(in crate::payment) struct Metrics {
    state: Gauge,
    waiting: Gauge,
    refused_full: Counter,
    refused_open: Counter,
    /// In the order of [`Kind`].
    seconds: [Histogram; 3],
    /// In the order of [`Outcome`].
    outcomes: [Counter; 5],
}

impl Metrics {
    pub(in crate::payment) fn new() -> Metrics {
        describe_gauge!(
            "forecourt_payment_gateway_state",
            "Circuit breaker before the PSP: 0 closed, 1 half open, 2 open"
        );
        describe_gauge!("forecourt_payment_gateway_waiting_calls", "Calls to the PSP that wait for a place");
        describe_counter!("forecourt_payment_gateway_refusals_total", "Calls to the PSP that were not made, by reason");
        describe_histogram!("forecourt_payment_gateway_seconds", Unit::Seconds, "Time of a call to the PSP, by call");
        describe_counter!("forecourt_payment_gateway_outcomes_total", "What calls to the PSP came back with");
        let refused = |reason| counter!("forecourt_payment_gateway_refusals_total", "reason" => reason);
        Metrics {
            state: gauge!("forecourt_payment_gateway_state"),
            waiting: gauge!("forecourt_payment_gateway_waiting_calls"),
            refused_full: refused("full"),
            refused_open: refused("open"),
            seconds: KINDS.map(|call| histogram!("forecourt_payment_gateway_seconds", "call" => call)),
            outcomes: OUTCOMES
                .map(|outcome| counter!("forecourt_payment_gateway_outcomes_total", "outcome" => outcome)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{charge::Operation, id::SessionId, money::Money},
        payment::Simulator,
    };

    const LIMIT: Duration = Duration::from_millis(100);

    fn guard(places_max: usize, breaker_failures: u32) -> (tempfile::TempDir, Guard) {
        let folder = tempfile::tempdir().unwrap();
        let simulator = Simulator::open(folder.path(), Duration::ZERO).unwrap();
        let pause = Duration::from_secs(3600);
        (folder, Guard::new(Gateway::Simulator(simulator), places_max, breaker_failures, pause, LIMIT))
    }

    fn task(ordinal: u32, means: &str) -> Task {
        let (session, amount) = (SessionId([1; 16]), Money { minor: 100, currency: "EUR".parse().unwrap() });
        let operation = Operation::Charge;
        let instruction = Instruction { session, ordinal, operation, means: means.into(), amount, of: None };
        Task { instruction, object: None }
    }

    #[tokio::test]
    async fn who_finds_no_place_in_half_of_its_time_is_not_sent() {
        let (_folder, guard) = guard(1, 32);
        let first = guard.place().await.unwrap();
        assert!(guard.place().await.is_none());
        assert!(matches!(first.perform(&task(1, "tok_ok")).await, Answer::Succeeded { .. }));
        assert!(guard.place().await.is_some(), "a place is given back");
    }

    #[tokio::test]
    async fn a_silent_psp_is_given_up_in_time_and_then_left_alone() {
        let (_folder, guard) = guard(4, 2);
        for ordinal in 1..=2 {
            assert_eq!(guard.state().word, "reachable");
            let answer = guard.place().await.unwrap().perform(&task(ordinal, "tok_timeout")).await;
            assert_eq!(answer, Answer::NoAnswer);
        }
        assert_eq!(guard.state().word, "unreachable");
        assert!(guard.place().await.is_none());
        assert_eq!(guard.look_up(&task(3, "tok_ok"), false).await, Finding::NoAnswer);
    }

    #[tokio::test]
    async fn a_decline_is_an_answer() {
        let (_folder, guard) = guard(1, 1);
        assert_eq!(guard.place().await.unwrap().perform(&task(1, "tok_decline")).await, Answer::Declined);
        assert_eq!(guard.look_up(&task(2, "tok_ok"), false).await, Finding::NotFound);
        assert_eq!(guard.state().word, "reachable");
    }
}
