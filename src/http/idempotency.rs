//! `Idempotency-Key`: a write that is sent again, because its answer was lost, happens once.
//!
//! The key is the caller's own: its digest covers the role, the path and the key, so that two callers, or two calls,
//! may use the same text. The journal remembers digest and body with what was done; here is only what the journal
//! cannot know, that the first of two equal requests is still running.
//!
//! A call that takes its caller's token back leaves nobody to whom the key would belong. It is known by its whole
//! [parting](Write::parting) instead.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{FromRequest, Request},
    http::HeaderMap,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{
    extract,
    problem::{Code, Problem},
};
use crate::{
    engine::id::{SessionId, StationId},
    session::{self, By},
};

pub(super) const HEADER: &str = "idempotency-key";

/// Longest key: a UUID has 36 characters, a digest 64.
const KEY_BYTES_MAX: usize = 128;

/// A write as it was sent: its key and its body.
#[derive(Debug)]
pub(super) struct Write<T> {
    path: String,
    key: String,
    body_digest: [u8; 32],
    pub(super) body: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Write<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Write<T>, Problem> {
        let headers = request.headers().clone();
        let path = request.uri().path().to_owned();
        let key = key(&headers)?.to_owned();
        let bytes = extract::bytes(request, state).await?;
        let body = extract::json(&headers, &bytes)?;
        Ok(Write { path, key, body_digest: Sha256::digest(&bytes).into(), body })
    }
}

impl<T> Write<T> {
    /// The digests by which the write is known when it comes again.
    fn request(&self, by: By) -> session::Request {
        let mut key = Sha256::new();
        match by {
            By::Station(station) => {
                key.update(b"station");
                key.update(station.0.to_be_bytes());
            }
            By::Phone(binding) => {
                key.update(b"phone");
                key.update(binding.0);
            }
            By::Operator(name) => {
                key.update(b"operator");
                key.update(name.as_str());
            }
        }
        // Neither a name, a path nor a key holds a zero byte, so no two scopes run together.
        for part in [self.path.as_bytes(), self.key.as_bytes()] {
            key.update([0]);
            key.update(part);
        }
        session::Request { key: key.finalize().into(), body: self.body_digest }
    }

    /// By which the write is known when it took back the token that it came with. The body is a part of it, and holds the
    /// signature and the nonce that it is over: nobody else is answered, nor anybody who says anything else.
    pub(super) fn parting(&self, token: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [b"parting", token.as_bytes(), self.path.as_bytes(), self.key.as_bytes()] {
            digest.update(part);
            digest.update([0]);
        }
        digest.chain_update(self.body_digest).finalize().into()
    }
}

fn key(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(HEADER) else {
        return Err(Problem::new(Code::IdempotencyKeyMissing, "send an Idempotency-Key of your own with this call"));
    };
    let usable = |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    value.to_str().ok().filter(usable).ok_or_else(|| {
        let detail = format!("an Idempotency-Key is 1 to {KEY_BYTES_MAX} visible ASCII characters");
        Problem::new(Code::BadRequest, detail)
    })
}

/// The session that a request opens: the same request, sent again, names the same one.
pub(super) fn session_of(station: StationId, request: &session::Request) -> SessionId {
    let digest = Sha256::new()
        .chain_update(b"forecourt session v1")
        .chain_update(station.0.to_be_bytes())
        .chain_update(request.key)
        .finalize();
    SessionId(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
}

/// The writes that run now.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    keys: Arc<Mutex<HashSet<[u8; 32]>>>,
    writes_max: usize,
}

impl InFlight {
    pub(super) fn new(writes_max: usize) -> InFlight {
        InFlight { keys: Arc::default(), writes_max }
    }

    /// Admits the write until the answer is dropped.
    pub(super) fn begin<T>(&self, by: By, write: &Write<T>) -> Result<Running, Problem> {
        let request = write.request(by);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= self.writes_max {
            return Err(Problem::new(Code::Overloaded, "too many writes are under way"));
        }
        if !keys.insert(request.key) {
            return Err(Problem::new(Code::IdempotencyKeyInUse, "the request with this key is still running"));
        }
        Ok(Running { request, in_flight: self.clone() })
    }
}

/// A write that was admitted.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) request: session::Request,
    in_flight: InFlight,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.in_flight.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.request.key);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::{engine::id::BindingId, registration::OperatorName};

    const FOLDER: By = By::Operator(OperatorName::FOLDER);

    fn write(path: &str, key: &str, body: &str) -> Write<()> {
        let body_digest = Sha256::digest(body).into();
        Write { path: path.into(), key: key.into(), body_digest, body: () }
    }

    #[test]
    fn a_key_is_the_callers_and_the_paths_own() {
        let station = By::Station(StationId(7));
        let first = write("/a", "k", "{}").request(station);
        assert_eq!(first, write("/a", "k", "{}").request(station));
        for other in [
            write("/b", "k", "{}").request(station),
            write("/a", "l", "{}").request(station),
            write("/a", "k", "{}").request(By::Station(StationId(8))),
            write("/a", "k", "{}").request(By::Phone(BindingId([0; 16]))),
            write("/a", "k", "{}").request(FOLDER),
            write("/a", "k", "{}").request(By::Operator(OperatorName::parse("kim").unwrap())),
        ] {
            assert_ne!(first.key, other.key);
        }
        let reused = write("/a", "k", "{ }").request(station);
        assert_eq!((reused.key, reused.body == first.body), (first.key, false));
    }

    #[test]
    fn a_parting_is_the_same_token_call_key_and_body() {
        let parting = write("/a", "k", "{}").parting("fcp_1");
        assert_eq!(parting, write("/a", "k", "{}").parting("fcp_1"));
        for other in [
            write("/a", "k", "{}").parting("fcp_2"),
            write("/b", "k", "{}").parting("fcp_1"),
            write("/a", "l", "{}").parting("fcp_1"),
            write("/a", "k", "{ }").parting("fcp_1"),
        ] {
            assert_ne!(parting, other);
        }
    }

    #[test]
    fn the_same_request_names_the_same_session() {
        let request = write("/a", "k", "{}").request(FOLDER);
        let session = session_of(StationId(7), &request);
        assert_eq!(session, session_of(StationId(7), &request));
        assert_ne!(session, session_of(StationId(8), &request));
    }

    #[test]
    fn a_write_that_still_runs_is_refused_and_its_end_admits_it_again() {
        let in_flight = InFlight::new(2);
        let write_a = write("/a", "k", "{}");
        let running = in_flight.begin(FOLDER, &write_a).unwrap();
        let refused = in_flight.begin(FOLDER, &write_a).unwrap_err();
        assert_eq!(refused.code(), Code::IdempotencyKeyInUse);
        drop(running);
        assert!(in_flight.begin(FOLDER, &write_a).is_ok());
    }

    #[test]
    fn the_writes_under_way_are_bounded() {
        let in_flight = InFlight::new(1);
        let _running = in_flight.begin(FOLDER, &write("/a", "k", "{}")).unwrap();
        let refused = in_flight.begin(FOLDER, &write("/a", "l", "{}")).unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded);
    }

    #[test]
    fn a_key_is_visible_and_short() {
        let with =
            |value: &str| HeaderMap::from_iter([(HEADER.parse().unwrap(), HeaderValue::from_str(value).unwrap())]);
        assert_eq!(key(&HeaderMap::new()).unwrap_err().code(), Code::IdempotencyKeyMissing);
        assert_eq!(key(&with("order-7")), Ok("order-7"));
        for refused in ["", "a b", &"k".repeat(129)] {
            assert_eq!(key(&with(refused)).unwrap_err().code(), Code::BadRequest);
        }
    }
}
