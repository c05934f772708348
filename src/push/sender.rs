//! One try: the webhook as it goes out, and what its answer means.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, StatusCode, Uri,
    header::{CONTENT_TYPE, USER_AGENT},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{
    Instrument as _,
    field::{self, Empty},
};

use super::{
    outbox::{Message, Verdict},
    signature::{Key, sign},
};
use crate::{
    engine::{
        id::{BindingId, SessionId},
        time::UnixMs,
    },
    outgoing,
    session::Notice,
    telemetry::{now, trace::session_span},
};

/// Connections that are kept for the next message, and for how long.
const IDLE_MAX: usize = 4;
const IDLE: Duration = Duration::from_secs(60);

/// Where the push service is; `None` for text that is no HTTP URL.
pub(super) fn parse(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    (is_http && uri.host().is_some()).then_some(uri)
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Answered(StatusCode),
    TimedOut,
    /// No connection, or it broke.
    Failed,
}

impl Tried {
    /// A redirection is a failure: what is signed goes to the address that was set, and to no other.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Tried::Answered(status) if status.is_success() => Verdict::Delivered,
            Tried::Answered(StatusCode::GONE) => Verdict::Gone,
            Tried::Answered(_) | Tried::TimedOut | Tried::Failed => Verdict::Failed,
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    keys: Arc<[Key]>,
    timeout: Duration,
}

/// What the push service gets: that there is something to show, and where the app fetches it.
#[derive(Serialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: Data,
}

#[derive(Serialize)]
struct Data {
    session: SessionId,
    binding: BindingId,
    notice: Notice,
    version: u32,
    /// For the app, with its own token.
    path: String,
}

impl Sender {
    pub(super) fn new(url: Uri, keys: Vec<Key>, timeout: Duration) -> Sender {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(outgoing::connector(HttpConnector::new()));
        Sender { client, url, keys: keys.into(), timeout }
    }

    /// The answer's body is not read: it says nothing that its status does not.
    pub(super) async fn send(&self, message: Message) -> Tried {
        let span = session_span!("push", message.session, notice = ?message.word.notice, outcome = Empty);
        let tried = self.try_once(message).instrument(span.clone()).await;
        span.record("outcome", field::debug(tried));
        tried
    }

    async fn try_once(&self, message: Message) -> Tried {
        let request = self.request(&message, now());
        let tried = match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(answer)) => Tried::Answered(answer.status()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the push service is not reached");
                Tried::Failed
            }
            Err(_) => Tried::TimedOut,
        };
        if tried.verdict() != Verdict::Delivered {
            tracing::warn!(?tried, "a word is not pushed");
        }
        tried
    }

    fn request(&self, message: &Message, at: UnixMs) -> Request<Full<Bytes>> {
        let (id, payload) = (id(message), payload(message));
        let unix_s = at.0 / 1_000;
        Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("forecourt/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &id)
            .header("webhook-timestamp", unix_s)
            .header("webhook-signature", sign(&self.keys, &id, unix_s, &payload))
            .body(Full::from(payload))
            .expect("the URL was parsed, and the headers are ASCII")
    }
}

/// The same for every try of the same word, and of no other.
fn id(message: &Message) -> String {
    format!("{}_{}_{}", message.session, message.word.version, name(message.word.notice))
}

fn payload(message: &Message) -> Vec<u8> {
    let Message { session, binding, word } = *message;
    let payload = Payload {
        kind: format!("session.{}", name(word.notice)),
        timestamp: rfc3339(word.at),
        data: Data {
            session,
            binding,
            notice: word.notice,
            version: word.version,
            path: format!("/v1/sessions/{session}"),
        },
    };
    serde_json::to_vec(&payload).expect("a payload is plain data with string keys")
}

/// As the notice is written everywhere.
fn name(notice: Notice) -> String {
    let name = serde_json::to_value(notice).expect("a notice is a plain name");
    name.as_str().expect("a notice is a plain name").to_owned()
}

fn rfc3339(at: UnixMs) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).expect("every time of this calendar has four digits of year")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Unseen;

    fn message() -> Message {
        let word = Unseen { notice: Notice::PleaseProve, version: 3, at: UnixMs(1_700_000_000_123) };
        Message { session: SessionId([2; 16]), binding: BindingId([1; 16]), word }
    }

    #[test]
    fn a_payload_says_what_there_is_and_where_and_no_more() {
        let payload: serde_json::Value = serde_json::from_slice(&payload(&message())).unwrap();
        let (session, binding) = ("02".repeat(16), "01".repeat(16));
        let expected = serde_json::json!({
            "type": "session.please_prove",
            "timestamp": "2023-11-14T22:13:20.123Z",
            "data": {
                "session": session, "binding": binding, "notice": "please_prove", "version": 3,
                "path": format!("/v1/sessions/{session}"),
            },
        });
        assert_eq!(payload, expected);
        assert_eq!(id(&message()), format!("{session}_3_please_prove"));
    }

    #[test]
    fn only_http_urls_are_taken() {
        for url in ["https://push.example/hook?app=1", "http://127.0.0.1:80/"] {
            assert!(parse(url).is_some(), "{url}");
        }
        for url in ["", "push.example", "/hook", "ftp://push.example/", "https://"] {
            assert!(parse(url).is_none(), "{url}");
        }
    }

    #[test]
    fn success_ends_a_message_gone_ends_all_and_the_rest_is_tried_again() {
        let of = |status: u16| Tried::Answered(StatusCode::from_u16(status).unwrap()).verdict();
        assert_eq!([200, 204, 410, 301, 404, 429, 503].map(of), {
            use Verdict as V;
            [V::Delivered, V::Delivered, V::Gone, V::Failed, V::Failed, V::Failed, V::Failed]
        });
    }
}
