//! What is to be pushed, and when: no clock, no socket.

use std::collections::{BTreeSet, HashMap};

use crate::{
    engine::{
        id::{BindingId, SessionId},
        time::UnixMs,
    },
    session::{Unseen, Word},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub after_ms: u64,
    pub retry_ms_min: u64,
    pub retry_ms_max: u64,
    pub give_up_ms: u64,
    pub words_max: usize,
}

/// One word to one driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub session: SessionId,
    pub binding: BindingId,
    pub word: Unseen,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    /// Try again later.
    Failed,
    /// The receiver wants no more of any.
    Gone,
}

/// Words that were not pushed, since they were last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lost {
    /// There were too many.
    pub dropped: u64,
    /// They grew too old.
    pub given_up: u64,
}

/// The last word of each session whose driver has not seen it.
pub(super) struct Outbox {
    policy: Policy,
    kept: HashMap<SessionId, Kept>,
    due: BTreeSet<(UnixMs, SessionId)>,
    /// By the time of the word.
    ages: BTreeSet<(UnixMs, SessionId)>,
    lost: Lost,
}

struct Kept {
    message: Message,
    tries: u32,
    state: State,
}

enum State {
    Due(UnixMs),
    Sending,
    /// Kept until it is seen or too old, so that it is not pushed again with the session's next change.
    Delivered,
}

impl Outbox {
    pub(super) fn new(policy: Policy) -> Outbox {
        let (kept, due, ages) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        Outbox { policy, kept, due, ages, lost: Lost::default() }
    }

    /// All that is unseen now: what is kept of other sessions was seen meanwhile.
    pub(super) fn tell_all(&mut self, words: &[Word], now: UnixMs) {
        let unseen: BTreeSet<SessionId> = words.iter().map(|word| word.session).collect();
        let seen: Vec<SessionId> = self.kept.keys().filter(|session| !unseen.contains(session)).copied().collect();
        for session in seen {
            self.forget(session);
        }
        for word in words {
            self.tell(*word, now);
        }
    }

    /// The session's last word, or that there is none any more.
    pub(super) fn tell(&mut self, word: Word, now: UnixMs) {
        let Word { session, binding, unseen } = word;
        if let (Some(kept), Some(unseen)) = (self.kept.get(&session), unseen)
            && kept.message.word == unseen
        {
            return;
        }
        self.forget(session);
        self.expire(now);
        let Some(word) = unseen.filter(|unseen| now.since(unseen.at) < self.policy.give_up_ms) else { return };
        while self.kept.len() >= self.policy.words_max.max(1) {
            self.drop_oldest();
        }
        // A clock that was set back since then makes nobody wait longer.
        let due = word.at.min(now).plus(self.policy.after_ms);
        let message = Message { session, binding, word };
        self.kept.insert(session, Kept { message, tries: 0, state: State::Due(due) });
        self.due.insert((due, session));
        self.ages.insert((word.at, session));
    }

    pub(super) fn next_due(&self) -> Option<UnixMs> {
        self.due.first().map(|(due, _)| *due)
    }

    /// A message whose time has come; it is being sent until it is [settled](Self::settle).
    pub(super) fn take_due(&mut self, now: UnixMs) -> Option<Message> {
        self.expire(now);
        let place = *self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.remove(&place);
        let kept = self.kept.get_mut(&place.1).expect("what is due is kept");
        kept.state = State::Sending;
        Some(kept.message)
    }

    /// What became of a message that was sent. It says nothing of a later word of the same session.
    pub(super) fn settle(&mut self, message: &Message, verdict: Verdict, now: UnixMs) {
        let Some(kept) = self.kept.get_mut(&message.session).filter(|kept| kept.message == *message) else { return };
        match verdict {
            Verdict::Delivered | Verdict::Gone => kept.state = State::Delivered,
            Verdict::Failed => {
                kept.tries += 1;
                let due = now.plus(self.policy.pause_ms(kept.tries, message.session));
                kept.state = State::Due(due);
                self.due.insert((due, message.session));
            }
        }
    }

    /// Words that are to be pushed yet.
    pub(super) fn waiting(&self) -> usize {
        self.due.len()
    }

    pub(super) fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    fn expire(&mut self, now: UnixMs) {
        while let Some((at, session)) = self.ages.first().copied()
            && now.since(at) >= self.policy.give_up_ms
        {
            let was_delivered = self.forget(session);
            self.lost.given_up += u64::from(!was_delivered);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, session)) = self.ages.first().copied() {
            let was_delivered = self.forget(session);
            self.lost.dropped += u64::from(!was_delivered);
        }
    }

    /// Whether what is forgotten was delivered.
    fn forget(&mut self, session: SessionId) -> bool {
        let Some(Kept { message, state, .. }) = self.kept.remove(&session) else { return false };
        self.ages.remove(&(message.word.at, session));
        if let State::Due(due) = state {
            self.due.remove(&(due, session));
        }
        matches!(state, State::Delivered)
    }
}

impl Policy {
    /// After the first failure the shortest, and then twice as long each time; up to a quarter less, by the session, so
    /// that what failed together does not come back together.
    fn pause_ms(&self, tries: u32, session: SessionId) -> u64 {
        let doubled = self.retry_ms_min.saturating_mul(1 << tries.saturating_sub(1).min(30));
        let pause = doubled.min(self.retry_ms_max);
        pause - pause / 4 * u64::from(session.0[15]) / 255
    }
}
