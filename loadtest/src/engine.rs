//! The engine, whole and embedded, on a thread of its own: the demo meets it only at its sockets and in its data
//! folder (operator token, certificates), as a station or an operator on the same machine would.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use forecourt::{
    app::{Addresses, App, StartError},
    config::Settings,
    registration::OPERATOR_TOKEN_FILE,
};
use tokio::sync::oneshot;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engine does not start: {0}")]
    Start(#[from] StartError),
    #[error("the machine does not give the engine a thread, or its token: {0}")]
    Machine(#[from] io::Error),
    #[error("the engine's thread ended")]
    Gone,
}

pub struct Engine {
    pub addresses: Addresses,
    pub operator_token: String,
    data: PathBuf,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts on free ports of the loopback.
    pub async fn start(data: &Path, slot_seconds: u32) -> Result<Engine, EngineError> {
        let settings = settings(data, slot_seconds);
        let (started, starting) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            actix::System::new().block_on(run(settings, started, stopping));
        })?;
        let addresses = starting.await.map_err(|_| EngineError::Gone)??;
        let operator_token = fs::read_to_string(data.join(OPERATOR_TOKEN_FILE))?.trim().to_owned();
        Ok(Engine { addresses, operator_token, data: data.into(), stop, thread })
    }

    /// The data folder, where a machine that may read it finds the development authority.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Drains the engine and waits for its end.
    pub fn stop(self) -> Result<(), EngineError> {
        // An engine that is gone already needs no word.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| EngineError::Gone)
    }
}

fn settings(data: &Path, slot_seconds: u32) -> Settings {
    let mut settings = Settings::default();
    let any = "127.0.0.1:0".parse().expect("a loopback address");
    settings.engine.data = data.into();
    settings.engine.slot_seconds = slot_seconds;
    settings.ingest.listen = any;
    settings.http.listen = any;
    settings.http.metrics_listen = any;
    // The town's phones all log in from this machine.
    settings.http.stranger_calls_per_second = 0;
    // Answers of the PSP that are lost on purpose are looked up within a short run.
    settings.payment.answer_ms = 1_000;
    settings
}

async fn run(
    settings: Settings,
    started: oneshot::Sender<Result<Addresses, StartError>>,
    stopping: oneshot::Receiver<()>,
) {
    let unchanged = settings.clone();
    let app = match App::start(settings, Box::new(move || Ok(unchanged.clone()))).await {
        Ok(app) => app,
        Err(error) => {
            // Nobody listens only when the demo has ended.
            let _ = started.send(Err(error));
            return;
        }
    };
    if started.send(Ok(app.addresses())).is_ok() {
        // A demo that ended without a word is one that ended.
        let _ = stopping.await;
    }
    app.stop().await;
}
