//! The second channel to the driver: a signed webhook to the chain's own push service, for a word that no phone has shown
//! in time.
//!
//! ```text
//! session --Word--> outbox --due--> sender --Standard Webhooks--> the chain's push service --> the driver's phone
//! ```
//!
//! What is to be told, and since when, is journalled by the sessions: so is that a phone has shown it. What was pushed is
//! not: after a restart a word that is still unseen is pushed again under the same `webhook-id`, by which its receiver
//! knows it. A row in the journal for each push would cost more than a second one does.
//!
//! Rules:
//! - A word keeps its `webhook-id` over all tries and restarts: session, version and notice.
//! - The payload says that there is something to show, and no more: no plate, amount or secret. The app fetches the rest.
//! - An answer of 2xx ends it; 410 ends the channel until a restart; anything else, and silence, is tried again, each time
//!   after twice as long, until the word is too old to be news.

mod metrics;
mod outbox;
mod sender;
mod signature;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    secret::Secret,
    session::{Sessions, Word},
    telemetry::now,
};
use metrics::Metrics;
use outbox::{Outbox, Policy, Verdict};
use sender::Sender;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the push service takes webhooks. Without it there is no second channel.
    pub url: Option<String>,
    /// What they are signed with. From the environment only, so that it lies in no file.
    pub secret: Option<Secret>,
    /// Milliseconds that a word waits for a phone to show it before it is pushed.
    pub after_ms: u64,
    /// Milliseconds without an answer after which a try has failed.
    pub timeout_ms: u64,
    /// Milliseconds before the second try; each further one waits twice as long.
    pub retry_ms_min: u64,
    /// The longest pause between two tries, in milliseconds.
    pub retry_ms_max: u64,
    /// Seconds after which a word is no news any more, and is not tried again.
    pub give_up_s: u32,
    /// Words kept at a time, about 200 bytes each; past it the oldest is dropped and counted.
    pub words_max: usize,
    /// Tries under way at a time; each holds a connection.
    pub at_once_max: usize,
}

/// Settings of the second channel that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("push.url is not http://... or https://...")]
    Url,
    #[error("push.url needs a secret: FORECOURT_PUSH_SECRET")]
    SecretMissing,
    #[error("push.secret is not one or more of `whsec_` and 24 to 64 bytes in base64, separated by spaces")]
    Secret,
}

impl Config {
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.secret.as_ref().is_some_and(|secret| signature::keys(secret).is_none()) {
            return Err(ConfigError::Secret);
        }
        match &self.url {
            Some(url) if sender::parse(url).is_none() => Err(ConfigError::Url),
            Some(_) if self.secret.is_none() => Err(ConfigError::SecretMissing),
            Some(_) | None => Ok(()),
        }
    }

    fn policy(&self) -> Policy {
        Policy {
            after_ms: self.after_ms,
            retry_ms_min: self.retry_ms_min,
            retry_ms_max: self.retry_ms_max.max(self.retry_ms_min),
            give_up_ms: u64::from(self.give_up_s) * 1_000,
            words_max: self.words_max,
        }
    }
}

/// Describes and registers every metric of the stage with the recorder in force.
pub fn register_metrics() {
    let _ = Metrics::new();
}

/// Begins to push until `shutdown` comes; `None` when there is no push service. Must be called on the runtime that is to
/// do the work.
pub fn start(config: &Config, sessions: Sessions, shutdown: CancellationToken) -> Option<JoinHandle<()>> {
    let (url, keys) = (config.url.as_deref()?, signature::keys(config.secret.as_ref()?)?);
    let sender = Sender::new(sender::parse(url)?, keys, Duration::from_millis(config.timeout_ms));
    let pusher = Pusher {
        outbox: Outbox::new(config.policy()),
        sender,
        at_once_max: config.at_once_max,
        metrics: Metrics::new(),
    };
    tracing::info!("words that no phone shows are pushed");
    Some(tokio::spawn(async move {
        tokio::select! {
            () = pusher.run(sessions) => {}
            () = shutdown.cancelled() => {}
        }
    }))
}

/// The shell: carries words into the outbox and out of it.
struct Pusher {
    outbox: Outbox,
    sender: Sender,
    at_once_max: usize,
    metrics: Metrics,
}

impl Pusher {
    /// Ends with the sessions, or when the push service wants no more.
    async fn run(mut self, sessions: Sessions) {
        let Some(mut words) = self.begin(&sessions).await else { return };
        let mut sending = FuturesUnordered::new();
        loop {
            while sending.len() < self.at_once_max
                && let Some(message) = self.outbox.take_due(now())
            {
                let sender = self.sender.clone();
                sending.push(async move { (message, sender.send(message).await) });
            }
            self.count();
            let is_full = sending.len() >= self.at_once_max;
            tokio::select! {
                word = words.recv() => match word {
                    Ok(word) => self.outbox.tell(word, now()),
                    Err(RecvError::Lagged(_)) => match self.begin(&sessions).await {
                        Some(anew) => words = anew,
                        None => return,
                    },
                    Err(RecvError::Closed) => return,
                },
                Some((message, tried)) = sending.next() => {
                    self.metrics.tried(tried);
                    match tried.verdict() {
                        Verdict::Gone => return self.close(),
                        verdict => self.outbox.settle(&message, verdict, now()),
                    }
                }
                () = wait(self.outbox.next_due().map(|due| due.since(now()))), if !is_full => {}
            }
        }
    }

    /// What drivers have to be told now, and each change of it.
    async fn begin(&mut self, sessions: &Sessions) -> Option<Receiver<Word>> {
        let (words, changes) = sessions.watch_words().await.ok()?;
        self.outbox.tell_all(&words, now());
        Some(changes)
    }

    fn close(&self) {
        tracing::error!("the push service answers 410: nothing is pushed until the engine is started again");
        self.metrics.disabled.set(1.0);
        self.metrics.waiting.set(0.0);
        self.metrics.overdue.set(0.0);
    }

    fn count(&mut self) {
        self.metrics.waiting.set(self.outbox.waiting() as f64);
        let overdue = self.outbox.next_due().filter(|due| *due <= now());
        self.metrics.overdue.set(overdue.map_or(0.0, |due| due.0 as f64 / 1_000.0));
        let lost = self.outbox.take_lost();
        self.metrics.dropped.increment(lost.dropped);
        self.metrics.given_up.increment(lost.given_up);
    }
}

/// For ever, when nothing is due.
async fn wait(ms: Option<u64>) {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
