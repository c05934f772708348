//! `forecourt reload`: has the running engine read settings and certificates again, and says what it took over.

use std::{fs, io, path::PathBuf, time::Duration};

use forecourt::{app::Addresses, config::Settings, http::Reloaded, registration::OPERATOR_TOKEN_FILE};
use zeroize::Zeroizing;

use super::{Failure, block_on, print};

/// A reload reads some files; it waits for the one before it.
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no engine runs on the data folder {}", .0.display())]
    NotRunning(PathBuf),
    #[error("{}: {source}", path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("the engine could not be asked: {0}")]
    Ask(#[from] reqwest::Error),
    #[error("nothing is taken over, and what was in force still is: {0}")]
    Refused(String),
}

pub(super) fn run(settings: &Settings, json: bool) -> Result<(), Failure> {
    block_on(async {
        let reloaded = ask(settings).await?;
        let text = if json { serde_json::to_string(&reloaded).expect("plain text") + "\n" } else { told(&reloaded) };
        print(&text)?;
        reloaded.refused.map_or(Ok(()), |reason| Err(Error::Refused(reason).into()))
    })
}

async fn ask(settings: &Settings) -> Result<Reloaded, Error> {
    let folder = &settings.engine.data;
    let addresses = Addresses::of_running(folder).ok_or_else(|| Error::NotRunning(folder.clone()))?;
    let path = folder.join(OPERATOR_TOKEN_FILE);
    let token = fs::read_to_string(&path).map(Zeroizing::new).map_err(|source| Error::Token { path, source })?;
    // The token goes to this machine's own engine, whatever proxy the environment names.
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build()?;
    let request = client.post(format!("http://{}/v1/reload", addresses.http)).bearer_auth(token.trim());
    Ok(request.send().await?.error_for_status()?.json().await?)
}

fn told(reloaded: &Reloaded) -> String {
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let taken = format!("taken over: {}\n", list(&reloaded.taken));
    if reloaded.restart.is_empty() {
        return taken;
    }
    format!("{taken}changed, and in force after a restart: {}\n", list(&reloaded.restart))
}
