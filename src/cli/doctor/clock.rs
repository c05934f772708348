//! The clock: codes are looked up by it, and a dongle's slot lasts minutes.

use std::{env, process::Command, time::UNIX_EPOCH};

use forecourt::{engine::time::UnixMs, telemetry};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Finding;

/// 2100-01-01. No certificate made today holds so long.
const TOO_LATE: UnixMs = UnixMs(4_102_444_800_000);

/// It cannot be earlier than this program was installed.
pub(super) fn plausible() -> Finding {
    const CHECK: &str = "clock";
    let now = telemetry::now();
    let installed = env::current_exe().and_then(|program| program.metadata()?.modified()).ok();
    let installed =
        installed.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_millis() as u64);
    let shown = calendar(now);
    let mend = "set it (timedatectl set-time), and have NTP keep it";
    if now < UnixMs(installed) {
        Finding::wrong(CHECK, format!("it is {shown}, before this program was installed"), mend)
    } else if now > TOO_LATE {
        Finding::wrong(CHECK, format!("it is {shown}, after the year 2100"), mend)
    } else {
        Finding::ok(CHECK, format!("{shown} is plausible"))
    }
}

fn calendar(now: UnixMs) -> String {
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|date| date.format(&Rfc3339).ok());
    date.unwrap_or_else(|| format!("{now} s since 1970"))
}

/// As the kernel was told by whatever keeps it; systemd and chrony are who can say.
pub(super) fn synchronised() -> Finding {
    const CHECK: &str = "time source";
    match by_systemd().or_else(by_chrony) {
        Some(true) => Finding::ok(CHECK, "the clock is synchronised"),
        Some(false) => Finding::wrong(
            CHECK,
            "the clock is not synchronised: dongles are looked up in the wrong slot once it is minutes off",
            "install chrony or enable systemd-timesyncd (timedatectl set-ntp true)",
        ),
        None => Finding::warn(
            CHECK,
            "neither systemd nor chrony is here to tell whether the clock is synchronised",
            "see that NTP runs; in a container, on its host",
        ),
    }
}

fn by_systemd() -> Option<bool> {
    match said("timedatectl", &["show", "--property=NTPSynchronized", "--value"])?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn by_chrony() -> Option<bool> {
    let tracking = said("chronyc", &["-n", "tracking"])?;
    let leap = tracking.lines().find_map(|line| line.strip_prefix("Leap status")?.trim().strip_prefix(':'))?;
    Some(leap.trim() != "Not synchronised")
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
