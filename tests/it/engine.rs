//! A `forecourt serve` process on free ports, with a data folder of its own.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use forecourt::app::Addresses;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Long enough for a debug build on a busy machine; nothing waits this long unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const FORECOURT: &str = env!("CARGO_BIN_EXE_forecourt");

pub(crate) struct Engine {
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
    child: Child,
    /// `None` until it says where it is reached.
    addresses: Option<Addresses>,
    operator: String,
    client: reqwest::Client,
}

/// What the engine answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// Where the trace of the call is, of one that concerns a session.
    pub(crate) trace: Option<String>,
}

impl Answer {
    /// The problem's stable code; empty when it is none.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("{field} in {self:?}")).to_owned()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self
    }

    #[track_caller]
    pub(crate) fn refused_as(self, status: u16, code: &str) -> Answer {
        let answer = self.is(status);
        assert_eq!(answer.code(), code, "{:#}", answer.body);
        answer
    }
}

impl Engine {
    pub(crate) async fn start() -> Engine {
        Engine::start_with(&[]).await
    }

    /// With settings of its own, as `<SECTION>_<KEY>` and the value.
    pub(crate) async fn start_with(settings: &[(&'static str, String)]) -> Engine {
        Engine::start_prepared(settings, |_| {}).await
    }

    /// With a word to say about its process.
    pub(crate) async fn start_prepared(
        settings: &[(&'static str, String)],
        prepare: impl FnOnce(&mut Command),
    ) -> Engine {
        let (folder, settings) = (tempfile::tempdir().expect("a temporary folder"), settings.to_vec());
        let mut command = command(folder.path(), None, &settings);
        prepare(&mut command);
        let child = command.spawn().expect("the forecourt binary is built with its tests");
        let (operator, client) = (String::new(), reqwest::Client::new());
        let mut engine = Engine { folder, settings, child, addresses: None, operator, client };
        engine.addresses = Some(addresses(engine.folder()).await);
        let operator = std::fs::read_to_string(engine.folder().join("operator.token")).expect("made at the start");
        operator.trim().clone_into(&mut engine.operator);
        engine.until_ready().await;
        engine
    }

    /// Ends the process as a power cut would, and starts another on the same folder and ports.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.crash();
        self.restart().await;
    }

    /// Ends the process as a power cut would.
    pub(crate) fn crash(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was ours");
        std::fs::remove_file(self.folder.path().join("engine.json")).expect("written at the start");
    }

    /// Starts another on the same folder and ports, after [`Engine::crash`].
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.addresses, &self.settings);
        let folder = self.folder.path();
        let (child, ports, settings) = (&mut self.child, self.addresses, &self.settings);
        eventually("engine.json", async || {
            // A client of another test may hold one of the ports for a moment.
            if child.try_wait().expect("it is ours").is_some() {
                *child = spawn(folder, ports, settings);
            }
            Addresses::of_running(folder)
        })
        .await;
        self.client = reqwest::Client::new();
        self.until_ready().await;
    }

    /// All that it says on both outputs until its end; it has to be started with both piped.
    pub(crate) fn take_log(&mut self) -> JoinHandle<Vec<u8>> {
        let mut outputs = (self.child.stdout.take().expect("piped"), self.child.stderr.take().expect("piped"));
        let errors = std::thread::spawn(move || {
            let mut errors = Vec::new();
            outputs.1.read_to_end(&mut errors).map(|_| errors)
        });
        tokio::task::spawn_blocking(move || {
            let mut log = Vec::new();
            outputs.0.read_to_end(&mut log).expect("a pipe");
            log.extend(errors.join().expect("no panic").expect("a pipe"));
            log
        })
    }

    /// Asks it to drain.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to reload.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses.expect("known once it has started")
    }

    pub(crate) fn operator(&self) -> &str {
        &self.operator
    }

    /// A call with a bearer token, a fresh idempotency key, and a JSON body unless it is null.
    pub(crate) async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> Answer {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("randomness");
        self.call_with_key(method, path, token, body, &hex::encode(key)).await
    }

    pub(crate) async fn call_with_key(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
        key: &str,
    ) -> Answer {
        let url = format!("http://{}{path}", self.addresses().http);
        let mut request = self.client.request(method, url).bearer_auth(token).header("idempotency-key", key);
        if !body.is_null() {
            request = request.json(&body);
        }
        read(request).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::POST, path, token, body).await
    }

    pub(crate) async fn import(&self, what: &str, csv: String) {
        let url = format!("http://{}/v1/imports/{what}", self.addresses().http);
        let request = self.client.post(url).bearer_auth(&self.operator).header("content-type", "text/csv").body(csv);
        let answer = read(request).await.is(200);
        assert_eq!(answer.body["refused"], 0, "{:#}", answer.body);
    }

    /// The answer to an import, whatever it is.
    pub(crate) async fn post_csv(&self, what: &str, csv: String) -> String {
        let url = format!("http://{}/v1/imports/{what}", self.addresses().http);
        let request = self.client.post(url).bearer_auth(&self.operator).header("content-type", "text/csv").body(csv);
        request.send().await.expect("it answers").text().await.expect("a body")
    }

    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.addresses().metrics);
        self.client.get(url).send().await.expect("it listens").text().await.expect("text")
    }

    /// The sum of a metric's series that contain all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics().await;
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn until_ready(&self) {
        let url = format!("http://{}/health/ready", self.addresses().http);
        eventually("readiness", async || {
            let answer = self.client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have been ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer; fails with `what` when there is none for long.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no {what} after {PATIENCE:?}"))
}

async fn read(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.timeout(PATIENCE).send().await.expect("the engine answers");
    let status = answer.status();
    let trace = answer.headers().get("traceresponse").map(|trace| trace.to_str().expect("ASCII").to_owned());
    let text = answer.text().await.expect("a body");
    Answer { status, trace, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

async fn addresses(folder: &Path) -> Addresses {
    eventually("engine.json", async || Addresses::of_running(folder)).await
}

fn spawn(folder: &Path, addresses: Option<Addresses>, settings: &[(&str, String)]) -> Child {
    command(folder, addresses, settings).spawn().expect("the forecourt binary is built with its tests")
}

/// Of an engine that is not started yet.
pub(crate) fn data_folder(engine: &Command) -> PathBuf {
    let data = engine.get_envs().find(|(name, _)| *name == "FORECOURT_ENGINE_DATA");
    data.and_then(|(_, path)| path).expect("every engine has one").into()
}

fn command(folder: &Path, addresses: Option<Addresses>, settings: &[(&str, String)]) -> Command {
    let at = |of: fn(Addresses) -> std::net::SocketAddr| {
        addresses.map_or("127.0.0.1:0".to_owned(), |addresses| of(addresses).to_string())
    };
    let mut command = Command::new(FORECOURT);
    command
        .arg("serve")
        .env("FORECOURT_ENGINE_DATA", folder)
        .env("FORECOURT_INGEST_LISTEN", at(|addresses| addresses.ingest))
        .env("FORECOURT_HTTP_LISTEN", at(|addresses| addresses.http))
        .env("FORECOURT_HTTP_METRICS_LISTEN", at(|addresses| addresses.metrics))
        .env("FORECOURT_LOG_FILTER", "warn")
        // Tests ask again and again.
        .env("FORECOURT_HTTP_PHONE_CALLS_PER_SECOND", "0")
        .envs(settings.iter().map(|(name, value)| (format!("FORECOURT_{name}"), value)))
        .stdin(Stdio::null());
    command
}
