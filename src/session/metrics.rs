//! What the session desk counts.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{
    SessionView, Summary,
    funnel::{CURRENCIES_MAX, Funnel, Risk},
};
use crate::{engine::session::StateName, ledger::Rule, telemetry::catalogue::at_most};

const UNPAID: &str = "forecourt_session_unpaid_minor_units";

pub(super) struct Metrics {
    open: Gauge,
    in_doubt: Gauge,
    in_doubt_since: Gauge,
    pub(super) journal_failures: Counter,
    pub(super) station_refusals: Counter,
    pub(super) payment_retries: Counter,
    /// One per state, in the order of `StateName::ALL`; so are the next two.
    changes: Vec<Counter>,
    sessions: Vec<Gauge>,
    state_seconds: Vec<Histogram>,
    /// By currency, in the funnel's order and at most [`CURRENCIES_MAX`]; each in the order of `Risk::ALL`.
    unpaid: Vec<[Gauge; Risk::ALL.len()]>,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe();
        // From the start on, though they count once a day.
        let _ = Rule::ALL.map(purged);
        let state = |state: StateName| format!("{state:?}");
        let all = StateName::ALL;
        Metrics {
            open: gauge!("forecourt_session_open_sessions"),
            in_doubt: gauge!("forecourt_session_in_doubt_sessions"),
            in_doubt_since: gauge!("forecourt_session_oldest_in_doubt_timestamp_seconds"),
            journal_failures: counter!("forecourt_session_journal_failures_total"),
            station_refusals: counter!("forecourt_session_station_refusals_total"),
            payment_retries: counter!("forecourt_session_payment_retries_total"),
            changes: all.map(|of| counter!("forecourt_session_changes_total", "state" => state(of))).into(),
            sessions: all.map(|of| gauge!("forecourt_session_sessions", "state" => state(of))).into(),
            state_seconds: all.map(|of| histogram!("forecourt_session_state_seconds", "state" => state(of))).into(),
            unpaid: Vec::new(),
        }
    }

    /// The answer is the state that the session left, if it did.
    pub(super) fn changed(&mut self, view: &SessionView, summary: &Summary, funnel: &mut Funnel) -> Option<StateName> {
        self.changes[view.state as usize].increment(1);
        self.open.set(summary.open as f64);
        self.in_doubt.set(summary.in_doubt as f64);
        let left = funnel.changed(view);
        if let Some((left, after_ms)) = left {
            self.state_seconds[left as usize].record(after_ms as f64 / 1_000.0);
        }
        self.show(funnel);
        left.map(|(left, _)| left)
    }

    pub(super) fn show(&mut self, funnel: &Funnel) {
        for (gauge, sessions) in self.sessions.iter().zip(funnel.sessions()) {
            gauge.set(*sessions as f64);
        }
        self.in_doubt_since.set(funnel.in_doubt_since().map_or(0.0, |since| since.0 as f64 / 1_000.0));
        // The funnel knows a currency for ever, and keeps their order.
        for (currency, _) in &funnel.unpaid()[self.unpaid.len()..] {
            self.unpaid.push(Risk::ALL.map(|risk| unpaid(currency.to_string(), risk)));
        }
        for (gauges, (_, at_risk)) in self.unpaid.iter().zip(funnel.unpaid()) {
            gauges.iter().zip(at_risk).for_each(|(gauge, minor)| gauge.set(*minor as f64));
        }
    }
}

/// Entries that were purged by this rule.
pub(super) fn purged(rule: Rule) -> Counter {
    describe_counter!("forecourt_session_purged_entries_total", "Entries of the journal that were purged, by rule");
    counter!("forecourt_session_purged_entries_total", "rule" => rule.name())
}

/// What was asked of the desk.
pub(super) fn waiting() -> Gauge {
    describe_gauge!(
        "forecourt_session_waiting_messages",
        "Orders and questions that the session desk has yet to take up"
    );
    gauge!("forecourt_session_waiting_messages")
}

/// Registers what [`Metrics::show`] only finds out as sales come in.
pub(super) fn register_open_labels() {
    for risk in Risk::ALL {
        let _ = unpaid(at_most(CURRENCIES_MAX, "ISO 4217"), risk);
    }
}

fn unpaid(currency: String, risk: Risk) -> Gauge {
    gauge!(UNPAID, "currency" => currency, "risk" => risk.name())
}

fn describe() {
    describe_gauge!("forecourt_session_open_sessions", "Sessions that are not at an end");
    describe_gauge!("forecourt_session_in_doubt_sessions", "Sessions whose payment is in doubt");
    describe_gauge!(
        "forecourt_session_oldest_in_doubt_timestamp_seconds",
        "Since when the session that is longest in doubt is so; 0 when none is"
    );
    describe_gauge!("forecourt_session_sessions", "Sessions that are not at an end, by state");
    describe_gauge!(
        UNPAID,
        "Money for fuel that has flowed and is not paid, in minor units of the currency: under way, in doubt at the PSP, or stuck until somebody acts"
    );
    describe_histogram!(
        "forecourt_session_state_seconds",
        "Time that sessions spent in a state, by the state that they left"
    );
    describe_counter!("forecourt_session_journal_failures_total", "Events that the journal did not take");
    describe_counter!("forecourt_session_station_refusals_total", "Changes that a station's full mailbox refused");
    describe_counter!("forecourt_session_payment_retries_total", "Instructions that payments did not take at once");
    describe_counter!("forecourt_session_changes_total", "Journalled changes, by the state they led to");
}
