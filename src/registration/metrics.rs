//! What an operator sees of registrations.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::error::Error;
use super::fleet::Built;

pub(super) struct Metrics {
    pub(super) near_hits: Counter,
    pub(super) near_misses: Counter,
    pub(super) near_entries: Gauge,
    pub(super) heard_dropped: Counter,
    pub(super) clocks_learned: Counter,
    pub(super) bindings_changed: Counter,
    pub(super) couplings: Counter,
    pub(super) rows_accepted: Counter,
    pub(super) rows_refused: Counter,
    codebook_builds: Counter,
    codebook_duplicates: Counter,
    codebook_dongles: Gauge,
    codebook_bytes: Gauge,
    codebook_build: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe();
        Metrics {
            near_hits: counter!("forecourt_registration_near_hits_total"),
            near_misses: counter!("forecourt_registration_near_misses_total"),
            near_entries: gauge!("forecourt_registration_near_entries"),
            heard_dropped: counter!("forecourt_registration_clock_hearings_dropped_total"),
            clocks_learned: counter!("forecourt_registration_clocks_learned_total"),
            bindings_changed: counter!("forecourt_registration_bindings_changed_total"),
            couplings: counter!("forecourt_registration_couplings_total"),
            rows_accepted: counter!("forecourt_registration_import_rows_total", "outcome" => "accepted"),
            rows_refused: counter!("forecourt_registration_import_rows_total", "outcome" => "refused"),
            codebook_builds: counter!("forecourt_registration_codebook_builds_total"),
            codebook_duplicates: counter!("forecourt_registration_codebook_duplicates_total"),
            codebook_dongles: gauge!("forecourt_registration_codebook_dongles"),
            codebook_bytes: gauge!("forecourt_registration_codebook_bytes"),
            codebook_build: histogram!("forecourt_registration_codebook_build_seconds"),
        }
    }

    pub(super) fn built(&self, built: &Built, took_ms: u64) {
        self.codebook_builds.increment(1);
        self.codebook_duplicates.increment(built.duplicates);
        self.codebook_dongles.set(built.book.len() as f64);
        self.codebook_bytes.set(built.book.bytes() as f64);
        self.codebook_build.record(took_ms as f64 / 1000.0);
    }
}

/// Passes the outcome of a phone's call on, and counts a refusal by its reason. Rare enough for a look-up.
pub(super) fn phone_call<T>(outcome: Result<T, Error>) -> Result<T, Error> {
    if let Err(refusal) = &outcome {
        counter!("forecourt_registration_phone_refusals_total", "reason" => reason(refusal)).increment(1);
    }
    outcome
}

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
    describe_counter!("forecourt_registration_clocks_learned_total", "Corrections of a dongle's learned clock");
    describe_counter!("forecourt_registration_bindings_changed_total", "Changes of bindings that took effect");
    describe_counter!("forecourt_registration_couplings_total", "Bindings made by coupling");
    describe_counter!("forecourt_registration_phone_refusals_total", "Calls of phones refused, by reason");
    describe_counter!("forecourt_registration_import_rows_total", "Imported rows, by outcome");
    describe_counter!("forecourt_registration_codebook_builds_total", "Codebooks built");
    describe_counter!(
        "forecourt_registration_codebook_duplicates_total",
        "Dongles left out of a codebook because another one has their code"
    );
    describe_gauge!("forecourt_registration_codebook_dongles", "Dongles in the codebook");
    describe_gauge!("forecourt_registration_codebook_bytes", Unit::Bytes, "Memory of the codebook");
    describe_histogram!("forecourt_registration_codebook_build_seconds", Unit::Seconds, "Time to build a codebook");
}
