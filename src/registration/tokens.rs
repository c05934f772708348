//! Bearer tokens: 32 random bytes with a prefix that tells a person (and a leak scanner) what they found.
//!
//! Only the SHA-256 is stored. A plain hash is enough: the token is random over its whole length, so there is nothing
//! to guess that a slow hash would protect.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use zeroize::ZeroizeOnDrop;

use super::OPERATOR_NAME_BYTES_MAX;
use super::envelope::write_secret_file;
use super::error::{Error, StartError};
use super::mandate::Author;
use super::truth::audit;
use crate::engine::id::{BindingId, StationId};
use crate::engine::time::UnixMs;
use crate::telemetry;

/// The file of the first operator token in the data folder.
pub const OPERATOR_TOKEN_FILE: &str = "operator.token";

const TOKEN_BYTES: usize = 32;

/// What the bearer of a token may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Terminal(StationId),
    Phone(BindingId),
    Operator(OperatorName),
}

/// Who an operator is, as the journal names him. The bearer of the data folder's own token has no name: whoever can read
/// the folder. The others get theirs with their tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperatorName([u8; OPERATOR_NAME_BYTES_MAX]);

impl OperatorName {
    pub const FOLDER: OperatorName = OperatorName([0; OPERATOR_NAME_BYTES_MAX]);

    pub fn parse(text: &str) -> Result<OperatorName, Error> {
        let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
        if text.is_empty() || text.len() > OPERATOR_NAME_BYTES_MAX || !text.bytes().all(is_named) {
            return Err(Error::OperatorName);
        }
        let mut name = OperatorName::FOLDER;
        name.0[..text.len()].copy_from_slice(text.as_bytes());
        Ok(name)
    }

    pub fn is_folder(&self) -> bool {
        *self == OperatorName::FOLDER
    }

    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        str::from_utf8(&self.0[..length]).expect("a name is ASCII")
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Role::Terminal(_) => "fct_",
            Role::Phone(_) => "fcp_",
            Role::Operator(_) => "fco_",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Role::Terminal(_) => "terminal",
            Role::Phone(_) => "phone",
            Role::Operator(_) => "operator",
        }
    }

    fn subject(self) -> Vec<u8> {
        match self {
            Role::Terminal(station) => station.0.to_be_bytes().to_vec(),
            Role::Phone(binding) => binding.0.to_vec(),
            Role::Operator(name) => name.as_str().as_bytes().to_vec(),
        }
    }

    fn of(name: &str, subject: &[u8]) -> Option<Role> {
        match name {
            "terminal" => Some(Role::Terminal(StationId(u32::from_be_bytes(subject.try_into().ok()?)))),
            "phone" => Some(Role::Phone(BindingId(subject.try_into().ok()?))),
            "operator" if subject.is_empty() => Some(Role::Operator(OperatorName::FOLDER)),
            "operator" => OperatorName::parse(str::from_utf8(subject).ok()?).ok().map(Role::Operator),
            _ => None,
        }
    }
}

/// A bearer token in clear: shown once to its bearer, and to nobody again.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Token(String);

impl Token {
    pub(super) fn random(role: Role) -> Token {
        let mut bytes = zeroize::Zeroizing::new([0; TOKEN_BYTES]);
        getrandom::fill(bytes.as_mut()).expect("the system's randomness was there at start");
        Token(format!("{}{}", role.prefix(), hex::encode(bytes.as_ref())))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

pub(super) type TokenHash = [u8; 32];

/// `None` for text that no token of ours looks like: it does not reach the store.
pub(super) fn hash(text: &str) -> Option<TokenHash> {
    let prefix = text.get(..4)?;
    let is_ours = matches!(prefix, "fct_" | "fcp_" | "fco_") && text.len() == 4 + 2 * TOKEN_BYTES;
    is_ours.then(|| Sha256::digest(text.as_bytes()).into())
}

/// What the store knows of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) role: Role,
    pub(super) expires: Option<UnixMs>,
}

impl Grant {
    pub(super) fn is_valid(&self, now: UnixMs) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

pub(super) fn insert(db: &Connection, token: &Token, grant: Grant, now: UnixMs) -> rusqlite::Result<()> {
    let hash = hash(token.reveal()).expect("a token of ours has the form of one");
    db.prepare_cached("INSERT INTO tokens (hash, role, subject, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            hash,
            grant.role.name(),
            grant.role.subject(),
            now.0 as i64,
            grant.expires.map(|at| at.0 as i64)
        ])
        .map(drop)
}

pub(super) fn select(db: &Connection, hash: &TokenHash) -> rusqlite::Result<Option<Grant>> {
    let found = db
        .prepare_cached("SELECT role, subject, expires_ms FROM tokens WHERE hash = ?1")?
        .query_row([hash], |row| {
            let role = Role::of(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?);
            let expires: Option<i64> = row.get(2)?;
            Ok(role.map(|role| Grant { role, expires: expires.map(|at| UnixMs(at as u64)) }))
        })
        .optional()?;
    Ok(found.flatten())
}

/// Takes back every token of a role and subject: of a phone whose binding was revoked, say.
pub(super) fn delete_of(db: &Connection, role: Role) -> rusqlite::Result<usize> {
    db.prepare_cached("DELETE FROM tokens WHERE role = ?1 AND subject = ?2")?
        .execute(params![role.name(), role.subject()])
}

pub(super) fn delete_expired(db: &Connection, now: UnixMs) -> rusqlite::Result<usize> {
    db.execute("DELETE FROM tokens WHERE expires_ms < ?1", [now.0 as i64])
}

/// The operator's token of the data folder: made with its file at the first start. Whoever removes the file gets a new
/// one, and every operator token from before is void: those with a name were given by the bearer of the one that is gone.
pub(super) fn ensure_operator_token(db: &Connection, folder: &Path) -> Result<Token, StartError> {
    let path = folder.join(OPERATOR_TOKEN_FILE);
    let now = telemetry::now();
    let token = match std::fs::read_to_string(&path) {
        Ok(text) => Token(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = Token::random(Role::Operator(OperatorName::FOLDER));
            write_secret_file(&path, token.reveal())?;
            db.execute("DELETE FROM tokens WHERE role = 'operator'", [])?;
            let author = Author { who: "system", why: "the folder had none", what: "operator token issued" };
            audit(db, now, author, OPERATOR_TOKEN_FILE)?;
            token
        }
        Err(source) => return Err(StartError::File { path, source }),
    };
    let hash =
        hash(token.reveal()).ok_or_else(|| StartError::Unfit(format!("{} holds no operator token", path.display())))?;
    if select(db, &hash)?.is_none() {
        insert(db, &token, Grant { role: Role::Operator(OperatorName::FOLDER), expires: None }, now)?;
    }
    delete_expired(db, now)?;
    Ok(token)
}

/// Tokens that were resolved before, so that a terminal's poll costs no look-up in the store.
///
/// As in the near cache, a look-up that began before a token was taken back is not kept.
pub(super) struct TokenCache {
    grants: DashMap<TokenHash, Grant>,
    entries_max: usize,
    version: AtomicU64,
    taken_back: watch::Sender<()>,
}

impl TokenCache {
    pub(super) fn new(entries_max: usize) -> TokenCache {
        TokenCache {
            grants: DashMap::new(),
            entries_max: entries_max.max(1),
            version: AtomicU64::new(0),
            taken_back: watch::Sender::new(()),
        }
    }

    pub(super) fn known(&self, hash: &TokenHash) -> Option<Grant> {
        self.grants.get(hash).map(|grant| *grant)
    }

    /// When a look-up began.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// A full cache starts anew: the bearers that are about refill it with one look-up each, and no order is kept.
    pub(super) fn remember(&self, hash: TokenHash, grant: Grant, since: u64) {
        if self.grants.len() >= self.entries_max {
            self.grants.clear();
        }
        let place = self.grants.entry(hash);
        // Under the entry's lock: a revocation raises the version first and then takes the lock to remove it.
        if self.version() == since {
            place.insert(grant);
        }
    }

    /// Changes whenever tokens were taken back.
    pub(super) fn taken_back(&self) -> watch::Receiver<()> {
        self.taken_back.subscribe()
    }

    pub(super) fn forget_role(&self, role: Role) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.grants.retain(|_, grant| grant.role != role);
        self.taken_back.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_kind_and_is_not_printed() {
        let token = Token::random(Role::Terminal(StationId(7)));
        assert!(token.reveal().starts_with("fct_"));
        assert_eq!(token.reveal().len(), 68);
        assert_eq!(format!("{token:?}"), "Token(not shown)");
    }

    #[test]
    fn an_operators_name_is_short_and_plain() {
        assert_eq!(OperatorName::parse("kim").unwrap().to_string(), "kim");
        for refused in ["", "kim lee", "\u{ac00}", &"k".repeat(OPERATOR_NAME_BYTES_MAX + 1), "kim\0"] {
            assert_eq!(OperatorName::parse(refused), Err(Error::OperatorName), "{refused:?}");
        }
    }

    #[test]
    fn text_that_no_token_looks_like_has_no_hash() {
        for text in ["", "fct", "fct_", "Bearer", &"x".repeat(68), "\u{ac00}\u{ac00}"] {
            assert_eq!(hash(text), None);
        }
    }

    #[test]
    fn a_role_reads_back_from_its_row() {
        let folder = Role::Operator(OperatorName::FOLDER);
        let kim = Role::Operator(OperatorName::parse("kim@chain.example").unwrap());
        for role in [Role::Terminal(StationId(7)), Role::Phone(BindingId([9; 16])), folder, kim] {
            assert_eq!(Role::of(role.name(), &role.subject()), Some(role));
        }
        assert_eq!(Role::of("terminal", &[1]), None);
    }
}
