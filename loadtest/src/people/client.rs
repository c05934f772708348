//! The HTTP door: calls with a bearer token, problems by their code, and event streams.

use std::fmt;

use forecourt::station::Candidate;
use futures_util::{StreamExt as _, stream::BoxStream};
use reqwest::{Method, RequestBuilder, Response, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::people::events::{Event, Parser};

/// A refusal, as RFC 9457 says it. Only what the demo's people act on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Problem {
    pub status: u16,
    pub code: String,
    #[serde(default)]
    pub detail: String,
    /// With PLATE_AMBIGUOUS.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.detail)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{0}")]
    Transport(#[from] reqwest::Error),
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error("the answer is not what was agreed: {0}")]
    Answer(#[from] serde_json::Error),
}

impl CallError {
    /// The stable code of a refusal.
    pub fn code(&self) -> &str {
        match self {
            CallError::Refused(problem) => &problem.code,
            CallError::Transport(_) | CallError::Answer(_) => "",
        }
    }
}

/// Somebody who calls the engine. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Client {
    /// A caller without a token, as a phone is before it logs in.
    pub fn new(base: String) -> Client {
        Client { http: reqwest::Client::new(), base, token: None }
    }

    pub fn with_token(&self, token: String) -> Client {
        Client { token: Some(token), ..self.clone() }
    }

    /// The same caller on the connections of `other`, which are served by the runtime that first calls by them.
    pub fn over(&self, other: &Client) -> Client {
        Client { http: other.http.clone(), ..self.clone() }
    }

    /// What the caller shows; for the curl lines that the demo prints.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        read(self.request(Method::GET, path)).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        read(self.request(Method::POST, path).json(body)).await
    }

    /// A write that happens once however often it is sent with this key.
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        read(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// As [`Client::post_once`], for a call that answers with nothing.
    pub async fn put_once(&self, path: &str, key: &str, body: &impl Serialize) -> Result<(), CallError> {
        accepted(self.request(Method::PUT, path).header("Idempotency-Key", key).json(body)).await.map(drop)
    }

    pub async fn post_csv<T: DeserializeOwned>(&self, path: &str, csv: String) -> Result<T, CallError> {
        read(self.request(Method::POST, path).header(header::CONTENT_TYPE, "text/csv").body(csv)).await
    }

    /// Opens an event stream; `after` is the id of the last event of an earlier one.
    pub async fn events(&self, path: &str, after: Option<&str>) -> Result<EventStream, CallError> {
        let mut request = self.request(Method::GET, path).header(header::ACCEPT, "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let bytes = accepted(request).await?.bytes_stream();
        Ok(EventStream { bytes: bytes.map(|chunk| chunk.map(Vec::from)).boxed(), parser: Parser::default() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

async fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, CallError> {
    Ok(serde_json::from_slice(&accepted(request).await?.bytes().await?)?)
}

async fn accepted(request: RequestBuilder) -> Result<Response, CallError> {
    let response = request.send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(CallError::Refused(Box::new(serde_json::from_slice(&response.bytes().await?)?)))
}

/// Server-sent events as they come.
pub struct EventStream {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    parser: Parser,
}

impl EventStream {
    /// The next event; `None` when the stream has ended or broken.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.next() {
                return Some(event);
            }
            self.parser.feed(&self.bytes.next().await?.ok()?);
        }
    }
}
