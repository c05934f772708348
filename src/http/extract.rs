//! Reading a request: path, query and body, with every refusal a problem.
//!
//! The extractors of axum refuse in plain text; these wrap them. A body must be JSON and say so. No body at all reads
//! as `{}`, so that a call all of whose fields may be left out needs none.

use std::fmt;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::problem::{Code, Problem};

/// What the path names.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named<T>, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Named(named)),
            Err(rejection) => Err(Problem::new(Code::BadRequest, rejection.body_text())),
        }
    }
}

/// What the query string asks.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(rejection) => Err(Problem::new(Code::BadRequest, rejection.body_text())),
        }
    }
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        let headers = request.headers().clone();
        let bytes = bytes(request, state).await?;
        json(&headers, &bytes).map(Body)
    }
}

/// The whole body, within the route's bound.
pub(super) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            _ => Code::BadRequest,
        };
        Problem::new(code, rejection.body_text())
    })
}

pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return parse(b"{}");
    }
    if !is_json(headers) {
        return Err(Problem::new(Code::MediaTypeUnsupported, "send the body as `Content-Type: application/json`"));
    }
    parse(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Code::BadRequest, format!("the body: {error}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

/// The body of a call that says everything by its path.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Bytes as hexadecimal digits, two each.
#[derive(Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-fA-F]*$")]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

/// Keys, nonces and proofs: what is printed by accident says nothing.
impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hex({N} bytes)")
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex<N>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| serde::de::Error::custom(format_args!("not {} hexadecimal digits", 2 * N)))?;
        Ok(Hex(bytes))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Preset {
        pump: u16,
        nonce: Option<Hex<2>>,
    }

    fn read(media_type: &'static str, body: &str) -> Result<Preset, Code> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        json(&headers, body.as_bytes()).map_err(|problem| problem.code())
    }

    #[test]
    fn a_body_that_is_not_the_call_s_is_a_problem() {
        for body in ["{", "[]", "{\"pump\": -1}", "{\"pump\": 1, \"x\": 2}", "{\"pump\": 1, \"nonce\": \"0g00\"}", ""] {
            assert_eq!(read("application/json", body), Err(Code::BadRequest), "{body}");
        }
        assert_eq!(read("text/plain", "{\"pump\": 1}"), Err(Code::MediaTypeUnsupported));
    }

    #[test]
    fn json_is_read_whatever_the_parameters_of_its_media_type() {
        let preset = Preset { pump: 1, nonce: Some(Hex([0xa5, 1])) };
        assert_eq!(read("Application/JSON; charset=utf-8", "{\"pump\": 1, \"nonce\": \"A501\"}"), Ok(preset));
    }

    #[test]
    fn a_call_without_fields_needs_no_body() {
        assert!(json::<Nothing>(&HeaderMap::new(), b"").is_ok());
    }

    #[tokio::test]
    async fn a_body_past_its_bound_is_a_problem() {
        let mut request = Request::new(axum::body::Body::from(vec![b' '; 3 << 20]));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let refused = Body::<Preset>::from_request(request, &()).await.unwrap_err();
        assert_eq!(refused.code(), Code::BodyTooLarge);
    }
}
