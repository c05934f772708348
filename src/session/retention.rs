//! How long the journal keeps sessions, and the search for those whose time is up.
//!
//! Two rules. A session that sold something or spoke to the PSP is kept as books are. One that never did says only which
//! vehicle was where, and goes soon. Either goes with all its rows, charges included, once it is at an end and its last
//! event is older than the rule asks for. Where vehicles are at present is journalled nowhere: presence lives in memory
//! for minutes, and in `presence.snapshot` for a restart.
//!
//! A search goes on where the last purge by its rule ended: each session is looked at when its last event comes of age,
//! so that a day's run reads a day of the journal.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use actix::Addr;

use super::{
    actor::SessionDesk,
    messages::{Keep, LetGo},
    metrics,
    record::rebuild,
};
use crate::{
    engine::{
        id::SessionId,
        session::Session,
        time::{DAY_MS, UnixMs},
    },
    ledger::{self, Entry, Journal, Kind, Ledger, LedgerError, OpenError, PurgeOrder, Removal, Rule, Seq},
    telemetry::now,
};

/// Entries that are looked at in one part, and so the sessions that one transaction empties: 256 of some ten rows each
/// hold up the appends for about 50 ms.
const PART_ENTRIES: u64 = 256;

/// Between two parts, so that a purge takes no more than a third of the writer's time.
const PAUSE: Duration = Duration::from_millis(100);

/// After a start there is better to do than to purge.
const FIRST: Duration = Duration::from_secs(600);

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the sessions have stopped")]
    Stopped,
}

/// What a rule let go, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Purged {
    pub rule: Rule,
    /// Sessions whose last event is older than this.
    pub before: UnixMs,
    pub sessions: u64,
    /// With those of their charges.
    pub entries: u64,
}

/// A session with its charges, as it would go.
struct Candidate {
    session: SessionId,
    last: Seq,
    removals: Vec<Removal>,
    entries: u64,
}

struct Search {
    journal: Journal,
    rule: Rule,
    before: UnixMs,
    through: Seq,
    /// The first of the last events of sessions that are due and cannot go yet: the next search begins before it.
    held: Option<Seq>,
}

/// What would go now, in the order of the rules. Blocks.
pub fn due(
    config: &ledger::Config,
    open: impl Fn() -> Result<Journal, OpenError>,
    now: UnixMs,
) -> Result<Vec<Purged>, PurgeError> {
    Rule::ALL
        .into_iter()
        .map(|rule| {
            let mut search = Search::new(open()?, rule, before(config, rule, now))?;
            let mut purged = Purged { rule, before: search.before, sessions: 0, entries: 0 };
            let mut seen = HashSet::new();
            while let Some(part) = search.next()? {
                for candidate in part.iter().filter(|candidate| seen.insert(candidate.session)) {
                    purged.sessions += 1;
                    purged.entries += candidate.entries;
                }
            }
            Ok(purged)
        })
        .collect()
}

/// Purges what is due, once a day.
pub(super) async fn daily(config: &ledger::Config, ledger: &Ledger, desk: &Addr<SessionDesk>) {
    tokio::time::sleep(FIRST).await;
    loop {
        if let Err(error) = run(config, ledger, now(), Some(desk)).await {
            tracing::error!(%error, "a purge stopped; the next one goes on with it");
        }
        tokio::time::sleep(DAY).await;
    }
}

/// Purges what is due. `desk` is asked what it holds in memory; without one, nobody may have the journal but the caller.
pub(super) async fn run(
    config: &ledger::Config,
    ledger: &Ledger,
    now: UnixMs,
    desk: Option<&Addr<SessionDesk>>,
) -> Result<Vec<Purged>, PurgeError> {
    let mut report = Vec::new();
    for rule in Rule::ALL {
        let mut search = Search::new(ledger.reader()?, rule, before(config, rule, now))?;
        let mut purged = Purged { rule, before: search.before, sessions: 0, entries: 0 };
        loop {
            let part;
            (search, part) = search.in_background().await?;
            let Some(candidates) = part else { break };
            let gone = let_go(desk, candidates.iter().map(|candidate| candidate.session).collect()).await?;
            let (going, held): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|candidate| gone.contains(&candidate.session));
            for candidate in held {
                search.hold(candidate.last);
            }
            let groups = going.into_iter().map(|candidate| candidate.removals).collect();
            let (before, through) = (search.before, search.settled());
            let done = ledger.purge(PurgeOrder { at: now, rule, before, through, groups }).await;
            if let (Err(_), Some(desk)) = (&done, desk) {
                desk.send(Keep(gone)).await.map_err(|_| PurgeError::Stopped)?;
            }
            let done = done?;
            purged.sessions += done.sessions;
            purged.entries += done.entries;
            tokio::time::sleep(PAUSE).await;
        }
        count(&purged);
        report.push(purged);
    }
    ledger.forget_claims(now).await?;
    Ok(report)
}

/// Which of them nobody holds; from then on nobody will.
async fn let_go(desk: Option<&Addr<SessionDesk>>, sessions: Vec<SessionId>) -> Result<Vec<SessionId>, PurgeError> {
    match desk {
        Some(desk) => desk.send(LetGo(sessions)).await.map_err(|_| PurgeError::Stopped),
        None => Ok(sessions),
    }
}

fn before(config: &ledger::Config, rule: Rule, now: UnixMs) -> UnixMs {
    let days = match rule {
        Rule::Payments => config.session_days,
        Rule::Location => config.location_days,
    };
    now.minus(u64::from(days) * DAY_MS)
}

fn count(purged: &Purged) {
    metrics::purged(purged.rule).increment(purged.entries);
    tracing::info!(rule = purged.rule.name(), sessions = purged.sessions, entries = purged.entries, "purged");
}

impl Search {
    fn new(journal: Journal, rule: Rule, before: UnixMs) -> Result<Search, PurgeError> {
        let through = journal.last_purge(rule)?.map_or(Seq(0), |purge| purge.through);
        Ok(Search { journal, rule, before, through, held: None })
    }

    async fn in_background(mut self) -> Result<(Search, Option<Vec<Candidate>>), PurgeError> {
        let searched = tokio::task::spawn_blocking(move || self.next().map(|part| (self, part))).await;
        searched.unwrap_or(Err(PurgeError::Stopped))
    }

    /// The next that are due; none of the last entries that were looked at, and `None` when nothing was left to look at.
    fn next(&mut self) -> Result<Option<Vec<Candidate>>, PurgeError> {
        let began = self.through;
        let mut candidates = Vec::new();
        while candidates.is_empty() {
            let Some(sessions) = self.read_on()? else { return Ok((self.through > began).then_some(candidates)) };
            for session in sessions {
                candidates.extend(self.candidate(session)?);
            }
        }
        Ok(Some(candidates))
    }

    fn hold(&mut self, last: Seq) {
        self.held = Some(self.held.map_or(last, |held| held.min(last)));
    }

    /// How far nothing is left to do.
    fn settled(&self) -> Seq {
        self.held.map_or(self.through, |held| self.through.min(Seq(held.0 - 1)))
    }

    /// The sessions of the next entries that are of age; `None` when no entry is.
    fn read_on(&mut self) -> Result<Option<BTreeSet<SessionId>>, PurgeError> {
        let mut sessions = BTreeSet::new();
        let mut through = None;
        let mut is_of_age = true;
        self.journal.replay_after(self.through, PART_ENTRIES, |seq, entry| {
            is_of_age &= entry.at < self.before;
            if is_of_age {
                through = Some(seq);
                sessions.extend(session_of(&entry));
            }
        })?;
        self.through = through.unwrap_or(self.through);
        Ok(through.map(|_| sessions))
    }

    /// `None` when it is not the rule's, not at an end, or too young. What cannot be read stays: an audit names it.
    fn candidate(&mut self, session: SessionId) -> Result<Option<Candidate>, PurgeError> {
        let entries = self.journal.of(Kind::Session, &session.0)?;
        let Some(last) = entries.last().map(|(seq, _)| *seq) else { return Ok(None) };
        let rebuilt = match rebuild(session, &entries) {
            Ok(rebuilt) => rebuilt.session,
            Err(error) => {
                tracing::error!(%error, %session, "a session cannot be read, and is not purged");
                return Ok(None);
            }
        };
        if !rebuilt.name().is_end() || rebuilt.updated_at() >= self.before || rule_of(&rebuilt) != self.rule {
            return Ok(None);
        }
        let mut removals = vec![Removal { kind: Kind::Session, subject: session.0.to_vec(), last }];
        let mut count = entries.len() as u64;
        for attempt in rebuilt.attempts() {
            let subject = attempt.instruction.key().0.to_vec();
            let charge = self.journal.of(Kind::Charge, &subject)?;
            let Some((last, newest)) = charge.last() else { continue };
            if newest.at >= self.before {
                self.hold(removals[0].last);
                return Ok(None);
            }
            count += charge.len() as u64;
            removals.push(Removal { kind: Kind::Charge, last: *last, subject });
        }
        Ok(Some(Candidate { session, last, removals, entries: count }))
    }
}

fn session_of(entry: &Entry) -> Option<SessionId> {
    let id = entry.subject.as_slice().try_into().map(SessionId).ok();
    id.filter(|_| entry.kind == Kind::Session)
}

fn rule_of(session: &Session) -> Rule {
    let has_books = session.transactions().next().is_some() || !session.attempts().is_empty();
    if has_books { Rule::Payments } else { Rule::Location }
}
