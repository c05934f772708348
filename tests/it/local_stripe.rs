//! A real localstripe, an independent stand-in for Stripe, on a free port of the loopback, and what its books say.
//!
//! `FORECOURT_TEST_PYTHON` names the Python environment that it is installed in. Without it the tests that need it say so
//! and pass, with CI=true they fail.

use std::{
    collections::BTreeMap,
    env,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::engine::eventually;

pub(crate) const SECRET: &str = "sk_test_forecourt";

/// It would listen on every interface, and keep a copy of its books in a file that all of its processes share.
const ON_THE_LOOPBACK: &str = "
import socket
from localstripe import resources, server
bind = socket.socket.bind
socket.socket.bind = lambda self, at: bind(self, ('::ffff:127.0.0.1', at[1]) if at[0] == '::' else at)
resources.Store.dump_to_disk = lambda self: None
server.start()
";

pub(crate) struct LocalStripe {
    python: PathBuf,
    address: SocketAddr,
    child: Child,
    client: reqwest::Client,
}

/// What the books say of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// Intents whose charge went through and was not given back in full. More than one is a double charge.
    pub(crate) net: u32,
    pub(crate) net_minor: i64,
    /// Holds that are neither captured nor cancelled.
    pub(crate) held: u32,
    pub(crate) refunds: u32,
}

impl LocalStripe {
    /// `None`, with a loud line, where there is none.
    pub(crate) async fn start() -> Option<LocalStripe> {
        let Some(folder) = env::var_os("FORECOURT_TEST_PYTHON") else {
            assert!(env::var_os("CI").is_none(), "FORECOURT_TEST_PYTHON names no Python with localstripe");
            eprintln!(
                "SKIPPED: FORECOURT_TEST_PYTHON names no Python with localstripe (pip install localstripe==1.15.10)"
            );
            return None;
        };
        let python = PathBuf::from(folder).join("bin").join("python");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let child = spawn(&python, address);
        let stripe = LocalStripe { python, address, child, client: reqwest::Client::new() };
        stripe.until_up().await;
        Some(stripe)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// kill -9; its books go with it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
    }

    pub(crate) async fn come_back(&mut self) {
        self.child = spawn(&self.python, self.address);
        self.until_up().await;
    }

    /// Has it announce every event to `url`, signed with `secret`.
    pub(crate) async fn announce_to(&self, url: &str, secret: &str) {
        let webhook = json!({ "url": url, "secret": secret });
        let to = format!("{}/_config/webhooks/engine", self.url());
        let answer = self.client.post(to).json(&webhook).send().await.expect("it answers");
        assert!(answer.status().is_success());
    }

    pub(crate) async fn list(&self, objects: &str) -> Vec<Value> {
        let url = format!("{}/v1/{objects}?limit=10000", self.url());
        let answer = self.client.get(url).bearer_auth(SECRET).send().await.expect("it answers");
        let list: Value = answer.json().await.expect("a list");
        list["data"].as_array().expect("objects").clone()
    }

    /// By session, from the intents and their charges.
    pub(crate) async fn books(&self) -> BTreeMap<String, Books> {
        let mut books = BTreeMap::<String, Books>::new();
        for intent in self.list("payment_intents").await {
            let of = books.entry(intent["metadata"]["session"].as_str().expect("ours").to_owned()).or_default();
            let charge = &intent["latest_charge"];
            of.held += u32::from(intent["status"] == "requires_capture");
            if charge["status"] == "succeeded" && charge["captured"] == true {
                let minor = |field: &str| charge[field].as_i64().expect("an amount");
                let net = minor("amount") - minor("amount_refunded");
                of.net += u32::from(net > 0);
                of.net_minor += net;
                let refunds = charge["refunds"]["data"].as_array().map_or(0, Vec::len);
                of.refunds += refunds as u32;
            }
        }
        books
    }

    /// All that came in less all that went out, by its balance transactions.
    pub(crate) async fn balance(&self) -> i64 {
        let transactions = self.list("balance_transactions").await;
        transactions.iter().map(|transaction| transaction["amount"].as_i64().expect("an amount")).sum()
    }

    async fn until_up(&self) {
        let url = format!("{}/v1/balance", self.url());
        eventually("localstripe", async || self.client.get(&url).bearer_auth(SECRET).send().await.ok()).await;
    }
}

impl Drop for LocalStripe {
    fn drop(&mut self) {
        // It may have been ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(python: &PathBuf, address: SocketAddr) -> Child {
    Command::new(python)
        .args(["-c", ON_THE_LOOPBACK, "--from-scratch", "--port", &address.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Python runs")
}
