//! A real localstripe, an independent stand-in for Stripe, on a free port of the loopback, and what its books say.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use forecourt::{engine::id::SessionId, payment::SessionCharges};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Any key that begins so is one of its own.
pub const SECRET: &str = "sk_test_forecourt";

/// It would listen on every interface, and keep a copy of its books in a file that all of its processes share.
const ON_THE_LOOPBACK: &str = "
import socket
from localstripe import resources, server
bind = socket.socket.bind
socket.socket.bind = lambda self, at: bind(self, ('::ffff:127.0.0.1', at[1]) if at[0] == '::' else at)
resources.Store.dump_to_disk = lambda self: None
server.start()
";

/// From its start to its first answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Objects of one list.
const OBJECTS_MAX: u32 = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum LocalStripeError {
    #[error("localstripe does not run: {0}")]
    Process(#[from] io::Error),
    #[error("localstripe does not answer: {0}")]
    Ask(#[from] reqwest::Error),
    #[error("localstripe's books are not what was expected: {0}")]
    Books(String),
}

/// Dropped, it is killed.
pub struct LocalStripe {
    python: PathBuf,
    address: SocketAddr,
    child: Child,
    client: reqwest::Client,
}

/// What the books say of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Intents whose charge went through and was not given back in full. More than one is a double charge.
    pub net: u32,
    pub net_minor: i64,
    /// Holds that are neither captured nor cancelled.
    pub held: u32,
    pub refunds: u32,
}

impl LocalStripe {
    /// From a Python environment that has it installed.
    pub async fn start(environment: &Path) -> Result<LocalStripe, LocalStripeError> {
        let python = environment.join("bin").join("python");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = spawn(&python, address)?;
        let stripe = LocalStripe { python, address, child, client: reqwest::Client::new() };
        stripe.until_up().await?;
        Ok(stripe)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// kill -9; its books go with it.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    pub async fn come_back(&mut self) -> Result<(), LocalStripeError> {
        self.child = spawn(&self.python, self.address)?;
        self.until_up().await
    }

    /// Has it announce every event to `url`, signed with `secret`.
    pub async fn announce_to(&self, url: &str, secret: &str) -> Result<(), LocalStripeError> {
        let webhook = json!({ "url": url, "secret": secret });
        let to = format!("{}/_config/webhooks/engine", self.url());
        self.client.post(to).json(&webhook).send().await?.error_for_status()?;
        Ok(())
    }

    pub async fn list(&self, objects: &str) -> Result<Vec<Value>, LocalStripeError> {
        let url = format!("{}/v1/{objects}?limit={OBJECTS_MAX}", self.url());
        let answer = self.client.get(url).bearer_auth(SECRET).send().await?.error_for_status()?;
        match answer.json::<Value>().await?["data"].take() {
            Value::Array(objects) => Ok(objects),
            other => Err(LocalStripeError::Books(format!("a list of {objects} is {other}"))),
        }
    }

    /// By session, from the intents and their charges.
    pub async fn books(&self) -> Result<BTreeMap<String, Books>, LocalStripeError> {
        let mut books = BTreeMap::<String, Books>::new();
        for intent in self.list("payment_intents").await? {
            let lacks = |field: &str| LocalStripeError::Books(format!("{intent} has no {field}"));
            let session = intent["metadata"]["session"].as_str().ok_or_else(|| lacks("session"))?;
            let of = books.entry(session.to_owned()).or_default();
            let charge = &intent["latest_charge"];
            of.held += u32::from(intent["status"] == "requires_capture");
            if charge["status"] == "succeeded" && charge["captured"] == true {
                let minor = |field: &str| charge[field].as_i64().ok_or_else(|| lacks(field));
                let net = minor("amount")? - minor("amount_refunded")?;
                of.net += u32::from(net > 0);
                of.net_minor += net;
                of.refunds += charge["refunds"]["data"].as_array().map_or(0, Vec::len) as u32;
            }
        }
        Ok(books)
    }

    /// The same, as the built-in simulator's books say it.
    pub async fn charges(&self) -> Result<Vec<SessionCharges>, LocalStripeError> {
        let session = |text: &str| text.parse::<SessionId>().map_err(|_| LocalStripeError::Books(text.to_owned()));
        let books = self.books().await?;
        let charges = books.iter().map(|(of, Books { net, net_minor, .. })| {
            Ok(SessionCharges { session: session(of)?, net: *net, net_minor: *net_minor })
        });
        charges.collect()
    }

    /// All that came in less all that went out, by its balance transactions.
    pub async fn balance(&self) -> Result<i64, LocalStripeError> {
        let transactions = self.list("balance_transactions").await?;
        Ok(transactions.iter().filter_map(|transaction| transaction["amount"].as_i64()).sum())
    }

    async fn until_up(&self) -> Result<(), LocalStripeError> {
        let (url, begun) = (format!("{}/v1/balance", self.url()), Instant::now());
        loop {
            match self.client.get(&url).bearer_auth(SECRET).send().await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for LocalStripe {
    fn drop(&mut self) {
        // It may have been ended already.
        let _ = self.kill();
    }
}

fn spawn(python: &Path, address: SocketAddr) -> io::Result<Child> {
    Command::new(python)
        .args(["-c", ON_THE_LOOPBACK, "--from-scratch", "--port", &address.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
