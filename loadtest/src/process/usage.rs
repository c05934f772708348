//! What a process has used, as the kernel accounts for it in `/proc`.
//!
//! CPU time comes from the scheduler's own count of each thread in nanoseconds: `stat` counts in hundredths of a
//! second, which is one percent of a slice of a second. A thread that has ended takes its count along, so spans are
//! measured of processes whose busy threads live on.

use std::{
    fs, io,
    ops::Sub,
    path::{Path, PathBuf},
    time::Duration,
};

const KIB: u64 = 1024;

/// Nanoseconds of one tick of `stat`: the kernel shows hundredths of a second to user space on every machine.
const TICK_NS: u64 = 10_000_000;

/// Where `stat` has the user's ticks, counted from behind the command's name; the kernel's follow.
const USER_TICKS_FIELD: usize = 11;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of all threads, in user space and in the kernel.
    pub cpu: Duration,
    pub resident_bytes: u64,
    /// The most that was ever resident.
    pub resident_bytes_max: u64,
}

/// The CPU time between two looks at the same process.
impl Sub for Usage {
    type Output = Duration;

    fn sub(self, earlier: Usage) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

/// What the process has used so far.
pub fn of(pid: u32) -> io::Result<Usage> {
    of_folder(Path::new(&format!("/proc/{pid}")))
}

/// What this process has used so far.
pub fn of_self() -> io::Result<Usage> {
    of_folder(Path::new("/proc/self"))
}

fn of_folder(folder: &Path) -> io::Result<Usage> {
    let status = fs::read_to_string(folder.join("status"))?;
    let kib = |key| status_kib(&status, key).unwrap_or_default() * KIB;
    let cpu_ns = match scheduled_ns(folder)? {
        0 => accounted_ns(&fs::read_to_string(folder.join("stat"))?),
        ns => ns,
    };
    Ok(Usage { cpu: Duration::from_nanos(cpu_ns), resident_bytes: kib("VmRSS:"), resident_bytes_max: kib("VmHWM:") })
}

/// The scheduler's count of all threads; 0 on a kernel that keeps none.
fn scheduled_ns(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(folder.join("task"))? {
        let path: PathBuf = thread?.path().join("schedstat");
        // A thread may end between the listing and the look at it.
        let text = fs::read_to_string(path).unwrap_or_default();
        sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(sum)
}

fn accounted_ns(stat: &str) -> u64 {
    // The command's name may hold spaces and brackets; the last bracket closes it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(USER_TICKS_FIELD).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_NS
}

fn status_kib(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_its_most_is_no_less() {
        let usage = of_self().unwrap();
        assert!(usage.resident_bytes > 0 && usage.resident_bytes_max >= usage.resident_bytes);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(of(u32::MAX).is_err());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 90 0 0 0 250 50 0 0 20 0 3 0 5 0 0";
        assert_eq!(accounted_ns(stat), 300 * TICK_NS);
    }

    #[test]
    fn a_span_never_runs_backwards() {
        let at = |ms| Usage { cpu: Duration::from_millis(ms), ..Usage::default() };
        assert_eq!(at(30) - at(10), Duration::from_millis(20));
        assert_eq!(at(10) - at(30), Duration::ZERO);
    }
}
