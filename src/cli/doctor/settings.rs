//! What the settings say that each for itself is allowed, and that together does not serve a chain.

use std::thread;

use forecourt::{config::Settings, payment::Choice};

use super::Finding;

const CHECK: &str = "settings";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |found: String, mend: &str| findings.push(Finding::warn(CHECK, found, mend));
    if !settings.http.listen.ip().is_loopback() {
        let listen = settings.http.listen;
        warn(
            format!("http.listen is {listen}, and the API speaks no TLS"),
            "put a proxy that does in front of it, and listen on the loopback",
        );
    }
    if !settings.http.metrics_listen.ip().is_loopback() {
        let listen = settings.http.metrics_listen;
        warn(format!("http.metrics_listen is {listen}: whoever reaches it reads the chain's figures"), "fence it off");
    }
    if !settings.ingest.listen.ip().is_loopback() && settings.ingest.names.is_empty() {
        warn(
            format!("ingest.listen is {}, and ingest.names is empty", settings.ingest.listen),
            "name the hosts under which stations reach this one, or no uplink trusts a certificate that is made here",
        );
    }
    if settings.payment.gateway == Choice::Simulator {
        warn("payment.gateway is the simulator, which moves no money".into(), "set it to the chain's PSP");
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if settings.engine.workers > cores {
        let workers = settings.engine.workers;
        warn(format!("engine.workers is {workers}, and there are {cores} cores"), "0 takes what fits");
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "they hold, and fit each other"));
    }
    findings
}
