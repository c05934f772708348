//! What some tests need and not every machine has. Without it they say so, loudly, and pass; with CI=true they fail.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use loadtest::process;

/// Names the folder in which `tests/run` has installed what comes from PyPI.
pub(crate) const PYTHON: &str = "FORECOURT_TEST_PYTHON";

/// The same of npm.
pub(crate) const NODE: &str = "FORECOURT_TEST_NODE";

/// A program of a Debian package.
pub(crate) fn in_path(program: &str, package: &str) -> Option<PathBuf> {
    or_skip(process::in_path(program), &format!("no {program} in the PATH (Debian: apt-get install {package})"))
}

/// The folder that `variable` names, if it has the program.
pub(crate) fn folder_with(variable: &str, program: &str) -> Option<PathBuf> {
    let folder = env::var_os(variable).map(PathBuf::from).filter(|folder| folder.join(program).is_file());
    or_skip(folder, &format!("no {program} in the folder that {variable} names (tests/run makes one)"))
}

fn or_skip<T>(found: Option<T>, lack: &str) -> Option<T> {
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "{lack}");
        eprintln!("SKIPPED: {lack}");
    }
    found
}

/// A file system in memory, under a folder until it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a loud line, for who may not mount: no package brings that right, so continuous integration may lack
    /// it too.
    pub(crate) fn mount(folder: PathBuf, options: &str) -> Option<SmallDisk> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&folder).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(SmallDisk(folder));
        }
        eprintln!("SKIPPED: a small disk cannot be mounted (root may)");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The engine may still have its files open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
    }
}
