//! When the engine rolled its codebook, by its own word, and which batches were under way meanwhile.

use forecourt::engine::time::UnixMs;

use crate::process::Metrics;

/// Stations take a new book with their next batch and ask it for every code that they know, so what a roll costs does
/// not end with it.
const AFTERMATH_MS: u64 = 1_000;

const BEGAN: &str = "forecourt_registration_codebook_roll_began_timestamp_seconds";
const ENDED: &str = "forecourt_registration_codebook_roll_ended_timestamp_seconds";

/// What the engine did while a batch was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    Roll,
    /// A roll had just ended.
    Aftermath,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    began: UnixMs,
    /// `None` while it is under way.
    ended: Option<UnixMs>,
}

/// The rolls of a run. A look each second misses none: no slot is shorter than fifteen.
#[derive(Debug, Default)]
pub(super) struct Spans(Vec<Span>);

impl Spans {
    /// What the engine says now.
    pub(super) fn look(&mut self, metrics: &Metrics) {
        let at = |name| UnixMs((metrics.sum(name, &[]) * 1e3).round() as u64);
        self.told(at(BEGAN), at(ENDED));
    }

    fn told(&mut self, began: UnixMs, ended: UnixMs) {
        if self.0.last().is_none_or(|last| began > last.began) {
            // One that took longer than its slot ended as this one began.
            self.0.iter_mut().for_each(|span| span.ended = span.ended.or(Some(began)));
            self.0.push(Span { began, ended: None });
        }
        let last = self.0.last_mut().expect("one was just there");
        last.ended = Some(ended).filter(|ended| *ended >= last.began);
    }

    /// Of a batch that was due and acknowledged at these times, both before the last look.
    pub(super) fn beside(&self, due: UnixMs, at: UnixMs) -> Beside {
        let overlaps = |from: UnixMs, to: Option<UnixMs>| at >= from && to.is_none_or(|to| due <= to);
        if self.0.iter().any(|span| overlaps(span.began, span.ended)) {
            return Beside::Roll;
        }
        let ends = || self.0.iter().filter_map(|span| span.ended);
        if ends().any(|end| overlaps(end, Some(end.plus(AFTERMATH_MS)))) { Beside::Aftermath } else { Beside::Nothing }
    }

    /// Milliseconds that each roll took which began after that time and has ended.
    pub(super) fn took_ms(&self, since: UnixMs) -> impl Iterator<Item = u64> {
        let counted = self.0.iter().filter(move |span| span.began > since);
        counted.filter_map(|span| Some(span.ended?.since(span.began)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(looks: &[(u64, u64)]) -> Spans {
        let mut spans = Spans::default();
        for (began, ended) in looks {
            spans.told(UnixMs(*began), UnixMs(*ended));
        }
        spans
    }

    #[test]
    fn a_batch_is_beside_a_roll_when_any_of_its_time_is() {
        let spans = told(&[(10_000, 10_500)]);
        let beside = |due, at| spans.beside(UnixMs(due), UnixMs(at));
        assert_eq!(beside(9_990, 9_999), Beside::Nothing);
        assert_eq!(beside(9_990, 10_000), Beside::Roll, "it began while the batch was under way");
        assert_eq!(beside(9_990, 10_600), Beside::Roll, "it began and ended");
        assert_eq!(beside(10_100, 10_110), Beside::Roll);
        assert_eq!(beside(10_500, 10_510), Beside::Roll);
        assert_eq!(beside(10_501, 10_510), Beside::Aftermath);
        assert_eq!(beside(11_501, 11_510), Beside::Nothing);
    }

    #[test]
    fn a_roll_lasts_until_the_engine_says_that_it_ended() {
        let mut spans = told(&[(10_000, 10_500), (25_000, 10_500)]);
        assert_eq!(spans.beside(UnixMs(26_000), UnixMs(26_001)), Beside::Roll);
        spans.told(UnixMs(25_000), UnixMs(25_900));
        assert_eq!(spans.beside(UnixMs(27_000), UnixMs(27_001)), Beside::Nothing);
        assert_eq!(spans.took_ms(UnixMs(10_000)).collect::<Vec<_>>(), [900]);
    }

    #[test]
    fn a_roll_between_two_looks_is_seen_whole() {
        let spans = told(&[(10_000, 10_500), (25_000, 25_300)]);
        assert_eq!(spans.took_ms(UnixMs(0)).collect::<Vec<_>>(), [500, 300]);
    }

    #[test]
    fn one_that_outlasts_its_slot_gives_way_to_the_next() {
        let spans = told(&[(10_000, 9_000), (25_000, 9_000)]);
        assert_eq!(spans.took_ms(UnixMs(0)).collect::<Vec<_>>(), [15_000]);
        assert_eq!(spans.beside(UnixMs(70_000), UnixMs(70_001)), Beside::Roll);
    }
}
