//! HTTP to Stripe: one request, one bounded answer, and what is known when there is none.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, InvalidHeaderValue},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{outgoing, secret::Secret};

/// The version of Stripe's API that this gateway was written against: another one never answers it.
const API_VERSION: &str = "2024-06-20";

/// Bytes of an answer. A page of a hundred movements with their charges and intents has about 1 MB.
const ANSWER_BYTES_MAX: usize = 8 << 20;

const CONNECT: Duration = Duration::from_secs(2);

/// What a request came back with.
#[derive(Debug)]
pub(super) enum Reply {
    Answer {
        status: StatusCode,
        body: Bytes,
    },
    /// Nothing left this process.
    NotSent,
    /// It left, and what became of it is unknown.
    NoAnswer,
}

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("payment.stripe_url is not https://host or, on the loopback, http://host:port")]
    Url,
    #[error("payment.stripe_secret cannot stand in a header")]
    Secret(#[from] InvalidHeaderValue),
}

#[derive(Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: HeaderValue,
}

/// Without the secret.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(url: &str, secret: &Secret) -> Result<Transport, AddressError> {
        let base = url.trim_end_matches('/');
        if !is_safe(base) {
            return Err(AddressError::Url);
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", secret.reveal()))?;
        authorization.set_sensitive(true);
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(outgoing::connector(http));
        Ok(Transport { client, base: base.to_owned(), authorization })
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path).body(Full::default())).await
    }

    /// A form under an idempotency key.
    pub(super) async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Reply {
        let form = serde_urlencoded::to_string(form).expect("pairs of text are a form");
        let request = self
            .request(Method::POST, path)
            .header("Idempotency-Key", key)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form));
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.base))
            .header(AUTHORIZATION, self.authorization.clone())
            .header("Stripe-Version", API_VERSION)
    }

    async fn send(&self, request: hyper::http::Result<Request<Full<Bytes>>>) -> Reply {
        let Ok(request) = request else {
            tracing::error!("an object's name of the PSP cannot stand in a request");
            return Reply::NotSent;
        };
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                tracing::debug!(%error, "the PSP is not reached");
                return Reply::NotSent;
            }
            Err(error) => {
                tracing::debug!(%error, "the PSP did not answer");
                return Reply::NoAnswer;
            }
        };
        let status = answer.status();
        match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => Reply::Answer { status, body: body.to_bytes() },
            Err(_) => Reply::NoAnswer,
        }
    }
}

/// The secret leaves the machine encrypted or not at all.
fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => uri.path() == "/",
        Some("http") => uri.path() == "/" && ["127.0.0.1", "localhost", "[::1]"].contains(&host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_goes_in_clear_to_the_loopback_only() {
        for safe in ["https://api.stripe.com", "https://api.stripe.com/", "http://127.0.0.1:8420", "http://[::1]:1"] {
            assert!(Transport::new(safe, &Secret::new("sk_test")).is_ok(), "{safe}");
        }
        for unsafe_ in ["http://api.stripe.com", "http://127.0.0.1.example", "https://a/v1", "api.stripe.com", ""] {
            assert!(Transport::new(unsafe_, &Secret::new("sk_test")).is_err(), "{unsafe_}");
        }
    }

    #[test]
    fn what_is_printed_by_accident_says_nothing() {
        let transport = Transport::new("http://127.0.0.1:1", &Secret::new("sk_deep_secret")).unwrap();
        assert!(!format!("{transport:?} {:?}", transport.authorization).contains("sk_deep"));
    }

    #[tokio::test]
    async fn a_closed_port_is_not_reached_and_a_broken_connection_is_not_answered() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let transport = Transport::new(&url, &Secret::new("sk_test")).unwrap();
        let (reply, ()) = tokio::join!(transport.post("refunds", "key", &[("amount", "1")]), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut begun = [0; 16];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut begun).await.unwrap();
        });
        assert!(matches!(reply, Reply::NoAnswer));
        drop(listener);
        assert!(matches!(transport.get("refunds").await, Reply::NotSent));
    }
}
