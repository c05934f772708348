//! Through the running engine: the file in parts, each sent until it is answered. What is in already changes nothing, so a
//! part whose answer was lost is simply sent again, also to an engine that was started anew meanwhile.

use std::{
    fs,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use forecourt::{
    app::Addresses,
    registration::{ImportReport, OPERATOR_TOKEN_FILE, Part, Parts, REFUSALS_MAX, Refusal},
};
use reqwest::StatusCode;
use zeroize::Zeroizing;

use super::{Error, Importable, Told};

/// Some fifty thousand dongles: a second's work for the engine, and a request that is cheap to send again.
const PART_BYTES: usize = 8 << 20;

/// Longer than any part takes on a machine that is busy with something else.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// How long an engine may be away: it loads a nation's dongles when it starts.
const AWAY_MAX: Duration = Duration::from_secs(300);

const TRY_EACH: Duration = Duration::from_secs(1);

pub(super) struct Engine<'a> {
    folder: &'a Path,
    what: Importable,
    client: reqwest::Client,
    told: &'a Told,
}

impl<'a> Engine<'a> {
    pub(super) fn new(folder: &'a Path, what: Importable, told: &'a Told) -> Result<Engine<'a>, Error> {
        // The operator's token goes to this machine's own engine, whatever proxy the environment names.
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build()?;
        Ok(Engine { folder, what, client, told })
    }

    pub(super) async fn import(&self, file: impl Read, body_bytes_max: usize) -> Result<ImportReport, Error> {
        let unique = match self.what {
            Importable::Stations => None,
            Importable::Devices => Some("device_id"),
        };
        // A row more may go in than the bound says, and the header.
        let part_bytes = PART_BYTES.min(body_bytes_max / 2);
        let mut parts = Parts::new(file, unique, part_bytes)?;
        let mut whole = ImportReport::default();
        while let Some(mut part) = parts.next_part()? {
            let csv = Bytes::from_owner(std::mem::take(&mut part.csv));
            let answered = self.send_until_answered(csv, &whole).await?;
            add(&mut whole, answered, &part);
            self.told.rows(whole.accepted + whole.refused, whole.refused);
        }
        Ok(whole)
    }

    async fn send_until_answered(&self, csv: Bytes, sofar: &ImportReport) -> Result<ImportReport, Error> {
        let mut away_since = None;
        loop {
            let away = match self.send(csv.clone()).await {
                Ok(report) => return Ok(report),
                Err(Attempt::Refused(error)) => return Err(error),
                Err(Attempt::Away(error)) => error,
            };
            let since = *away_since.get_or_insert_with(|| {
                self.told.note(&format!("{away}; waiting for the engine"));
                Instant::now()
            });
            if since.elapsed() > AWAY_MAX {
                return Err(Error::GaveUp { accepted: sofar.accepted, source: Box::new(away) });
            }
            tokio::time::sleep(TRY_EACH).await;
        }
    }

    /// Where the engine is and who may ask is read anew each time: it may have been started again.
    async fn send(&self, csv: Bytes) -> Result<ImportReport, Attempt> {
        let addresses =
            Addresses::of_running(self.folder).ok_or_else(|| Attempt::Away(Error::NoAddress(self.folder.into())))?;
        let path = self.folder.join(OPERATOR_TOKEN_FILE);
        let token = fs::read_to_string(&path)
            .map(Zeroizing::new)
            .map_err(|source| Attempt::Refused(Error::File { path, source }))?;
        let what = match self.what {
            Importable::Stations => "stations",
            Importable::Devices => "devices",
        };
        let url = format!("http://{}/v1/imports/{what}", addresses.http);
        let request = self.client.post(url).bearer_auth(token.trim()).header("content-type", "text/csv").body(csv);
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(away);
        }
        let problem = Error::Answer(detail(&answer.text().await.map_err(away)?));
        Err(if status == StatusCode::SERVICE_UNAVAILABLE { Attempt::Away(problem) } else { Attempt::Refused(problem) })
    }
}

enum Attempt {
    /// Worth another try.
    Away(Error),
    Refused(Error),
}

fn away(error: reqwest::Error) -> Attempt {
    Attempt::Away(Error::Ask(error))
}

/// With the lines as they stand in the file.
fn add(whole: &mut ImportReport, answered: ImportReport, part: &Part) {
    whole.accepted += answered.accepted;
    whole.unchanged += answered.unchanged;
    whole.refused += answered.refused + part.refusals.len() as u64;
    let placed =
        answered.refusals.into_iter().map(|refusal| Refusal { line: part.line_of_file(refusal.line), ..refusal });
    let mut refusals: Vec<Refusal> = placed.chain(part.refusals.iter().cloned()).collect();
    refusals.sort_by_key(|refusal| refusal.line);
    let room = REFUSALS_MAX.saturating_sub(whole.refusals.len());
    whole.refusals.extend(refusals.into_iter().take(room));
}

/// What a problem says for people.
fn detail(problem: &str) -> String {
    let read = serde_json::from_str::<serde_json::Value>(problem).ok();
    read.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or(problem).to_owned()
}
