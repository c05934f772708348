//! A real `redis-server` on a free port of the loopback, with a folder of its own, that a test may end, hold and set back.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{engine::eventually, tools};

pub(crate) struct RedisServer {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    child: Child,
}

impl RedisServer {
    /// `None`, with a loud line, where there is none.
    pub(crate) async fn start() -> Option<RedisServer> {
        let program = tools::in_path("redis-server", "redis-server")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let child = spawn(&program, &folder, port);
        let server = RedisServer { program, folder, port, child };
        server.until_up().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    /// Writes everything down and gives the file.
    pub(crate) fn dump(&self) -> Vec<u8> {
        self.ask::<()>(&["SAVE"]).expect("it saves");
        fs::read(self.folder.path().join("dump.rdb")).expect("just saved")
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
    }

    /// Up again after [`RedisServer::kill`]: empty, or with an earlier dump.
    pub(crate) async fn come_back(&mut self, dump: Option<&[u8]>) {
        let file = self.folder.path().join("dump.rdb");
        match dump {
            Some(dump) => fs::write(file, dump).expect("its folder"),
            None => drop(fs::remove_file(file)),
        }
        self.child = spawn(&self.program, &self.folder, self.port);
        self.until_up().await;
    }

    /// SIGSTOP: connections stay, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    async fn until_up(&self) {
        eventually("redis-server", async || self.ask::<String>(&["PING"]).ok()).await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have been ended already. A held one ends by this signal too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &PathBuf, folder: &TempDir, port: u16) -> Child {
    let port = port.to_string();
    Command::new(program)
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"])
        // A dump that is looked through shows what it holds.
        .args(["--rdbcompression", "no", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server runs")
}
