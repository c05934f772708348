//! From the beacon to the screen: a station of its own at which unseen cars drive up one by one, while the flood goes on
//! elsewhere, and a terminal that watches for them.
//!
//! Counted from the moment at which the batch is written, so without the gateway's own flush interval.

use std::time::Duration;

use bytes::Bytes;
use forecourt::{
    engine::{
        batch::{Encoder, Hearing},
        id::ReceiverId,
    },
    telemetry,
};
use futures_util::{StreamExt as _, stream::BoxStream};
use quinn::Endpoint;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    FloodError,
    chain::{Chain, SLOT},
    dongles::Dongles,
    group::client_endpoint,
    link::{Caller, Link},
    load::RECEIVERS,
};
use crate::process::Serve;

/// A car that is not on the screen by then is missed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Loud enough for any receiver.
const RSSI_DBM: i8 = -40;

/// Digits of a plate that a terminal sees. Cars come by falling number, so that those of one run all differ in them.
const PLATE_DIGITS: u64 = 10_000;

/// The socket that the probe has for itself, far from those of the groups.
const SOCKET: usize = 10_000;

pub struct Probe {
    dongles: Dongles,
    arrived: u64,
    link: Link,
    encoder: Encoder,
    sequence: u64,
    screen: Screen,
    _endpoint: Endpoint,
}

impl Probe {
    /// Takes the station at this index of the chain, at which nobody else may be.
    pub async fn open(serve: &Serve, dongles: Dongles, station: usize) -> Result<Probe, FloodError> {
        let endpoint = client_endpoint(SOCKET)?;
        let caller = Caller::new(serve.data(), station, RECEIVERS)?;
        let link = caller.call(&endpoint, serve.addresses().ingest).await?;
        let screen = Screen::open(serve, station).await?;
        Ok(Probe { dongles, arrived: 0, link, encoder: Encoder::new(), sequence: 0, screen, _endpoint: endpoint })
    }

    /// What it has sent so far.
    pub fn sent_frames(&self) -> u64 {
        2 * self.arrived
    }

    /// A car every so often for as long as it is to last: how long each took to the screen, in milliseconds. Ends
    /// with an error when one never came.
    pub async fn run(&mut self, every: Duration, lasts: Duration) -> Result<Vec<f64>, FloodError> {
        let begun = Instant::now();
        let mut took = Vec::new();
        for nth in 0.. {
            let due = begun + every * nth;
            if due - begun >= lasts {
                break;
            }
            sleep_until(due).await;
            // From the time at which it was due: a probe that is late because the one before took long counts so.
            took.push(self.drive_up(due).await?.as_secs_f64() * 1e3);
        }
        Ok(took)
    }

    /// One car drives up; how long after `due` the terminal knows.
    pub async fn drive_up(&mut self, due: Instant) -> Result<Duration, FloodError> {
        self.arrived += 1;
        self.sequence += 1;
        let index = self.dongles.count.saturating_sub(self.arrived);
        let now = telemetry::now();
        let code = self.dongles.secret(index).code(SLOT.slot_at(now));
        // Two hearings: a car that is heard once may be driving past.
        let heard = |at| Hearing { code, receiver: ReceiverId(0), rssi: RSSI_DBM, at };
        let mut bytes = Vec::new();
        self.encoder.encode(self.sequence, &[heard(now.minus(1)), heard(now)], &mut bytes).expect("two hearings fit");
        self.link.batches.write_all(&bytes).await.map_err(|_| FloodError::Unseen)?;
        let plate = format!("{:04}\"", Dongles::device(index).0 % PLATE_DIGITS);
        match timeout(PATIENCE, self.screen.shows(&plate)).await {
            Ok(true) => Ok(Instant::now() - due),
            _ => Err(FloodError::Unseen),
        }
    }
}

/// A terminal's stream of events, read only for the plates in it.
struct Screen {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    unread: Vec<u8>,
}

impl Screen {
    async fn open(serve: &Serve, station: usize) -> Result<Screen, FloodError> {
        let station = Chain::station(station);
        let base = format!("http://{}/v1", serve.addresses().http);
        let http = reqwest::Client::builder().no_proxy().build()?;
        let request = http.post(format!("{base}/terminals")).bearer_auth(serve.operator_token());
        let answer = request.json(&json!({ "station": station })).send().await?.error_for_status()?;
        let token: serde_json::Value = answer.json().await?;
        let request = http.get(format!("{base}/stations/{station}/events"));
        let events = request.bearer_auth(token["token"].as_str().unwrap_or_default()).send().await?;
        Ok(Screen { bytes: events.error_for_status()?.bytes_stream().boxed(), unread: Vec::new() })
    }

    /// Reads on until a line holds this text; false when the stream has ended.
    async fn shows(&mut self, text: &str) -> bool {
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                if String::from_utf8_lossy(&line).contains(text) {
                    return true;
                }
            }
            match self.bytes.next().await {
                Some(Ok(bytes)) => self.unread.extend_from_slice(&bytes),
                _ => return false,
            }
        }
    }
}
