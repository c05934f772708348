//! localstripe, where there is one.

pub(crate) use loadtest::local_stripe::{LocalStripe, SECRET};

use crate::tools;

/// `None`, with a loud line, where there is none.
pub(crate) async fn start() -> Option<LocalStripe> {
    let environment = tools::folder_with(tools::PYTHON, "bin/localstripe")?;
    Some(LocalStripe::start(&environment).await.expect("localstripe runs"))
}
