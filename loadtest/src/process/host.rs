//! What a figure was measured on: the machine and the build, for every report.

use std::fs;

/// The machine and the build.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Facts {
    pub cpu: String,
    /// Of the machine; where a process may run is a condition of its run.
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// The most that the kernel lets a socket keep of what it received.
    pub socket_receive_bytes_max: u64,
    /// Of Forecourt.
    pub version: &'static str,
    pub profile: &'static str,
    pub target: &'static str,
}

impl Facts {
    /// Reads what this machine says of itself; what it does not say is empty.
    pub fn read() -> Facts {
        let build = forecourt::telemetry::build();
        let processors = text("/proc/cpuinfo");
        Facts {
            cpu: field(&processors, "model name").unwrap_or_default(),
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            memory_bytes: field(&text("/proc/meminfo"), "MemTotal").and_then(|kib| number(&kib)).unwrap_or_default()
                * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().into(),
            socket_receive_bytes_max: number(&text("/proc/sys/net/core/rmem_max")).unwrap_or_default(),
            version: build.version,
            profile: build.profile,
            target: build.target,
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first value of `key: value` lines.
fn field(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned()).next()
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_is() {
        let facts = Facts::read();
        assert!(facts.cores > 0 && facts.memory_bytes > 0 && !facts.kernel.is_empty(), "{facts:?}");
    }

    #[test]
    fn the_first_core_speaks_for_all() {
        let text = "processor\t: 0\nmodel name\t: One\nprocessor\t: 1\nmodel name\t: Two\n";
        assert_eq!(field(text, "model name").as_deref(), Some("One"));
        assert_eq!(field(text, "bogomips"), None);
    }
}
