//! Debian's `prometheus` and `promtool`.

use std::{env, path::PathBuf};

/// The program, or `None` with a loud line where there is none.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let program = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if program.is_none() {
        assert!(env::var_os("CI").is_none(), "no {name} in the PATH");
        eprintln!("SKIPPED: no {name} in the PATH (Debian: apt-get install prometheus)");
    }
    program
}
