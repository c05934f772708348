//! Debian's `prometheus` on a free port of the loopback, with a folder of its own, scraping one engine.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{peers::server::free_address, process::in_path};

const PROGRAM: &str = "prometheus";
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// As often as a rate over ten seconds needs it.
const SCRAPE: &str = "1s";

#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    #[error("there is no {PROGRAM} here; install Debian's package of that name (apt-get install {PROGRAM})")]
    Missing,
    #[error("{PROGRAM}: {0}")]
    Machine(#[from] io::Error),
    #[error("{PROGRAM} did not come up: {0}")]
    NotUp(String),
    #[error("{PROGRAM} could not be asked: {0}")]
    Ask(#[from] reqwest::Error),
    #[error("{PROGRAM} refused: {0}")]
    Refused(String),
}

/// A running Prometheus. Dropped, it is killed.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    http: reqwest::Client,
}

/// One series of an answer, as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A rule that it has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rule {
    pub name: String,
    pub query: String,
    #[serde(rename = "type")]
    pub kind: RuleKind,
    #[serde(rename = "lastError", default)]
    pub error: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    Recording,
    Alerting,
}

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    /// Time and value.
    value: (f64, String),
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    labels: BTreeMap<String, String>,
    state: String,
}

impl Prometheus {
    /// Scrapes the engine whose metrics are at `engine`, under the rules in these files.
    pub async fn start(engine: SocketAddr, rules: &[PathBuf]) -> Result<Prometheus, PrometheusError> {
        let program = find().ok_or(PrometheusError::Missing)?;
        let folder = tempfile::Builder::new().prefix("forecourt-prometheus-").tempdir()?;
        let (address, config) = (free_address()?, folder.path().join("prometheus.yml"));
        fs::write(&config, configuration(engine, rules))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut prometheus = Prometheus { child, address, folder, http };
        prometheus.until_up().await?;
        Ok(prometheus)
    }

    async fn until_up(&mut self) -> Result<(), PrometheusError> {
        let patience = Instant::now() + PATIENCE;
        while self.query("up == 1").await.map_or(true, |up| up.is_empty()) {
            if Instant::now() > patience || self.child.try_wait()?.is_some() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(PrometheusError::NotUp(log));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// The series that the expression has now. One that is not a number says nothing, and is left out.
    pub async fn query(&self, expression: &str) -> Result<Vec<Series>, PrometheusError> {
        let vector: Vector = self.ask("query", &[("query", expression)]).await?;
        let series = vector.result.into_iter().map(|Sample { metric, value: (_, value) }| Series {
            labels: metric,
            value: value.parse().unwrap_or(f64::NAN),
        });
        Ok(series.filter(|series| !series.value.is_nan()).collect())
    }

    /// Every rule of its files.
    pub async fn rules(&self) -> Result<Vec<Rule>, PrometheusError> {
        let Groups { groups } = self.ask("rules", &[]).await?;
        Ok(groups.into_iter().flat_map(|group| group.rules).collect())
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> Result<Vec<String>, PrometheusError> {
        let Alerts { alerts } = self.ask("alerts", &[]).await?;
        let firing = alerts.into_iter().filter(|alert| alert.state == "firing");
        let mut names: Vec<String> = firing.filter_map(|mut alert| alert.labels.remove("alertname")).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str, fields: &[(&str, &str)]) -> Result<T, PrometheusError> {
        let url = format!("http://{}/api/v1/{what}", self.address);
        let url = Url::parse_with_params(&url, fields).expect("an address and a word are a URL");
        let answer: Envelope<T> = self.http.get(url).send().await?.json().await?;
        answer.data.ok_or(PrometheusError::Refused(answer.error))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has ended by itself already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the program is.
pub fn find() -> Option<PathBuf> {
    in_path(PROGRAM)
}

/// The rules that ship.
pub fn rules(folder: &Path) -> Vec<PathBuf> {
    ["recording.yml", "alerts.yml"].map(|file| folder.join("rules").join(file)).into()
}

/// JSON is YAML.
fn configuration(engine: SocketAddr, rules: &[PathBuf]) -> String {
    json!({
        "global": { "scrape_interval": SCRAPE, "evaluation_interval": SCRAPE },
        "rule_files": rules,
        "scrape_configs": [{ "job_name": "forecourt", "static_configs": [{ "targets": [engine.to_string()] }] }],
    })
    .to_string()
}
