//! The clients that the builds are made of, as a report names them.

use super::{broker::Broker, presence};

/// What we were built with.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Each crate, its version, and how it is used.
pub(super) fn all() -> impl Iterator<Item = (String, String)> {
    let clients = Broker::ALL.map(Broker::client).into_iter().chain([presence::REDIS_CLIENT]);
    clients.map(|(name, used)| (format!("crate {name}"), format!("{} ({used})", version(name))))
}

fn version(name: &str) -> &'static str {
    let package = LOCK.split("[[package]]").find(|package| field(package, "name") == Some(name));
    package.and_then(|package| field(package, "version")).unwrap_or_default()
}

fn field<'a>(package: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
    package.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_named_with_its_version() {
        let clients: Vec<_> = all().collect();
        assert_eq!(clients.len(), 3);
        for (name, version) in clients {
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name}: {version}");
        }
    }

    #[test]
    fn a_version_is_that_of_the_crate_itself() {
        assert_eq!(version("loadtest"), env!("CARGO_PKG_VERSION"));
        assert_eq!(version("no such crate"), "");
    }
}
