//! Programs from PyPI that some tests run, from a virtual environment that `tests/run` makes.

use std::{env, path::PathBuf};

/// Names the environment's folder.
const FOLDER: &str = "FORECOURT_TEST_PYTHON";

/// The program, or `None` with a loud line where there is none.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let found = env::var_os(FOLDER).map(|folder| PathBuf::from(folder).join("bin").join(name));
    let found = found.filter(|program| program.is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "no {name} in the folder that {FOLDER} names");
        eprintln!("SKIPPED: no {name} in the folder that {FOLDER} names (tests/run makes one)");
    }
    found
}
