//! What others recorded or published, and where it lies.
//!
//! It is not part of the project: `FORECOURT_DATA` names its folder, else `../shared/data`. Without it the tests that
//! need it say so and pass, with CI=true they fail.

use std::path::PathBuf;

/// The folder `part` of the data, or a loud line.
pub(crate) fn data(part: &str) -> Option<PathBuf> {
    let data = std::env::var_os("FORECOURT_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let folder = data.join(part);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no data in {}", folder.display());
    eprintln!("SKIPPED: no data in {}; set FORECOURT_DATA", folder.display());
    None
}
