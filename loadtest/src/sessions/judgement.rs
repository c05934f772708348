//! What became of the sales of a run in which the engine was ended again and again: what was acknowledged, against the
//! engine's own word and the PSP's books.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use forecourt::{
    engine::id::SessionId,
    payment::SessionCharges,
    session::{SessionView, StateName},
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::visitor::{Repeats, Sale};
use crate::{
    people::{CallError, Client},
    process::{Serve, ServeError},
};

/// For the charges that are open at the end: one in doubt is asked about after half a second, then ever less often.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Sessions that were acknowledged.
    pub sessions: u64,
    /// Sales that were acknowledged.
    pub completions: u64,
    /// Sessions by the state in which they ended.
    pub ends: BTreeMap<String, u64>,
    /// Sessions that were acknowledged, and that the engine knows no more.
    pub lost: u64,
    /// Sessions with a sale that came to no end.
    pub stuck: u64,
    pub double_charged: u64,
    /// Paid with another amount than the pump showed or with nothing charged, or charged and not paid.
    pub wrongly_charged: u64,
}

impl Judgement {
    pub(super) fn of(sales: &[Sale], states: &HashMap<SessionId, SessionView>, books: &[SessionCharges]) -> Judgement {
        let booked: HashMap<SessionId, &SessionCharges> =
            books.iter().map(|charged| (charged.session, charged)).collect();
        let mut judged = Judgement { sessions: sales.len() as u64, ..Judgement::default() };
        judged.double_charged = books.iter().filter(|charged| charged.net > 1).count() as u64;
        for sale in sales {
            judged.completions += u64::from(sale.is_completed);
            let Some(view) = states.get(&sale.session) else {
                judged.lost += 1;
                continue;
            };
            *judged.ends.entry(format!("{:?}", view.state)).or_default() += 1;
            judged.stuck += u64::from(sale.is_completed && !view.is_end);
            let charged = booked.get(&sale.session).map_or(0, |charged| charged.net_minor);
            let expected = if is_paid(view.state) { sale.minor } else { 0 };
            judged.wrongly_charged += u64::from(charged != expected);
        }
        judged
    }

    pub fn is_clean(&self) -> bool {
        self.lost + self.stuck + self.double_charged + self.wrongly_charged == 0 && self.completions > 0
    }
}

/// Waits until no charge is open, so that what is owed has been given back.
pub(super) async fn until_settled(engine: &Serve) -> Result<(), ServeError> {
    let begun = Instant::now();
    while engine.metrics().await?.sum("forecourt_payment_open_charges", &[]) > 0.0 && begun.elapsed() < SETTLED_WITHIN {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Where each session is in the end; those that the engine does not know are not in it.
pub(super) async fn states(
    operator: &Client,
    sales: &[Sale],
    repeats: &Repeats,
) -> Result<HashMap<SessionId, SessionView>, CallError> {
    let mut states = HashMap::new();
    for Sale { session, .. } in sales {
        let path = format!("/v1/sessions/{session}");
        match repeats.insist(|| operator.get::<SessionView>(&path)).await {
            Ok(view) => drop(states.insert(*session, view)),
            Err(error) if error.code() == "NOT_FOUND" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

fn is_paid(state: StateName) -> bool {
    matches!(state, StateName::Paid | StateName::Cleared | StateName::Settled)
}
