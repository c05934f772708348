//! Somebody who scrapes the engine's metrics, as Prometheus does, for as long as he is kept.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::receiver::Receiver;

#[derive(Debug)]
pub(super) struct Scraper(JoinHandle<()>);

impl Scraper {
    /// Begins at once. A sink has nothing to scrape.
    pub(super) fn start(receiver: &Receiver, every: Duration) -> Option<Scraper> {
        let Receiver::Engine(serve) = receiver else { return None };
        let url = format!("http://{}/metrics", serve.addresses().metrics);
        Some(Scraper(tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut due = interval(every);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                // What is not answered costs the engine what it costs: that is what is measured.
                if let Ok(answer) = client.get(&url).send().await {
                    let _ = answer.bytes().await;
                }
            }
        })))
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
