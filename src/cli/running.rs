//! The engine that runs on the data folder, if one does, and what it says of itself.

use std::{path::Path, time::Duration};

use forecourt::app::{Addresses, DataFolder};
use serde_json::Value;

/// One that lives answers within milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Running {
    /// `None` while it starts.
    pub(super) addresses: Option<Addresses>,
    /// `None` when it does not answer.
    pub(super) health: Option<Value>,
    pub(super) metrics: Option<String>,
}

impl Running {
    pub(super) async fn on(data: &Path) -> Option<Running> {
        if !DataFolder::is_in_use(data) {
            return None;
        }
        let addresses = Addresses::of_running(data);
        let mut running = Running { addresses, ..Running::default() };
        if let Some(Addresses { http, metrics, .. }) = addresses {
            let health = ask(format!("http://{http}/health/ready")).await;
            running.health = health.and_then(|text| serde_json::from_str(&text).ok());
            running.metrics = ask(format!("http://{metrics}/metrics")).await;
        }
        Some(running)
    }

    /// The value of a metric without labels.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        self.metrics.as_ref()?.lines().find_map(line)
    }
}

/// Health is told with another status when there is none, and is read all the same.
async fn ask(url: String) -> Option<String> {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build().ok()?;
    client.get(url).send().await.ok()?.text().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let running = Running { metrics: Some("a_b 1\na 2\n".into()), ..Running::default() };
        assert_eq!((running.metric("a"), running.metric("b")), (Some(2.0), None));
    }
}
