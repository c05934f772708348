//! Settings: what was said (the defaults, a file, the environment), and then what it means.
//!
//! The only reader of settings files and of the environment. Every knob stands with its meaning, unit and default in
//! `default.toml`, which is also what `forecourt config default` prints; no default lives anywhere else. A file and
//! the environment override single keys; a key that does not exist is refused.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use tracing_subscriber::EnvFilter;

use crate::{engine::time::SlotLength, http, ingest, ledger, payment, push, registration, session, station};

/// Every knob, documented.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Variables of the environment that are settings begin with this; the section and the key follow.
const ENVIRONMENT_PREFIX: &str = "FORECOURT_";

/// Secrets that open somebody else's doors: they stand in no file that is copied, backed up and reviewed.
const ENVIRONMENT_ONLY: [(&str, &str); 3] =
    [("payment", "stripe_secret"), ("payment", "stripe_webhook_secret"), ("push", "secret")];

/// Numbers of which 0 makes sense. Of the others it would be a queue without places or a period without end.
const MAY_BE_ZERO: [&str; 18] = [
    "engine.workers",
    "station.enter_dbm",
    "station.park_dbm",
    "station.present_after_s",
    "ingest.retry_from",
    "registration.rebuild_delay_ms",
    "registration.phone_token_days",
    "payment.arrival_ms",
    "payment.reconcile_hour",
    "payment.simulator_latency_ms",
    "payment.simulator_seed",
    "payment.simulator_fault_permille",
    "push.after_ms",
    "http.event_streams_max",
    "http.terminal_calls_per_second",
    "http.phone_calls_per_second",
    "http.operator_calls_per_second",
    "http.stranger_calls_per_second",
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub engine: Engine,
    pub log: Log,
    pub trace: Trace,
    pub ingest: ingest::Config,
    pub station: station::Config,
    pub registration: registration::Config,
    pub session: session::Config,
    pub payment: payment::Config,
    pub ledger: ledger::Config,
    pub push: push::Config,
    pub http: http::Config,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Folder of everything that the engine keeps.
    pub data: PathBuf,
    /// Seconds for which one code of the chain's dongles is valid, 15 to 900.
    pub slot_seconds: u32,
    /// Threads that serve uplinks and stations; 0: one for each core but one.
    pub workers: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// As in tracing's `EnvFilter`.
    pub filter: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Whether the sessions are exported as traces.
    pub export: bool,
    /// Where the collector takes OTLP, protobuf over HTTP.
    pub endpoint: String,
    /// Of a thousand sessions, how many are exported.
    pub sample_permille: u16,
    /// Spans that wait at a time, some 700 bytes each; more are dropped and counted.
    pub queue_max: usize,
    /// Spans in one request.
    pub batch_max: usize,
    /// Milliseconds that a span waits for a batch to fill.
    pub every_ms: u64,
    /// Milliseconds without an answer after which a batch is given up.
    pub timeout_ms: u64,
    /// Milliseconds that the drain waits for the last spans.
    pub drain_ms: u64,
}

impl Trace {
    /// What does not hold, in words.
    fn contradiction(&self) -> Option<String> {
        let uri = self.endpoint.parse::<hyper::Uri>().ok();
        if uri.is_none_or(|uri| uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https"))) {
            Some("trace.endpoint is not http://... or https://...".into())
        } else if self.sample_permille > 1_000 {
            Some("trace.sample_permille counts of 1000 sessions".into())
        } else if self.batch_max > self.queue_max {
            Some(format!("trace.batch_max ({}) must not exceed trace.queue_max ({})", self.batch_max, self.queue_max))
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Settings that cannot be used, and where they were said.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Without the line itself: there may be a secret in it.
    #[error("{}:{line}: {message}", path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("settings: {}", .0.to_string().trim_end())]
    Meaning(Box<toml::de::Error>),
    #[error("settings: {0}")]
    Contradiction(String),
}

impl Default for Settings {
    fn default() -> Settings {
        toml::from_str(DEFAULT_TOML).expect("default.toml is tested to read")
    }
}

impl Settings {
    /// The defaults, overridden by the file, overridden by the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let mut said: Table = DEFAULT_TOML.parse().expect("default.toml is tested to read");
        if let Some(path) = file {
            let file = read(path)?;
            refuse_secrets(&file)?;
            overlay(&mut said, file);
        }
        for (name, value) in environment {
            override_by_variable(&mut said, &name, &value);
        }
        let settings: Settings =
            Value::Table(said).try_into().map_err(|error| ConfigError::Meaning(Box::new(error)))?;
        settings.check()?;
        Ok(settings)
    }

    pub fn slot_length(&self) -> SlotLength {
        SlotLength::from_seconds(self.engine.slot_seconds).expect("checked when the settings were read")
    }

    /// Takes over of others what a running engine can.
    pub fn adopt(&mut self, other: &Settings) {
        self.ingest.adopt(&other.ingest);
        self.http.adopt(&other.http);
    }

    /// The knobs that differ, by their names.
    pub fn differing(&self, other: &Settings) -> Vec<String> {
        let [ours, others] = [self, other].map(|settings| Table::try_from(settings).expect("settings are plain data"));
        let mut names = Vec::new();
        for (section, knobs) in &others {
            let (ours, others) = (ours.get(section).and_then(Value::as_table), knobs.as_table());
            let knobs: BTreeSet<&String> = [ours, others].into_iter().flatten().flat_map(Table::keys).collect();
            let value = |of: Option<&Table>, knob: &str| of.and_then(|knobs| knobs.get(knob)).cloned();
            let differs = |knob: &&&String| value(ours, knob) != value(others, knob);
            names.extend(knobs.iter().filter(differs).map(|knob| format!("{section}.{knob}")));
        }
        // A secret shows that it is set, and no more.
        let [ours, others] = [self, other].map(|settings| &settings.registration);
        for (knob, differs) in
            [("kek_hex", ours.kek_hex != others.kek_hex), ("redis_url", ours.redis_url != others.redis_url)]
        {
            let name = format!("registration.{knob}");
            if differs && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What holds between knobs and cannot be seen from one alone.
    fn check(&self) -> Result<(), ConfigError> {
        let station = &self.station;
        let wrong = if SlotLength::from_seconds(self.engine.slot_seconds).is_none() {
            format!("engine.slot_seconds is {}; a slot lasts 15 to 900 seconds", self.engine.slot_seconds)
        } else if station.leave_after_s <= station.fade_after_s {
            format!(
                "station.leave_after_s ({}) must be longer than station.fade_after_s ({})",
                station.leave_after_s, station.fade_after_s
            )
        } else if station.parked_for_s < station.leave_after_s {
            format!(
                "station.parked_for_s ({}) must not be shorter than station.leave_after_s ({})",
                station.parked_for_s, station.leave_after_s
            )
        } else if self.registration.kek_hex.as_ref().is_some_and(|kek| !kek.is_valid()) {
            "registration.kek_hex is not 64 hexadecimal digits".into()
        } else if self.registration.redis_url.as_ref().is_some_and(|url| !url.is_valid()) {
            "registration.redis_url is not redis://[user:password@]host:port[/database]".into()
        } else if let Some(wrong) = self.wrong_retention() {
            wrong
        } else if let Err(error) = self.push.check() {
            error.to_string()
        } else if let Some(wrong) = self.payment.contradiction().or_else(|| self.trace.contradiction()) {
            wrong
        } else if let Err(error) = EnvFilter::try_new(&self.log.filter) {
            format!("log.filter: {error}")
        } else if let Some(knob) = self.first_zero() {
            format!("{knob} must be at least 1")
        } else {
            return Ok(());
        };
        Err(ConfigError::Contradiction(wrong))
    }

    /// What is purged must not be needed any more: not by memory, not to know a site transaction.
    fn wrong_retention(&self) -> Option<String> {
        const DAY_S: u32 = 24 * 3600;
        let ledger::Config { transaction_days, session_days, location_days, .. } = self.ledger;
        if location_days > session_days {
            Some(format!("ledger.location_days ({location_days}) must not exceed ledger.session_days ({session_days})"))
        } else if transaction_days > session_days {
            Some(format!(
                "ledger.transaction_days ({transaction_days}) must not exceed ledger.session_days ({session_days})"
            ))
        } else if self.session.ended_s.div_ceil(DAY_S) > location_days {
            Some(format!(
                "session.ended_s ({}) must not exceed ledger.location_days ({location_days})",
                self.session.ended_s
            ))
        } else {
            None
        }
    }

    /// A number that is 0 and must not be.
    fn first_zero(&self) -> Option<String> {
        let sections = Table::try_from(self).expect("settings are plain data");
        let knobs = sections.iter().flat_map(|(section, knobs)| {
            let knobs = knobs.as_table().into_iter().flatten();
            knobs.map(move |(knob, value)| (format!("{section}.{knob}"), value))
        });
        let zero =
            |(name, value): &(String, &Value)| value.as_integer() == Some(0) && !MAY_BE_ZERO.contains(&name.as_str());
        knobs.into_iter().find(zero).map(|(name, _)| name)
    }
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.into(), source })?;
    text.parse().map_err(|error: toml::de::Error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        ConfigError::Toml { path: path.into(), line, message: error.message().to_owned() }
    })
}

/// A file of settings is copied and shown around.
fn refuse_secrets(file: &Table) -> Result<(), ConfigError> {
    let is_said = |(section, key): &&(&str, &str)| file.get(*section).is_some_and(|knobs| knobs.get(*key).is_some());
    let Some((section, key)) = ENVIRONMENT_ONLY.iter().find(is_said) else { return Ok(()) };
    let variable = format!("{ENVIRONMENT_PREFIX}{section}_{key}").to_uppercase();
    Err(ConfigError::Contradiction(format!("{section}.{key} is not for a file: give it as {variable}")))
}

/// Keys of `over` take the place of those of `said`, section by section.
fn overlay(said: &mut Table, over: Table) {
    for (key, value) in over {
        match (said.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(over)) => overlay(section, over),
            (_, value) => {
                said.insert(key, value);
            }
        }
    }
}

/// Takes over `FORECOURT_<SECTION>_<KEY>`. A name with no section of ours is somebody else's; a key that does not exist
/// is refused when the whole is read.
fn override_by_variable(said: &mut Table, name: &str, value: &str) {
    let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { return };
    let path = path.to_lowercase();
    let Some((section, key)) = path.split_once('_') else { return };
    let Some(Value::Table(knobs)) = said.get_mut(section) else { return };
    let is_text = matches!(knobs.get(key), None | Some(Value::String(_)));
    // What is not text is written as in the file; what does not read stays text, and its type is refused by name.
    let read = || format!("value = {value}").parse::<Table>().ok()?.remove("value");
    let knob = if is_text { None } else { read() };
    knobs.insert(key.into(), knob.unwrap_or_else(|| Value::String(value.into())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        Settings::load(None, environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn the_defaults_read_and_listen_on_loopback_only() {
        let settings = with(&[]).unwrap();
        assert_eq!(settings, Settings::default());
        assert!(settings.ingest.listen.ip().is_loopback() && settings.http.listen.ip().is_loopback());
    }

    #[test]
    fn the_environment_overrides_a_key_by_its_section_and_name() {
        let settings = with(&[("FORECOURT_STATION_FADE_AFTER_S", "45"), ("FORECOURT_ENGINE_DATA", "/srv/f")]).unwrap();
        assert_eq!((settings.station.fade_after_s, settings.engine.data), (45, "/srv/f".into()));
    }

    #[test]
    fn a_misspelt_key_is_refused_by_name() {
        let refusal = with(&[("FORECOURT_STATION_FADE_AFTER", "45")]).unwrap_err().to_string();
        assert!(refusal.contains("`fade_after`"), "{refusal}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("forecourt.toml");
        fs::write(&file, "[station]\nfade_after = 45\n").unwrap();
        let refusal = Settings::load(Some(&file), []).unwrap_err().to_string();
        assert!(refusal.contains("fade_after"), "{refusal}");
    }

    #[test]
    fn a_file_that_does_not_read_is_named_with_its_line_and_none_of_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("forecourt.toml");
        fs::write(&file, "[registration]\nredis_url = \"redis://:hush@localhost\n").unwrap();
        let refusal = Settings::load(Some(&file), []).unwrap_err().to_string();
        assert!(refusal.contains("forecourt.toml:2: ") && !refusal.contains("hush"), "{refusal}");
    }

    #[test]
    fn what_a_running_engine_takes_over_is_told_from_what_needs_another_start() {
        let secret = |password| ("FORECOURT_REGISTRATION_REDIS_URL", password);
        let mut in_force = with(&[secret("redis://:one@localhost")]).unwrap();
        let said = with(&[
            secret("redis://:two@localhost"),
            ("FORECOURT_INGEST_CONNECTIONS_MAX", "7"),
            ("FORECOURT_HTTP_PHONE_CALLS_PER_SECOND", "3"),
            ("FORECOURT_STATION_FADE_AFTER_S", "31"),
            ("FORECOURT_PUSH_URL", "https://push.example"),
            ("FORECOURT_PUSH_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ])
        .unwrap();
        let before = in_force.clone();
        in_force.adopt(&said);
        assert_eq!(before.differing(&in_force), ["http.phone_calls_per_second", "ingest.connections_max"]);
        assert_eq!(
            in_force.differing(&said),
            ["push.secret", "push.url", "station.fade_after_s", "registration.redis_url"]
        );
        assert!(said.differing(&said).is_empty());
    }

    #[test]
    fn a_file_overrides_single_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("forecourt.toml");
        fs::write(&file, "[station]\nfade_after_s = 45\n").unwrap();
        let settings = Settings::load(Some(&file), []).unwrap();
        assert_eq!((settings.station.fade_after_s, settings.station.leave_after_s), (45, 120));
    }

    #[test]
    fn contradictions_are_said_in_words() {
        let refusal = with(&[("FORECOURT_STATION_LEAVE_AFTER_S", "10")]).unwrap_err().to_string();
        assert_eq!(refusal, "settings: station.leave_after_s (10) must be longer than station.fade_after_s (30)");
        assert!(with(&[("FORECOURT_ENGINE_SLOT_SECONDS", "5")]).is_err());
    }

    #[test]
    fn what_is_still_needed_is_not_purged() {
        for (variable, value) in [
            ("FORECOURT_LEDGER_SESSION_DAYS", "29"),
            ("FORECOURT_LEDGER_TRANSACTION_DAYS", "2000"),
            ("FORECOURT_SESSION_ENDED_S", "2592001"),
        ] {
            let refusal = with(&[(variable, value)]).unwrap_err().to_string();
            assert!(refusal.contains("must not exceed") && refusal.contains(value), "{refusal}");
        }
    }

    #[test]
    fn zero_is_refused_where_it_makes_no_sense() {
        let refusal = with(&[("FORECOURT_INGEST_ACK_MS", "0")]).unwrap_err().to_string();
        assert_eq!(refusal, "settings: ingest.ack_ms must be at least 1");
        for knob in MAY_BE_ZERO {
            let variable = format!("FORECOURT_{}", knob.replace('.', "_").to_uppercase());
            assert!(with(&[(&variable, "0")]).is_ok(), "{knob}");
        }
    }

    #[test]
    fn a_key_or_a_log_filter_of_the_wrong_form_is_refused_before_anything_starts() {
        let refusal = with(&[("FORECOURT_REGISTRATION_KEK_HEX", "c0ffee")]).unwrap_err().to_string();
        assert_eq!(refusal, "settings: registration.kek_hex is not 64 hexadecimal digits");
        let refusal = with(&[("FORECOURT_LOG_FILTER", "[[")]).unwrap_err().to_string();
        assert!(refusal.starts_with("settings: log.filter: "), "{refusal}");
    }

    #[test]
    fn the_secret_of_webhooks_comes_from_the_environment_only_and_with_a_url() {
        let secret = ("FORECOURT_PUSH_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let url = ("FORECOURT_PUSH_URL", "https://push.example/hook");
        assert!(with(&[secret, url]).is_ok());
        assert!(with(&[url]).unwrap_err().to_string().contains("FORECOURT_PUSH_SECRET"));
        assert!(with(&[secret, ("FORECOURT_PUSH_URL", "push.example")]).is_err());
        let refusal = with(&[("FORECOURT_PUSH_SECRET", "hush")]).unwrap_err().to_string();
        assert!(refusal.contains("push.secret") && !refusal.contains("hush"), "{refusal}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("forecourt.toml");
        fs::write(&file, format!("[push]\nsecret = \"{}\"\n", secret.1)).unwrap();
        let refusal = Settings::load(Some(&file), []).unwrap_err().to_string();
        assert_eq!(refusal, "settings: push.secret is not for a file: give it as FORECOURT_PUSH_SECRET");
    }

    #[test]
    fn traces_go_to_an_address_in_shares_and_batches_that_can_be() {
        for (variable, value, said) in [
            ("FORECOURT_TRACE_ENDPOINT", "collector:4318", "trace.endpoint"),
            ("FORECOURT_TRACE_SAMPLE_PERMILLE", "1001", "trace.sample_permille"),
            ("FORECOURT_TRACE_BATCH_MAX", "8193", "trace.batch_max (8193)"),
        ] {
            let refusal = with(&[(variable, value)]).unwrap_err().to_string();
            assert!(refusal.contains(said), "{refusal}");
        }
        assert!(!Settings::default().trace.export && with(&[("FORECOURT_TRACE_EXPORT", "true")]).unwrap().trace.export);
    }

    #[test]
    fn secrets_of_a_psp_come_from_the_environment_alone_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("forecourt.toml");
        fs::write(&file, "[payment]\nstripe_secret = \"sk_1\"\n").unwrap();
        let refusal = Settings::load(Some(&file), []).unwrap_err().to_string();
        assert!(refusal.contains("FORECOURT_PAYMENT_STRIPE_SECRET"), "{refusal}");
        assert!(with(&[("FORECOURT_PAYMENT_GATEWAY", "stripe")]).is_err(), "without its secret");
        let settings =
            with(&[("FORECOURT_PAYMENT_GATEWAY", "stripe"), ("FORECOURT_PAYMENT_STRIPE_SECRET", "sk_deep")]).unwrap();
        assert!(!format!("{settings:?} {}", toml::to_string(&settings).unwrap()).contains("sk_deep"));
    }

    #[test]
    fn every_knob_of_the_defaults_has_a_comment_above_it() {
        let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
        for (above, line) in lines.iter().zip(&lines[1..]) {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(above.starts_with('#'), "{line}");
            }
        }
    }
}
