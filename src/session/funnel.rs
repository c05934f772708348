//! How far the sales that are under way have come, how long they took for it, and what money they stand for. Kept from
//! views, for the metrics alone: nothing is decided by it.
//!
//! Bounds: one entry a session that is not at an end, each of which the desk holds whole; [`CURRENCIES_MAX`].

use std::collections::{BTreeSet, HashMap};

use super::SessionView;
use crate::engine::{
    id::SessionId,
    money::{Currency, Money},
    session::StateName,
    time::UnixMs,
};

/// Currencies whose money is counted; a chain sells in one, near a border in two. That of the rest is not shown.
pub(super) const CURRENCIES_MAX: usize = 8;

/// Fuel that has flowed and is not paid for, by whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Risk {
    /// The driver's, or the PSP's within its time.
    UnderWay,
    /// The PSP's, which has not said what became of the charge.
    InDoubt,
    /// The site's: nothing happens by itself, until after a day the back office has it.
    Stuck,
}

impl Risk {
    pub(super) const ALL: [Risk; 3] = [Risk::UnderWay, Risk::InDoubt, Risk::Stuck];

    pub(super) fn name(self) -> &'static str {
        match self {
            Risk::UnderWay => "under_way",
            Risk::InDoubt => "in_doubt",
            Risk::Stuck => "stuck",
        }
    }

    fn of(state: StateName) -> Option<Risk> {
        use StateName as S;
        match state {
            S::Completed | S::AwaitingProof | S::Proven | S::Paying => Some(Risk::UnderWay),
            S::InDoubt => Some(Risk::InDoubt),
            S::CollectAtSite | S::Disputed | S::ProofFailed => Some(Risk::Stuck),
            S::Selected
            | S::Holding
            | S::Reserved
            | S::Fuelling
            | S::Paid
            | S::Cleared
            | S::Settled
            | S::Released
            | S::Rejected
            | S::PaidElsewhere
            | S::BackOffice => None,
        }
    }
}

struct Standing {
    state: StateName,
    since: UnixMs,
    amount: Option<Money>,
}

impl Standing {
    fn of(view: &SessionView, since: UnixMs) -> Standing {
        Standing { state: view.state, since, amount: view.amount }
    }

    fn at_risk(&self) -> Option<(Risk, Money)> {
        Risk::of(self.state).zip(self.amount)
    }
}

#[derive(Default)]
pub(super) struct Funnel {
    open: HashMap<SessionId, Standing>,
    in_doubt: BTreeSet<(UnixMs, SessionId)>,
    sessions: [u64; StateName::ALL.len()],
    /// Minor units of every currency that was ever at risk, by the place in [`Risk::ALL`].
    unpaid: Vec<(Currency, [i64; Risk::ALL.len()])>,
}

impl Funnel {
    /// From the sessions that a start finds open. How long they have been where they are counts from their last event.
    pub(super) fn of(open: impl Iterator<Item = SessionView>) -> Funnel {
        let mut funnel = Funnel::default();
        for view in open {
            funnel.changed(&view);
        }
        funnel
    }

    /// Takes in a change; the answer is the state that the session left, and after how many milliseconds.
    pub(super) fn changed(&mut self, view: &SessionView) -> Option<(StateName, u64)> {
        let before = self.take(view.id);
        let stays = before.as_ref().filter(|before| before.state == view.state);
        let since = stays.map_or(view.updated_at, |before| before.since);
        if !view.is_end {
            self.put(view.id, Standing::of(view, since));
        }
        let left = before.filter(|before| before.state != view.state)?;
        Some((left.state, view.updated_at.since(left.since)))
    }

    fn take(&mut self, id: SessionId) -> Option<Standing> {
        let standing = self.open.remove(&id)?;
        self.sessions[standing.state as usize] -= 1;
        self.in_doubt.remove(&(standing.since, id));
        if let Some((risk, money)) = standing.at_risk() {
            self.risk(risk, money.currency, -money.minor);
        }
        Some(standing)
    }

    fn put(&mut self, id: SessionId, standing: Standing) {
        self.sessions[standing.state as usize] += 1;
        if standing.state == StateName::InDoubt {
            self.in_doubt.insert((standing.since, id));
        }
        if let Some((risk, money)) = standing.at_risk() {
            self.risk(risk, money.currency, money.minor);
        }
        self.open.insert(id, standing);
    }

    fn risk(&mut self, risk: Risk, currency: Currency, minor: i64) {
        let known = self.unpaid.iter_mut().find(|(known, _)| *known == currency);
        if let Some((_, at_risk)) = known {
            at_risk[risk as usize] += minor;
        } else if self.unpaid.len() < CURRENCIES_MAX {
            let mut at_risk = [0; Risk::ALL.len()];
            at_risk[risk as usize] = minor;
            self.unpaid.push((currency, at_risk));
        }
    }

    /// Open sessions, by their place in [`StateName::ALL`].
    pub(super) fn sessions(&self) -> &[u64; StateName::ALL.len()] {
        &self.sessions
    }

    /// Since when the one that has been longest in doubt is so.
    pub(super) fn in_doubt_since(&self) -> Option<UnixMs> {
        self.in_doubt.first().map(|(since, _)| *since)
    }

    pub(super) fn unpaid(&self) -> &[(Currency, [i64; Risk::ALL.len()])] {
        &self.unpaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        id::{BindingId, DeviceId, StationId},
        session::StateName as S,
    };

    fn view(id: u8, state: StateName, at_ms: u64, minor: i64) -> SessionView {
        SessionView {
            id: SessionId([id; 16]),
            station: StationId(1),
            pump: None,
            plate: "12A3456".into(),
            device: DeviceId(7),
            binding: BindingId([1; 16]),
            state,
            reason: None,
            notice: None,
            version: 1,
            seq: 1,
            unseen: None,
            opened_at: UnixMs(0),
            updated_at: UnixMs(at_ms),
            preset: None,
            held: None,
            amount: Some(Money { minor, currency: "KRW".parse().unwrap() }),
            completion: None,
            challenge: None,
            paid: None,
            refunded: None,
            is_end: state.is_end(),
            pins_vehicle: false,
        }
    }

    #[test]
    fn money_is_at_risk_from_the_completion_to_the_payment() {
        let mut funnel = Funnel::default();
        let risks = |funnel: &Funnel| funnel.unpaid().first().map_or([0; 3], |(_, at_risk)| *at_risk);
        let steps = [
            (S::Fuelling, [0, 0, 0]),
            (S::AwaitingProof, [500, 0, 0]),
            (S::InDoubt, [0, 500, 0]),
            (S::CollectAtSite, [0, 0, 500]),
            (S::PaidElsewhere, [0, 0, 0]),
        ];
        for (second, (state, expected)) in (0..).zip(steps) {
            funnel.changed(&view(1, state, second * 1_000, 500));
            assert_eq!(risks(&funnel), expected, "{state:?}");
        }
        assert!(funnel.open.is_empty() && funnel.in_doubt.is_empty() && funnel.sessions.iter().all(|open| *open == 0));
    }

    #[test]
    fn a_state_lasts_from_its_first_event_to_the_next_state() {
        let mut funnel = Funnel::of([view(1, S::Paying, 1_000, 1)].into_iter());
        assert_eq!(funnel.changed(&view(1, S::Paying, 3_000, 1)), None, "a word, and the same state");
        assert_eq!(funnel.changed(&view(1, S::Paid, 6_000, 1)), Some((S::Paying, 5_000)));
        assert_eq!(funnel.sessions()[S::Paid as usize], 1);
    }

    #[test]
    fn the_one_longest_in_doubt_is_known() {
        let mut funnel = Funnel::of([view(1, S::InDoubt, 1_000, 1), view(2, S::InDoubt, 2_000, 1)].into_iter());
        funnel.changed(&view(1, S::InDoubt, 9_000, 1));
        assert_eq!(funnel.in_doubt_since(), Some(UnixMs(1_000)));
        funnel.changed(&view(1, S::Paid, 9_500, 1));
        assert_eq!(funnel.in_doubt_since(), Some(UnixMs(2_000)));
    }
}
