//! What ingest counts. Handles are kept: nothing is looked up once an uplink runs.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::{admission::Full, ended::Ended, tls::Validities};

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) connections: Gauge,
    pub(super) uplinks: Gauge,
    pub(super) accepted: Counter,
    pub(super) retried: Counter,
    pub(super) batches: Counter,
    pub(super) bytes: Counter,
    pub(super) acknowledgements: Counter,
    refused: Vec<(Full, Counter)>,
    closed: Vec<(&'static str, Counter)>,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe();
        let closed = |reason| (reason, counter!("forecourt_ingest_closed_total", "reason" => reason));
        let refused = |full: Full| (full, counter!("forecourt_ingest_refused_total", "reason" => full.reason()));
        Metrics {
            connections: gauge!("forecourt_ingest_connections"),
            uplinks: gauge!("forecourt_ingest_uplinks"),
            accepted: counter!("forecourt_ingest_accepted_total"),
            retried: counter!("forecourt_ingest_retried_total"),
            batches: counter!("forecourt_ingest_batches_total"),
            bytes: counter!("forecourt_ingest_received_bytes_total"),
            acknowledgements: counter!("forecourt_ingest_acknowledgements_total"),
            refused: Full::ALL.into_iter().map(refused).collect(),
            closed: Ended::reasons().map(closed).collect(),
        }
    }

    pub(super) fn refused(&self, full: Full) {
        if let Some((_, counter)) = self.refused.iter().find(|(of, _)| *of == full) {
            counter.increment(1);
        }
    }

    pub(super) fn closed(&self, ended: Ended) {
        if let Some((_, counter)) = self.closed.iter().find(|(reason, _)| *reason == ended.reason()) {
            counter.increment(1);
        }
    }
}

/// When the certificates in force run out.
#[derive(Debug)]
pub(super) struct Expiries {
    authority: Gauge,
    server: Gauge,
}

impl Expiries {
    pub(super) fn new() -> Expiries {
        const EXPIRES: &str = "forecourt_ingest_certificate_expires_timestamp_seconds";
        describe_gauge!(EXPIRES, "When the certificates in force run out.");
        let of = |certificate: &'static str| gauge!(EXPIRES, "certificate" => certificate);
        Expiries { authority: of("authority"), server: of("server") }
    }

    pub(super) fn show(&self, validities: &Validities) {
        for (gauge, validity) in [(&self.authority, validities.authority), (&self.server, validities.server)] {
            gauge.set((validity.until.0 / 1_000) as f64);
        }
    }
}

fn describe() {
    describe_gauge!("forecourt_ingest_connections", "Connections of any kind, those in their handshake included.");
    describe_gauge!("forecourt_ingest_uplinks", "Uplinks whose hello was accepted.");
    describe_counter!("forecourt_ingest_accepted_total", "Connections let into the handshake.");
    describe_counter!("forecourt_ingest_retried_total", "Newcomers asked to prove their address first.");
    describe_counter!("forecourt_ingest_refused_total", "Newcomers turned away before the handshake, by bound.");
    describe_counter!("forecourt_ingest_closed_total", "Connections that ended, by reason.");
    describe_counter!("forecourt_ingest_batches_total", "Batches applied by their stations, duplicates included.");
    describe_counter!("forecourt_ingest_received_bytes_total", "Bytes of batches read, length prefixes included.");
    describe_counter!("forecourt_ingest_acknowledgements_total", "Acknowledgements sent; one covers many batches.");
}
