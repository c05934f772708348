//! `forecourt doctor`: what would keep the engine from serving well here, and how to mend it.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
};

use forecourt::{
    app::{Addresses, DataFolder, FolderError},
    config::Settings,
};

use super::Failure;

/// One line of the report: what was looked at, and what is wrong with it, if anything.
struct Check {
    what: &'static str,
    found: Result<String, String>,
}

pub(super) fn run(settings: &Settings) -> Result<(), Failure> {
    let checks = [
        Check { what: "data folder", found: data_folder(&settings.engine.data) },
        Check { what: "uplink port", found: uplink_port(settings) },
        Check { what: "HTTP port", found: tcp_port(settings, settings.http.listen, "http.listen") },
        Check { what: "metrics port", found: tcp_port(settings, settings.http.metrics_listen, "http.metrics_listen") },
        Check { what: "socket buffer", found: socket_buffer(settings.ingest.socket_receive_bytes) },
        Check { what: "open files", found: open_files(settings.ingest.connections_max) },
    ];
    for Check { what, found } in &checks {
        match found {
            Ok(fine) => println!("ok    {what}: {fine}"),
            Err(wrong) => println!("WRONG {what}: {wrong}"),
        }
    }
    match checks.iter().filter(|check| check.found.is_err()).count() {
        0 => Ok(()),
        wrong => Err(Failure::Unwell(wrong)),
    }
}

fn data_folder(path: &Path) -> Result<String, String> {
    match DataFolder::take(path) {
        Ok(_) => Ok(format!("{} is writable and free", path.display())),
        Err(FolderError::InUse(_)) => Ok(match Addresses::of_running(path) {
            Some(addresses) => format!("an engine runs on {} and serves HTTP at {}", path.display(), addresses.http),
            None => format!("an engine is starting on {}", path.display()),
        }),
        Err(error) => Err(format!("{error}; make it writable, or name another as engine.data")),
    }
}

/// Whether an engine runs on the data folder and holds this very address: a port that is taken as it should be.
fn is_ours(settings: &Settings, holds: impl Fn(Addresses) -> bool) -> bool {
    matches!(DataFolder::take(&settings.engine.data), Err(FolderError::InUse(folder))
        if Addresses::of_running(&folder).is_some_and(holds))
}

fn uplink_port(settings: &Settings) -> Result<String, String> {
    let address = settings.ingest.listen;
    match UdpSocket::bind(address) {
        Ok(_) => Ok(format!("{address}/udp is free")),
        Err(_) if is_ours(settings, |running| running.ingest == address) => {
            Ok(format!("{address}/udp is held by the running engine"))
        }
        Err(error) => Err(format!("{address}/udp: {error}; end what holds it, or set ingest.listen")),
    }
}

fn tcp_port(settings: &Settings, address: SocketAddr, knob: &str) -> Result<String, String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("{address}/tcp is free")),
        Err(_) if is_ours(settings, |running| [running.http, running.metrics].contains(&address)) => {
            Ok(format!("{address}/tcp is held by the running engine"))
        }
        Err(error) => Err(format!("{address}/tcp: {error}; end what holds it, or set {knob}")),
    }
}

/// The kernel grants at most `net.core.rmem_max`, and drops packets by the thousand with its usual 208 KB.
fn socket_buffer(wanted: usize) -> Result<String, String> {
    let Ok(text) = fs::read_to_string("/proc/sys/net/core/rmem_max") else {
        return Ok("not told by this system".into());
    };
    match text.trim().parse::<usize>() {
        Ok(granted) if granted < wanted => {
            Err(format!("the kernel grants {granted} of {wanted} bytes; as root: sysctl -w net.core.rmem_max={wanted}"))
        }
        _ => Ok(format!("{wanted} bytes are granted")),
    }
}

/// A terminal or phone that listens for events holds one descriptor each.
fn open_files(connections: usize) -> Result<String, String> {
    let Ok(limits) = fs::read_to_string("/proc/self/limits") else { return Ok("not told by this system".into()) };
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    match soft.and_then(|soft| soft.parse::<usize>().ok()) {
        Some(soft) if soft < connections => Err(format!(
            "{soft} may be open, {connections} connections are allowed; raise it with ulimit -n {connections}"
        )),
        _ => Ok("enough".into()),
    }
}
