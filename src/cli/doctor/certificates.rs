//! The certificates of the uplinks: whether they serve, and for how long.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use forecourt::{
    ingest::{
        check_certificates,
        pki::{self, Validity},
    },
    telemetry,
};

use super::{Finding, Verdict};

/// Time to make a certificate and carry it to a station.
const DAYS_WARN: u64 = 30;

pub(super) fn check(data: &Path) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let folder = pki::folder(data);
    let there = match fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::ok(CHECK, "none yet; the first start makes an authority for development")];
        }
        Err(error) => {
            let found = format!("{}: {error}", folder.display());
            return vec![Finding::wrong(CHECK, found, "run this as the engine's user")];
        }
    };
    let (authority, server) = (pki::authority(data), pki::server(data));
    let mut findings = vec![
        of_one("authority", &authority, "renew it, and give it to every station before it runs out"),
        of_one("server certificate", &server.certificate, "renew it, and then: forecourt reload"),
        match check_certificates(data) {
            Ok(()) => Finding::ok(CHECK, "certificate, key and authority serve"),
            Err(error) => Finding::wrong(CHECK, error.to_string(), "put back what belongs together"),
        },
    ];
    let is_certificate = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "pem");
    let beside = |path: &&PathBuf| **path != authority && **path != server.certificate;
    let stations: Vec<&PathBuf> = there.iter().filter(is_certificate).filter(beside).collect();
    findings.extend(of_stations(&stations));
    findings.extend(open_keys(&there));
    findings
}

fn of_one(check: &'static str, path: &Path, mend: &str) -> Finding {
    let validity = match Validity::read(path) {
        Ok(validity) => validity,
        Err(error) => return Finding::wrong(check, error.to_string(), "put it there, or delete it to have one made"),
    };
    let (verdict, found) = judge(&validity);
    Finding::judged(verdict, check, format!("{} {found}", path.display()), mend)
}

fn judge(validity: &Validity) -> (Verdict, String) {
    let now = telemetry::now();
    if now < validity.since {
        return (Verdict::Wrong, "does not hold yet; is the clock right?".into());
    }
    if !validity.holds(now) {
        return (Verdict::Wrong, "has run out".into());
    }
    let days = validity.days_left(now);
    let verdict = if days < DAYS_WARN { Verdict::Warn } else { Verdict::Ok };
    (verdict, format!("holds for {days} days"))
}

/// There may be thousands: the first to run out stands for all.
fn of_stations(paths: &[&PathBuf]) -> Option<Finding> {
    const CHECK: &str = "station certificates";
    let read = paths.iter().map(|path| (Validity::read(path), path));
    let mut first: Option<(Validity, &&PathBuf)> = None;
    for (validity, path) in read {
        match validity {
            Ok(validity) if first.as_ref().is_none_or(|(earliest, _)| validity.until < earliest.until) => {
                first = Some((validity, path));
            }
            Ok(_) => {}
            Err(error) => return Some(Finding::wrong(CHECK, error.to_string(), "delete it, and: forecourt pki")),
        }
    }
    let (validity, path) = first?;
    let (verdict, found) = judge(&validity);
    let found = format!("{}, of which {} runs out first: it {found}", paths.len(), path.display());
    let mend = "delete it, have forecourt pki --station make another, and carry that to the station";
    Some(Finding::judged(verdict, CHECK, found, mend))
}

fn open_keys(there: &[PathBuf]) -> Option<Finding> {
    let is_open = |path: &&PathBuf| {
        path.extension().is_some_and(|extension| extension == "key")
            && path.metadata().is_ok_and(|key| key.permissions().mode() & 0o077 != 0)
    };
    let key = there.iter().find(is_open)?.display();
    Some(Finding::warn("keys", format!("others than its owner may read {key}"), format!("chmod 600 {key}")))
}
