//! What an operator sees of registrations.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::error::Error;
use crate::engine::codebook::Codebook;
use crate::engine::sweep::{Offer, Swept};
use crate::engine::time::UnixMs;
use crate::telemetry::queue::Queue;

/// Of the writes and of the look-ups that wait for the store.
pub(super) fn queues() -> (Queue, Queue) {
    let writes = Queue::new("forecourt_registration_write_queue", "writes to registrations.db");
    (writes, Queue::new("forecourt_registration_read_queue", "look-ups in registrations.db"))
}

pub(super) struct Metrics {
    pub(super) near_hits: Counter,
    pub(super) near_misses: Counter,
    pub(super) near_entries: Gauge,
    pub(super) heard_dropped: Counter,
    pub(super) sweep_waiting: Gauge,
    missed_taken: Counter,
    missed_full: Counter,
    swept_found: Counter,
    swept_recorded: Counter,
    swept_given_up: Counter,
    pub(super) clocks_learned: Counter,
    pub(super) bindings_changed: Counter,
    pub(super) couplings: Counter,
    pub(super) rows_accepted: Counter,
    pub(super) rows_refused: Counter,
    pub(super) starts_from_snapshot: Counter,
    pub(super) starts_from_redis: Counter,
    pub(super) starts_from_truth: Counter,
    pub(super) snapshots_failed: Counter,
    codebook_builds: Counter,
    codebook_duplicates: Gauge,
    codebook_dongles: Gauge,
    codebook_bytes: Gauge,
    codebook_kept_bytes: Gauge,
    codebook_roll: Histogram,
    codebook_roll_cpu: Histogram,
    codebook_roll_began: Gauge,
    codebook_roll_ended: Gauge,
    snapshots_written: Counter,
    snapshot_bytes: Gauge,
    snapshot_write: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe();
        for reason in REASONS {
            let _ = counter!("forecourt_registration_phone_refusals_total", "reason" => reason);
        }
        let missed =
            |outcome: &'static str| counter!("forecourt_registration_sweep_missed_total", "outcome" => outcome);
        let swept = |outcome: &'static str| counter!("forecourt_registration_sweep_codes_total", "outcome" => outcome);
        Metrics {
            near_hits: counter!("forecourt_registration_near_hits_total"),
            near_misses: counter!("forecourt_registration_near_misses_total"),
            near_entries: gauge!("forecourt_registration_near_entries"),
            heard_dropped: counter!("forecourt_registration_clock_hearings_dropped_total"),
            sweep_waiting: gauge!("forecourt_registration_sweep_waiting_codes"),
            missed_taken: missed("taken"),
            missed_full: missed("full"),
            swept_found: swept("found"),
            swept_recorded: swept("recorded"),
            swept_given_up: swept("given_up"),
            clocks_learned: counter!("forecourt_registration_clocks_learned_total"),
            bindings_changed: counter!("forecourt_registration_bindings_changed_total"),
            couplings: counter!("forecourt_registration_couplings_total"),
            rows_accepted: counter!("forecourt_registration_import_rows_total", "outcome" => "accepted"),
            rows_refused: counter!("forecourt_registration_import_rows_total", "outcome" => "refused"),
            starts_from_snapshot: counter!("forecourt_registration_codebook_starts_total", "from" => "snapshot"),
            starts_from_redis: counter!("forecourt_registration_codebook_starts_total", "from" => "redis"),
            starts_from_truth: counter!("forecourt_registration_codebook_starts_total", "from" => "truth"),
            snapshots_failed: counter!("forecourt_registration_snapshots_total", "outcome" => "failed"),
            codebook_builds: counter!("forecourt_registration_codebook_builds_total"),
            codebook_duplicates: gauge!("forecourt_registration_codebook_duplicates"),
            codebook_dongles: gauge!("forecourt_registration_codebook_dongles"),
            codebook_bytes: gauge!("forecourt_registration_codebook_bytes"),
            codebook_kept_bytes: gauge!("forecourt_registration_codebook_kept_bytes"),
            codebook_roll: histogram!("forecourt_registration_codebook_roll_seconds"),
            codebook_roll_cpu: histogram!("forecourt_registration_codebook_roll_cpu_seconds"),
            codebook_roll_began: gauge!("forecourt_registration_codebook_roll_began_timestamp_seconds"),
            codebook_roll_ended: gauge!("forecourt_registration_codebook_roll_ended_timestamp_seconds"),
            snapshots_written: counter!("forecourt_registration_snapshots_total", "outcome" => "written"),
            snapshot_bytes: gauge!("forecourt_registration_snapshot_bytes"),
            snapshot_write: histogram!("forecourt_registration_snapshot_write_seconds"),
        }
    }

    /// `kept`: the bytes of the table, and of the dongles' keys and clocks.
    pub(super) fn published(&self, book: &Codebook, kept: usize) {
        self.codebook_builds.increment(1);
        self.codebook_duplicates.set(book.left_out() as f64);
        self.codebook_dongles.set(book.len() as f64);
        self.codebook_bytes.set(book.bytes() as f64);
        self.codebook_kept_bytes.set(kept as f64);
    }

    pub(super) fn roll_began(&self, at: UnixMs) {
        self.codebook_roll_began.set(seconds(at.0));
    }

    pub(super) fn roll_ended(&self, began: UnixMs, at: UnixMs) {
        self.codebook_roll_ended.set(seconds(at.0));
        self.codebook_roll.record(seconds(at.since(began)));
    }

    pub(super) fn roll_took(&self, cpu: Duration) {
        self.codebook_roll_cpu.record(cpu);
    }

    pub(super) fn snapshot_written(&self, bytes: u64, took_ms: u64) {
        self.snapshots_written.increment(1);
        self.snapshot_bytes.set(bytes as f64);
        self.snapshot_write.record(seconds(took_ms));
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// What an operator sees of the cache in Redis.
pub(super) struct CacheMetrics {
    pub(super) up: Gauge,
    pub(super) behind: Gauge,
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) stale: Counter,
    pub(super) unreadable: Counter,
    pub(super) timeouts: Counter,
    pub(super) bypassed: Counter,
    pub(super) fills: Counter,
    pub(super) changes: Counter,
    pub(super) resets: Counter,
    pub(super) failures: Counter,
    pub(super) heard: Counter,
    pub(super) gaps: Counter,
}

impl CacheMetrics {
    pub(super) fn new() -> CacheMetrics {
        describe_cache();
        let lookups =
            |outcome: &'static str| counter!("forecourt_registration_cache_lookups_total", "outcome" => outcome);
        CacheMetrics {
            up: gauge!("forecourt_registration_cache_up"),
            behind: gauge!("forecourt_registration_cache_behind_revisions"),
            hits: lookups("hit"),
            misses: lookups("miss"),
            stale: lookups("stale"),
            unreadable: lookups("unreadable"),
            timeouts: lookups("timeout"),
            bypassed: lookups("bypassed"),
            fills: counter!("forecourt_registration_cache_fills_total"),
            changes: counter!("forecourt_registration_cache_changes_total"),
            resets: counter!("forecourt_registration_cache_resets_total"),
            failures: counter!("forecourt_registration_cache_failures_total"),
            heard: counter!("forecourt_registration_cache_feed_entries_total"),
            gaps: counter!("forecourt_registration_cache_feed_gaps_total"),
        }
    }
}

fn describe_cache() {
    describe_gauge!("forecourt_registration_cache_up", "1 while Redis is a copy of the registrations and is asked");
    describe_gauge!("forecourt_registration_cache_behind_revisions", "Changes that Redis has yet to be told of");
    describe_counter!(
        "forecourt_registration_cache_lookups_total",
        "Look-ups that the near cache passed on, by what Redis had to say: stale is a copy that is not the newest, bypassed a Redis that is not asked at all"
    );
    describe_counter!("forecourt_registration_cache_fills_total", "Registrations that Redis was given to keep");
    describe_counter!("forecourt_registration_cache_changes_total", "Changes that Redis was told of");
    describe_counter!(
        "forecourt_registration_cache_resets_total",
        "Times that Redis was emptied to begin anew: it was empty, far behind, or ahead of the store"
    );
    describe_counter!(
        "forecourt_registration_cache_failures_total",
        "Failed conversations with Redis, and tries to begin one"
    );
    describe_counter!("forecourt_registration_cache_feed_entries_total", "Changes read from the stream");
    describe_counter!(
        "forecourt_registration_cache_feed_gaps_total",
        "Times that entries of the stream were missed, and the near cache was emptied for it"
    );
}

impl Metrics {
    /// What became of a code that was missed at a pump. One that waits already is no news.
    pub(super) fn offered(&self, offer: Offer) {
        match offer {
            Offer::Taken => self.missed_taken.increment(1),
            Offer::Full => self.missed_full.increment(1),
            Offer::Known => {}
        }
    }

    pub(super) fn missed_dropped(&self) {
        self.missed_full.increment(1);
    }

    pub(super) fn swept(&self, swept: &Swept) {
        self.swept_found.increment(swept.found.len() as u64);
        self.swept_recorded.increment(swept.recorded);
        self.swept_given_up.increment(swept.given_up);
    }
}

/// Passes the outcome of a phone's call on, and counts a refusal by its reason. Rare enough for a look-up.
pub(super) fn phone_call<T>(outcome: Result<T, Error>) -> Result<T, Error> {
    if let Err(refusal) = &outcome {
        debug_assert!(REASONS.contains(&reason(refusal)), "{} is registered at the start", reason(refusal));
        counter!("forecourt_registration_phone_refusals_total", "reason" => reason(refusal)).increment(1);
    }
    outcome
}

/// Every answer of [`reason`].
const REASONS: [&str; 19] = [
    "unknown_activation",
    "unknown_coupling",
    "unknown_binding",
    "unknown_permit",
    "taken",
    "lost",
    "epoch",
    "key_reused",
    "eid",
    "known",
    "form",
    "not_provable",
    "signature",
    "proof",
    "nonce",
    "clock",
    "status",
    "claims",
    "unavailable",
];

/// The label of a refusal: a closed set, by the kind of answer.
fn reason(refusal: &Error) -> &'static str {
    match refusal {
        Error::UnknownActivation => "unknown_activation",
        Error::UnknownCoupling => "unknown_coupling",
        Error::UnknownDevice | Error::UnknownBinding => "unknown_binding",
        Error::UnknownPermit => "unknown_permit",
        Error::AlreadyBound | Error::PlateTaken => "taken",
        Error::DeviceLost => "lost",
        Error::EpochChanged => "epoch",
        Error::KeyReused => "key_reused",
        Error::WeakBeaconKey | Error::EidMismatch => "eid",
        Error::DeviceKnown | Error::KeyTaken | Error::ActivationTaken => "known",
        Error::Plate(_)
        | Error::CardNumber
        | Error::Means(_)
        | Error::Fuel
        | Error::Reason
        | Error::Exponent
        | Error::ActivationCode
        | Error::OperatorName => "form",
        Error::NotProvable | Error::NoPhone => "not_provable",
        Error::BadSignature => "signature",
        Error::BadProof => "proof",
        Error::BadNonce | Error::Expired => "nonce",
        Error::ClockTooFar => "clock",
        Error::Suspended | Error::Revoked => "status",
        Error::TooManyClaims => "claims",
        Error::Unavailable(_) => "unavailable",
    }
}

fn describe() {
    describe_counter!(
        "forecourt_registration_near_hits_total",
        "Look-ups of a registration that the near cache answered"
    );
    describe_counter!(
        "forecourt_registration_near_misses_total",
        "Look-ups of a registration that the near cache could not answer"
    );
    describe_gauge!("forecourt_registration_near_entries", "Registrations in the near cache");
    describe_counter!(
        "forecourt_registration_clock_hearings_dropped_total",
        "Hearings not learned from because the queue was full"
    );
    describe_counter!(
        "forecourt_registration_sweep_missed_total",
        "Codes that nobody has, heard strong at a pump, by whether the sweep took them up"
    );
    describe_counter!(
        "forecourt_registration_sweep_codes_total",
        "Codes that the sweep is done with: found is a dongle whose clock was caught up, recorded one that was heard lately with another clock"
    );
    describe_gauge!("forecourt_registration_sweep_waiting_codes", "Codes that the sweep looks for");
    describe_counter!("forecourt_registration_clocks_learned_total", "Corrections of a dongle's learned clock");
    describe_counter!("forecourt_registration_bindings_changed_total", "Changes of bindings that took effect");
    describe_counter!("forecourt_registration_couplings_total", "Bindings made by coupling");
    describe_counter!("forecourt_registration_phone_refusals_total", "Calls of phones refused, by reason");
    describe_counter!("forecourt_registration_import_rows_total", "Imported rows, by outcome");
    describe_codebook();
}

fn describe_codebook() {
    describe_counter!(
        "forecourt_registration_codebook_builds_total",
        "Times that stations were told to ask the codebook again"
    );
    describe_gauge!(
        "forecourt_registration_codebook_duplicates",
        "Dongles left out of the codebook because another one has their code"
    );
    describe_gauge!("forecourt_registration_codebook_dongles", "Dongles in the codebook");
    describe_gauge!(
        "forecourt_registration_codebook_bytes",
        Unit::Bytes,
        "Memory of the codebook: its table, and the dongles' keys and clocks"
    );
    describe_gauge!(
        "forecourt_registration_codebook_kept_bytes",
        Unit::Bytes,
        "Memory of the codebook and of the keys and clocks that it is made from"
    );
    describe_histogram!(
        "forecourt_registration_codebook_roll_seconds",
        Unit::Seconds,
        "Time from the start of a roll to its end"
    );
    describe_histogram!(
        "forecourt_registration_codebook_roll_cpu_seconds",
        Unit::Seconds,
        "CPU that the thread of the rolls used in that time: the rest of it went to the stations"
    );
    describe_gauge!(
        "forecourt_registration_codebook_roll_began_timestamp_seconds",
        "When the last roll of the codebook began; a roll is under way while the last end is before it"
    );
    describe_gauge!("forecourt_registration_codebook_roll_ended_timestamp_seconds", "When the last roll ended");
    describe_counter!(
        "forecourt_registration_codebook_starts_total",
        "Starts with a store in use, by where the dongles came from"
    );
    describe_counter!("forecourt_registration_snapshots_total", "Snapshots of the codebook, by outcome");
    describe_gauge!("forecourt_registration_snapshot_bytes", Unit::Bytes, "Size of the last snapshot of the codebook");
    describe_histogram!(
        "forecourt_registration_snapshot_write_seconds",
        Unit::Seconds,
        "Time from the start of a snapshot of the codebook to its place on the disk"
    );
}
