//! `forecourt doctor`: what would keep the engine from serving well here, and how to mend it.
//!
//! It looks and changes nothing: no folder, key or lock is made, so that a check as root leaves nothing behind that the
//! engine's own user cannot open. A running engine is asked how it is and goes on undisturbed.

mod certificates;
mod clock;
mod engine;
mod folder;
mod limits;
mod ports;
mod redis;
mod settings;
mod stores;

use std::fmt;

use forecourt::config::{ConfigError, Settings};
use serde::Serialize;

use super::{Failure, block_on, print, running::Running};

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, and will not for ever or not for everybody.
    Warn,
    /// The engine does not serve, or loses what it should keep.
    Wrong,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::judged(Verdict::Ok, check, found, "")
    }

    fn warn(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding::judged(Verdict::Warn, check, found, mend)
    }

    fn wrong(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding::judged(Verdict::Wrong, check, found, mend)
    }

    fn judged(verdict: Verdict, check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        let mend = (verdict != Verdict::Ok).then(|| mend.into());
        Finding { check, verdict, found: found.into(), mend }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Warn => "WARN ",
            Verdict::Wrong => "WRONG",
        };
        write!(f, "{verdict} {}: {}", self.check, self.found)?;
        self.mend.as_ref().map_or(Ok(()), |mend| write!(f, "; {mend}"))
    }
}

#[derive(Serialize)]
struct Report {
    /// The worst of the checks'.
    verdict: Verdict,
    checks: Vec<Finding>,
}

impl Report {
    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        writeln!(f, "{} wrong, {} to be looked at", self.count(Verdict::Wrong), self.count(Verdict::Warn))
    }
}

pub(super) fn run(settings: Result<Settings, ConfigError>, json: bool) -> Result<(), Failure> {
    let checks = match &settings {
        Ok(settings) => look(settings)?,
        Err(error) => {
            vec![Finding::wrong("settings", error.to_string(), "`forecourt config default` explains each knob")]
        }
    };
    let report = Report { verdict: checks.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok), checks };
    if json {
        print(&(serde_json::to_string_pretty(&report).expect("plain text") + "\n"))?;
    } else {
        print(&report.to_string())?;
    }
    settings?;
    match report.count(Verdict::Wrong) {
        0 => Ok(()),
        wrong => Err(Failure::Unwell(wrong)),
    }
}

fn look(settings: &Settings) -> Result<Vec<Finding>, Failure> {
    let data = &settings.engine.data;
    let running = block_on(async { Ok(Running::on(data).await) })?;
    let mut checks = settings::check(settings);
    checks.push(folder::check(data, running.as_ref()));
    checks.extend(running.as_ref().map(engine::check));
    checks.push(folder::file_system(data));
    checks.push(folder::space(data));
    checks.extend(ports::check(settings, running.as_ref()));
    checks.push(limits::socket_buffer(settings.ingest.socket_receive_bytes));
    checks.push(limits::open_files(settings, running.as_ref()));
    checks.push(clock::plausible());
    checks.push(clock::synchronised());
    checks.extend(certificates::check(data));
    checks.push(stores::ledger(data));
    checks.push(stores::flush(data));
    checks.push(stores::registrations(data, settings.registration.kek_hex.as_ref()));
    if let Some(url) = &settings.registration.redis_url {
        checks.extend(block_on(async { Ok(redis::check(url).await) })?);
    }
    Ok(checks)
}
