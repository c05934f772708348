//! A proxy on the loopback between the engine and a PSP, which spoils requests by a seed and watches idempotency keys.
//!
//! It knows as much of HTTP/1.1 as it takes to tell one request from the next: a head, and a body of a stated length. Each
//! request has a connection of its own to the PSP. What befalls a request is drawn from the seed, its key (its path, when
//! it has none) and how often that came: a run repeats, however its requests are timed.
//!
//! A key that comes with two requests that differ would make a PSP charge by chance: it is kept as a conflict.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foldhash::fast::FixedState;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Bytes of a request or an answer.
const BYTES_MAX: usize = 16 << 20;

const HEADERS_MAX: usize = 64;

/// Requests by key that are compared, about 500 bytes each (50 MB); what comes under further keys is only passed on. As
/// many names have their attempts counted; past it the count begins anew.
const KEYS_MAX: usize = 100_000;

/// Conflicts that are named; one is one too many.
const CONFLICTS_MAX: usize = 100;

/// Of a thousand requests, how many meet each fault.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub seed: u64,
    /// It is never passed on, and never answered.
    pub request_lost: u32,
    /// The PSP does it, and its answer is lost.
    pub answer_lost: u32,
    /// It is passed on after up to `delay_max`.
    pub delayed: u32,
    /// It is passed on twice. Never to `once_only`.
    pub doubled: u32,
    /// The connection is reset, before the PSP heard of it or after it did it.
    pub reset: u32,
    /// Refused with 500 or 429 by the proxy itself.
    pub refused: u32,
    pub delay_max: Duration,
    /// Only requests whose path ends so meet any.
    pub only: Option<&'static str>,
    /// The path of requests that a PSP which keeps no keys would carry out twice.
    pub once_only: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    RequestLost,
    AnswerLost,
    Delayed,
    Doubled,
    ResetBefore,
    ResetAfter,
    Refused500,
    Refused429,
}

/// What the proxy saw and did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub requests: u64,
    pub struck: HashMap<Fault, u64>,
    /// Idempotency keys that came with two requests that differ.
    pub conflicts: Vec<String>,
    pub keys: usize,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    faults: Faults,
    is_calm: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    report: Report,
    by_key: HashMap<String, Vec<u8>>,
    attempts: HashMap<String, u32>,
}

impl FaultProxy {
    pub async fn start(upstream: SocketAddr, faults: Faults) -> io::Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Shared { upstream, faults, is_calm: AtomicBool::new(false), book: Mutex::default() };
        let shared = Arc::new(shared);
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(FaultProxy { address, shared, serving })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on everything is passed on as it is, and still watched.
    pub fn calm_down(&self) {
        self.shared.is_calm.store(true, Ordering::Relaxed);
    }

    pub fn report(&self) -> Report {
        self.shared.book().report.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A connection that broke while it was taken is its client's affair.
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = shared.pass(client).await {
                tracing::debug!(%error, "a request through the fault proxy broke");
            }
        });
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, and whatever befalls it.
    async fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
        let (fault, dice) = self.draw(&request);
        match fault {
            None => self.forward_and_answer(&mut client, &request).await,
            Some(Fault::Delayed) => {
                let delay = self.faults.delay_max.mul_f64((dice >> 32) as f64 / f64::from(u32::MAX));
                tokio::time::sleep(delay).await;
                self.forward_and_answer(&mut client, &request).await
            }
            Some(Fault::Doubled) => {
                let answers = [self.forward(&request).await?, self.forward(&request).await?];
                client.write_all(&answers[usize::from(dice >> 63 == 1)]).await
            }
            Some(Fault::RequestLost) => until_gone(client).await,
            Some(Fault::AnswerLost) => {
                self.forward(&request).await?;
                until_gone(client).await
            }
            Some(Fault::ResetBefore) => reset(client),
            Some(Fault::ResetAfter) => {
                self.forward(&request).await?;
                reset(client)
            }
            Some(Fault::Refused500) => client.write_all(&refusal("500 Internal Server Error")).await,
            Some(Fault::Refused429) => client.write_all(&refusal("429 Too Many Requests")).await,
        }
    }

    async fn forward_and_answer(&self, client: &mut TcpStream, request: &Request) -> io::Result<()> {
        let answer = self.forward(request).await?;
        client.write_all(&answer).await
    }

    /// The PSP's whole answer.
    async fn forward(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(self.upstream).await?;
        upstream.write_all(&request.bytes).await?;
        let mut answer = Vec::new();
        upstream.take(BYTES_MAX as u64).read_to_end(&mut answer).await?;
        Ok(answer)
    }

    /// Takes the request down, and draws what befalls it, with a number that decides the details.
    fn draw(&self, request: &Request) -> (Option<Fault>, u64) {
        let mut book = self.book();
        book.watch(request);
        let name = request.key.as_ref().unwrap_or(&request.target).clone();
        if book.attempts.len() >= KEYS_MAX {
            book.attempts.clear();
        }
        let attempt = book.attempts.entry(name.clone()).or_default();
        *attempt += 1;
        let drawn_by = (name, &request.method, &request.target, *attempt);
        let dice = FixedState::with_seed(self.faults.seed).hash_one(drawn_by);
        if self.is_calm.load(Ordering::Relaxed) {
            return (None, dice);
        }
        let fault = self.faults.at(dice).filter(|fault| self.faults.may_strike(*fault, &request.target));
        if let Some(fault) = fault {
            *book.report.struck.entry(fault).or_default() += 1;
        }
        (fault, dice)
    }
}

impl Faults {
    fn may_strike(&self, fault: Fault, target: &str) -> bool {
        self.only.is_none_or(|end| target.ends_with(end))
            && (fault != Fault::Doubled || self.once_only.is_none_or(|path| !target.starts_with(path)))
    }

    fn at(&self, dice: u64) -> Option<Fault> {
        let (place, coin) = ((dice % 1_000) as u32, dice >> 62 & 1 == 1);
        let shares = [
            (self.request_lost, Fault::RequestLost),
            (self.answer_lost, Fault::AnswerLost),
            (self.delayed, Fault::Delayed),
            (self.doubled, Fault::Doubled),
            (self.reset, if coin { Fault::ResetBefore } else { Fault::ResetAfter }),
            (self.refused, if coin { Fault::Refused500 } else { Fault::Refused429 }),
        ];
        let mut end = 0;
        shares.into_iter().find_map(|(share, fault)| {
            end += share;
            (place < end).then_some(fault)
        })
    }
}

impl Book {
    fn watch(&mut self, request: &Request) {
        self.report.requests += 1;
        let Some(key) = &request.key else { return };
        let said = request.said();
        match self.by_key.get(key) {
            Some(before) if *before != said && self.report.conflicts.len() < CONFLICTS_MAX => {
                self.report.conflicts.push(key.clone());
            }
            None if self.by_key.len() < KEYS_MAX => drop(self.by_key.insert(key.clone(), said)),
            Some(_) | None => {}
        }
        self.report.keys = self.by_key.len();
    }
}

/// A request as it is passed on.
#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    key: Option<String>,
    body: Vec<u8>,
    /// Head and body, with the word that the connection is for this one only.
    bytes: Vec<u8>,
}

impl Request {
    /// `None` from a client that said nothing.
    async fn read(client: &mut TcpStream) -> io::Result<Option<Request>> {
        let mut bytes = Vec::new();
        loop {
            if let Some(request) = Request::parse(&bytes)? {
                return Ok(Some(request));
            }
            if client.read_buf(&mut bytes).await? == 0 {
                let is_silent = bytes.is_empty();
                return if is_silent { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if bytes.len() > BYTES_MAX {
                return Err(invalid("a request is too long"));
            }
        }
    }

    /// `None` until it is whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Request>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_len) = head.parse(bytes).map_err(|_| invalid("no request of HTTP/1.1"))?
        else {
            return Ok(None);
        };
        let (Some(method), Some(target)) = (head.method, head.path) else { return Err(invalid("no request line")) };
        let header = |name: &str| {
            let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        if header("transfer-encoding").is_some() {
            return Err(invalid("a body without a length"));
        }
        let length = header("content-length").map_or(Ok(0), |length| length.parse::<usize>());
        let length = length.map_err(|_| invalid("a length that is no number"))?;
        let Some(body) = bytes.get(head_len..head_len.saturating_add(length)) else { return Ok(None) };
        let mut passed = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
        for header in head.headers.iter().filter(|header| !header.name.eq_ignore_ascii_case("connection")) {
            passed.extend([header.name.as_bytes(), b": ", header.value, b"\r\n"].concat());
        }
        passed.extend([b"\r\n", body].concat());
        Ok(Some(Request {
            method: method.to_owned(),
            target: target.to_owned(),
            key: header("idempotency-key"),
            body: body.to_vec(),
            bytes: passed,
        }))
    }

    /// What must be the same whenever its key is.
    fn said(&self) -> Vec<u8> {
        [self.method.as_bytes(), b" ", self.target.as_bytes(), b"\n", &self.body].concat()
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Silence, for as long as the client bears it.
async fn until_gone(mut client: TcpStream) -> io::Result<()> {
    let mut ignored = [0; 512];
    while client.read(&mut ignored).await? > 0 {}
    Ok(())
}

fn reset(client: TcpStream) -> io::Result<()> {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    Ok(())
}

fn refusal(status: &str) -> Vec<u8> {
    let body = r#"{"error":{"type":"api_error"}}"#;
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str, body: &str) -> Request {
        let text = format!(
            "POST /v1/refunds HTTP/1.1\r\nIdempotency-Key: {key}\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Request::parse(text.as_bytes()).unwrap().unwrap()
    }

    fn shared(faults: Faults) -> Shared {
        let upstream = "127.0.0.1:1".parse().unwrap();
        Shared { upstream, faults, is_calm: AtomicBool::new(false), book: Mutex::default() }
    }

    #[test]
    fn a_key_with_two_bodies_is_a_conflict_and_a_repetition_is_none() {
        let shared = shared(Faults::default());
        for (key, body) in [("one", "amount=1"), ("one", "amount=1"), ("two", "amount=1"), ("two", "amount=2")] {
            shared.draw(&request(key, body));
        }
        let report = shared.book().report.clone();
        assert_eq!((report.requests, report.keys, report.conflicts), (4, 2, vec!["two".to_owned()]));
    }

    #[test]
    fn a_seed_draws_the_same_faults_in_any_order() {
        let faults = Faults { seed: 5, answer_lost: 300, reset: 300, refused: 300, ..Faults::default() };
        let keys: Vec<String> = (0..50).map(|key| key.to_string()).collect();
        let draw = |keys: &mut dyn Iterator<Item = &String>| {
            let shared = shared(faults);
            let drawn = keys.map(|key| (key.clone(), shared.draw(&request(key, "")).0));
            drawn.collect::<HashMap<_, _>>()
        };
        let drawn = draw(&mut keys.iter());
        assert_eq!(drawn, draw(&mut keys.iter().rev()));
        for fault in [Fault::AnswerLost, Fault::ResetBefore, Fault::ResetAfter, Fault::Refused500, Fault::Refused429] {
            assert!(drawn.values().any(|drawn| *drawn == Some(fault)), "{fault:?}");
        }
    }

    #[test]
    fn what_must_come_once_is_not_doubled() {
        let faults = Faults { doubled: 1_000, once_only: Some("/v1/refunds"), ..Faults::default() };
        assert_eq!(shared(faults).draw(&request("one", "")).0, None);
        assert_eq!(shared(Faults { once_only: None, ..faults }).draw(&request("one", "")).0, Some(Fault::Doubled));
    }

    #[test]
    fn a_request_is_whole_with_the_last_byte_of_its_body_and_closes_its_connection() {
        let text = b"POST /x HTTP/1.1\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\nbody";
        assert!(Request::parse(&text[..text.len() - 1]).unwrap().is_none());
        let request = Request::parse(text).unwrap().unwrap();
        let passed = String::from_utf8(request.bytes).unwrap();
        assert_eq!(passed, "POST /x HTTP/1.1\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody");
        assert!(Request::parse(b"\x16\x03\x01 TLS is spoken elsewhere\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_answer_comes_through_and_a_lost_one_happened() {
        let psp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = psp.local_addr().unwrap();
        let faults = Faults { answer_lost: 1_000, ..Faults::default() };
        let proxy = FaultProxy::start(upstream, faults).await.unwrap();
        let heard = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = psp.accept().await.unwrap();
                Request::read(&mut stream).await.unwrap().unwrap();
                stream.write_all(&refusal("200 OK")).await.unwrap();
            }
        });
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300)).build().unwrap();
        assert!(http.post(proxy.url()).send().await.unwrap_err().is_timeout());
        proxy.calm_down();
        assert_eq!(http.post(proxy.url()).send().await.unwrap().status(), 200);
        heard.await.unwrap();
        assert_eq!(proxy.report().struck[&Fault::AnswerLost], 1);
    }
}
