//! Who calls: the role of a bearer token, as an extractor for each role.
//!
//! A route names the role that it is for by the extractor it takes. A token of another role is 403: the caller is
//! known, only not allowed. Whether a session is the caller's own is for the session to say, since a session of
//! somebody else must look like none at all.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use futures_util::future::BoxFuture;

use super::{
    Shared,
    problem::{Code, Problem},
    serve::Peer,
};
use crate::{
    engine::id::{BindingId, StationId},
    registration::{OperatorName, Role},
    session::By,
};

/// A terminal of this station.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal(pub(super) StationId);

impl Terminal {
    /// The station, if it is the one that the path names.
    pub(super) fn at(self, station: StationId) -> Result<StationId, Problem> {
        if station == self.0 {
            return Ok(station);
        }
        Err(Problem::new(Code::Forbidden, format!("the token is for station {}", self.0)))
    }
}

/// The phone of this binding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phone(pub(super) BindingId);

/// A phone whose call takes its own token back: known by it, or, when the call is sent again because its answer was lost,
/// by the token that was its and by what it said ([`Write::parting`](super::idempotency::Write::parting)).
pub(super) struct Leaving {
    pub(super) token: String,
    /// The binding, or how somebody is refused who is neither.
    pub(super) phone: Result<BindingId, Problem>,
}

/// An operator of the chain, by the name of the token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator(pub(super) OperatorName);

impl Operator {
    /// The bearer of the data folder's own token, who says who the operators are.
    pub(super) fn of_folder(self) -> Result<OperatorName, Problem> {
        if self.0.is_folder() {
            return Ok(self.0);
        }
        Err(Problem::new(Code::Forbidden, "this call is for the bearer of the data folder's own token"))
    }
}

/// Somebody without a token: a phone that couples or logs in. What he says is checked by its signature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stranger;

/// Until the caller's token is void.
pub(super) struct UntilVoid(pub(super) BoxFuture<'static, ()>);

/// Anybody with a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) By);

impl FromRequestParts<Shared> for Stranger {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Stranger, Problem> {
        check_stranger(parts, shared).map(|()| Stranger)
    }
}

impl FromRequestParts<Shared> for UntilVoid {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<UntilVoid, Problem> {
        let (token, registrations) = (bearer(&parts.headers)?.to_owned(), shared.surface.registrations.clone());
        Ok(UntilVoid(Box::pin(async move { registrations.until_void(&token).await })))
    }
}

impl FromRequestParts<Shared> for Terminal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Terminal, Problem> {
        match role(parts, shared).await? {
            Role::Terminal(station) => Ok(Terminal(station)),
            Role::Phone(_) | Role::Operator(_) => Err(not_for("terminals")),
        }
    }
}

impl FromRequestParts<Shared> for Phone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Phone, Problem> {
        match role(parts, shared).await? {
            Role::Phone(binding) => Ok(Phone(binding)),
            Role::Terminal(_) | Role::Operator(_) => Err(not_for("phones")),
        }
    }
}

impl FromRequestParts<Shared> for Leaving {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Leaving, Problem> {
        let token = bearer(&parts.headers)?.to_owned();
        match Phone::from_request_parts(parts, shared).await {
            Ok(Phone(binding)) => Ok(Leaving { token, phone: Ok(binding) }),
            Err(problem) if problem.code() == Code::Unauthorised => Ok(Leaving { token, phone: Err(problem) }),
            Err(problem) => Err(problem),
        }
    }
}

impl FromRequestParts<Shared> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Operator, Problem> {
        match role(parts, shared).await? {
            Role::Operator(name) => Ok(Operator(name)),
            Role::Terminal(_) | Role::Phone(_) => Err(not_for("operators")),
        }
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Caller, Problem> {
        let by = match role(parts, shared).await? {
            Role::Terminal(station) => By::Station(station),
            Role::Phone(binding) => By::Phone(binding),
            Role::Operator(name) => By::Operator(name),
        };
        Ok(Caller(by))
    }
}

async fn role(parts: &Parts, shared: &Shared) -> Result<Role, Problem> {
    let token = bearer(&parts.headers)?;
    let Some(role) = shared.surface.registrations.resolve(token).await? else {
        check_stranger(parts, shared)?;
        return Err(Problem::new(Code::Unauthorised, "the token is unknown or has expired"));
    };
    shared.limits.check(role)?;
    Ok(role)
}

fn check_stranger(parts: &Parts, shared: &Shared) -> Result<(), Problem> {
    let Peer(address) = parts.extensions.get().expect("every connection says who is at its other end");
    shared.limits.check_stranger(address.ip())
}

/// The token of `Authorization: Bearer <token>`; the scheme's case does not matter (RFC 9110).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || Problem::new(Code::Unauthorised, "send the token as `Authorization: Bearer <token>`");
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(token.trim())
}

fn not_for(whom: &str) -> Problem {
    Problem::new(Code::Forbidden, format!("this call is for {whom}"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_bearer_token_is_taken_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(&headers("Bearer fct_1")), Ok("fct_1"));
        assert_eq!(bearer(&headers("bearer  fct_1")), Ok("fct_1"));
    }

    #[test]
    fn other_authorisation_is_refused_as_a_problem() {
        for refused in [HeaderMap::new(), headers("Basic Zm9v"), headers("fct_1")] {
            assert_eq!(bearer(&refused).unwrap_err().code(), Code::Unauthorised);
        }
    }

    #[test]
    fn only_the_folders_own_operator_says_who_the_operators_are() {
        assert!(Operator(OperatorName::FOLDER).of_folder().is_ok());
        let kim = Operator(OperatorName::parse("kim").unwrap());
        assert_eq!(kim.of_folder().unwrap_err().code(), Code::Forbidden);
    }

    #[test]
    fn a_terminal_serves_its_own_station_only() {
        let terminal = Terminal(StationId(7));
        assert_eq!(terminal.at(StationId(7)), Ok(StationId(7)));
        assert_eq!(terminal.at(StationId(8)).unwrap_err().code(), Code::Forbidden);
    }
}
