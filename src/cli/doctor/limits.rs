//! What the kernel grants a process: room for packets, and open files.

use forecourt::{config::Settings, ingest};
use rustix::process::{Resource, getrlimit};

use super::{super::running::Running, Finding};

/// Scrapers, the stores' files, Redis, the log, and what libraries open.
const FILES_BESIDE: usize = 256;

/// The kernel grants at most `net.core.rmem_max`, and drops packets by the thousand with its usual 208 KB.
pub(super) fn socket_buffer(wanted: usize) -> Finding {
    const CHECK: &str = "socket buffer";
    match ingest::receive_bytes_granted(wanted) {
        Ok(granted) if granted < wanted => Finding::wrong(
            CHECK,
            format!("the kernel grants {granted} of {wanted} bytes"),
            format!("as root: sysctl -w net.core.rmem_max={wanted}, and in /etc/sysctl.d for the next start"),
        ),
        Ok(_) => Finding::ok(CHECK, format!("{wanted} bytes are granted")),
        Err(error) => Finding::warn(CHECK, format!("cannot be asked for: {error}"), "look whether UDP is allowed here"),
    }
}

/// A terminal, phone or event stream holds one file, and so does a call to the PSP and a try of the second channel. All
/// uplinks share one.
pub(super) fn open_files(settings: &Settings, running: Option<&Running>) -> Finding {
    const CHECK: &str = "open files";
    let (http, psp, push) = (settings.http.connections_max, settings.payment.places_max, settings.push.at_once_max);
    let needed = http + psp + push + FILES_BESIDE;
    let sum = format!("{http} HTTP + {psp} PSP + {push} push + {FILES_BESIDE} = {needed}");
    let limit = getrlimit(Resource::Nofile);
    // The engine's own limit is what counts, and it may have another than this shell.
    let engines = running.and_then(|running| running.metric("process_max_fds")).map(|most| most as u64);
    let (whose, soft) = match engines {
        Some(most) => ("the running engine", Some(most)),
        None => ("a process here", limit.current),
    };
    let shown = soft.map_or("any number".to_owned(), |soft| soft.to_string());
    if soft.is_none_or(|soft| soft >= needed as u64) {
        return Finding::ok(CHECK, format!("{whose} may have {shown}; needed are {sum}"));
    }
    let hard = limit.maximum.map_or("unlimited".to_owned(), |hard| hard.to_string());
    Finding::wrong(
        CHECK,
        format!("{whose} may have {shown} (hard limit {hard}); needed are {sum}"),
        format!("ulimit -n {needed}, LimitNOFILE={needed} in a unit, or lower http.connections_max"),
    )
}
