//! localstripe, where there is one.

use std::{env, path::Path};

pub(crate) use loadtest::local_stripe::{LocalStripe, SECRET};

/// `None`, with a loud line, where there is none.
pub(crate) async fn start() -> Option<LocalStripe> {
    let Some(folder) = env::var_os("FORECOURT_TEST_PYTHON") else {
        assert!(env::var_os("CI").is_none(), "FORECOURT_TEST_PYTHON names no Python with localstripe");
        eprintln!("SKIPPED: FORECOURT_TEST_PYTHON names no Python with localstripe (pip install localstripe==1.15.10)");
        return None;
    };
    Some(LocalStripe::start(Path::new(&folder)).await.expect("localstripe runs"))
}
