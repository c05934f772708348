//! Every query of the dashboards and rules, asked of a real Prometheus that scrapes a real engine which a small town
//! keeps busy. A query without an answer is a misspelt one, or one about what does not happen any more.

use std::{path::PathBuf, sync::Arc, time::Duration};

use forecourt::telemetry;
use tokio::time::sleep;

use super::{
    BoardsError, boards, folder,
    prometheus::{self, Prometheus, PrometheusError, RuleKind, Series},
    selector::{INTERVAL, selectors},
};
use crate::{
    demo::{self, DemoError, HABITS, JUDGEMENT},
    fleet::Fleet,
    peers::server::{Program, Server, ServerError},
    process::{Serve, ServeError, ServeOptions},
    town::{Doors, Town, TownError},
    world::World,
};

const STATIONS: u16 = 8;
const CARS: u16 = 60;
const SLOT_SECONDS: u32 = 15;

/// The part of the town's life after which it is asked: it is busy then, and has come to an end of most things.
const ASKED_AFTER: f64 = 0.6;

/// A query without an answer is asked again, for what happens now and then only.
const TRIES: u32 = 5;
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Misspelt on purpose, in the name and in a label: when these have an answer, the others' answers say nothing.
const MISSPELT: [&str; 2] = ["rate(forecourt_ledger_comits_total[1m])", "forecourt_session_sessions{state=\"Payed\"}"];

#[derive(Debug, Clone)]
pub struct Config {
    /// How long the town lives before it is asked.
    pub lasts: Duration,
    pub seed: u64,
    pub data: PathBuf,
    /// The engine's program; without it, the one beside our own.
    pub engine: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Boards(#[from] BoardsError),
    #[error(transparent)]
    Redis(#[from] ServerError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Town(#[from] TownError),
    #[error(transparent)]
    Live(#[from] DemoError),
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    #[error("a rule's query: {0}")]
    Query(String),
    #[error("{0} is misspelt, and has an answer all the same")]
    Control(&'static str),
}

/// A query and what came of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Answer {
    /// The dashboard's title, or the kind of rule.
    pub of: String,
    /// The panel's title and the query's legend, or the rule's name.
    pub name: String,
    pub query: String,
    /// Each series as `labels value`.
    pub series: Vec<String>,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

impl Answer {
    pub fn has_data(&self) -> bool {
        !self.series.is_empty()
    }
}

/// Runs the town, then asks everything.
pub async fn run(config: &Config) -> Result<Vec<Answer>, TrialError> {
    let redis = Server::start(Program::Redis, None)?;
    let engine = Serve::start(options(config, &redis)).await?;
    let prometheus = Prometheus::start(engine.addresses().metrics, &prometheus::rules(&folder())).await?;
    let fleet = demo::fleet_config(config.seed, STATIONS, CARS, SLOT_SECONDS);
    let world = Arc::new(World::new(Fleet::new(fleet, telemetry::now()), JUDGEMENT));
    let doors = Doors {
        addresses: engine.addresses(),
        operator_token: engine.operator_token().into(),
        data: engine.data().into(),
    };
    let mut town = Town::open(&doors, world, HABITS, config.seed, |_| {}).await?;
    let asked = async {
        sleep(config.lasts.mul_f64(ASKED_AFTER)).await;
        ask_all(&prometheus).await
    };
    let (lived, answers) = tokio::join!(demo::live(&mut town, Some(config.lasts)), asked);
    lived?;
    town.close().await;
    engine.stop().await?;
    answers
}

fn options(config: &Config, redis: &Server) -> ServeOptions {
    let settings = [
        ("ENGINE_SLOT_SECONDS", SLOT_SECONDS.to_string()),
        ("REGISTRATION_REDIS_URL", format!("redis://{}", redis.address())),
        ("REGISTRATION_SNAPSHOT_SECONDS", "5".into()),
        ("STATION_SURVEY_S", "5".into()),
        // Some receiver of the town hears nothing for as long, now and then.
        ("STATION_SILENT_AFTER_S", "2".into()),
        ("PAYMENT_ANSWER_MS", "1000".into()),
        // Nobody listens there: words to drivers wait, and are tried.
        ("PUSH_URL", "http://127.0.0.1:9/".into()),
        ("PUSH_SECRET", format!("whsec_{}", "A".repeat(32))),
    ];
    let settings = settings.map(|(key, value)| (format!("FORECOURT_{key}"), value)).into();
    ServeOptions { data: config.data.clone(), settings, cores: None, binary: config.engine.clone() }
}

async fn ask_all(prometheus: &Prometheus) -> Result<Vec<Answer>, TrialError> {
    for misspelt in MISSPELT {
        if !prometheus.query(misspelt).await?.is_empty() {
            return Err(TrialError::Control(misspelt));
        }
    }
    let mut answers = Vec::new();
    for (_, board) in boards(&folder())? {
        for panel in board.panels() {
            for (expression, legend) in &panel.queries {
                let name = if legend.is_empty() { panel.title.clone() } else { format!("{}: {legend}", panel.title) };
                answers.push(ask(prometheus, &board.title, name, expression).await);
            }
        }
    }
    for rule in prometheus.rules().await? {
        match rule.kind {
            RuleKind::Recording => answers.push(ask(prometheus, "recording rules", rule.name, &rule.query).await),
            // It has an answer when it fires. What it looks at has one always.
            RuleKind::Alerting => {
                for selector in selectors(&rule.query).map_err(TrialError::Query)? {
                    answers.push(ask(prometheus, "alert rules", rule.name.clone(), &selector).await);
                }
            }
        }
    }
    Ok(answers)
}

async fn ask(prometheus: &Prometheus, of: &str, name: String, expression: &str) -> Answer {
    let query = expression.replace(INTERVAL.0, INTERVAL.1);
    let mut answer = Answer { of: of.into(), name, query, series: Vec::new(), error: None };
    for _ in 0..TRIES {
        match prometheus.query(&answer.query).await {
            Ok(series) => answer.series = series.iter().map(line).collect(),
            Err(error) => answer.error = Some(error.to_string()),
        }
        if answer.has_data() || answer.error.is_some() {
            break;
        }
        sleep(AGAIN_AFTER).await;
    }
    answer
}

fn line(series: &Series) -> String {
    let labels = series.labels.iter().filter(|(key, _)| !["__name__", "job", "instance"].contains(&key.as_str()));
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    let gap = if labels.is_empty() { "" } else { " " };
    format!("{}{gap}{:.4}", labels.join(","), series.value)
}
