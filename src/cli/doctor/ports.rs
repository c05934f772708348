//! The addresses that the engine listens on: free, or its own.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use forecourt::{app::Addresses, config::Settings};

use super::{super::running::Running, Finding};

pub(super) fn check(settings: &Settings, running: Option<&Running>) -> [Finding; 3] {
    let ours = running.and_then(|running| running.addresses);
    let (uplinks, http) = (settings.ingest.listen, &settings.http);
    let udp = || UdpSocket::bind(uplinks).map(drop);
    let tcp = |address: SocketAddr| move || TcpListener::bind(address).map(drop);
    [
        port("uplink port", "ingest.listen", uplinks, "udp", udp, ours.map(|at: Addresses| at.ingest)),
        port("HTTP port", "http.listen", http.listen, "tcp", tcp(http.listen), ours.map(|at| at.http)),
        port(
            "metrics port",
            "http.metrics_listen",
            http.metrics_listen,
            "tcp",
            tcp(http.metrics_listen),
            ours.map(|at| at.metrics),
        ),
    ]
}

fn port(
    check: &'static str,
    knob: &str,
    address: SocketAddr,
    protocol: &str,
    bind: impl FnOnce() -> std::io::Result<()>,
    ours: Option<SocketAddr>,
) -> Finding {
    match bind() {
        Ok(()) => Finding::ok(check, format!("{address}/{protocol} is free")),
        Err(_) if ours == Some(address) => {
            Finding::ok(check, format!("{address}/{protocol} is held by the running engine"))
        }
        Err(error) => Finding::wrong(
            check,
            format!("{address}/{protocol}: {error}"),
            format!("end what holds it (ss -lnp | grep :{}), or set {knob}", address.port()),
        ),
    }
}
